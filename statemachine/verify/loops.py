"""Loops in which a row goes round by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import timedelta

from statemachine.components import Groups, components
from statemachine.graph import Finding, Path, StateValue
from statemachine.verify.search import Search

__all__ = ["no_loop_is_hot"]


def no_loop_is_hot(search: Search) -> Iterator[Finding]:
    """No cycle has only states that move on by themselves and edges that nothing limits.

    A state moves on by itself through the ``done`` and ``failed`` edges of its task. A guard limits them:
    on the edge, or on one of the same trigger before it, such as ``fail [exhausted]``. One finding for all
    cycles through common states: strongly connected components, O(states + edges) (Tarjan 1972). It is an
    error when a failure drives the loop, and a warning when success alone does. The story goes a shortest
    way to the loop; the loop is a shortest through the first of its edges, failures before successes. What
    a task itself waits for is not seen.
    """
    moves = _Moves(search)
    if not any(moves.has(edge) for edge in moves.back()):
        return
    found = [_finding(search, moves, set(loop)) for loop in moves.loops()]
    yield from sorted(found, key=lambda finding: search.number[finding.state])


class _Moves:
    """The edges that a run takes by itself, again and again: of reachable states, and not limited."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._hot = [bool(state.steps) or _rings_at_once(state) for state in search.states]
        self._of: dict[int, list[int]] = {}

    def back(self) -> Iterator[int]:
        """The edges of which every cycle has one: to a state that is entered no later."""
        search, hot = self._search, self._hot
        source, dest, rank = search.source, search.dest, search.rank
        return (
            edge
            for edge in search.taken
            if hot[source[edge]] and hot[dest[edge]] and 0 <= rank[dest[edge]] <= rank[source[edge]]
        )

    def has(self, edge: int) -> bool:
        return edge in self.of(self._search.source[edge])

    def of(self, state: int) -> list[int]:
        """The edges by which the state moves on by itself to another such state, or to itself."""
        if state not in self._of:
            self._of[state] = list(filter(self._counts, self._first(state)))
        return self._of[state]

    def _first(self, state: int) -> Iterator[int]:
        """Of each trigger that nobody has to fire, the edge that is asked first."""
        wanted = _triggers(self._search.states[state])
        for edge in self._search.out(state):
            if self._search.edges[edge].trigger in wanted:
                wanted.discard(self._search.edges[edge].trigger)
                yield edge

    def _counts(self, edge: int) -> bool:
        declared = self._search.edges[edge]
        return not declared.guards and not declared.internal and self._hot[self._search.dest[edge]]

    def loops(self) -> Iterator[list[int]]:
        """The states of each set of cycles."""
        dest, rank = self._search.dest, self._search.rank
        hot = [hot and rank[at] >= 0 for at, hot in enumerate(self._hot)]
        after = [[dest[edge] for edge in self.of(at)] if hot[at] else [] for at in range(len(hot))]
        groups = Groups(hot)
        for states in components(after, groups, groups.members()):
            if len(states) > 1 or states[0] in after[states[0]]:
                yield states

    def round(self, edge: int, within: Collection[int]) -> list[int]:
        """The edge, and the fewest edges that lead back to where it begins: breadth-first search."""
        source, dest = self._search.source, self._search.dest
        by = {dest[edge]: edge}
        queue = list(by)
        for state in queue:
            for onward in self.of(state):
                if dest[onward] in within and dest[onward] not in by:
                    by[dest[onward]] = onward
                    queue.append(dest[onward])
        loop = [by[source[edge]]]
        while loop[-1] != edge:
            loop.append(by[source[loop[-1]]])
        return loop[::-1]


def _rings_at_once(state: StateValue) -> bool:
    return state.after is not None and state.after[0] <= timedelta()


def _triggers(state: StateValue) -> set[str]:
    """The triggers that nobody has to fire."""
    fired = {state.done, state.failed} if state.steps else set()
    return fired.union((state.after[1],) if state.after else ())


def _finding(search: Search, moves: _Moves, states: set[int]) -> Finding:
    inner = [edge for state in states for edge in moves.of(state) if search.dest[edge] in states]
    rank, source = search.rank, search.source
    edge = min(inner, key=lambda at: (not search.fails(at), rank[source[at]], at))
    loop = moves.round(edge, states)
    first = min(range(len(loop)), key=lambda at: rank[source[loop[at]]])
    loop = loop[first:] + loop[:first]
    at, to, fails = search.edges[edge].source, search.edges[edge].dest, search.fails(edge)
    again = "enters it again" if at == to else f"goes to {to!r} and comes back"
    found = search.finding(
        "no-hot-loop",
        source[loop[0]],
        msg=f"Whenever {at!r} {'fails' if fails else 'is done'}, the run {again} by itself: "
        "nobody is waited for, and no guard limits how often.",
        hint="Lead one edge of the loop to a state that waits, for somebody or for a timer; "
        "or guard one with a limit.",
        level="error" if fails else "warning",
    )
    return found if found.path is None else replace(found, path=_round_and_round(search, found.path, loop))


def _round_and_round(search: Search, way: Path, loop: list[int]) -> Path:
    return Path(way.start, (*way.edges, *(search.edges[at] for at in loop)), loop=len(way))
