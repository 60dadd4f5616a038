"""The declaration as frozen values. Whatever proves, draws, exports or walks reads these.

A `Graph` is hashable, comparable and picklable; it knows neither the machine nor its callbacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from statemachine.errors import DeclarationError
from statemachine.logic import Property, check_names
from statemachine.logic.formula import listed, suggested

if TYPE_CHECKING:
    from statemachine.enqueue import Enqueue

__all__ = ["Edge", "Finding", "Graph", "Path", "StateValue"]


@dataclass(frozen=True, kw_only=True)
class StateValue:
    """What a state declares about itself.

    Attributes:
        name: What is stored in the status column.
        label: What a person reads.
        tags: Free words to ask about: ``"dashboard" in state.tags``.
        phase: The part of the pipeline that it belongs to; drawn as a cluster.
        final: A run may end here; nothing is left to do.
        waits_for: Who moves a row out of here, where no task does.
        after: A durable timer, ``(delay, trigger)``, of a state that waits.
        done: The trigger of a stage that finished.
        failed: The trigger of a stage that was given up.
        stamps: The column that receives the instant of entry; may be empty.
        steps: The tasks of the stage, in order; empty where nothing runs.
        formerly: What it was called before: rows and entries may still say so.
    """

    name: str
    label: str = ""
    tags: tuple[str, ...] = ()
    phase: str | None = None
    final: bool = False
    waits_for: str = ""
    after: tuple[timedelta, str] | None = None
    done: str = "advance"
    failed: str = "fail"
    stamps: str = ""
    steps: tuple[Enqueue, ...] = ()
    formerly: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Whether entering this state starts a task."""
        return bool(self.steps)

    @property
    def names(self) -> tuple[str, ...]:
        """What may be stored where a row is in this state; the first is today's."""
        return (self.name, *self.formerly)

    def step(self, task: str) -> Enqueue | None:
        """The step of a task, which may be called by a former name; None when the stage has it no more."""
        return next((step for step in self.steps if task in step.names), None)

    def step_after(self, task: str) -> Enqueue | None:
        """The step that follows a task. By name: a deploy may have moved the task to another place."""
        steps = iter(self.steps)
        return next(steps, None) if any(task in step.names for step in steps) else None


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A declared transition.

    Attributes:
        trigger: The method that fires it.
        source: The state that it leaves.
        dest: The state that it enters; the source itself on an internal edge.
        guards: The names of its conditions, an ``unless`` as ``not name``; empty when it always passes.
        internal: Whether it runs callbacks without leaving the state.
        writes: Further columns that are written with the status.
        wildcard: Whether a source of ``"*"`` declared it, together with edges from all other states.
    """

    trigger: str
    source: str
    dest: str
    guards: tuple[str, ...] = ()
    internal: bool = False
    writes: tuple[str, ...] = ()
    wildcard: bool = False

    def __str__(self) -> str:
        guards = f" [{' and '.join(self.guards)}]" if self.guards else ""
        return f"{self.source} --{self.trigger}{guards}--> {self.dest}"


@dataclass(frozen=True)
class Path:
    """A walk through the graph that prints as a story: where it starts, and the edges taken.

    Raises:
        ValueError: The loop does not begin where the walk ends.

    Attributes:
        start: The state that it starts in.
        edges: The edges taken, in order.
        loop: Where the walk goes on for ever: the index in `states` of the state to which its last edge
            returns, or the last index, when it stays in the last state; None when it just ends.
    """

    start: str
    edges: tuple[Edge, ...] = ()
    loop: int | None = None

    def __post_init__(self) -> None:
        if self.loop is not None and self.states[self.loop : self.loop + 1] != (self.end,):
            raise ValueError(f"The walk ends in {self.end!r}, and cannot go on from its state {self.loop}.")

    @property
    def end(self) -> str:
        return self.edges[-1].dest if self.edges else self.start

    @property
    def states(self) -> tuple[str, ...]:
        """The states visited, in order: one more than there are edges."""
        return (self.start, *(edge.dest for edge in self.edges))

    def __len__(self) -> int:
        return len(self.edges)

    def __bool__(self) -> bool:
        """True: a walk that stays where it starts is a walk."""
        return True

    def then(self, edge: Edge) -> Path:
        return Path(self.start, (*self.edges, edge))

    @property
    def story(self) -> tuple[str, ...]:
        """A line for each of its states; one more where it goes on for ever."""
        lines = [f"starts in {self.start!r}"]
        lines += [f"{edge.trigger}() moves it to {edge.dest!r}" for edge in self.edges]
        if self.loop is not None:
            stays = self.loop == len(self.edges)
            lines.append("stays there for ever" if stays else f"and so on from {self.loop + 1}, for ever")
        return tuple(lines)

    def __str__(self) -> str:
        return "\n".join(f"{number}. {line}" for number, line in enumerate(self.story, 1))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A property that does not hold, with the shortest path that shows it.

    The fields are those of Django's ``CheckMessage``, so a finding becomes a system check as it is.

    Attributes:
        property: The name of the property, such as ``can-reach-goal``.
        msg: The problem and its cause.
        hint: What to do about it.
        state: The state that it is about.
        path: The shortest way from the initial state to the problem; None where there is none to show.
        level: ``error``: a row can get stuck or lost; ``warning``: the declaration says too little.
    """

    property: str
    msg: str
    hint: str = ""
    state: str = ""
    path: Path | None = None
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        parts = [f"{self.property}: {self.msg}"]
        if self.path is not None:
            parts.append("\n".join(f"  {line}" for line in str(self.path).splitlines()))
        if self.hint:
            parts.append(f"  Hint: {self.hint}")
        return "\n".join(parts)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """States and edges, and where a run begins and means to end.

    Raises:
        DeclarationError: A state is named that is not among the states, or a name stands there twice; a tag
            to keep that no state has; a property that names what there is not.

    Attributes:
        name: What the machine is called.
        states: In order of declaration.
        edges: In order of declaration: of several edges of a trigger the first whose guards pass is taken.
        initial: The state of a new row.
        goals: The states that every run means to reach.
        keeps: The tags that a run never loses again.
        properties: What else is to hold, beside what is asked of every graph.
    """

    name: str
    states: tuple[StateValue, ...]
    edges: tuple[Edge, ...]
    initial: str
    goals: tuple[str, ...]
    keeps: tuple[str, ...] = ()
    properties: tuple[Property, ...] = ()

    def __post_init__(self) -> None:
        self._check_states()
        self._check_promises()

    def _check_states(self) -> None:
        names = {state.name for state in self.states}
        ends = {end for edge in self.edges for end in (edge.source, edge.dest)}
        unknown = sorted({self.initial, *self.goals, *ends} - names)
        if len(self.named) != sum(len(state.names) for state in self.states) or unknown:
            problem = f"has no state {', '.join(map(repr, unknown))}" if unknown else "has a state twice"
            raise DeclarationError(
                f"The graph {self.name!r} {problem}.",
                hint=f"Its states are: {', '.join(state.name for state in self.states) or 'none'}.",
            )

    def _check_promises(self) -> None:
        tags = dict.fromkeys(tag for state in self.states for tag in state.tags) if self.keeps else {}
        for tag in self.keeps:
            if tag not in tags:
                raise DeclarationError(
                    f"The graph {self.name!r} keeps the tag {tag!r}, which no state has.",
                    hint=f"{suggested(tag, tags)}Its tags are: {listed(list(tags)) or 'none'}.",
                )
        for claimed in self.properties:
            check_names(self, claimed)

    @cached_property
    def by_name(self) -> Mapping[str, StateValue]:
        return {state.name: state for state in self.states}

    @cached_property
    def named(self) -> Mapping[str, StateValue]:
        """The states by every name that they are stored by, former ones included."""
        return {name: state for state in self.states for name in state.names}

    @cached_property
    def outgoing(self) -> Mapping[str, tuple[Edge, ...]]:
        """The edges that leave each state, internal ones included; every state is a key."""
        return _grouped(self, "source")

    @cached_property
    def incoming(self) -> Mapping[str, tuple[Edge, ...]]:
        """The edges that enter each state, internal ones included; every state is a key."""
        return _grouped(self, "dest")

    @cached_property
    def open(self) -> Mapping[str, tuple[Edge, ...]]:
        """The edges that can be taken out of each state: not those behind an unguarded one of their trigger.

        That one is always taken first.
        """
        return {state: tuple(_open(edges)) for state, edges in self.outgoing.items()}

    @cached_property
    def phases(self) -> tuple[str, ...]:
        """The phases, in order of their first state."""
        return tuple(dict.fromkeys(s.phase for s in self.states if s.phase is not None))

    def __getitem__(self, name: str) -> StateValue:
        return self.by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self.by_name

    def __iter__(self) -> Iterator[StateValue]:
        return iter(self.states)

    def tagged(self, *tags: str) -> tuple[str, ...]:
        """The names of the states that carry at least one of the tags, in order of declaration."""
        return tuple(s.name for s in self.states if not set(tags).isdisjoint(s.tags))

    def in_phase(self, phase: str) -> tuple[str, ...]:
        """The names of the states of a phase, in order of declaration."""
        return tuple(s.name for s in self.states if s.phase == phase)

    def triggers_from(self, state: str) -> tuple[str, ...]:
        """The triggers that leave a state, each once, in order of declaration."""
        return tuple(dict.fromkeys(edge.trigger for edge in self.outgoing[state]))

    def failure_edges(self) -> frozenset[Edge]:
        """The edges that a stage takes when it is given up."""
        return frozenset(e for e in self.edges if self[e.source].works and e.trigger == self[e.source].failed)


def _grouped(graph: Graph, end: Literal["source", "dest"]) -> dict[str, tuple[Edge, ...]]:
    groups: dict[str, list[Edge]] = {state.name: [] for state in graph.states}
    for edge in graph.edges:
        groups[getattr(edge, end)].append(edge)
    return {name: tuple(edges) for name, edges in groups.items()}


def _open(edges: tuple[Edge, ...]) -> Iterator[Edge]:
    closed: set[str] = set()
    for edge in edges:
        if edge.trigger not in closed:
            yield edge
        if not edge.guards:
            closed.add(edge.trigger)
