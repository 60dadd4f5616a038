"""What happened, as it is told where something fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from integration.testing.trouble import Broken
from statemachine import StateMachineError

__all__ = ["hinted", "printed"]

_FIRST, _LAST = 40, 40
"""How many lines of a long story are told: it is long where something goes round and round."""


def printed(story: Sequence[str]) -> str:
    """The lines of a story, numbered; without the middle of a long one."""
    lines = [f"{number:>3}. {line}" for number, line in enumerate(story, 1)]
    left_out = len(lines) - _FIRST - _LAST
    if left_out > 1:
        lines[_FIRST:-_LAST] = [f"     … {left_out} more …"]
    return "\n".join(lines)


@contextmanager
def hinted(hint: str) -> Iterator[None]:
    """Say what the test could be given, where something of the user's raises without it."""
    try:
        yield
    except (Broken, StateMachineError):
        raise
    except Exception as error:
        if hint:
            error.add_note(hint)
        raise
