"""Formulas about the runs of a graph, in the words of temporal logic (CTL), as frozen values.

The limits first. A guard is a free choice: it may pass or refuse whenever it is asked. Time counts
transitions: *next* is after the next one, whenever that is. ``to_state``, which may put a row anywhere, is
no edge, so no formula speaks of it. A formula is about the declaration; what a task does is outside.

An atom is a state, a tag or a phase, and holds in the states of that name, with that tag, in that phase.
Wherever a formula is taken, its text is too: ``AG("dashboard")`` is ``parse("AG dashboard")``. Formulas and
properties can be compared, hashed and pickled, and ``parse(str(formula)) == formula``.
"""

from statemachine.logic.formula import (
    AF,
    AG,
    AU,
    AX,
    EF,
    EG,
    EU,
    EX,
    And,
    Atom,
    Constant,
    Formula,
    Implies,
    Not,
    Or,
)
from statemachine.logic.notation import parse
from statemachine.logic.properties import (
    IN_THE_END,
    Claim,
    Fairness,
    Property,
    always,
    as_properties,
    check_names,
    eventually,
    false,
    leads_to,
    phase,
    sometimes,
    state,
    tag,
    true,
)

__all__ = [
    "AF",
    "AG",
    "AU",
    "AX",
    "EF",
    "EG",
    "EU",
    "EX",
    "IN_THE_END",
    "And",
    "Atom",
    "Claim",
    "Constant",
    "Fairness",
    "Formula",
    "Implies",
    "Not",
    "Or",
    "Property",
    "always",
    "as_properties",
    "check_names",
    "eventually",
    "false",
    "leads_to",
    "parse",
    "phase",
    "sometimes",
    "state",
    "tag",
    "true",
]
