"""What became different between two graphs, in the words of a declaration: for reviews and for CI.

A state that says what it was called before (``formerly``) was renamed, with its edges; one that does not
say so is gone, and another one is new.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Literal, TypeVar

from statemachine.enqueue import Enqueue
from statemachine.graph import Edge, Graph, StateValue

__all__ = ["Change", "difference"]

_Item = TypeVar("_Item", StateValue, Edge, Enqueue)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that is different; prints as a sentence.

    Attributes:
        what: Such as ``state 'checking'`` or ``edge draft --submit--> checking``; ``machine`` for the whole.
        field: What of it was changed; empty when it is new, gone or renamed.
        before: Its value then; None of what is new.
        after: Its value now; None of what is gone.
    """

    kind: Literal["added", "removed", "renamed", "changed", "moved"]
    what: str
    field: str = ""
    before: Any = None
    after: Any = None

    def __str__(self) -> str:
        match self.kind:
            case "added":
                return f"{self.what} is new"
            case "removed":
                return f"{self.what} is gone"
            case "renamed":
                return f"{self.what} is called {self.after!r} now"
            case "moved":
                return f"{self.what}: the {self.field} are in another order"
        return f"{self.what}: {self.field}: {_spoken(self.before)} -> {_spoken(self.after)}"


def difference(old: Graph, new: Graph) -> tuple[Change, ...]:
    """What became different: the machine, then its states, then its edges, each in order of declaration.

    Empty if, and only if, the graphs are equal. Which of several edges that differ in their guards alone
    became which is a guess. Takes time linear in states and edges.
    """
    renamed = _renamed(old, new)
    old = _with_names_of_today(old, renamed)
    return (
        *_fields("machine", old, new, but=("states", "edges")),
        *_states(old.states, new.states, renamed),
        *_edges(old.edges, new.edges),
    )


def _renamed(old: Graph, new: Graph) -> Mapping[str, str]:
    """Today's name of each state that the new graph knows by a former name only."""
    return {
        state.name: new.named[state.name].name
        for state in old
        if state.name not in new and state.name in new.named
    }


def _with_names_of_today(graph: Graph, renamed: Mapping[str, str]) -> Graph:
    """States that became one are all called by its name, so this may be no graph that could be declared."""

    def today(name: str) -> str:
        return renamed.get(name, name)

    # Not checked again: a name may stand there twice now.
    named = object.__new__(Graph)
    named.__dict__.update(
        {field.name: getattr(graph, field.name) for field in fields(Graph)},
        initial=today(graph.initial),
        goals=tuple(map(today, graph.goals)),
        edges=tuple(replace(e, source=today(e.source), dest=today(e.dest)) for e in graph.edges),
    )
    return named


def _states(
    old: Sequence[StateValue], new: Sequence[StateValue], renamed: Mapping[str, str]
) -> Iterator[Change]:
    for before, after in renamed.items():
        yield Change(kind="renamed", what=f"state {before!r}", before=before, after=after)
    pairs = _Pairs(old, new, lambda state: renamed.get(state.name, state.name))
    for before_state, state in pairs.kept:
        what = f"state {state.name!r}"
        told = {name for name, today in renamed.items() if today == state.name}
        but = ("formerly",) if {*before_state.formerly, *told} == set(state.formerly) else ()
        yield from _fields(what, before_state, state, but=("name", "steps", *(but if told else ())))
        yield from _steps(what, before_state.steps, state.steps)
    # Of several states that became one, one is compared with it; the others were told of as renamed.
    gone = [state for state in pairs.gone if state.name not in renamed]
    yield from _come_and_gone(pairs.come, gone, lambda state: f"state {state.name!r}")
    yield from pairs.moved(lambda state: ("machine", "states"))


def _steps(what: str, old: Sequence[Enqueue], new: Sequence[Enqueue]) -> Iterator[Change]:
    def named(step: Enqueue) -> str:
        return f"{what}, task {step.task!r}"

    pairs = _Pairs(old, new, lambda step: step.task)
    for before, after in pairs.kept:
        yield from _fields(named(after), before, after)
    yield from _come_and_gone(pairs.come, pairs.gone, named)
    yield from pairs.moved(lambda step: (what, "tasks"))


def _edges(old: Sequence[Edge], new: Sequence[Edge]) -> Iterator[Change]:
    def named(edge: Edge) -> str:
        return f"edge {edge}"

    pairs = _Pairs(old, new, lambda edge: (edge.source, edge.trigger, edge.dest, edge.internal))
    for before, after in pairs.kept:
        yield from _fields(named(replace(after, guards=())), before, after)
    yield from _come_and_gone(pairs.come, pairs.gone, named)
    # The order that matters is that of the edges of one trigger: the first whose guards pass is taken.
    tried = list(pairs.moved(lambda edge: (f"state {edge.source!r}", f"edges of {edge.trigger!r}")))
    yield from tried or pairs.moved(lambda edge: ("machine", "edges"))


def _come_and_gone(
    come: Sequence[_Item], gone: Sequence[_Item], named: Callable[[_Item], str]
) -> Iterator[Change]:
    yield from (Change(kind="removed", what=named(item), before=item) for item in gone)
    yield from (Change(kind="added", what=named(item), after=item) for item in come)


def _fields(what: str, old: Any, new: Any, *, but: Sequence[str] = ()) -> Iterator[Change]:
    for name in (field.name for field in fields(new) if field.name not in but):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Change(kind="changed", what=what, field=name, before=before, after=after)


class _Pairs:
    """Which of the old items became which of the new: equal ones first, then those with the same key."""

    def __init__(self, old: Sequence[Any], new: Sequence[Any], key: Callable[[Any], Hashable]) -> None:
        self._old, self._new = old, new
        free: dict[Hashable, list[int]] = defaultdict(list)
        for index, item in enumerate(new):
            free[key(item)].append(index)
        self._became: dict[int, int] = {}
        for same in (lambda a, b: a == b, lambda a, b: True):
            for index, item in enumerate(old):
                found = next((i for i in free[key(item)] if same(item, new[i])), None)
                if index not in self._became and found is not None:
                    free[key(item)].remove(found)
                    self._became[index] = found

    @property
    def kept(self) -> list[tuple[Any, Any]]:
        return [(self._old[index], self._new[self._became[index]]) for index in sorted(self._became)]

    @property
    def gone(self) -> list[Any]:
        return [item for index, item in enumerate(self._old) if index not in self._became]

    @property
    def come(self) -> list[Any]:
        became = set(self._became.values())
        return [item for index, item in enumerate(self._new) if index not in became]

    def moved(self, where: Callable[[Any], tuple[str, str]]) -> Iterator[Change]:
        """What is in another order, of all the items that are in one place."""
        places: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index in sorted(self._became):
            places[where(self._old[index])].append(self._became[index])
        for (what, items), indexes in places.items():
            if indexes != sorted(indexes):
                before, after = (tuple(self._new[i] for i in order) for order in (indexes, sorted(indexes)))
                yield Change(kind="moved", what=what, field=items, before=before, after=after)


def _spoken(value: Any) -> str:
    if value in ("", (), None):
        return "empty"
    if isinstance(value, tuple):
        return ", ".join(map(_spoken, value))
    if isinstance(value, timedelta):
        return str(value).removesuffix(", 0:00:00")
    return repr(value) if isinstance(value, str | bool) else str(value)
