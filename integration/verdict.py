"""What becomes of an attempt that raised: decisions that touch nothing."""

from __future__ import annotations

import enum
import random
from datetime import timedelta

from integration.body import PermanentFailure
from integration.conf import conf
from statemachine import StateMachineError

__all__ = ["Verdict", "backoff", "describe", "is_failure", "verdict"]


class Verdict(enum.Enum):
    """What becomes of an attempt that raised."""

    RETRY = "retry"
    RELEASE = "release"
    GIVE_UP = "give up"


def verdict(error: BaseException, *, strikes: int, max_attempts: int) -> Verdict:
    """Decide what becomes of a failed attempt. Touches nothing."""
    if not is_failure(error):
        return Verdict.RELEASE  # the worker is told to stop; the work is not to blame
    if isinstance(error, PermanentFailure) or strikes >= max_attempts:
        return Verdict.GIVE_UP
    return Verdict.RETRY


def is_failure(error: BaseException) -> bool:
    """Whether the body is to blame: an `Exception`, or ``sys.exit()``, which must not end the worker.

    A worker that is told to stop raises `KeyboardInterrupt`, or a `SystemExit` of its own class; a process
    of billiard's, on a signal, a plain one with the code -(256 - signal).
    """
    if type(error) is SystemExit:
        return not (isinstance(error.code, int) and -256 < error.code <= -192)
    return isinstance(error, Exception)


def backoff(strikes: int, first: timedelta) -> timedelta:
    """The wait after a number of failed attempts: doubled by each one, give or take a quarter."""
    longest = conf().max_backoff
    doubled = min(first * 2 ** min(strikes - 1, 30), longest)
    return timedelta(seconds=doubled.total_seconds() * random.uniform(0.75, 1.25))


def describe(error: BaseException) -> str:
    """An error in one line, as it is kept with the entry and shown to people: what any database keeps."""
    storable = str(error).replace("\0", "").encode(errors="backslashreplace").decode()
    text = " ".join(storable.split())
    name = type(error).__name__
    # Those of Celery's pool print their own name.
    if text and (isinstance(error, PermanentFailure | StateMachineError) or text.startswith(f"{name}(")):
        return text
    return f"{name}: {text}" if text else name
