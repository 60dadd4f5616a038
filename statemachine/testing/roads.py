"""`Roads`: where the runs of a graph can go, and the shortest ways."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import Protocol

from statemachine.engine import state_key
from statemachine.errors import DeclarationError
from statemachine.graph import Edge, Graph

__all__ = ["Declared", "Roads"]


_TREES = 256  # of a large graph, more of them would not fit in the memory


class HasGraph(Protocol):
    """A `StateMachine`, say."""

    @property
    def graph(self) -> Graph: ...


Declared = HasGraph | Graph


class Roads:
    """The edges that can be taken, from a state on.

    Args:
        declared: A machine, or its graph.
        start: Where walks begin; the initial state by default.

    Raises:
        DeclarationError: It is neither, or has no such state.
    """

    def __init__(self, declared: Declared, start: object = None) -> None:
        self.graph = _graph_of(declared)
        self.start = self.graph.initial if start is None else self.named(start)
        self._trees: dict[str, Mapping[str, Edge | None]] = {}

    def named(self, state: object) -> str:
        """The name of a state, which an enum's member may stand for."""
        name = state_key(state)
        if name in self.graph.by_name:
            return str(name)
        known = self.graph.by_name
        close = get_close_matches(str(name), known, 1)
        raise DeclarationError(
            f"The graph {self.graph.name!r} has no state {name!r}.",
            hint=f"Did you mean {close[0]!r}?"
            if close
            else f"Its states are: {', '.join(self.graph.by_name)}.",
        )

    @cached_property
    def open(self) -> Mapping[str, tuple[Edge, ...]]:
        """The edges that can be taken out of each state, each once, in order of declaration."""
        return {state: tuple(dict.fromkeys(edges)) for state, edges in self.graph.open.items()}

    def tree(self, start: str) -> Mapping[str, Edge | None]:
        """Every state that can be reached, nearest first, with the edge by which a shortest way enters it."""
        if start not in self._trees:
            if len(self._trees) >= _TREES:
                self._trees.clear()
            tree: dict[str, Edge | None] = {start: None}
            self._trees[start] = tree
            for edge in self._outwards(start):
                tree.setdefault(edge.dest, edge)
        return self._trees[start]

    def _outwards(self, start: str) -> Iterator[Edge]:
        """The edges that can be taken from a state on, nearest first."""
        found, queue = {start}, deque([start])
        while queue:
            for edge in self.open[queue.popleft()]:
                yield edge
                if edge.dest not in found:
                    found.add(edge.dest)
                    queue.append(edge.dest)

    def nearest(self, start: str, wanted: Container[Edge]) -> tuple[Edge, ...]:
        """A shortest way that ends with a wanted edge, of which one must be within reach."""
        entered: dict[str, Edge | None] = {start: None}
        for edge in self._outwards(start):
            if edge in wanted:
                return (*_back(entered, edge.source), edge)
            entered.setdefault(edge.dest, edge)
        raise LookupError(f"None of {wanted} can be taken from {start!r} on.")

    @cached_property
    def states(self) -> tuple[str, ...]:
        """The states that walks from the start can be in, nearest first."""
        return tuple(self.tree(self.start))

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """The edges that walks from the start can take, nearest first."""
        return tuple(edge for state in self.states for edge in self.open[state])

    def way(self, start: str, end: str) -> tuple[Edge, ...]:
        """A shortest way; the end must be one that can be reached."""
        return _back(self.tree(start), end)

    def distances(self, end: str) -> Mapping[str, int]:
        """How many edges it takes at least to reach a state, from everywhere that it can be reached from.

        Raises:
            DeclarationError: It cannot be reached from the start.
        """
        found = {end: 0}
        queue = deque(found)
        while queue:
            state = queue.popleft()
            for edge in self.into[state]:
                if edge.source not in found:
                    found[edge.source] = found[state] + 1
                    queue.append(edge.source)
        if self.start not in found:
            raise DeclarationError(
                f"No walk from {self.start!r} reaches {end!r}.",
                hint="Pass another start=…, or declare an edge that leads there.",
            )
        return found

    @cached_property
    def into(self) -> Mapping[str, list[Edge]]:
        into: dict[str, list[Edge]] = {state: [] for state in self.open}
        for edges in self.open.values():
            for edge in edges:
                into[edge.dest].append(edge)
        return into


def _back(tree: Mapping[str, Edge | None], end: str) -> tuple[Edge, ...]:
    """The way through a tree to one of its states."""
    edges: list[Edge] = []
    while edge := tree[end]:
        edges.append(edge)
        end = edge.source
    return tuple(reversed(edges))


def _graph_of(declared: Declared) -> Graph:
    graph = declared if isinstance(declared, Graph) else getattr(declared, "graph", None)
    if not isinstance(graph, Graph):
        raise DeclarationError(
            f"A walk needs a StateMachine or a Graph, not {declared!r}.",
            hint="Pass the machine that the field is declared with.",
        )
    return graph
