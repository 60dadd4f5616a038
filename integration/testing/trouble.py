"""What may go wrong, and what is told when it did."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

__all__ = ["FAULTS", "Broken", "Job", "Killed", "TaskError", "Trouble", "first_line", "named", "quiet"]

FAULTS: Mapping[str, str] = {
    "crash": "whoever is at work dies: before or after a commit, a write or a message, or in the body",
    "error": "a body raises, at its beginning, its end, or where it reads or writes",
    "lease": "a lease runs out while its holder sleeps, another attempt takes over, and the holder goes on",
    "loss": "a message is lost, and the broker is away for a while",
    "duplicate": "a message is delivered once more, at once or much later",
    "operator": "somebody moves the row with to_state",
    "raw": "another program writes the status",
}
"""What a run may suffer, by name."""


def named(faults: Iterable[str] | None) -> frozenset[str]:
    """The faults of these names; all by default.

    Raises:
        ValueError: There is none of that name.
    """
    chosen = frozenset(FAULTS if faults is None else faults)
    if unknown := sorted(chosen - set(FAULTS)):
        raise ValueError(f"There is no fault {', '.join(unknown)}. There are: {', '.join(FAULTS)}.")
    return chosen


class Broken(AssertionError):
    """A pipeline, or what carries it, did not keep a promise."""


class Killed(BaseException):
    """The process is gone: nothing that it would do from here on happens."""


class TaskError(Exception):
    """What a body raises when it is drawn that it does."""


@dataclass(frozen=True)
class Trouble:
    """What happens to somebody at work.

    Attributes:
        kind: It dies; its body raises; or it sleeps until its lease is over and others did the work.
        at: How many points it passes before.
        twice: Whether the one who takes over from a sleeper dies at work, so that it holds the lease still.
    """

    kind: Literal["crash", "error", "lease"]
    at: int
    twice: bool = False


@dataclass
class Job:
    """What one process does at a time.

    Attributes:
        entry: The entry that it answers, if any.
        again: What somebody else does too while it sleeps.
        points: How many points it came to.
        attempt: Which attempt at the entry it is, once a body runs.
        in_body: Whether the body of a stage is running.
        doomed: Whether it dies as soon as its body begins.
        dead: Whether it was killed: whatever its ``finally`` blocks try is refused.
        lost: Whether its body was told that it lost its lease.
        met: Whether its trouble is behind it.
        seen: What others had made of the row when it woke up; None where they had not taken its place.
    """

    who: str
    trouble: Trouble | None = None
    entry: int | None = None
    points: int = 0
    attempt: int = 0
    doomed: bool = False
    in_body: bool = False
    dead: bool = False
    lost: bool = False
    met: bool = False
    seen: object = None
    again: Callable[[], object] | None = None


def first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


@contextmanager
def quiet() -> Iterator[None]:
    """Log nothing of what is meant to go wrong."""
    logger = logging.getLogger("statemachine")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
