"""The runner: claims an entry, runs its body, and obeys what became of it. Celery is not known here."""

from __future__ import annotations

import enum
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, connections
from django.utils.module_loading import autodiscover_modules

from integration import protocol
from integration.binding import RowBinding, holding, registered
from integration.body import (
    Body,
    PermanentFailure,
    Released,
    Stage,
    bodies,
    has_moved,
    not_moved,
    put_back,
)
from integration.claimed import Claimed, max_attempts_of, step_of, subject_of
from integration.conf import conf
from integration.entries import Entry
from integration.heart import Heart
from integration.protocol import Subject, Token
from integration.verdict import Verdict, backoff, describe, is_failure, verdict
from statemachine import LeaseLost

__all__ = ["Body", "Outcome", "PermanentFailure", "Stage", "bodies", "run"]

logger = logging.getLogger("statemachine")


class Outcome(enum.Enum):
    """What became of a message."""

    DROPPED = "dropped"
    ADOPTED = "adopted"
    FINISHED = "finished"
    SUPERSEDED = "superseded"
    WAITING = "waiting"
    BACKING_OFF = "backing off"
    GIVEN_UP = "given up"
    PARKED = "parked"


def run(
    entry_id: int,
    *,
    using: str = "default",
    task: str = "",
    judge: Callable[..., Verdict] = verdict,
    heartbeat: bool = True,
    elapsed: bool = False,
) -> Outcome:
    """Answer a message: claim the entry, do what it needs, and say what became of it.

    Safe to call at any time, any number of times, in any number of processes.

    Args:
        entry_id: The message.
        using: The alias of the entry's database.
        task: The task that the message was sent to; another one's entry is dropped.
        judge: Decides what becomes of an attempt that raised, as `verdict` does.
        heartbeat: Whether to extend the lease from a thread beside the body; never inside a transaction,
            which the thread could not see.
        elapsed: Whether to take the entry's wait as over: for tests, and eager mode.

    Raises:
        RuntimeError: There is an outer transaction, not a ``TestCase``'s own.
    """
    entry = Entry.objects.using(using).open().filter(pk=entry_id).first()
    binding = registered(entry) if entry is not None else None
    if entry is None or binding is None or entry.due_at is None or not _is_for(task, entry, binding):
        logger.debug(
            "Entry %s is not for %s: left, unknown here, or not waiting.", entry_id, task or "a timer"
        )
        return Outcome.DROPPED
    enqueue = step_of(entry, binding)
    if task and enqueue is None:
        return _adopt(subject_of(entry, binding, using), binding)
    if enqueue is not None and not _is_declared(enqueue.task):
        logger.error("Entry %s is for %r, which this process did not import.", entry_id, enqueue.task)
        return Outcome.DROPPED
    spent, lease = (
        entry.strikes >= max_attempts_of(enqueue),
        (enqueue.lease if enqueue else None) or conf().lease,
    )
    held = protocol.claim(
        entry,
        using=using,
        lease=lease,
        strike=not spent,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        # A second later: SQLite compares instants as text, and prints a whole second shorter than others.
        now=entry.ready_at + timedelta(seconds=1) if elapsed else None,
    )
    if held is None:
        return Outcome.DROPPED
    subject = subject_of(held, binding, using)
    row = subject.rows.first()
    if row is None or not _agrees(row, held, binding):
        outcome = _adopt(subject, binding)
        # What could not be repaired, as a state that is unknown here, is left for later: no body has run.
        protocol.release(Token(held.pk, held.attempt), using=using, delay=lease, strike=spent)
        return outcome
    claimed = Claimed(entry=held, binding=binding, subject=subject, row=row, spent=spent)
    with _holding(claimed):
        return _work(claimed, judge=judge, heartbeat=heartbeat)


def _is_for(task: str, entry: Entry, binding: RowBinding) -> bool:
    """Whether a message to a task may mean the entry; both may call the task by a former name."""
    step = step_of(entry, binding)
    return task in (step.names if step is not None else (entry.task,))


def _is_declared(task: str) -> bool:
    """Whether this process has the task's body. A test, or eager mode, may not have imported it yet."""
    if task not in bodies:
        autodiscover_modules("tasks")
    return task in bodies


def _agrees(row: Any, entry: Entry, binding: RowBinding) -> bool:
    """Whether the row is where its entry says, and the entry of a working state has a task."""
    where = binding.read(row), getattr(row, binding.epoch)
    state = binding.states[entry.state]
    return where == (state.name, entry.epoch) and bool(entry.task) >= state.works


def _adopt(subject: Subject, binding: RowBinding) -> Outcome:
    return Outcome.ADOPTED if binding.adopt(subject) else Outcome.DROPPED


@contextmanager
def _holding(claimed: Claimed) -> Iterator[None]:
    """Let the body fire its row: the instance that it is given in any thread, others in this context."""
    claimed.binding.lend(claimed.row, claimed.token)
    try:
        with holding(claimed.subject, claimed.token):
            yield
    finally:
        claimed.row.__dict__.pop("_statemachine_tokens", None)


def _work(claimed: Claimed, *, judge: Callable[..., Verdict], heartbeat: bool) -> Outcome:
    if not claimed.entry.task:
        return _ring_timer(claimed, judge)
    if claimed.spent:
        return _give_up(claimed, claimed.entry.error or "no attempt ever reported back")
    return _attempt(claimed, judge=judge, heartbeat=heartbeat)


def _ring_timer(claimed: Claimed, judge: Callable[..., Verdict]) -> Outcome:
    """Fire the trigger of a timer. It has no `failed`: out of strikes it is fired all the same."""
    if claimed.state.after is None:
        protocol.park(claimed.token, using=claimed.using, error="")  # it was taken out of the declaration
        return Outcome.DROPPED
    trigger = claimed.state.after[1]
    try:
        fired = _fire_or_refused(claimed, trigger)
    except BaseException as error:
        if not is_failure(error):
            _give_back(claimed, error, judge)
        raise
    if isinstance(fired, Refused) and fired.error is not None:
        decided = judge(fired.error, strikes=claimed.entry.strikes, max_attempts=claimed.max_attempts)
        if decided is not Verdict.GIVE_UP:
            return _back_off(claimed, fired.error, decided, text=str(fired))
    return _parked(claimed, fired)


def _attempt(claimed: Claimed, *, judge: Callable[..., Verdict], heartbeat: bool) -> Outcome:
    stage = Stage(
        claimed.row,
        entry=claimed.entry,
        token=claimed.token,
        binding=claimed.binding,
        subject=claimed.subject,
        enqueue=claimed.enqueue,
    )
    with _beating(stage, claimed, heartbeat):
        try:
            bodies[claimed.enqueue.task](stage)
            return _conclude(stage, claimed)
        except Released:
            return Outcome.WAITING
        except BaseException as error:
            if is_failure(error):
                return _failed(stage, claimed, error, judge)
            _give_back(claimed, error, judge)
            raise


@contextmanager
def _beating(stage: Stage, claimed: Claimed, heartbeat: bool) -> Iterator[None]:
    if not heartbeat or connections[claimed.using].in_atomic_block:
        yield
        return
    lease, longest = claimed.enqueue.lease or conf().lease, claimed.enqueue.max_runtime
    stage._heart = Heart(claimed.token, using=claimed.using, lease=lease, max_runtime=longest)
    with stage._heart.beating():
        yield


def _conclude(stage: Stage, claimed: Claimed) -> Outcome:
    """Finish a stage whose body returned, unless it did so itself: the database decides, not memory."""
    if stage._released:
        return Outcome.WAITING
    if not stage._finished and protocol.holds(claimed.token, using=claimed.using):
        with stage.finish():
            pass
    elif Entry.objects.using(claimed.using).open().filter(pk=claimed.entry.pk).exists():
        return _superseded(claimed)
    return Outcome.FINISHED


def _failed(stage: Stage, claimed: Claimed, error: BaseException, judge: Callable[..., Verdict]) -> Outcome:
    if stage._released:
        return Outcome.WAITING
    if isinstance(error, LeaseLost) and claimed.is_lost(error):
        return _superseded(claimed)
    return _judge(claimed, error, judge)


def _superseded(claimed: Claimed) -> Outcome:
    """Keep nothing. What a raw update of the row superseded is repaired at once."""
    logger.info("%s: attempt %s was superseded; nothing of it is kept.", claimed.entry, claimed.token.attempt)
    claimed.binding.adopt(claimed.subject)
    return Outcome.SUPERSEDED


def _give_back(claimed: Claimed, error: BaseException, judge: Callable[..., Verdict]) -> None:
    """Give the work back when the worker is told to stop, whatever the database says to that."""
    try:
        _judge(claimed, error, judge)
    except Exception as other:
        logger.warning("%s: not given back, so its lease must run out: %s", claimed.entry, other)


def _judge(claimed: Claimed, error: BaseException, judge: Callable[..., Verdict]) -> Outcome:
    _reconnect(claimed.using)
    text = describe(error)
    decided = judge(error, strikes=claimed.entry.strikes, max_attempts=claimed.max_attempts)
    logger.log(
        logging.INFO if decided is Verdict.RELEASE else logging.WARNING,
        "%s: attempt %s of %r: %s",
        claimed.subject,
        claimed.token.attempt,
        claimed.entry.task or "a timer",
        text,
        exc_info=error if decided is not Verdict.RELEASE else None,
    )
    if decided is Verdict.GIVE_UP:
        return _give_up(claimed, text)
    return _back_off(claimed, error, decided, text=text)


def _back_off(claimed: Claimed, error: BaseException, decided: Verdict, *, text: str) -> Outcome:
    """Give the work back: after a backoff, or at once where the worker alone is to blame."""
    strike = decided is Verdict.RETRY
    # A body that asks to be run again waits for the first backoff each time, or it would spin.
    wait = backoff(claimed.entry.strikes if strike else 1, claimed.backoff)
    kept = protocol.release(
        claimed.token,
        using=claimed.using,
        delay=wait if is_failure(error) else timedelta(),
        strike=strike or claimed.spent,
        error=text,
    )
    if not kept:
        return _superseded(claimed)
    return Outcome.BACKING_OFF if strike else Outcome.WAITING


def _reconnect(using: str) -> None:
    """Drop a connection that the body left broken, or out of autocommit."""
    if not connections[using].in_atomic_block:
        connections[using].close_if_unusable_or_obsolete()


@dataclass(frozen=True)
class Refused:
    """Why a trigger that a stage or a timer fired did not move its row.

    Attributes:
        text: The trigger, and why.
        error: What it raised, if it did.
    """

    text: str
    error: BaseException | None = None

    def __str__(self) -> str:
        return self.text


def _give_up(claimed: Claimed, error: str) -> Outcome:
    """Fire `failed`; what refuses it waits for a person."""
    fired = _fire_or_refused(claimed, claimed.state.failed, error=error)
    outcome = _parked(claimed, fired, cause=error)
    return Outcome.GIVEN_UP if outcome is Outcome.FINISHED else outcome


def _parked(claimed: Claimed, fired: Outcome | Refused, *, cause: str = "") -> Outcome:
    if isinstance(fired, Outcome):
        return fired
    error = f"{cause}; {fired}" if cause else str(fired)
    parked = protocol.park(claimed.token, using=claimed.using, error=error)
    return Outcome.PARKED if parked else Outcome.SUPERSEDED


def _fire_or_refused(claimed: Claimed, trigger: str, **kwargs: Any) -> Outcome | Refused:
    """Fire the trigger of a timer or of a given-up stage.

    Raises:
        InterfaceError, OperationalError: The database failed twice. That passes, so the entry is not parked:
            its lease runs out, and it is rung again.
    """
    raised: BaseException | None = None
    try:
        if not _fire(claimed, trigger, **kwargs):
            refused = f"every guard of {trigger!r} refused"
        elif has_moved(claimed.row, claimed.entry, claimed.binding):
            return Outcome.FINISHED
        else:
            refused = describe(not_moved(claimed.subject, trigger, claimed.state))
    except (InterfaceError, OperationalError):
        raise
    except BaseException as error:  # user callbacks raise what they like; the entry must not spin for it
        if not is_failure(error):
            raise
        if isinstance(error, LeaseLost) and claimed.is_lost(error):
            return _superseded(claimed)
        logger.exception("%s: %r could not be fired.", claimed.subject, trigger)
        refused, raised = describe(error), error
    if claimed.binding.adopt(claimed.subject):
        return Outcome.ADOPTED
    return Refused(f"{trigger!r}: {refused}", raised)


def _fire(claimed: Claimed, trigger: str, **kwargs: Any) -> bool:
    """Fire, and once more after a deadlock or a lost connection: neither is the trigger's fault."""
    put_back(claimed.row, claimed.entry, claimed.binding)
    try:
        return claimed.binding.machine.fire(claimed.row, trigger, **kwargs)
    except (InterfaceError, OperationalError):
        _reconnect(claimed.using)
        put_back(claimed.row, claimed.entry, claimed.binding)
        return claimed.binding.machine.fire(claimed.row, trigger, **kwargs)
