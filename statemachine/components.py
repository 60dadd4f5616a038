"""Strongly connected components, and the loops in them that a fair run can stay in for ever.

Graphs are lists of successors, by number. There is no recursion over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Groups", "components", "loops"]

Successors = Sequence[Sequence[int]]


class Groups:
    """A partition of some of the states: only steps inside a group count. Group 0 is outside.

    Attributes:
        of: The group of each state.
    """

    def __init__(self, among: Sequence[int]) -> None:
        self.of = [1 if inside else 0 for inside in among]
        self._last = 1

    def members(self) -> list[int]:
        return [state for state, group in enumerate(self.of) if group]

    def gather(self, states: Iterable[int]) -> int:
        """Make a group of these; returns its number."""
        self._last += 1
        for state in states:
            self.of[state] = self._last
        return self._last


def components(successors: Successors, groups: Groups, states: Iterable[int]) -> list[list[int]]:
    """The strongly connected components of the states, each of which reaches no later one inside its group.

    The states are whole groups. O(states + edges) (Tarjan 1972), with stacks of its own for the recursion.
    """
    of, found = groups.of, []
    order: dict[int, int] = {}  # the number of discovery, then the lowest one that is reached; done is -1
    trail: list[int] = []
    for root in states:
        if root in order:
            continue
        order[root] = len(order)
        trail.append(root)
        calls = [(root, len(order) - 1, iter(successors[root]))]
        while calls:
            state, number, rest = calls[-1]
            for successor in rest:
                if of[successor] != of[state]:
                    continue
                seen = order.get(successor)
                if seen is None:
                    order[successor] = len(order)
                    trail.append(successor)
                    calls.append((successor, len(order) - 1, iter(successors[successor])))
                    break
                if 0 <= seen < order[state]:
                    order[state] = seen
            else:
                calls.pop()
                if order[state] == number:
                    found.append(_cut(trail, state, order))
                elif order[state] < order[calls[-1][0]]:
                    order[calls[-1][0]] = order[state]
    return found


def _cut(trail: list[int], root: int, order: dict[int, int]) -> list[int]:
    component: list[int] = []
    while not component or component[-1] != root:
        component.append(trail.pop())
        order[component[-1]] = -1
    return component


def loops(
    successors: Successors, stays: Sequence[int], fair: Successors, *, among: Sequence[int]
) -> Iterator[list[int]]:
    """The largest sets of states in which a run can stay for ever, taking each of their fair steps.

    A run that is in a state again and again takes each of its fair steps again and again, so what it is in
    for ever is strongly connected and no fair step leaves it. A state whose fair step leaves its component
    is thrown out, with those whose fair steps lead there, and the rest is taken apart again (as for
    Streett's condition in Emerson and Lei, *Modalities for model checking*, 1987).

    Without fair steps O(states + edges); with them once more for each time that a component falls apart,
    O(states * (states + edges)) at worst.
    """
    groups = Groups(among)
    pending = components(successors, groups, groups.members())
    for component in pending:
        groups.gather(component)
    while pending:
        component = pending.pop()
        if len(component) == 1 and not stays[component[0]] and component[0] not in successors[component[0]]:
            continue
        kept = _closed(component, fair, groups)
        if len(kept) == len(component):
            yield component
        elif kept:
            parts = components(successors, groups, kept)
            for part in parts:
                groups.gather(part)
            pending += parts


def _closed(component: list[int], fair: Successors, groups: Groups) -> list[int]:
    """The states of a component from which no fair steps lead out of it; they become a group."""
    of, sources = groups.of, dict[int, list[int]]()
    out = []
    for state in component:
        for successor in fair[state]:
            if of[successor] == of[state]:
                sources.setdefault(successor, []).append(state)
            else:
                out.append(state)
    thrown = set(out)
    while out:
        for source in sources.get(out.pop(), ()):
            if source not in thrown:
                thrown.add(source)
                out.append(source)
    if not thrown:
        return component
    for state in thrown:
        of[state] = 0
    kept = [state for state in component if state not in thrown]
    groups.gather(kept)
    return kept
