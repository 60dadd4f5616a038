"""`Enqueue`: the task of a state, a value and the ``on_enter`` callback in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from statemachine.errors import DeclarationError

__all__ = ["Enqueue"]


@dataclass(frozen=True, init=False)
class Enqueue:
    """Enqueue a task when a state is entered; what that means is supplied when the machine is bound.

    Frozen and hashable: equal declarations are equal values.

    Attributes:
        task: The task's registered name.
        kwargs: What the body finds in ``stage.kwargs``: hashable values, as sorted pairs.
        lease: How long a claim lasts without a sign of life; None for the default.
        max_attempts: Failed attempts until the stage is given up; at least 1, None for the default.
        backoff: The wait after the first failed attempt, doubled by each one; None for the default.
        max_runtime: How long one attempt may keep its lease alive.
        queue: The queue to send to; None for the task's own.
        priority: The message's priority; None for the broker's default.
        formerly: What the task was called before: its entries and messages may still say so.
    """

    task: str
    kwargs: tuple[tuple[str, Any], ...]
    lease: timedelta | None
    max_attempts: int | None
    backoff: timedelta | None
    max_runtime: timedelta
    queue: str | None
    priority: int | None
    formerly: tuple[str, ...]

    def __init__(
        self,
        task: str,
        *,
        kwargs: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
        lease: timedelta | None = None,
        max_attempts: int | None = None,
        backoff: timedelta | None = None,
        max_runtime: timedelta = timedelta(hours=1),
        queue: str | None = None,
        priority: int | None = None,
        formerly: str | Iterable[str] = (),
    ) -> None:
        if not isinstance(task, str) or not task:
            raise DeclarationError(
                f"Enqueue needs the registered name of a task, not {task!r}.",
                hint='Write Enqueue("app.task").',
            )
        for name, number, least in (("max_attempts", max_attempts, 1), ("priority", priority, 0)):
            whole = isinstance(number, int) and not isinstance(number, bool)
            if number is not None and not (whole and number >= least):
                raise DeclarationError(
                    f"{task!r} has {name}={number!r}.", hint=f"Give it a whole number, at least {least}."
                )
        for name, value in (("lease", lease), ("backoff", backoff), ("max_runtime", max_runtime)):
            missing = value is None and name != "max_runtime"
            if not (missing or (isinstance(value, timedelta) and value > timedelta())):
                raise DeclarationError(
                    f"{task!r} has {name}={value!r}, which is no duration.",
                    hint="Give it a positive timedelta.",
                )
        if queue is not None and not (isinstance(queue, str) and queue):
            raise DeclarationError(f"{task!r} has queue={queue!r}.", hint="Give it the name of a queue.")
        values: dict[str, Any] = {
            "task": task,
            "kwargs": _pairs(task, kwargs),
            "lease": lease,
            "max_attempts": max_attempts,
            "backoff": backoff,
            "max_runtime": max_runtime,
            "queue": queue,
            "priority": priority,
            "formerly": former_names(f"The task {task!r}", task, formerly),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def names(self) -> tuple[str, ...]:
        """What the task may be called in an entry or a message; the first is today's."""
        return (self.task, *self.formerly)

    def __call__(self, event: Any) -> None:
        """Run as an ``on_enter`` callback: hand the row and this value to the machine."""
        event.machine.enqueue(event.model, self)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.kwargs)
        return f"{self.task}({arguments})" if arguments else self.task


def former_names(what: str, name: str, given: Any) -> tuple[str, ...]:
    """The names that something had before, from one or several.

    Raises:
        DeclarationError: One is no name, is today's, or stands there twice.
    """
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    for former in names:
        if not isinstance(former, str) or not former:
            raise DeclarationError(
                f"{what} has formerly={given!r}, which is no name.", hint='Write formerly="old".'
            )
        if former == name or names.count(former) > 1:
            raise DeclarationError(
                f"{what} has formerly={given!r}, which says a name twice.",
                hint="Give it the names that it had before, each once.",
            )
    return names


def _pairs(task: str, kwargs: Any) -> tuple[tuple[str, Any], ...]:
    """Sorted and hashable; pairs pass too, so that `dataclasses.replace` works."""
    given = dict(kwargs or {})
    if not all(isinstance(name, str) for name in given):
        raise DeclarationError(f"The kwargs of {task!r} have a name that is no string.", hint="Use strings.")
    pairs = tuple(sorted(given.items()))
    try:
        hash(pairs)
    except TypeError as error:
        raise DeclarationError(
            f"The kwargs of {task!r} cannot be hashed: {error}.",
            hint="Use strings, numbers and tuples; a task reads larger things from its row.",
        ) from error
    return pairs
