"""What can go wrong, in three families that a caller can tell apart.

* The *declaration* is wrong: `DeclarationError`, when the machine is declared or bound.
* This *row may not*: `TransitionNotAllowed`, when a trigger is fired.
* Another process was *first*: `StaleState` and `LeaseLost`, when the row is written.

The values are attributes, and every error can be pickled: it crosses process borders.
"""

from __future__ import annotations

from typing import Any

from transitions import MachineError

__all__ = [
    "DeclarationError",
    "LeaseLost",
    "Reentered",
    "StaleState",
    "StateMachineError",
    "TransitionNotAllowed",
    "UnknownTrigger",
]


class StateMachineError(Exception):
    """The base of every error of this library.

    Attributes:
        msg: The problem and its cause.
        hint: What to do about it; may be empty.
    """

    def __init__(self, msg: str, *, hint: str = "", **values: Any) -> None:
        super().__init__(msg)
        self.msg = msg
        self.hint = hint
        self.__dict__.update(values)

    def __str__(self) -> str:
        return f"{self.msg} {self.hint}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.msg, dict(self.__dict__))


def _rebuild(cls: type[StateMachineError], msg: str, values: dict[str, Any]) -> StateMachineError:
    error = cls.__new__(cls, msg)
    error.__dict__.update(values)
    return error


class DeclarationError(StateMachineError, ValueError):
    """The machine, or what it is bound to, is declared wrongly. Nothing was bound."""


class TransitionNotAllowed(StateMachineError, MachineError):
    """The row may not do this, whoever asks. The row is as it was.

    Attributes:
        row: What the row is called, such as ``Team 7``.
        trigger: The trigger that was fired.
        state: The state that the row is in.
    """

    row: str
    trigger: str
    state: str


class UnknownTrigger(TransitionNotAllowed, AttributeError):
    """The machine has no trigger of that name."""


class Reentered(TransitionNotAllowed):
    """A callback fired its own row in the middle of a transition."""


class StaleState(StateMachineError):
    """Another process moved the row first, so nothing was written. The row is as it was.

    Attributes:
        row: What the row is called, such as ``Team 7``.
        trigger: The trigger that was fired, or ``to_state``.
        expected: The state that the row was thought to be in.
        epoch: The epoch that it was thought to have; None on a plain class.
    """

    row: str
    trigger: str
    expected: str
    epoch: int | None

    @classmethod
    def moved(cls, row: str, trigger: str, *, expected: str, epoch: int | None = None) -> StaleState:
        where = repr(expected) if epoch is None else f"{expected!r} (epoch {epoch})"
        return cls(
            f"{row} is no longer {where}, so {trigger!r} was not applied: another process moved it first.",
            hint="Call refresh_from_db() and look again.",
            row=row,
            trigger=trigger,
            expected=expected,
            epoch=epoch,
        )


class LeaseLost(StateMachineError):
    """The stage was superseded: its lease ran out, or the row was moved. Its writes are refused.

    Attributes:
        row: What the row is called.
        state: The state whose stage this was.
        entry: The id of the entry.
        attempt: The attempt that was superseded.
    """

    row: str
    state: str
    entry: int
    attempt: int

    @classmethod
    def superseded(cls, row: str, *, state: str, entry: int, attempt: int) -> LeaseLost:
        return cls(
            f"{row} no longer waits for attempt {attempt} of {state!r}: the lease ran out and another "
            "worker took it, or the row was moved.",
            hint="Stop working; nothing of this attempt will be kept.",
            row=row,
            state=state,
            entry=entry,
            attempt=attempt,
        )
