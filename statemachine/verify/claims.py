"""Properties that are asked for by name, or said in temporal logic."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from difflib import get_close_matches

from statemachine.errors import DeclarationError
from statemachine.graph import Finding
from statemachine.logic import Claim, Property
from statemachine.logic.kripke import Kripke, refuted

__all__ = ["as_claim", "refuse_titles", "refutations", "sentence"]


def as_claim(asked: Claim, names: Collection[str], declared: Iterable[Property] = ()) -> Property | str:
    """A property, one of the names, or what a graph declared under the name.

    Raises:
        DeclarationError: A text is neither one of the names nor a formula.
    """
    if isinstance(asked, Property):
        return asked
    if not isinstance(asked, str):
        return Property(asked)
    if asked in names:
        return asked
    own = {claim.title: claim for claim in declared}
    if asked in own:
        return own[asked]
    # No formula is written like this, so it is a mistyped name.
    if re.fullmatch(r"[a-z]+(-[a-z]+)+", asked):
        known = [*names, *own]
        close = get_close_matches(asked, known, n=1)
        raise DeclarationError(
            f"There is no property {asked!r}.",
            hint=f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(known)}.",
        )
    return Property(asked)


def refuse_titles(claims: Iterable[Property | str], names: Collection[str]) -> None:
    """Refuse a property whose findings would be taken for those of a built-in one, or of another.

    Raises:
        DeclarationError: It is called so.
    """
    titles = [claim.title for claim in claims if isinstance(claim, Property)]
    for title, times in Counter(titles).items() if titles else ():
        if title in names:
            raise DeclarationError(
                f"A property is called {title!r}, which is a built-in one.", hint="Give it another name."
            )
        if times > 1:
            raise DeclarationError(
                f"{times} properties are called {title!r}.",
                hint="Say it once, or give each a name of its own: name='...'.",
            )


def sentence(claim: Property, declared: Collection[Property]) -> str:
    if claim.name:
        return claim.claim
    return "declared" if claim in declared else "asked for"


def refutations(kripke: Kripke, claim: Property) -> list[Finding]:
    """The finding against a property; none when it is proved.

    Raises:
        DeclarationError: It names what the graph does not have.
    """
    found = refuted(kripke, claim)
    if found is None:
        return []
    msg = found.msg.removeprefix(
        f"{claim.title} does not hold: "
    )  # a property without a name is its own title
    return [Finding(property=claim.title, msg=msg, hint=found.hint, state=found.state, path=found.path)]
