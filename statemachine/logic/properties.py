"""Properties: formulas with a name and the fairness that they assume, and the usual ones in one word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from statemachine.errors import DeclarationError
from statemachine.logic.formula import (
    AF,
    AG,
    EF,
    Atom,
    Constant,
    Formula,
    Implies,
    as_formula,
    listed,
    not_too_deep,
    suggested,
)

if TYPE_CHECKING:
    from statemachine.graph import Graph

__all__ = [
    "IN_THE_END",
    "Claim",
    "Fairness",
    "Property",
    "always",
    "as_properties",
    "check_names",
    "eventually",
    "false",
    "leads_to",
    "phase",
    "sometimes",
    "state",
    "tag",
    "true",
]

true = Constant(True)
false = Constant(False)


def state(name: str) -> Atom:
    """The row is in that state."""
    return Atom(name, "state")


def tag(name: str) -> Atom:
    """The state has that tag."""
    return Atom(name, "tag")


def phase(name: str) -> Atom:
    """The state is in that phase."""
    return Atom(name, "phase")


class Fairness(Enum):
    """Which edges a run is assumed to take, other than those of named triggers."""

    IN_THE_END = "in the end"
    """Those that a worker, a person or a timer takes in the end.

    The ``done`` edges of a state with a task, and every edge out of a state that waits. Not the ``failed``
    edges, nor what else leaves a state while its task runs, nor what leaves a final state.
    """


IN_THE_END = Fairness.IN_THE_END


@dataclass(frozen=True, init=False)
class Property:
    """A formula that is to hold in the initial state.

    Attributes:
        formula: The formula, or its text.
        name: What it is called; may be empty.
        fair: Which edges are taken in the end: a run that is in a state again and again takes each of its
            fair edges again and again, a guarded one too. `IN_THE_END`, the triggers of the edges, or None
            to assume nothing.
    """

    formula: Formula
    name: str = ""
    fair: Fairness | tuple[str, ...] | None = None

    def __init__(
        self,
        formula: Formula | str,
        *,
        name: str = "",
        fair: Fairness | str | Iterable[str] | None = None,
    ) -> None:
        object.__setattr__(self, "formula", not_too_deep(as_formula(formula)))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "fair", _fair(fair))

    @property
    def claim(self) -> str:
        """The formula, and what is assumed to be fair."""
        if self.fair is None:
            return str(self.formula)
        fair = self.fair.value if isinstance(self.fair, Fairness) else ", ".join(self.fair)
        return f"{self.formula} (fair: {fair})"

    @property
    def title(self) -> str:
        """What findings call it: its name, or the claim itself."""
        return self.name or self.claim

    def __str__(self) -> str:
        return f"{self.name}: {self.claim}" if self.name else self.claim


Claim: TypeAlias = Property | Formula | str


def _fair(given: Fairness | str | Iterable[str] | None) -> Fairness | tuple[str, ...] | None:
    if given is None or isinstance(given, Fairness):
        return given
    triggers = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(trigger, str) for trigger in triggers):
        raise DeclarationError(
            f"fair={triggers!r} names what is no trigger.",
            hint="Give it IN_THE_END, or the names of triggers.",
        )
    return triggers or None


def always(p: Formula | str, *, name: str = "") -> Property:
    """In every state that a run can reach p holds: ``AG p``."""
    return Property(AG(p), name=name)


def sometimes(p: Formula | str, *, name: str = "") -> Property:
    """Some run comes to where p holds: ``EF p``."""
    return Property(EF(p), name=name)


def eventually(
    p: Formula | str, *, name: str = "", fair: Fairness | str | Iterable[str] | None = IN_THE_END
) -> Property:
    """Every fair run comes to where p holds: ``AF p``."""
    return Property(AF(p), name=name, fair=fair)


def leads_to(
    p: Formula | str,
    q: Formula | str,
    *,
    name: str = "",
    fair: Fairness | str | Iterable[str] | None = IN_THE_END,
) -> Property:
    """Whenever p holds, every fair run comes to where q holds, then or later: ``AG(p -> AF q)``."""
    return Property(AG(Implies(p, AF(q))), name=name, fair=fair)


def as_properties(given: Claim | Iterable[Claim]) -> tuple[Property, ...]:
    """One property or several, each given as it is, as a formula or as its text.

    Raises:
        DeclarationError: Something is none of these, or a text that is no formula.
    """
    several = (given,) if isinstance(given, Property | Formula | str) else given
    return tuple(claim if isinstance(claim, Property) else Property(claim) for claim in several)


def check_names(graph: Graph, checked: Formula | Property | str) -> None:
    """Refuse what the graph does not have; of a property, its fair triggers too.

    Raises:
        DeclarationError: There is nothing of a name, or a bare name is unclear.
    """
    formula = checked.formula if isinstance(checked, Property) else not_too_deep(as_formula(checked))
    for atom in formula.atoms():
        atom.states_in(graph)
    if isinstance(checked, Property) and isinstance(checked.fair, tuple):
        triggers = dict.fromkeys(edge.trigger for edge in graph.edges)
        for trigger in checked.fair:
            if trigger not in triggers:
                raise DeclarationError(
                    f"The graph {graph.name!r} has no trigger {trigger!r}, which {checked!s} calls fair.",
                    hint=f"{suggested(trigger, triggers)}Declared are: {listed(list(triggers)) or 'none'}.",
                )
