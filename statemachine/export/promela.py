"""A graph together with the protocol that moves its rows, as a model for spin.

`protocol.pml` is the protocol, the same for every graph, and `claims.pml` what is claimed of it; the tables
that they ask are written here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.resources import files

from statemachine.errors import DeclarationError
from statemachine.export.choices import Choices
from statemachine.export.ltl import Untranslatable, to_ltl
from statemachine.export.wording import comment, said, taken
from statemachine.graph import Edge, Graph, StateValue
from statemachine.logic import AG, Property, tag

__all__ = ["to_promela"]

_MOST_STATES = 250
"""Promela keeps the name of a state in a byte, and a few are taken."""

_MOST = 8


def to_promela(
    graph: Graph, *, workers: int = 2, messages: int = 2, properties: Iterable[Property] | None = None
) -> str:
    """Write a graph with the protocol as a Promela model; what it means and how to run it is said on top.

    Args:
        workers: How many worker processes there are, 1 to 8.
        messages: How many messages the broker holds at most, 1 to 8; what is more is lost.
        properties: Claimed too, where LTL can say them; by default the graph's own, and that its kept tags
            are kept.

    Raises:
        DeclarationError: There are too many states, workers or messages for a model, or a property names
            what the graph does not have.
    """
    _check_size(graph, workers=workers, messages=messages)
    tables = _Tables(graph)
    file = re.sub(r"\W+", "-", graph.name, flags=re.ASCII).strip("-") or "model"
    values = {"start": tables.ids[graph.initial], "workers": workers, "messages": messages}
    parts = [
        _text("top").format(name=comment(graph.name), file=file, **values),
        tables.states(),
        *tables.sets(),
        *tables.numbers(),
        _any("IS_TENDED", [f"HOLDS({worker})" for worker in range(workers)], "a process has the open entry"),
        *tables.ways(),
        _text("protocol"),
        _text("claims"),
        *_claims(graph, tables.ids, _declared(graph) if properties is None else properties),
    ]
    return "\n".join(parts) + "\n"


def _text(name: str) -> str:
    return files("statemachine.export").joinpath(f"{name}.pml").read_text(encoding="utf-8")


def _check_size(graph: Graph, **numbers: int) -> None:
    if len(graph.states) > _MOST_STATES:
        raise DeclarationError(
            f"{graph.name!r} has {len(graph.states)} states, and a Promela model at most {_MOST_STATES}.",
            hint="Export a part of it.",
        )
    for name, number in numbers.items():
        if not 1 <= number <= _MOST:
            raise DeclarationError(
                f"A model with {name}={number!r} cannot be explored.", hint=f"Choose 1 to {_MOST}."
            )


def _declared(graph: Graph) -> list[Property]:
    kept = [Property(AG(tag(word) >> AG(tag(word))), name=f"keeps {word}") for word in graph.keeps]
    return [*graph.properties, *kept]


def _claims(graph: Graph, ids: Mapping[str, str], properties: Iterable[Property]) -> Iterator[str]:
    """The user's own; what LTL cannot say is a comment."""
    for number, claimed in enumerate(properties, 1):
        try:
            yield f"ltl {_claim_name(number, claimed)} {{ {to_ltl(graph, claimed, ids.__getitem__)} }}"
        except Untranslatable as reason:
            yield f"/* Not claimed here: {comment(str(claimed))}: {reason}. */"


def _claim_name(number: int, claimed: Property) -> str:
    words = re.sub(r"\W+", "_", claimed.name, flags=re.ASCII).strip("_")
    return f"property_{number}_{words}" if words else f"property_{number}"


class _Tables:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.choices = graph, Choices(graph)

    @cached_property
    def ids(self) -> Mapping[str, str]:
        """The prefix keeps a name from being a word of Promela's, such as ``init``."""
        return {state.name: _id(index, state.name) for index, state in enumerate(self.graph)}

    # What the model asks of the graph

    def states(self) -> str:
        rows = [
            f"  {self.ids[s.name]}{',' if n < len(self.graph.states) else ''} /* {said(s)} */"
            for n, s in enumerate(self.graph, 1)
        ]
        return "\n".join(["mtype:state = {", "  nowhere,", *rows, "};", ""])

    def sets(self) -> Iterator[str]:
        states = self.graph.states
        yield self.among("WORKS", [s for s in states if s.works], "a task runs")
        yield self.among("HAS_TIMER", [s for s in states if s.after and not s.works], "a timer moves it")
        yield self.among(
            "MAY_BE_FIRED", [s for s in states if self.choices.by_hand(s)], "a person may move it"
        )
        yield self.among("IS_GOAL", [self.graph[name] for name in self.graph.goals], "a goal")
        yield self.among("RESTS", [s for s in states if self.choices.rests(s)], "an end, or it waits")
        yield self.pairs("IS_DECLARED", self.choices.open)
        yield self.pairs("IS_BY_HAND", self.choices.by_hand)

    def numbers(self) -> Iterator[str]:
        steps = [(f"(s) == {self.ids[s.name]}", len(s.steps)) for s in self.graph if len(s.steps) > 1]
        yield _number("STEPS(s)", steps, "1", "how many tasks run one after the other")
        yield _number("LIMIT(s, k)", list(self.limits()), "STRIKES", "how often a step is tried")

    def ways(self) -> Iterator[str]:
        yield ""
        yield _choice("any_state(t)", [("true", f"t = {id}") for id in self.ids.values()])
        yield self.edges("done_edge", self.choices.done)
        yield self.edges("failed_edge", self.choices.failed)
        yield self.edges("timer_edge", self.choices.timer)
        yield self.edges("hand_edge", self.choices.by_hand)

    def among(self, name: str, states: Iterable[StateValue], said: str) -> str:
        return _any(f"{name}(s)", [f"(s) == {self.ids[s.name]}" for s in states], said)

    def pairs(self, name: str, of: Callable[[StateValue], Iterable[Edge]]) -> str:
        moves = dict.fromkeys((edge.source, edge.dest) for state in self.graph for edge in of(state))
        cases = [f"((s) == {self.ids[source]} && (t) == {self.ids[dest]})" for source, dest in moves]
        return _any(f"{name}(s, t)", cases)

    def limits(self) -> Iterator[tuple[str, int]]:
        for state in self.graph:
            for number, step in enumerate(state.steps):
                if step.max_attempts is not None:
                    at = f"(s) == {self.ids[state.name]} && (k) == {number} && STRIKES > {step.max_attempts}"
                    yield at, step.max_attempts

    def edges(self, name: str, of: Callable[[StateValue], Sequence[Edge]]) -> str:
        options = []
        for state in self.graph:
            edges, at = of(state), f"s == {self.ids[state.name]}"
            options += [(at, f"t = {self.ids[e.dest]} /* {comment(taken(e))} */") for e in edges]
            if edges and all(edge.guards for edge in edges):
                options.append((at, "t = nowhere /* every guard refuses */"))
        return _choice(f"{name}(s, t)", options, "t = nowhere")


def _number(head: str, cases: Sequence[tuple[str, int]], other: str, said: str) -> str:
    text = other
    for case, number in reversed(cases):
        text = f"({case} -> {number} : {text})"
    return f"/* {said} */\n#define {head} {text}"


def _id(index: int, name: str) -> str:
    # spin cuts long words off.
    return f"s_{name}" if re.fullmatch(r"[a-zA-Z0-9_]{1,60}", name) else f"s{index}"


def _any(head: str, cases: Iterable[str], said: str = "") -> str:
    comment = f"/* {said} */\n" if said else ""
    return f"{comment}#define {head} ({' || '.join(cases) or 'false'})"


def _choice(head: str, options: Iterable[tuple[str, str]], other: str = "") -> str:
    lines = [f"  :: {case} -> {act}" for case, act in options]
    if other:
        lines.append(f"  :: else -> {other}")
    return "\n".join([f"inline {head} {{", "  if", *lines, "  fi", "}", ""])
