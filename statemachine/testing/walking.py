"""`walks`: a Hypothesis strategy of legal walks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from statemachine.errors import DeclarationError
from statemachine.graph import Edge, Path
from statemachine.testing.roads import Declared, Roads

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["walks"]


def walks(
    machine: Declared, *, max_size: int = 30, to: object = None, start: object = None
) -> SearchStrategy[Path]:
    """A Hypothesis strategy of the legal walks: every edge follows from the one before.

    A walk may end anywhere, and at the latest where no edge leads on. It shrinks towards the shortest that
    ends in the same state, or else with the same edge: what fails because a walk comes to a state, or takes
    an edge, is shown by a shortest walk that does.

    Args:
        machine: A `StateMachine` or a `Graph`.
        max_size: How many edges a walk takes at most.
        to: Where every walk ends; it may pass there before.
        start: Where walks begin; the initial state by default.

    Raises:
        DeclarationError: There is no such state, no walk to it, or none that is short enough.
        ImportError: Hypothesis is not installed.
    """
    from hypothesis import strategies as st

    walker = _Walker(Roads(machine, start), to)
    if max_size < walker.least:
        raise walker.too_long(max_size)
    sizes, shapes = st.integers(walker.least, max_size), st.integers(0, 9)
    if not walker.edges:
        return st.just(walker.walk(max_size, [], _NEAREST))
    return st.builds(walker.walk, sizes, st.lists(st.sampled_from(walker.edges), max_size=max_size), shapes)


_NEAREST, _NEAREST_EDGE = range(2)
"""The shapes of a walk: only where it ends matters, or only its last edge; else all of it."""


class _Walker:
    """Makes walks of edges that need not meet, and goes from one to the next by the shortest way.

    An edge for each choice would not shrink: taken out of the middle, the rest no longer fits.

    Attributes:
        edges: What walks are made of; the nearest first.
        least: How many edges a walk takes at least.
    """

    def __init__(self, roads: Roads, to: object) -> None:
        self._roads = roads
        self._to = None if to is None else roads.named(to)
        self._left = dict.fromkeys(roads.states, 0) if self._to is None else roads.distances(self._to)
        self.least = self._left[roads.start]
        self.edges = [edge for edge in roads.edges if edge.dest in self._left]

    def too_long(self, max_size: int) -> DeclarationError:
        start = self._roads.start
        return DeclarationError(
            f"The shortest walk from {start!r} to {self._to or start!r} takes {self.least} edges, which is "
            f"more than max_size={max_size}.",
            hint=f"Pass max_size={self.least} or more.",
        )

    def walk(self, size: int, stops: Iterable[Edge], shape: int) -> Path:
        edges = self._shaped(self._cut(self._joined(size, stops), size), shape)
        if self._to is not None:
            edges += self._roads.way(self._end(edges), self._to)
        return Path(self._roads.start, tuple(edges))

    def _end(self, edges: Sequence[Edge]) -> str:
        return edges[-1].dest if edges else self._roads.start

    def _joined(self, size: int, stops: Iterable[Edge]) -> list[Edge]:
        """Go to each edge that is within reach, and take it."""
        edges: list[Edge] = []
        for stop in stops:
            if len(edges) < size and stop.source in self._roads.tree(self._end(edges)):
                edges += (*self._roads.way(self._end(edges), stop.source), stop)
        return edges

    def _cut(self, edges: list[Edge], size: int) -> list[Edge]:
        """Leave room for what must follow."""
        edges = edges[:size]
        while len(edges) + self._left.get(self._end(edges), size + 1) > size:
            edges.pop()
        return edges

    def _shaped(self, edges: list[Edge], shape: int) -> list[Edge]:
        """Come to the same end by the shortest way, if that is the shape."""
        if shape == _NEAREST:
            return [*self._roads.way(self._roads.start, self._end(edges))]
        if shape == _NEAREST_EDGE and edges:
            return [*self._roads.way(self._roads.start, edges[-1].source), edges[-1]]
        return edges
