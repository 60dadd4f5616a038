"""`covering_paths`: the fewest walks that together take every edge.

Within a strongly connected component one walk can take all edges, so the number of walks is decided by the
edges between components, which form a directed acyclic graph. There it is a minimum flow from the start in
which every edge carries at least one walk: any flow that does, less what augmenting paths take away (the
maximum flow of the residual network; Dinic 1970).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from statemachine.components import Groups, components
from statemachine.graph import Edge, Path
from statemachine.testing.roads import Declared, Roads

__all__ = ["covering_paths"]

Step = tuple[int, int, int]
"""A component, the bridge that leads there, and by how much what that carries is changed."""


def covering_paths(machine: Declared, *, start: object = None) -> tuple[Path, ...]:
    """Walks that together take every edge that can be taken: as few walks as there can be.

    The same graph gives the same walks. They are not the shortest: a walk goes round the loops that it
    passes until nothing in them is left to take. A graph without edges gives the one walk that stays.

    Args:
        machine: A `StateMachine` or a `Graph`.
        start: Where walks begin; the initial state by default. Only what it reaches is covered.

    Raises:
        DeclarationError: There is no such state.
    """
    roads = Roads(machine, start)
    cover = _Cover(roads)
    return tuple(cover.walk(bridges) for bridges in _Flow(roads, cover.component).walks())


def _components(roads: Roads) -> Mapping[str, int]:
    """The number of the strongly connected component of each state."""
    numbers = {state: number for number, state in enumerate(roads.states)}
    successors = [[numbers[edge.dest] for edge in roads.open[state]] for state in roads.states]
    found = components(successors, Groups(bytes(len(numbers))), numbers.values())
    return {roads.states[state]: number for number, states in enumerate(found) for state in states}


class _Flow:
    """How many walks take each bridge, an edge between two components: at least one. Both go by numbers."""

    def __init__(self, roads: Roads, component: Mapping[str, int]) -> None:
        self._bridges = [e for e in roads.edges if component[e.source] != component[e.dest]]
        self._source = component[roads.start]
        self._from = [component[bridge.source] for bridge in self._bridges]
        self._to = [component[bridge.dest] for bridge in self._bridges]
        self._out: list[list[int]] = [[] for _ in range(len(set(component.values())))]
        self._into: list[list[int]] = [[] for _ in self._out]
        for bridge in range(len(self._bridges)):
            self._out[self._from[bridge]].append(bridge)
            self._into[self._to[bridge]].append(bridge)
        self._carried = [0 for _ in self._bridges]
        self._ending = [0 for _ in self._out]

    def walks(self) -> Iterator[list[Edge]]:
        """The bridges that each walk takes, in order."""
        if not self._bridges:
            yield []
            return
        self._feed()
        while self._source in (levels := self._levels()):
            self._take_away(levels)
        for _ in range(sum(self._ending)):
            yield [self._bridges[bridge] for bridge in self._descend()]

    def _feed(self) -> None:
        """Send a walk through every bridge, and on through what no walk took yet."""
        entered = self._entered()
        for bridge in range(len(self._bridges)):
            if not self._carried[bridge]:
                self._send(bridge, entered)

    def _send(self, bridge: int, entered: Mapping[int, int | None]) -> None:
        before: int | None = bridge
        while before is not None:
            self._carried[before] += 1
            before = entered[self._from[before]]
        last: int | None = bridge
        while last is not None:
            at = self._to[last]
            last = next((on for on in self._out[at] if not self._carried[on]), None)
            if last is not None:
                self._carried[last] += 1
        self._ending[at] += 1

    def _entered(self) -> Mapping[int, int | None]:
        """For each component the bridge by which a shortest way enters it."""
        entered: dict[int, int | None] = {self._source: None}
        queue = deque(entered)
        while queue:
            for bridge in self._out[queue.popleft()]:
                if (component := self._to[bridge]) not in entered:
                    entered[component] = bridge
                    queue.append(component)
        return entered

    def _levels(self) -> Mapping[int, int]:
        """How many steps it takes from the nearest end, for each component up to the start."""
        levels = {component: 0 for component, ending in enumerate(self._ending) if ending}
        queue = deque(levels)
        while queue and self._source not in levels:
            at = queue.popleft()
            for component, _, _ in self._residual(at):
                if component not in levels:
                    levels[component] = levels[at] + 1
                    queue.append(component)
        return levels

    def _residual(self, at: int) -> Iterator[Step]:
        """Along any bridge, which then carries one more, and against those that carry more than they must."""
        for bridge in self._into[at]:
            if self._carried[bridge] > 1:
                yield self._from[bridge], bridge, -1
        for bridge in self._out[at]:
            yield self._to[bridge], bridge, 1

    def _take_away(self, levels: Mapping[int, int]) -> None:
        """End no walk more where a shortest way leads back to the start, until there is none as short."""
        left: dict[int, list[Step]] = {}
        for end in [component for component, level in levels.items() if level == 0]:
            while self._ending[end] and (way := self._way(end, levels, left)):
                self._ending[end] -= 1
                for _, bridge, change in way:
                    self._carried[bridge] += change

    def _way(self, end: int, levels: Mapping[int, int], left: dict[int, list[Step]]) -> list[Step]:
        """From an end to the start, level by level; empty if there is none. Forgets what leads nowhere."""
        way, at = list[Step](), end
        while at != self._source:
            if at not in left:
                left[at] = [step for step in self._residual(at) if levels.get(step[0]) == levels[at] + 1]
            while left[at] and left[at][-1][2] < 0 and self._carried[left[at][-1][1]] == 1:
                left[at].pop()
            if left[at]:
                way.append(left[at][-1])
                at = way[-1][0]
            elif way:
                way.pop()
                at = way[-1][0] if way else end
                left[at].pop()
            else:
                break
        return way

    def _descend(self) -> Iterator[int]:
        """Take one walk out of the flow."""
        at = self._source
        while (bridge := next((on for on in self._out[at] if self._carried[on]), None)) is not None:
            self._carried[bridge] -= 1
            yield bridge
            at = self._to[bridge]


class _Cover:
    """Makes walks of bridges; the first walk that passes a component takes all edges within it.

    Attributes:
        component: The number of the component that each state is in.
    """

    def __init__(self, roads: Roads) -> None:
        self._roads = roads
        self.component = _components(roads)
        self._within: dict[int, dict[Edge, None]] = {number: {} for number in self.component.values()}
        for edge in roads.edges:
            if self._is_within(edge):
                self._within[self.component[edge.source]][edge] = None

    def _is_within(self, edge: Edge) -> bool:
        return self.component[edge.source] == self.component[edge.dest]

    def walk(self, bridges: list[Edge]) -> Path:
        at, edges = self._roads.start, list[Edge]()
        for bridge in bridges:
            edges += self._round(at)
            edges += self._roads.nearest(edges[-1].dest if edges else at, (bridge,))
            at = bridge.dest
        edges += self._round(at)
        return Path(self._roads.start, tuple(edges))

    def _round(self, at: str) -> Iterator[Edge]:
        """Take what is left to take of a component, the nearest first."""
        left = self._within[self.component[at]]
        while left:
            for edge in self._roads.nearest(at, left):
                left.pop(edge, None)
                yield edge
                at = edge.dest
