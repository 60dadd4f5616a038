"""Every built-in property of a graph, beside a search of its edges and what others offer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import searches
from benchmarks.comparison import Comparison
from benchmarks.contenders import Contender, Elsewhere, Here, Pipe
from benchmarks.graphs import GRAPHS
from statemachine.graph import Graph
from statemachine.verify import verify

OTHER_PYTHON = "ONWARD_PYTHON_STATEMACHINE"
"""The interpreter of an environment that has python-statemachine; without it that one is left out."""

MOST_ELSEWHERE = 1_000
"""Edges, since python-statemachine's checks grow with the square of the states."""


def contenders(kind: str, size: int, stack: ExitStack) -> Iterator[Contender]:
    graph = GRAPHS[kind](size)
    yield from _floors(graph)
    yield Here(
        name="verify", role="ours", prepare=lambda: built(graph), call=verify, told=searches.answer_of_report
    )
    yield from _peers(graph)
    if kind != "broken" and size <= MOST_ELSEWHERE and os.environ.get(OTHER_PYTHON):
        yield from _elsewhere(graph, stack)
    yield Here(name="Graph(...)", role="apart", call=lambda _: built(graph))


def _floors(graph: Graph) -> Iterator[Here]:
    def told(seen: tuple[bytearray, bytearray]) -> searches.Answer:
        return searches.answer_of(graph, *(searches.names(graph, which) for which in seen))

    at_hand = cache(lambda: searches.lists_of(graph))
    yield Here(
        name="two searches",
        role="floor",
        call=lambda _: searches.searched(searches.lists_of(graph)),
        told=told,
    )
    yield Here(name="... of lists at hand", role="apart", prepare=at_hand, call=searches.searched, told=told)


def _peers(graph: Graph) -> Iterator[Here]:
    def peer(
        package: str, make: Callable[[Graph], Any], search: Callable[[Any], Any], told: Any
    ) -> Iterator[Here]:
        if find_spec(package) is None:
            return
        at_hand = cache(lambda: make(graph))
        yield Here(name=package, role="peer", call=lambda _: search(make(graph)), told=told)
        yield Here(name=f"{package}, graph at hand", role="peer", prepare=at_hand, call=search, told=told)

    named = [state.name for state in graph.states]

    def by_number(found: Any) -> searches.Answer:
        reached, hopeful = ([named[number] for number in numbers if number < len(named)] for numbers in found)
        return searches.answer_of(graph, reached, hopeful)

    yield from peer(
        "networkx",
        searches.networkx_graph,
        lambda made: searches.networkx_searched(graph, made),
        lambda found: searches.answer_of(graph, *found),
    )
    yield from peer(
        "rustworkx",
        searches.rustworkx_graph,
        lambda made: searches.rustworkx_searched(graph, made),
        by_number,
    )
    yield from peer("scipy", searches.scipy_graph, searches.scipy_searched, by_number)


def _elsewhere(graph: Graph, stack: ExitStack) -> Iterator[Elsewhere]:
    script = Path(__file__).parent / "foreign/python_statemachine.py"
    # -I: neither our packages nor the script's folder may be found there.
    pipe = stack.enter_context(Pipe([os.environ[OTHER_PYTHON], "-I", str(script)]))
    pipe.ask(
        {
            "states": [state.name for state in graph.states],
            "initial": graph.initial,
            "final": [state.name for state in graph.states if state.final],
            "edges": [(edge.trigger, edge.source, edge.dest) for edge in graph.edges],
        }
    )
    name = "python-statemachine"
    yield Elsewhere(name=f"{name}, its checks", role="peer", pipe=pipe, question="check")
    yield Elsewhere(name=f"{name}, the class", role="apart", pipe=pipe, question="declare")


def built(graph: Graph) -> Graph:
    """The same graph, made of its states and edges anew: nothing that a check left behind helps the next."""
    return Graph(**{field.name: getattr(graph, field.name) for field in fields(graph)})


VERIFY = Comparison(
    name="verify",
    title="prove every built-in property of a graph",
    unit="edges",
    clock="cpu",
    kinds=tuple(GRAPHS),
    sizes=(10, 100, 1_000, 10_000, 100_000, 1_000_000),
    contenders=contenders,
    peak=True,
    notes=(
        "Everybody begins with the same Graph; what verify keeps on it is thrown away before each repeat.",
        "The floor makes lists of numbers of it and searches them, once forward and once back.",
        "Peers do what the floor does, and verify proves its other properties too.",
        "'Graph at hand' leaves out the making of the peer's own graph.",
        "Garbage collection is on, and sees only what is made within the measured call.",
    ),
)
