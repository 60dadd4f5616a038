"""What of a user's properties can be said in LTL, as claims about the model of `protocol.pml`.

A formula of CTL is said by the same formula of LTL, without its *on every run*, where what follows a choice
never depends on how the run goes on: the deterministic fragment (Maidl 2000), of which more than is
translated here. ``AF AG p`` is not in it.
"""

from __future__ import annotations

from collections.abc import Callable

from statemachine.graph import Graph
from statemachine.logic import Property
from statemachine.logic.formula import AF, AG, AU, And, Atom, Constant, Formula, Implies, Not, Or

__all__ = ["Untranslatable", "to_ltl"]

Named = Callable[[str], str]


class Untranslatable(Exception):
    """LTL cannot say it; the message says why."""


def to_ltl(graph: Graph, property: Property, named: Named) -> str:
    """The formula that spin reads; true of every run from where somebody put the row into a state by hand.

    Args:
        named: How the model calls a state.

    Raises:
        Untranslatable: LTL cannot say it.
        DeclarationError: The graph has nothing of a name.
    """
    if property.fair is not None:
        raise Untranslatable("it assumes which edges are taken in the end")
    return _Translation(graph, named).always_from_here(property.formula)


class _Translation:
    def __init__(self, graph: Graph, named: Named) -> None:
        self.graph, self.named = graph, named

    def always_from_here(self, formula: Formula) -> str:
        """A formula in which every run is meant; what it asks of one state is true once somebody jumped."""
        if _is_about_a_state(formula):
            return f"({self.in_state(formula)} || JUMPED)"
        match formula:
            case AG(operand=p):
                return f"([] {self.always_from_here(p)})"
            case AF(operand=p) if _is_about_a_state(p):
                return f"(<> {self.always_from_here(p)})"
            case AU(left=p, right=q) if _is_about_a_state(p) and _is_about_a_state(q):
                return f"({self.always_from_here(p)} U {self.always_from_here(q)})"
            case And(left=p, right=q):
                return f"({self.always_from_here(p)} && {self.always_from_here(q)})"
            case Implies(left=p, right=q) if _is_about_a_state(p):
                return f"(!{self.in_state(p)} || {self.always_from_here(q)})"
        raise Untranslatable("it asks for what LTL cannot say of every run")

    def in_state(self, formula: Formula) -> str:
        match formula:
            case Constant(value=value):
                return str(value).lower()
            case Atom():
                states = formula.states_in(self.graph)
                cases = [f"status == {self.named(s.name)}" for s in self.graph if s.name in states]
                return f"({' || '.join(cases) or 'false'})"
            case Not(operand=p):
                return f"(!{self.in_state(p)})"
            case And(left=p, right=q):
                return f"({self.in_state(p)} && {self.in_state(q)})"
            case Or(left=p, right=q):
                return f"({self.in_state(p)} || {self.in_state(q)})"
            case Implies(left=p, right=q):
                return f"(!{self.in_state(p)} || {self.in_state(q)})"
        raise AssertionError(formula)  # _is_about_a_state let nothing else pass


def _is_about_a_state(formula: Formula) -> bool:
    booleans = isinstance(formula, Constant | Atom | Not | And | Or | Implies)
    return booleans and all(map(_is_about_a_state, formula.operands))
