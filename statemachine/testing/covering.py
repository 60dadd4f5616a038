"""`covering_paths`: the fewest walks that together take every edge.

Within a strongly connected component one walk can take all edges, so the number of walks is decided by the
edges between components, which form a directed acyclic graph. There it is a minimum flow from the start in
which every edge carries at least one walk: any flow that does, less what augmenting paths take away (the
maximum flow of the residual network; Ford and Fulkerson 1956).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping

from statemachine.components import Groups, components
from statemachine.graph import Edge, Path
from statemachine.testing.roads import Declared, Roads

__all__ = ["covering_paths"]


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
    """How many walks take each bridge, an edge between two components: at least one."""

    def __init__(self, roads: Roads, component: Mapping[str, int]) -> None:
        self._component = component
        self._source = component[roads.start]
        self._bridges = [e for e in roads.edges if component[e.source] != component[e.dest]]
        self._out: dict[int, list[Edge]] = {number: [] for number in component.values()}
        self._into: dict[int, list[Edge]] = {number: [] for number in component.values()}
        for bridge in self._bridges:
            self._out[component[bridge.source]].append(bridge)
            self._into[component[bridge.dest]].append(bridge)
        self._carried: Counter[Edge] = Counter()
        self._ending: Counter[int] = Counter()

    def walks(self) -> Iterator[list[Edge]]:
        """The bridges that each walk takes, in order."""
        if not self._bridges:
            yield []
            return
        self._feed()
        while (ways := self._augmenting()) is not None:
            self._augment(*ways)
        for _ in range(self._ending.total()):
            yield list(self._descend())

    def _feed(self) -> None:
        """Send a walk through every bridge, and on through what no walk took yet."""
        entered = self._entered()
        for bridge in self._bridges:
            if not self._carried[bridge]:
                self._send(bridge, entered)

    def _send(self, bridge: Edge, entered: Mapping[int, Edge | None]) -> None:
        before: Edge | None = bridge
        while before is not None:
            self._carried[before] += 1
            before = entered[self._component[before.source]]
        last: Edge | None = bridge
        while last is not None:
            at = self._component[last.dest]
            last = next((on for on in self._out[at] if not self._carried[on]), None)
            if last is not None:
                self._carried[last] += 1
        self._ending[at] += 1

    def _entered(self) -> Mapping[int, Edge | None]:
        """For each component the bridge by which a shortest way enters it."""
        entered: dict[int, Edge | None] = {self._source: None}
        queue = deque(entered)
        while queue:
            for bridge in self._out[queue.popleft()]:
                if (number := self._component[bridge.dest]) not in entered:
                    entered[number] = bridge
                    queue.append(number)
        return entered

    def _augmenting(self) -> tuple[int, list[tuple[Edge, int]]] | None:
        """Where a walk may end no more, and which bridges then carry one more or less; None: it is minimal.

        From an end to the start, along any bridge, and against those that carry more than they must.
        """
        found: dict[int, tuple[int, Edge, int] | None] = {n: None for n in self._out if self._ending[n]}
        queue = deque(found)
        while queue and self._source not in found:
            at = queue.popleft()
            for number, bridge, change in self._residual(at):
                if number not in found:
                    found[number] = (at, bridge, change)
                    queue.append(number)
        if self._source not in found:
            return None
        at, changes = self._source, list[tuple[Edge, int]]()
        while (step := found[at]) is not None:
            at, bridge, change = step
            changes.append((bridge, change))
        return at, changes

    def _residual(self, at: int) -> Iterator[tuple[int, Edge, int]]:
        for bridge in self._into[at]:
            if self._carried[bridge] > 1:
                yield self._component[bridge.source], bridge, -1
        for bridge in self._out[at]:
            yield self._component[bridge.dest], bridge, 1

    def _augment(self, ending: int, changes: list[tuple[Edge, int]]) -> None:
        self._ending[ending] -= 1
        for bridge, change in changes:
            self._carried[bridge] += change

    def _descend(self) -> Iterator[Edge]:
        """Take one walk out of the flow."""
        at = self._source
        while (bridge := next((on for on in self._out[at] if self._carried[on]), None)) is not None:
            self._carried[bridge] -= 1
            yield bridge
            at = self._component[bridge.dest]


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
