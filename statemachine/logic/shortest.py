"""The shortest run that tells that a formula holds: what it costs in edges, and its loops."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from statemachine.logic.formula import EG, EU, EX, And, Formula, Or, opened

if TYPE_CHECKING:
    from statemachine.logic.kripke import Checker, Kripke

__all__ = ["NEVER", "Costs", "Step", "is_told", "round_trip", "walk"]

NEVER: Final = 1 << 60
_EFFORT = 5_000_000
_LOOP_TOLD = 10_000

Step: TypeAlias = tuple[int, int]
"""A state, and the place of an edge among those that leave it."""


def is_told(formula: Formula) -> bool:
    """Whether a run tells it: what holds in one state, or on every run, is only mentioned."""
    match opened(formula):
        case And(p, q) | Or(p, q):
            return is_told(p) or is_told(q)
        case EX() | EU() | EG():
            return True
    return False


class Costs:
    """How many edges it takes to tell that a formula holds, for each state; `NEVER` where it does not."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._kripke = checker.kripke
        self._known: dict[Formula, list[int]] = {}
        self._loops: dict[Formula, list[int]] = {}

    def of(self, formula: Formula) -> list[int]:
        if formula not in self._known:
            self._known[formula] = self._count(formula)
        return self._known[formula]

    def _count(self, formula: Formula) -> list[int]:
        holds = self._checker.where(formula)
        if is_told(formula):
            match opened(formula):
                case And(p, q):
                    told = [self.of(part) for part in (p, q) if is_told(part)]
                    return [min(costs) if here else NEVER for here, *costs in zip(holds, *told, strict=True)]
                case Or(p, q):
                    return list(map(min, self.of(p), self.of(q)))
                case EX(p):
                    return self._next(self.of(p))
                case EU(p, q):
                    return self._until(self._checker.where(p), self.of(q))
                case EG(p):
                    return self._until(self._checker.where(p), self.of_loops(p))
        return [0 if here else NEVER for here in holds]

    def _next(self, costs: list[int]) -> list[int]:
        kripke = self._kripke
        steps = (
            min((costs[successor] + 1 for successor in successors), default=NEVER)
            for successors in kripke.successors
        )
        stays = (cost if stays else NEVER for cost, stays in zip(costs, kripke.stays, strict=True))
        return [min(step, stay, NEVER) for step, stay in zip(steps, stays, strict=True)]

    def _until(self, through: bytes, costs: Sequence[int]) -> list[int]:
        """The cheapest way through some states, and then what it costs there.

        Dijkstra (1959) with steps of one, so two queues that are sorted by themselves replace the heap.
        """
        found = list(costs)
        begun = deque(sorted((cost, state) for state, cost in enumerate(costs) if cost < NEVER))
        grown = deque[int]()
        while begun or grown:
            if begun and (not grown or begun[0][0] <= found[grown[0]]):
                cost, state = begun.popleft()
                if found[state] < cost:
                    continue
            else:
                state = grown.popleft()
            for source in self._kripke.predecessors[state]:
                if through[source] and found[state] + 1 < found[source]:
                    found[source] = found[state] + 1
                    grown.append(source)
        return found

    def of_loops(self, operand: Formula) -> list[int]:
        """The edges of a loop through each state, where the operand holds all along; `NEVER` for no loop.

        Also `NEVER` where it takes no more edges to go to another state and round from there. With fairness
        0: only the way there is measured.
        """
        if operand not in self._loops:
            loops = self._checker.loops(operand)
            if self._checker.is_fair:
                self._loops[operand] = self._at_once(loops)
            else:
                self._loops[operand] = self._shortest_loops(loops, self._checker.where(operand))
        return self._loops[operand]

    def _at_once(self, loops: list[list[int]]) -> list[int]:
        costs = [NEVER] * len(self._kripke)
        for loop in loops:
            for state in loop:
                costs[state] = 0
        return costs

    def _shortest_loops(self, loops: list[list[int]], through: bytes) -> list[int]:
        """Look for loops of one edge, of two, of four and so on, until none that is left could be shorter.

        After `_EFFORT` looks at edges some are not found, but one in each component is.
        """
        costs, longest, effort = [NEVER] * len(self._kripke), 1, _EFFORT
        insides = [frozenset(loop) for loop in loops]
        pending = [(state, inside) for inside in insides for state in sorted(inside)]
        while pending and effort > 0:
            for state, inside in pending:
                costs[state], looks = self._loop(state, inside, longest)
                effort -= looks
                if effort < 0:
                    break
            known = self._until(through, costs)
            pending = [(state, inside) for state, inside in pending if known[state] > longest + 1]
            longest *= 2
        for inside in {inside for _, inside in pending}:
            if all(costs[state] == NEVER for state in inside):
                state = min(inside)
                costs[state] = len(walk(self._kripke, state, {state}, inside=inside)[0])
        return costs

    def _loop(self, start: int, inside: Collection[int], longest: int) -> tuple[int, int]:
        """The edges of the shortest loop, at most so many, and how many edges were looked at."""
        if self._kripke.stays[start]:
            return 0, 1
        seen, level, looks = {start}, [start], 0
        for length in range(1, longest + 1):
            after: list[int] = []
            for state in level:
                for successor in self._kripke.successors[state]:
                    looks += 1
                    if successor == start:
                        return length, looks
                    if successor in inside and successor not in seen:
                        seen.add(successor)
                        after.append(successor)
            level = after
        return NEVER, looks


def walk(
    kripke: Kripke, start: int, goals: Collection[int], *, inside: Collection[int]
) -> tuple[list[Step], int]:
    """The shortest way of at least one edge to a goal, and how many edges were looked at; there is one."""
    came: dict[int, Step] = {}
    pending, looks = deque([start]), 0
    while pending:
        state = pending.popleft()
        for place, successor in enumerate(kripke.successors[state]):
            looks += 1
            if successor in inside and successor not in came:
                came[successor] = state, place
                if successor in goals:
                    return _traced(came, start, successor), looks
                pending.append(successor)
    raise ValueError(f"No way leads from {start} to {goals}.")


def _traced(came: dict[int, Step], start: int, goal: int) -> list[Step]:
    steps = [came[goal]]
    while steps[-1][0] != start:
        steps.append(came[steps[-1][0]])
    return steps[::-1]


def round_trip(checker: Checker, start: int, inside: Collection[int]) -> list[Step] | None:
    """A short loop that takes each fair edge of its states; None when it would be too long to tell.

    It takes the fair edges as it comes by, and goes to the nearest of those that are left: the shortest
    such loop is as hard to find as a tour of a postman who may choose his district.
    """
    kripke, steps, at, effort = checker.kripke, list[Step](), start, _EFFORT
    owed = {start: list(checker.fair_edges[start])}
    if not owed[start] and kripke.stays[start]:
        return []
    while len(steps) < _LOOP_TOLD and effort > 0:
        if owed[at]:
            way, looks = [(at, owed[at][0])], 1
        else:
            goals = {state for state, places in owed.items() if places} or {start}
            if steps and goals == {start} and at == start:
                return steps
            way, looks = walk(kripke, at, goals, inside=inside)
            looks += len(owed)
        effort -= looks
        for state, place in way:
            if place in owed[state]:
                owed[state].remove(place)
            at = kripke.successors[state][place]
            owed.setdefault(at, list(checker.fair_edges[at]))
        steps += way
    return None
