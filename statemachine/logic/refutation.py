"""Why a property does not hold: a run, and what to see in it.

What fails on some run is told by that run: it leads to where ``AG`` fails, and round and round where ``AF``
does. What fails since no run exists, such as ``EF``, has no run to tell: the path leads to the state where
it fails, and the message says what does not exist.

How short: the path has the fewest edges of all that tell the failure, those of its loop included, which
begins where what it tells begins and not on the way there, but for three cases. With fairness, the way to
the loop is the shortest to any such loop, and the loop, which takes each fair edge of its states, is only
short. Where the loops are so large that the shortest cannot be found by looking at a few million edges, the
loop is one of theirs. And where two formulas must both be told, the one that takes fewer edges is, and the
other is mentioned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from statemachine.graph import Edge, Path
from statemachine.logic.formula import AF, AG, EF, EG, EU, EX, And, Constant, Formula, Not, Or, opened
from statemachine.logic.shortest import NEVER, Costs, Step, is_told, round_trip, walk

if TYPE_CHECKING:
    from statemachine.logic.kripke import Checker
    from statemachine.logic.properties import Property

__all__ = ["Refutation", "refutation"]

_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Refutation:
    """Why a property does not hold.

    Attributes:
        claim: The property.
        path: The run, from the initial state; it has a loop where it goes on for ever.
        msg: The problem and its cause.
        hint: What to do about it.
    """

    claim: Property
    path: Path
    msg: str
    hint: str

    @property
    def state(self) -> str:
        """The state that it is about: the last one of the path."""
        return self.path.end

    def __str__(self) -> str:
        story = "\n".join(f"  {line}" for line in str(self.path).splitlines())
        return f"{self.msg}\n{story}\n  Hint: {self.hint}"


def refutation(checker: Checker, claim: Property) -> Refutation:
    """Tell why a formula does not hold in the initial state, where it does not."""
    story = _Story(checker)
    story.tell(Not(claim.formula))
    return Refutation(
        claim=claim,
        path=story.path(),
        msg=f"{claim.formula} does not hold: {'; '.join(dict.fromkeys(story.notes))}.",
        hint=story.hint,
    )


class _Story:
    """The run that tells a formula, one part after the other, each from where the one before ended."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._kripke = checker.kripke
        self._costs = Costs(checker)
        self._at = self._kripke.initial
        self._edges: list[Edge] = []
        self._loop: int | None = None
        self._stayed: int | None = None
        self.notes: list[str] = []
        self.hint = "Declare the edges of the story otherwise, or claim less."

    def path(self) -> Path:
        stays = len(self._edges) if self._stayed == len(self._edges) else None
        loop = stays if self._loop is None else self._loop
        return Path(self._kripke.names[self._kripke.initial], tuple(self._edges), loop)

    def tell(self, formula: Formula) -> None:
        match opened(formula):
            case _ if not is_told(formula):
                self._mention(formula)
            case And(p, q):
                sooner, later = sorted((p, q), key=lambda part: (not is_told(part), self._cost(part)))
                self._mention(later)
                self.tell(sooner)
            case Or(p, q):
                self.tell(min(p, q, key=self._cost))
            case EX(p):
                self._step(p)
            case EU(p, q):
                self._approach(self._costs.of(formula), self._costs.of(q), through=p)
                self.tell(q)
            case EG(p):
                self._approach(self._costs.of(formula), self._costs.of_loops(p), through=Constant(True))
                self._go_round(p)

    def _cost(self, formula: Formula) -> int:
        return self._costs.of(formula)[self._at]

    @property
    def _name(self) -> str:
        return repr(self._kripke.names[self._at])

    def _take(self, steps: Iterable[Step]) -> None:
        for state, place in steps:
            self._edges.append(self._kripke.edges[state][place])
            self._at = self._kripke.successors[state][place]

    def _step(self, goal: Formula) -> None:
        costs = self._costs.of(goal)
        successors = self._kripke.successors[self._at]
        place = min(range(len(successors)), key=lambda place: costs[successors[place]], default=None)
        stays = costs[self._at] if self._kripke.stays[self._at] else NEVER
        if place is None or stays <= costs[successors[place]]:
            self._stayed = len(self._edges)
            self.notes.append(self._staying())
        else:
            self._take([(self._at, place)])
        self.tell(goal)

    def _approach(self, costs: Sequence[int], goal: Sequence[int], *, through: Formula) -> None:
        """Go where the goal costs least, together with the way there."""
        if costs[self._at] != goal[self._at] and not isinstance(through, Constant):
            self.notes.append(f"{_said(through)} on the way from {self._name}")
        while costs[self._at] != goal[self._at]:
            successors = enumerate(self._kripke.successors[self._at])
            self._take(
                [(self._at, next(place for place, state in successors if costs[state] < costs[self._at]))]
            )

    def _go_round(self, operand: Formula) -> None:
        """Stay where the operand holds, for ever."""
        begin = self._loop = len(self._edges)
        steps = self._round(operand)
        trivial = isinstance(operand, Constant)
        where, there = ("", "") if trivial else (f", where {_said(operand)}", f", and there {_said(operand)}")
        if steps:
            self._take(steps)
            names = [edge.source for edge in self._edges[begin:]]
            self.notes.append(f"{self._a_run()} may go round through {_some(names)} for ever{where}")
            self.hint = self._way_out()
        elif steps is None:
            self._loop = None
            self.notes.append(f"{self._a_run()} may go on from {self._name} for ever{where}")
            self.hint = self._way_out()
        else:
            self.notes.append(f"{self._staying()}{there}")
            self.hint = self._further()

    def _round(self, operand: Formula) -> list[Step] | None:
        (inside,) = (loop for loop in map(frozenset, self._checker.loops(operand)) if self._at in loop)
        if self._checker.is_fair:
            return round_trip(self._checker, self._at, inside)
        if self._kripke.stays[self._at]:
            return []
        return walk(self._kripke, self._at, {self._at}, inside=inside)[0]

    def _a_run(self) -> str:
        return "a fair run" if self._checker.is_fair else "a run"

    def _way_out(self) -> str:
        if self._checker.is_fair:
            return "No fair edge leaves the loop: declare one, or name the trigger of one that does in fair=."
        return "Declare the loop otherwise; if a run leaves it in the end, say by which triggers: fair=."

    def _further(self) -> str:
        if self._kripke.edges[self._at]:
            return f"Declare an edge out of {self._name} that no guard refuses."
        return f"Let a run end elsewhere: declare an edge out of {self._name}, or none that leads there."

    def _staying(self) -> str:
        if self._kripke.edges[self._at]:
            return f"every edge out of {self._name} is guarded, and all the guards may refuse for ever"
        return f"no edge leaves {self._name}"

    def _mention(self, formula: Formula) -> None:
        formula = _bare(formula)
        self.notes.append(_mentioned(formula, self._name))
        match formula:
            case Not(EF(p)) | Not(EU(_, p)):
                self.hint = f"Declare an edge that leads from {self._name} to where {_said(p)}."


def _bare(formula: Formula) -> Formula:
    """Without negations that undo each other."""
    match formula:
        case Not(Not(inner)):
            return _bare(inner)
    return formula


def _said(formula: Formula) -> str:
    match _bare(formula):
        case Not(inner):
            return f"{inner} does not hold"
    return f"{_bare(formula)} holds"


def _mentioned(formula: Formula, name: str) -> str:
    match formula:
        case Not(EF(p)):
            return f"no run from {name} comes to where {_said(p)}"
        case Not(EU(p, q)):
            return f"no run from {name} comes to where {_said(q)} through states where {_said(p)}"
        case Not(EX(p)):
            return f"no edge leads from {name} to where {_said(p)}"
        case Not(EG(p)):
            return f"no run from {name} stays for ever where {_said(p)}"
        case AG(p):
            return f"wherever a run from {name} goes, {_said(p)}"
        case AF(p):
            return f"every run from {name} comes to where {_said(p)}"
    return f"{_said(formula)} in {name}"


def _some(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    shown = [repr(name) for name in unique[:_NAMED]]
    if len(unique) > _NAMED:
        shown.append(f"{len(unique) - _NAMED} more")
    return ", ".join(shown)
