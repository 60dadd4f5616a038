"""The runner: claims an entry, runs its body, and obeys what became of it. Celery is not known here."""

from __future__ import annotations

import enum
import logging
import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import InterfaceError, OperationalError, connections
from django.utils.module_loading import autodiscover_modules

from integration import protocol
from integration.binding import RowBinding, holding, message_of, registered
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
from integration.conf import conf
from integration.dispatch import ring
from integration.entries import Entry
from integration.heart import Heart
from integration.protocol import Subject, Token
from statemachine import Enqueue, LeaseLost, StateMachineError, StateValue

__all__ = ["Body", "Outcome", "PermanentFailure", "Stage", "Verdict", "bodies", "run", "verdict"]

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


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A claim that holds, and everything that belongs to it."""

    entry: Entry
    binding: RowBinding
    subject: Subject
    row: Any

    @property
    def token(self) -> Token:
        return Token(self.entry.pk, self.entry.attempt)

    @property
    def state(self) -> StateValue:
        return self.binding.states[self.entry.state]

    @property
    def enqueue(self) -> Enqueue:
        enqueue = step_of(self.entry, self.binding)
        assert enqueue is not None
        return enqueue

    @property
    def using(self) -> str:
        return self.subject.using

    def is_lost(self, error: LeaseLost) -> bool:
        """Whether it is this claim that was superseded, and not that of another row."""
        return Token(error.entry, error.attempt) == self.token


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
    if entry is None or binding is None or entry.task != task or entry.due_at is None:
        logger.debug(
            "Entry %s is not for %s: left, unknown here, or not waiting.", entry_id, task or "a timer"
        )
        return Outcome.DROPPED
    enqueue = step_of(entry, binding)
    if task and enqueue is None:
        return _adopt(subject_of(entry, binding, using), binding)
    if task and not _is_declared(task):
        logger.error("Entry %s is for %r, which this process did not import.", entry_id, task)
        return Outcome.DROPPED
    spent = enqueue is not None and entry.strikes >= _max_attempts(enqueue)
    strike, lease = enqueue is not None and not spent, (enqueue.lease if enqueue else None) or conf().lease
    held = protocol.claim(
        entry,
        using=using,
        lease=lease,
        strike=strike,
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
        protocol.release(Token(held.pk, held.attempt), using=using, delay=lease, strike=not strike)
        return outcome
    claimed = Claimed(entry=held, binding=binding, subject=subject, row=row)
    with _holding(claimed):
        return _work(claimed, judge=judge, heartbeat=heartbeat, spent=spent)


def _is_declared(task: str) -> bool:
    """Whether this process has the task's body. A test, or eager mode, may not have imported it yet."""
    if task not in bodies:
        autodiscover_modules("tasks")
    return task in bodies


def step_of(entry: Entry, binding: RowBinding) -> Enqueue | None:
    """What is declared about the entry's task; None for a timer's, and a task that is unknown here."""
    return next((step for step in binding.states[entry.state].steps if step.task == entry.task), None)


def _max_attempts(enqueue: Enqueue) -> int:
    return enqueue.max_attempts or conf().max_attempts


def subject_of(entry: Entry, binding: RowBinding, using: str) -> Subject:
    pk = binding.owner._meta.pk.to_python(entry.object)
    return Subject(owner=binding.owner, pk=pk, field=entry.field, using=using)


def _agrees(row: Any, entry: Entry, binding: RowBinding) -> bool:
    """Whether the row is where its entry says, and the entry of a working state has a task."""
    where = binding.read(row), getattr(row, binding.epoch)
    return where == (entry.state, entry.epoch) and bool(entry.task) >= binding.states[entry.state].works


def adopt(subject: Subject, binding: RowBinding) -> bool:
    """Repair a row and an entry that disagree, and ring the right entry. Whether there was one to open."""
    entry = protocol.adopt(subject, binding.states)
    if entry is None:
        return False
    logger.warning("Adopted %s: its row and its open entry disagreed.", entry)
    if entry.task:
        ring(message_of(entry, subject.using))
    return True


def _adopt(subject: Subject, binding: RowBinding) -> Outcome:
    return Outcome.ADOPTED if adopt(subject, binding) else Outcome.DROPPED


@contextmanager
def _holding(claimed: Claimed) -> Iterator[None]:
    """Let the body fire its row: the instance that it is given in any thread, others in this context."""
    claimed.binding.lend(claimed.row, claimed.token)
    try:
        with holding(claimed.subject, claimed.token):
            yield
    finally:
        claimed.row.__dict__.pop("_statemachine_tokens", None)


def _work(claimed: Claimed, *, judge: Callable[..., Verdict], heartbeat: bool, spent: bool) -> Outcome:
    if not claimed.entry.task:
        return _ring_timer(claimed)
    if spent:
        return _give_up(claimed, claimed.entry.error or "no attempt ever reported back")
    return _attempt(claimed, judge=judge, heartbeat=heartbeat)


def _ring_timer(claimed: Claimed) -> Outcome:
    if claimed.state.after is not None:
        return _fire_or_park(claimed, claimed.state.after[1])
    protocol.park(claimed.token, using=claimed.using, error="")  # the timer was taken out of the declaration
    return Outcome.DROPPED


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
            bodies[claimed.entry.task](stage)
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
    adopt(claimed.subject, claimed.binding)
    return Outcome.SUPERSEDED


def _give_back(claimed: Claimed, error: BaseException, judge: Callable[..., Verdict]) -> None:
    """Give the work back when the worker is told to stop, whatever the database says to that."""
    try:
        _judge(claimed, error, judge)
    except Exception as other:
        logger.warning("%s: not given back, so its lease must run out: %s", claimed.entry, other)


def _judge(claimed: Claimed, error: BaseException, judge: Callable[..., Verdict]) -> Outcome:
    _reconnect(claimed.using)
    enqueue, strikes, text = claimed.enqueue, claimed.entry.strikes, describe(error)
    decided = judge(error, strikes=strikes, max_attempts=_max_attempts(enqueue))
    logger.log(
        logging.INFO if decided is Verdict.RELEASE else logging.WARNING,
        "%s: attempt %s of %r: %s",
        claimed.subject,
        claimed.token.attempt,
        enqueue.task,
        text,
        exc_info=error if decided is not Verdict.RELEASE else None,
    )
    if decided is Verdict.GIVE_UP:
        return _give_up(claimed, text)
    # A body that asks to be run again waits for the first backoff each time, or it would spin.
    first, strike = enqueue.backoff or conf().backoff, decided is Verdict.RETRY
    delay = backoff(strikes if strike else 1, first) if is_failure(error) else timedelta()
    kept = protocol.release(claimed.token, using=claimed.using, delay=delay, strike=strike, error=text)
    if not kept:
        return _superseded(claimed)
    return Outcome.BACKING_OFF if strike else Outcome.WAITING


def _reconnect(using: str) -> None:
    """Drop a connection that the body left broken, or out of autocommit."""
    if not connections[using].in_atomic_block:
        connections[using].close_if_unusable_or_obsolete()


def describe(error: BaseException) -> str:
    """An error in one line, as it is kept with the entry and shown to people: what any database keeps."""
    storable = str(error).replace("\0", "").encode(errors="backslashreplace").decode()
    text = " ".join(storable.split())
    if isinstance(error, PermanentFailure | StateMachineError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _give_up(claimed: Claimed, error: str) -> Outcome:
    outcome = _fire_or_park(claimed, claimed.state.failed, error=error)
    return Outcome.GIVEN_UP if outcome is Outcome.FINISHED else outcome


def _fire_or_park(claimed: Claimed, trigger: str, **kwargs: Any) -> Outcome:
    """Fire the trigger of a timer or of a given-up stage; what refuses it waits for a person.

    Raises:
        InterfaceError, OperationalError: The database failed twice. That passes, so the entry is not parked:
            its lease runs out, and it is rung again.
    """
    try:
        if not _fire(claimed, trigger, **kwargs):
            refused = f"every guard of {trigger!r} refused"
        elif has_moved(claimed.row, claimed.entry, claimed.binding):
            return Outcome.FINISHED
        else:
            refused = describe(not_moved(claimed.subject, trigger, claimed.state))
    except (InterfaceError, OperationalError):
        raise
    except Exception as error:  # user callbacks raise what they like; the entry must not spin for it
        if isinstance(error, LeaseLost) and claimed.is_lost(error):
            return _superseded(claimed)
        logger.exception("%s: %r could not be fired.", claimed.subject, trigger)
        refused = describe(error)
    if adopt(claimed.subject, claimed.binding):
        return Outcome.ADOPTED
    cause = f"{kwargs['error']}; " if kwargs.get("error") else ""
    parked = protocol.park(claimed.token, using=claimed.using, error=f"{cause}{trigger!r}: {refused}")
    return Outcome.PARKED if parked else Outcome.SUPERSEDED


def _fire(claimed: Claimed, trigger: str, **kwargs: Any) -> bool:
    """Fire, and once more after a deadlock or a lost connection: neither is the trigger's fault."""
    put_back(claimed.row, claimed.entry, claimed.binding)
    try:
        return claimed.binding.machine.fire(claimed.row, trigger, **kwargs)
    except (InterfaceError, OperationalError):
        _reconnect(claimed.using)
        put_back(claimed.row, claimed.entry, claimed.binding)
        return claimed.binding.machine.fire(claimed.row, trigger, **kwargs)
