"""A graph together with the protocol that moves its rows, as a TLA+ module and its configuration for TLC.

`protocol.tla` is the protocol with its claims, the same for every graph; the tables that it asks are written
here. It is what `protocol.pml` says to spin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.resources import files

from statemachine.export.choices import Choices
from statemachine.export.wording import comment, said, taken
from statemachine.graph import Edge, Graph, StateValue

__all__ = ["to_tla"]

_PLAIN = r"[A-Za-z0-9_ .:-]+"
"""Names that stand in TLA+ as they are; any other becomes ``#`` and a number."""


def to_tla(graph: Graph) -> str:
    """Write a graph with the protocol as a TLA+ module; what it means and how to run it is said on top.

    What follows the line that ends the module is the configuration for TLC, which reads it from a file of its
    own: sizes and claims are chosen there.
    """
    names = _names(graph)
    module = _module(graph.name)
    parts = [
        _text("top").format(module=module, name=comment(graph.name)),
        *_tables(graph, names),
        "",
        _text("protocol"),
        _text("bottom").format(module=module, start=names[graph.initial]),
    ]
    return "\n".join(parts)


def _text(name: str) -> str:
    return files("statemachine.export").joinpath(f"{name}.tla").read_text(encoding="utf-8").rstrip("\n")


def _module(name: str) -> str:
    """What TLA+ takes as the name of a module, and its text does not use otherwise."""
    name = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    code = re.sub(r"\\\*.*", "", _text("top") + _text("protocol"))
    is_free = re.match(r"[A-Za-z]", name) and name not in re.findall(r"\w+", code)
    return name if is_free else f"m_{name}"


def _names(graph: Graph) -> Mapping[str, str]:
    plain = partial(re.fullmatch, _PLAIN)
    return {s.name: f'"{s.name}"' if plain(s.name) else f'"#{n}"' for n, s in enumerate(graph)}


def _tables(graph: Graph, names: Mapping[str, str]) -> Iterator[str]:
    choices = Choices(graph)
    yield _set("States", [(names[state.name], said(state)) for state in graph])
    yield 'Nowhere == "#"'
    for name, states in {
        "Works": [s for s in graph if s.works],
        "Timed": [s for s in graph if s.after and not s.works],
        "Goals": [graph[name] for name in graph.goals],
        "Rests": [s for s in graph if choices.rests(s)],
    }.items():
        yield f"{name} == {{{', '.join(names[state.name] for state in states)}}}"
    yield ""
    yield from _numbers(graph, names)
    yield ""
    yield "\\* Who takes which edges: a task, a clock, a person. Nowhere: every guard may refuse."
    for name, rows in {
        "Done": [(s, choices.done(s)) for s in graph],
        "Failed": [(s, choices.failed(s)) for s in graph if s.works],
        "Timer": [(s, choices.timer(s)) for s in graph if s.after and not s.works],
        "ByHand": [(s, choices.by_hand(s)) for s in graph],
    }.items():
        yield _set(name, _pairs(rows, names, may_refuse=name in ("Failed", "Timer")))


def _numbers(graph: Graph, names: Mapping[str, str]) -> Iterator[str]:
    steps = [(f"s = {names[s.name]}", str(len(s.steps))) for s in graph if len(s.steps) > 1]
    yield f"MostSteps == {max((len(state.steps) for state in graph), default=1) or 1}"
    yield _case("StepsOf(s)", steps, "1")
    limits = [
        (f"s = {names[s.name]} /\\ k = {number} /\\ Strikes > {step.max_attempts}", str(step.max_attempts))
        for s in graph
        for number, step in enumerate(s.steps)
        if step.max_attempts is not None
    ]
    yield _case("Limit(s, k)", limits, "Strikes")


def _pairs(
    rows: Iterable[tuple[StateValue, Sequence[Edge]]], names: Mapping[str, str], *, may_refuse: bool
) -> Iterator[tuple[str, str]]:
    """The edges of each state, and to where they lead when none is taken."""
    for state, edges in rows:
        for edge in edges:
            yield f"<<{names[edge.source]}, {names[edge.dest]}>>", comment(taken(edge))
        if may_refuse and all(edge.guards for edge in edges):
            yield f"<<{names[state.name]}, Nowhere>>", ""


def _set(name: str, rows: Iterable[tuple[str, str]]) -> str:
    members = list(rows)
    commas = [","] * (len(members) - 1) + [""]
    lines = [_line(f"  {m}{comma}", c) for (m, c), comma in zip(members, commas, strict=False)]
    return "\n".join([f"{name} == {{", *lines, "}"]) if lines else f"{name} == {{}}"


def _line(code: str, said: str) -> str:
    return rf"{code} \* {said}" if said else code


def _case(head: str, cases: Sequence[tuple[str, str]], other: str) -> str:
    if not cases:
        return f"{head} == {other}"
    arms = "\n       [] ".join(f"{case} -> {value}" for case, value in [*cases, ("OTHER", other)])
    return f"{head} ==\n  CASE {arms}"
