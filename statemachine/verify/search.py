"""`Search`: a graph as lists of integers, and what the properties ask of it.

States and edges are numbered in order of declaration, so that a million edges are searched without
hashing a name for each. Each answer is worked out when it is first asked for, and once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from operator import add, attrgetter
from typing import Literal

from statemachine.graph import Edge, Finding, Graph, Path, StateValue

__all__ = ["Level", "Search"]

Level = Literal["error", "warning"]
Thread = tuple[list[int], list[int]]

# To tell the way to every state of one long dead branch would be quadratic: the later findings have no path.
_EDGES_TOLD = 100_000


class Search:
    """A graph to search. A state or an edge is a number here, unless its type says otherwise."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.states: Sequence[StateValue] = graph.states
        self.edges: Sequence[Edge] = graph.edges
        self.number = {state.name: at for at, state in enumerate(graph.states)}
        self._told: Counter[str] = Counter()

    # The graph

    @cached_property
    def source(self) -> list[int]:
        """The state that each edge leaves."""
        return list(map(self.number.__getitem__, map(attrgetter("source"), self.edges)))

    @cached_property
    def dest(self) -> list[int]:
        """The state that each edge enters."""
        return list(map(self.number.__getitem__, map(attrgetter("dest"), self.edges)))

    @cached_property
    def _trigger(self) -> dict[str, int]:
        """A number for each trigger: multiples of the number of states, to be added to that of a state."""
        triggers = dict.fromkeys(map(attrgetter("trigger"), self.edges))
        return {trigger: at * len(self.states) for at, trigger in enumerate(triggers)}

    @cached_property
    def _sure(self) -> tuple[dict[int, int], list[int]]:
        """The first edge without a condition, by source and trigger; and those behind one."""
        keys = list(
            map(add, self.source, map(self._trigger.__getitem__, map(attrgetter("trigger"), self.edges)))
        )
        sure = [at for at, edge in enumerate(self.edges) if not edge.guards]
        sure.reverse()
        first = dict(zip(map(keys.__getitem__, sure), sure, strict=True))
        return first, [at for at, key in enumerate(keys) if first.get(key, at) < at]

    @property
    def hidden(self) -> list[int]:
        """The edges that are never taken: one of their trigger before them has no condition."""
        return self._sure[1]

    def hider(self, edge: int) -> Edge:
        """The edge behind which another is hidden."""
        return self.edges[self._sure[0][self.source[edge] + self._trigger[self.edges[edge].trigger]]]

    @cached_property
    def taken(self) -> Sequence[int]:
        """The edges that can be taken."""
        every = range(len(self.edges))
        if not self.hidden:
            return every
        hidden = set(self.hidden)
        return [at for at in every if at not in hidden]

    @cached_property
    def _out(self) -> Thread:
        return self._threaded(self.source)

    @cached_property
    def _into(self) -> Thread:
        return self._threaded(self.dest)

    def _threaded(self, ends: list[int]) -> Thread:
        """The edges that can be taken at each state, as two lists: of each state its first edge, and of
        each edge the next one; -1 for no more. A list for each state would be slow to make.
        """
        first, following = [-1] * len(self.states), [-1] * len(self.edges)
        for edge in reversed(self.taken):
            state = ends[edge]
            following[edge], first[state] = first[state], edge
        return first, following

    def out(self, state: int) -> Iterator[int]:
        """The edges that can be taken from there, in order of declaration."""
        return _drawn(self._out, state)

    def entering(self, state: int) -> Iterator[int]:
        """The edges that can be taken into it, in order of declaration."""
        return _drawn(self._into, state)

    def leaving(self, state: int) -> list[Edge]:
        """The edges to another state."""
        return [self.edges[at] for at in self.out(state) if self.dest[at] != state]

    def ending(self, state: int, trigger: str) -> list[Edge]:
        """The edges of a trigger that end a stage or a wait; an internal one would leave it open."""
        edges = (self.edges[at] for at in self.out(state))
        return [edge for edge in edges if edge.trigger == trigger and not edge.internal]

    def unsure(self, states: Sequence[int], triggers: Iterable[str]) -> list[int]:
        """Those of the states in which no edge without a condition ends the stage or wait by its trigger."""
        edges, (sure, _), number = self.edges, self._sure, self._trigger
        found = (
            sure.get(state + number.get(trigger, -state - 1))
            for state, trigger in zip(states, triggers, strict=True)
        )
        return [
            state for state, edge in zip(states, found, strict=True) if edge is None or edges[edge].internal
        ]

    def fails(self, edge: int) -> bool:
        """Whether a stage takes the edge when it is given up."""
        state = self.states[self.source[edge]]
        return state.works and self.edges[edge].trigger == state.failed

    @cached_property
    def working(self) -> list[int]:
        """The states with a task."""
        return [at for at, state in enumerate(self.states) if state.steps]

    # Where runs get to

    @cached_property
    def _arrivals(self) -> tuple[list[int], list[int]]:
        """Breadth-first search: when each state is first entered, and by which edge; -1 for never."""
        rank, by = [-1] * len(self.states), [-1] * len(self.states)
        (first, following), dest = self._out, self.dest
        initial = self.number[self.graph.initial]
        rank[initial], queue = 0, [initial]
        for state in queue:
            edge = first[state]
            while edge >= 0:
                entered = dest[edge]
                if rank[entered] < 0:
                    rank[entered], by[entered] = len(queue), edge
                    queue.append(entered)
                edge = following[edge]
        return rank, by

    @property
    def rank(self) -> list[int]:
        """The place of each state among the reachable ones, nearest first; -1 where no run is."""
        return self._arrivals[0]

    @cached_property
    def reachable(self) -> int:
        return len(self.rank) - self.rank.count(-1)

    def can_reach(self, goals: Iterable[str]) -> bytearray:
        """For each state whether one of the goals can be reached: breadth-first search, backwards."""
        queue = [self.number[goal] for goal in dict.fromkeys(goals)]
        found = bytearray(len(self.states))
        for state in queue:
            found[state] = True
        (first, following), source = self._into, self.source
        for state in queue:
            edge = first[state]
            while edge >= 0:
                before = source[edge]
                if not found[before]:
                    found[before] = True
                    queue.append(before)
                edge = following[edge]
        return found

    @cached_property
    def hopeful(self) -> bytearray:
        """For each state whether a goal can be reached."""
        return self.can_reach(self.graph.goals)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Where a run may stay: the final states and the goals."""
        goals = (self.number[goal] for goal in self.graph.goals)
        return frozenset(goals).union(at for at, state in enumerate(self.states) if state.final)

    # Stories

    def path_to(self, state: int) -> Path | None:
        """A shortest path; None when there is none."""
        rank, by = self._arrivals
        if rank[state] < 0:
            return None
        edges: list[Edge] = []
        while by[state] >= 0:
            edges.append(self.edges[by[state]])
            state = self.source[by[state]]
        return Path(self.states[state].name, tuple(reversed(edges)))

    def finding(self, name: str, state: int, *, msg: str, hint: str, level: Level = "error") -> Finding:
        """A finding about a state, with the way there unless enough was told already."""
        path = self.path_to(state) if self._told[name] <= _EDGES_TOLD else None
        self._told[name] += len(path) if path is not None else 0
        named = self.states[state].name
        return Finding(property=name, msg=msg, hint=hint, state=named, path=path, level=level)


def _drawn(thread: Thread, state: int) -> Iterator[int]:
    first, following = thread
    edge = first[state]
    while edge >= 0:
        yield edge
        edge = following[edge]
