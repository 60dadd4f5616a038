"""What a row's history must say, whenever nobody is in the middle of anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from integration.binding import RowBinding
from integration.entries import Entry
from integration.invariants import Where, judge

__all__ = ["Judge"]


class Judge:
    """Looks at the entries of one row, again and again, and remembers those that were left."""

    def __init__(self, binding: RowBinding) -> None:
        self.binding = binding
        self._left: dict[int, dict[str, Any]] = {}

    def wrongs(self, history: Sequence[Any], where: Where, *, strayed: bool) -> Iterator[str]:
        """What is wrong, a text each.

        Args:
            history: The row's entries in order, each with the database's instant as ``now``.
            strayed: Whether another program wrote the status, so that there may be something to adopt.
        """
        for found in judge(self.binding, history, where, now=history[-1].now):
            if found.level == "violation" or (found.invariant == "row-and-entry-agree" and not strayed):
                yield str(found)
        for entry in history:
            if entry.trigger == "adopted" and not strayed:
                yield (
                    f"{entry} was adopted: something moved the row from {entry.source!r} to {entry.state!r} "
                    "without a transition. Fire a trigger there, or call to_state()."
                )
            if self._left.get(entry.pk, _written(entry)) != _written(entry):
                yield f"{entry} was changed after it was left."
        self._left = {entry.pk: _written(entry) for entry in history if not entry.open}


def _written(entry: Entry) -> dict[str, Any]:
    return {field.attname: getattr(entry, field.attname) for field in Entry._meta.concrete_fields}
