"""The strongly connected components of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from statemachine.graph import Edge
from statemachine.testing.roads import Roads

__all__ = ["components"]


def components(roads: Roads) -> Mapping[str, int]:
    """The number of each reachable state's strongly connected component: Tarjan 1972, without recursion."""
    found = _Components(roads)
    found.search(roads.start)
    return found.component


class _Components:
    def __init__(self, roads: Roads) -> None:
        self._roads = roads
        self._index: dict[str, int] = {}
        self._low: dict[str, int] = {}
        self._stack: list[str] = []
        self.component: dict[str, int] = {}

    def search(self, start: str) -> None:
        trail = [(start, self._enter(start))]
        while trail:
            state, edges = trail[-1]
            edge = next(edges, None)
            if edge is None:
                self._leave(state, trail[-2][0] if len(trail) > 1 else None)
                trail.pop()
            elif edge.dest not in self._index:
                trail.append((edge.dest, self._enter(edge.dest)))
            elif edge.dest not in self.component:
                self._low[state] = min(self._low[state], self._index[edge.dest])

    def _enter(self, state: str) -> Iterator[Edge]:
        self._index[state] = self._low[state] = len(self._index)
        self._stack.append(state)
        return iter(self._roads.open[state])

    def _leave(self, state: str, before: str | None) -> None:
        if before is not None:
            self._low[before] = min(self._low[before], self._low[state])
        if self._low[state] == self._index[state]:
            at = self._stack.index(state)
            self.component.update(dict.fromkeys(self._stack[at:], self._index[state]))
            del self._stack[at:]
