"""`Search`: a graph as lists of integers, and what the properties ask of it.

States and edges are numbered in order of declaration, so that a million edges are searched without
hashing a name for each. Each answer is worked out when it is first asked for, and once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import count
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
        self._told: dict[str, int] = {}

    # The graph

    @cached_property
    def source(self) -> list[int]:
        """The state that each edge leaves."""
        return [*map(self.number.__getitem__, map(attrgetter("source"), self.edges))]

    @cached_property
    def dest(self) -> list[int]:
        """The state that each edge enters."""
        return [*map(self.number.__getitem__, map(attrgetter("dest"), self.edges))]

    @cached_property
    def _trigger(self) -> dict[str, int]:
        """A number for each trigger: multiples of the number of states, to be added to that of a state."""
        triggers = set(map(attrgetter("trigger"), self.edges))
        return dict(zip(triggers, count(step=len(self.states)), strict=False))

    @cached_property
    def _keys(self) -> list[int]:
        """What edges of the same source and trigger have in common."""
        triggers = map(attrgetter("trigger"), self.edges)
        return [*map(add, self.source, map(self._trigger.__getitem__, triggers))]

    @cached_property
    def _sure(self) -> dict[int, int]:
        """By their keys, the first of the edges without a condition."""
        edges, keys = self.edges, self._keys
        return {keys[at]: at for at in range(len(edges) - 1, -1, -1) if not edges[at].guards}

    @cached_property
    def hidden(self) -> list[int]:
        """The edges that are never taken: one of their trigger before them has no condition."""
        if len(set(self._keys)) == len(self._keys):
            return []
        sure = self._sure
        return [at for at, key in enumerate(self._keys) if sure.get(key, at) < at]

    def hider(self, edge: int) -> Edge:
        """The edge behind which another is hidden."""
        return self.edges[self._sure[self._keys[edge]]]

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
        edges, sure, number, nowhere = self.edges, self._sure, self._trigger, -len(self.states)
        found = []
        for state, trigger in zip(states, triggers, strict=True):
            edge = sure.get(state + number.get(trigger, nowhere))
            if edge is None or edges[edge].internal:
                found.append(state)
        return found

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

    @property
    def unreachable(self) -> list[int]:
        if self.reachable == len(self.states):
            return []
        return [at for at, rank in enumerate(self.rank) if rank < 0]

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
    def hopeless(self) -> list[int]:
        """The states from which no goal can be reached."""
        hopeful = self.can_reach(self.graph.goals)
        return [at for at, hope in enumerate(hopeful) if not hope] if 0 in hopeful else []

    @cached_property
    def final(self) -> list[int]:
        """The final states."""
        return [at for at, state in enumerate(self.states) if state.final]

    @cached_property
    def ends(self) -> set[int]:
        """Where a run may stay: the final states and the goals."""
        return {*self.final, *map(self.number.__getitem__, self.graph.goals)}

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
        told = self._told.get(name, 0)
        path = self.path_to(state) if told <= _EDGES_TOLD else None
        self._told[name] = told + (len(path) if path is not None else 0)
        named = self.states[state].name
        return Finding(property=name, msg=msg, hint=hint, state=named, path=path, level=level)


def _drawn(thread: Thread, state: int) -> Iterator[int]:
    first, following = thread
    edge = first[state]
    while edge >= 0:
        yield edge
        edge = following[edge]
