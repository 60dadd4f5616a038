"""`Search`: a graph as lists of integers, and what the properties ask of it.

States and edges are numbered in order of declaration, so that a million edges are searched without
hashing a name for each. Each answer is worked out when it is first asked for, and once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Literal

from statemachine.graph import Edge, Finding, Graph, Path, StateValue

__all__ = ["Level", "Search"]

Level = Literal["error", "warning"]

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
        number = self.number
        return [number[edge.source] for edge in self.edges]

    @cached_property
    def dest(self) -> list[int]:
        """The state that each edge enters."""
        number = self.number
        return [number[edge.dest] for edge in self.edges]

    @cached_property
    def sure(self) -> dict[tuple[str, str], int]:
        """By source and trigger, the first edge without a condition: those behind it are never taken."""
        sure = [at for at, edge in enumerate(self.edges) if not edge.guards]
        sure.reverse()
        return {(self.edges[at].source, self.edges[at].trigger): at for at in sure}

    @cached_property
    def hidden(self) -> list[int]:
        """The edges that are never taken."""
        sure = self.sure
        return [at for at, edge in enumerate(self.edges) if sure.get((edge.source, edge.trigger), at) < at]

    @cached_property
    def taken(self) -> Sequence[int]:
        """The edges that can be taken."""
        every = range(len(self.edges))
        if not self.hidden:
            return every
        hidden = set(self.hidden)
        return [at for at in every if at not in hidden]

    @cached_property
    def out(self) -> list[list[int]]:
        """For each state the edges that can be taken from there, in order of declaration."""
        out: list[list[int]] = [[] for _ in self.states]
        source = self.source
        for edge in self.taken:
            out[source[edge]].append(edge)
        return out

    @cached_property
    def into(self) -> list[list[int]]:
        """For each state the states from which it can be entered."""
        into: list[list[int]] = [[] for _ in self.states]
        source, dest = self.source, self.dest
        for edge in self.taken:
            into[dest[edge]].append(source[edge])
        return into

    def leaving(self, state: int) -> list[Edge]:
        """The edges to another state."""
        return [self.edges[at] for at in self.out[state] if self.dest[at] != state]

    def ending(self, state: int, trigger: str) -> list[Edge]:
        """The edges of a trigger that end a stage or a wait; an internal one would leave it open."""
        edges = (self.edges[at] for at in self.out[state])
        return [edge for edge in edges if edge.trigger == trigger and not edge.internal]

    def surely_ended(self, state: StateValue, trigger: str) -> bool:
        """Whether an edge without a condition ends a stage or a wait."""
        edge = self.sure.get((state.name, trigger))
        return edge is not None and not self.edges[edge].internal

    # Where runs get to

    @cached_property
    def _arrivals(self) -> tuple[list[int], list[int]]:
        """Breadth-first search: when each state is first entered, and by which edge; -1 for never."""
        rank, by = [-1] * len(self.states), [-1] * len(self.states)
        out, dest = self.out, self.dest
        initial = self.number[self.graph.initial]
        rank[initial], queue = 0, [initial]
        for state in queue:
            for edge in out[state]:
                entered = dest[edge]
                if rank[entered] < 0:
                    rank[entered], by[entered] = len(queue), edge
                    queue.append(entered)
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
        into = self.into
        for state in queue:
            for before in into[state]:
                if not found[before]:
                    found[before] = True
                    queue.append(before)
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
