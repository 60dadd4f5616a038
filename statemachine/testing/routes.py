"""`paths`: the ways to a state."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from statemachine.graph import Edge, Path
from statemachine.testing.roads import Declared, Roads

__all__ = ["paths"]


def paths(machine: Declared, *, to: object, start: object = None, simple: bool = False) -> Iterator[Path]:
    """The shortest paths to a state; or all that visit no state twice.

    They are worked out one by one as they are asked for: there may be exponentially many, so take what
    you need, with `itertools.islice`. Each costs at most O(states · (states + edges)).

    Args:
        machine: A `StateMachine` or a `Graph`.
        to: The state to reach.
        start: Where paths begin; the initial state by default.
        simple: All simple paths, in the order of a depth-first search that follows the declaration.

    Raises:
        DeclarationError: There is no such state, or no path to it: at once, not when the first is asked for.
    """
    roads = Roads(machine, start)
    end = roads.named(to)
    distances = roads.distances(end)
    if simple:
        return _descend(roads, end, _Unvisited(roads, end).choices)
    return _descend(
        roads,
        end,
        lambda edges, at: [edge for edge in roads.open[at] if distances.get(edge.dest) == distances[at] - 1],
    )


Choices = Callable[[list[Edge], str], list[Edge]]


def _descend(roads: Roads, end: str, choices: Choices) -> Iterator[Path]:
    """Depth-first search without recursion, along edges that are known to lead on."""
    edges: list[Edge] = []
    if roads.start == end:
        yield Path(end)
        return
    open_choices = [iter(choices(edges, roads.start))]
    while open_choices:
        edge = next(open_choices[-1], None)
        if edge is None:
            open_choices.pop()
            del edges[-1:]
        elif edge.dest == end:
            yield Path(roads.start, (*edges, edge))
        else:
            edges.append(edge)
            open_choices.append(iter(choices(edges, edge.dest)))


class _Unvisited:
    """Which edges lead a simple path on: to states from which the end can be reached past no visited one."""

    def __init__(self, roads: Roads, end: str) -> None:
        self._roads, self._end = roads, end

    def choices(self, edges: list[Edge], at: str) -> list[Edge]:
        visited = {self._roads.start, *(edge.dest for edge in edges)}
        hopeful = self._hopeful(visited)
        return [edge for edge in self._roads.open[at] if edge.dest in hopeful]

    def _hopeful(self, visited: set[str]) -> set[str]:
        found, queue = {self._end}, [self._end]
        for state in queue:
            for edge in self._roads.into[state]:
                if edge.source not in found and edge.source not in visited:
                    found.add(edge.source)
                    queue.append(edge.source)
        return found
