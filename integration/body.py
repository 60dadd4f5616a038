"""What the body of a stage is given: its row, and the means to report, to finish and to wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, NoReturn

from django.db import connections, transaction
from django.utils.timezone import is_aware

from integration import protocol
from integration.binding import RowBinding
from integration.conf import conf
from integration.entries import Entry
from integration.heart import Heart
from integration.protocol import Subject, Token
from statemachine import Enqueue, LeaseLost, StateMachineError, StateValue

__all__ = ["Body", "PermanentFailure", "Released", "Stage", "bodies"]

Body = Callable[["Stage"], object]

bodies: dict[str, Body] = {}
"""The body of every stage task of this process, by the task's name."""


class PermanentFailure(Exception):
    """Raised by a body that no further attempt would help: the stage is given up at once."""


class Released(BaseException):
    """Raised by `Stage.wait`, to end the body. Not an `Exception`: a body that catches all lets it pass."""


class Stage:
    """What a body is given.

    Attributes:
        row: The row, freshly read; it alone, or what is loaded beside it in this context, may be advanced.
        kwargs: What `Enqueue` declared.
        attempt: Which attempt this is, from 1 on.
        idempotency_key: The same for every attempt of this step, and for no other: for outside services.
    """

    def __init__(
        self,
        row: Any,
        *,
        entry: Entry,
        token: Token,
        binding: RowBinding,
        subject: Subject,
        enqueue: Enqueue,
    ) -> None:
        self.row, self.attempt = row, token.attempt
        self.kwargs: Mapping[str, Any] = dict(enqueue.kwargs)
        self.idempotency_key = ":".join(map(str, (*subject.key.values(), entry.epoch, entry.step, entry.pk)))
        self._entry, self._token, self._binding, self._subject = entry, token, binding, subject
        self._checkpoint, self._lease = entry.checkpoint, enqueue.lease or conf().lease
        self._heart: Heart | None = None
        self._reported = float("-inf")
        self._finished = self._released = False

    def __repr__(self) -> str:
        return f"<Stage {self._entry} attempt {self.attempt}>"

    @property
    def checkpoint(self) -> Any:
        """What an earlier attempt left here, small JSON; None at first. Assigning keeps it at once.

        Inside a transaction it could not be kept at once, and would lock the entry before the row.

        Raises:
            LeaseLost: The stage was superseded.
            RuntimeError: It is assigned inside a transaction.
        """
        return self._checkpoint

    @checkpoint.setter
    def checkpoint(self, value: Any) -> None:
        if in_transaction(self._subject.using):
            raise RuntimeError(
                "stage.checkpoint = … is kept at once, so it cannot be assigned inside a transaction, "
                "nor inside finish(): assign it before."
            )
        self._extend(checkpoint=value)
        self._checkpoint = value

    def progress(self, done: int, total: int | None = None) -> None:
        """Say how far the work is, and extend the lease. Writes at most once a second, and at the end.

        Inside a transaction it writes nothing: nobody could see it, and the entry would stay locked.

        Raises:
            LeaseLost: The stage was superseded.
        """
        if self._heart is not None and self._heart.lost:
            raise self.lost()
        now = time.monotonic()
        if (now - self._reported >= 1 or done == total) and not in_transaction(self._subject.using):
            self._reported = now
            self._extend(progress={"done": done, "total": total})

    def _extend(self, **written: Any) -> None:
        if not protocol.extend(self._token, using=self._subject.using, lease=self._lease, **written):
            raise self.lost()

    @contextmanager
    def finish(self, **kwargs: Any) -> Iterator[None]:
        """Commit the block's writes together with the end of the stage, or neither.

        Keyword arguments go to the trigger. It refuses an outer transaction, as ``durable`` does: what is
        finished inside one could still be rolled back.

        Raises:
            LeaseLost: The stage was superseded; the block's writes are undone.
            RuntimeError: There is an outer transaction.
            StateMachineError: The trigger did not move the row; the block's writes are undone.
        """
        with ExitStack() as stack:
            if self._heart is not None:
                stack.enter_context(self._heart.paused())
            with transaction.atomic(using=self._subject.using, durable=True):
                protocol.lock_first(self._subject)
                yield
                self._conclude(**kwargs)
        self._finished = True

    def _conclude(self, **kwargs: Any) -> None:
        """Fire the trigger of a finished stage, which opens its next step if there is one."""
        self._put_back()
        state = self._state
        if not self._binding.machine.fire(self.row, state.done, **kwargs):
            raise StateMachineError(
                f"{self._subject}: every guard of {state.done!r} from {state.name!r} refused.",
                hint="Give the stage an edge that is taken otherwise, or move the row with to_state().",
            )
        last = state.step_after(self._entry.task) is None
        if last and not has_moved(self.row, self._entry, self._binding):
            raise not_moved(self._subject, state.done, state)

    def _put_back(self) -> None:
        """Undo in memory what a body rolled back in the database, which alone decides."""
        put_back(self.row, self._entry, self._binding)

    @property
    def _state(self) -> StateValue:
        return self._binding.states[self._entry.state]

    def wait(self, until: datetime | timedelta) -> NoReturn:
        """Give the work back until an instant, or for a while, and end the body. It costs no attempt.

        It refuses an outer transaction, which ending the body would roll back.

        Raises:
            LeaseLost: The stage was superseded.
            ValueError: The instant has no time zone.
            RuntimeError: There is an outer transaction.
        """
        if isinstance(until, datetime) and not is_aware(until):
            raise ValueError(
                f"wait(until={until!r}) has no time zone: pass an aware datetime, or a timedelta."
            )
        at: dict[str, Any] = {"delay": until} if isinstance(until, timedelta) else {"until": until}
        with transaction.atomic(using=self._subject.using, durable=True):
            released = protocol.release(self._token, using=self._subject.using, **at)
        if not released:
            raise self.lost()
        self._released = True
        raise Released

    def lost(self) -> LeaseLost:
        return LeaseLost.superseded(
            str(self._subject), state=self._entry.state, entry=self._token.entry, attempt=self._token.attempt
        )


def put_back(row: Any, entry: Entry, binding: RowBinding) -> None:
    """Let a row in memory say what its entry says: the compare-and-set finds out whether that is still so."""
    row.__dict__.update({binding.attribute: binding.today(entry.state), binding.epoch: entry.epoch})


def has_moved(row: Any, entry: Entry, binding: RowBinding) -> bool:
    """Whether a row that was put back has been moved since. An internal edge is fired, and moves nothing."""
    return bool(getattr(row, binding.epoch) != entry.epoch)


def not_moved(subject: Subject, trigger: str, state: StateValue) -> StateMachineError:
    return StateMachineError(
        f"{subject}: {trigger!r} from {state.name!r} took an internal edge, which moves no row.",
        hint=f"Give the edge of {trigger!r} a dest: what a stage or a timer fires must move the row.",
    )


def in_transaction(using: str) -> bool:
    """Whether a transaction is open that a ``TestCase`` did not open itself."""
    blocks = connections[using].atomic_blocks
    return bool(blocks) and not getattr(blocks[-1], "_from_testcase", False)
