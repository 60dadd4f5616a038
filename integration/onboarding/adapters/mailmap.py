"""The `.mailmap` of a repository: which recorded names and addresses are one person.

libgit2 has a mailmap too, but tells upper from lower case in addresses and lets a later line replace an
earlier one whole. git does neither, and people are counted as git counts them: this follows gitmailmap(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Mailmap"]

# Proper Name <proper@email> Commit Name <commit@email>; every part but the first address may be missing.
LINE = re.compile(r"(?P<name>[^<]*)<(?P<email>[^>]*)>(?:(?P<old_name>[^<]*)<(?P<old_email>[^>]*)>)?")


@dataclass(slots=True)
class Proper:
    """What replaces a recorded name or address; None keeps the recorded one."""

    name: str | None = None
    email: str | None = None

    def learn(self, name: str | None, email: str | None) -> None:
        self.name = name or self.name
        self.email = email or self.email


@dataclass(slots=True)
class Mailmap:
    """Read with `Mailmap.parse`; an empty one changes nothing."""

    by_email: dict[str, Proper] = field(default_factory=dict)
    by_both: dict[tuple[str, str], Proper] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Mailmap:
        """Lines that make no sense are skipped, as git skips them."""
        mailmap = cls()
        for line in text.split("\n"):
            if not line.startswith("#") and (found := LINE.match(line)):
                mailmap._add(**{key: (value or "").strip() for key, value in found.groupdict().items()})
        return mailmap

    def _add(self, name: str, email: str, old_name: str, old_email: str) -> None:
        if not old_email:
            # "Name <email>" corrects a name only.
            old_email, email = email, ""
        name_key, email_key = old_name.lower(), old_email.lower()
        if name_key:
            proper = self.by_both.setdefault((name_key, email_key), Proper())
        else:
            proper = self.by_email.setdefault(email_key, Proper())
        proper.learn(name or None, email or None)

    def resolve(self, name: str, email: str) -> tuple[str, str]:
        """The proper name and address of a recorded one. The case of what is not replaced is kept."""
        address = email.lower()
        proper = self.by_both.get((name.lower(), address)) or self.by_email.get(address)
        if proper is None:
            return name, email
        return proper.name or name, proper.email or email
