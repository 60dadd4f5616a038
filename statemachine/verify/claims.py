"""Properties that are asked for by name, or said in temporal logic."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
from typing import TypeAlias

from statemachine.errors import DeclarationError
from statemachine.graph import Finding
from statemachine.logic import Property
from statemachine.logic.formula import Formula
from statemachine.logic.kripke import Kripke, refuted

__all__ = ["Claim", "as_claim", "refutations", "sentence", "title"]

Claim: TypeAlias = Property | Formula | str


def as_claim(asked: Claim, names: Collection[str]) -> Property | str:
    """A property, or one of the names.

    Raises:
        DeclarationError: A text is neither one of the names nor a formula.
    """
    if isinstance(asked, Property):
        return asked
    if not isinstance(asked, str):
        return Property(asked)
    if asked in names:
        return asked
    # No formula is written like this, so it is a mistyped name.
    if re.fullmatch(r"[a-z]+(-[a-z]+)+", asked):
        close = get_close_matches(asked, names, n=1)
        raise DeclarationError(
            f"There is no property {asked!r}.",
            hint=f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(names)}.",
        )
    return Property(asked)


def title(claim: Property) -> str:
    """What findings call it: its name, or its formula."""
    return claim.name or str(claim)


def sentence(claim: Property) -> str:
    return str(claim.formula) if claim.name else "asked for"


def refutations(kripke: Kripke, claim: Property) -> list[Finding]:
    """The finding against a property; none when it is proved.

    Raises:
        DeclarationError: It names what the graph does not have.
    """
    found = refuted(kripke, claim)
    if found is None:
        return []
    return [
        Finding(property=title(claim), msg=found.msg, hint=found.hint, state=found.state, path=found.path)
    ]
