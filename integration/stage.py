"""The runner: claims an entry, runs its body, and obeys what became of it. Celery is not known here."""

from __future__ import annotations

import enum
import logging
import os
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn

from django.db import DatabaseError, connections, transaction

from integration import protocol
from integration.binding import RowBinding, holding, message_of, registered
from integration.conf import conf
from integration.dispatch import Message, ring
from integration.entries import Entry
from integration.protocol import Subject, Superseded, Token
from statemachine import Enqueue, LeaseLost, StateMachineError, StateValue

__all__ = ["Body", "Inline", "Outcome", "PermanentFailure", "Stage", "Verdict", "bodies", "run", "verdict"]

logger = logging.getLogger("statemachine")

Body = Callable[["Stage"], object]

bodies: dict[str, Body] = {}
"""The body of every stage task of this process, by the task's name."""


class PermanentFailure(Exception):
    """Raised by a body that no further attempt would help: the stage is given up at once."""


class Released(BaseException):
    """Raised by `Stage.wait`, to end the body. Not an `Exception`: a body that catches all lets it pass."""


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
    if not isinstance(error, Exception):
        return Verdict.RELEASE  # the worker is told to stop; the work is not to blame
    if isinstance(error, PermanentFailure) or strikes >= max_attempts:
        return Verdict.GIVE_UP
    return Verdict.RETRY


def backoff(strikes: int, first: timedelta) -> timedelta:
    """The wait after a number of failed attempts: doubled by each one, give or take a quarter."""
    longest = conf().max_backoff
    doubled = min(first * 2 ** min(strikes - 1, 30), longest)
    return doubled * random.uniform(0.75, 1.25)


class Heart:
    """Extends a lease beside the body, until it is stopped, the runtime is over, or the token is lost."""

    def __init__(self, token: Token, *, using: str, lease: timedelta, max_runtime: timedelta) -> None:
        self.token, self.using, self.lease = token, using, lease
        self.until = time.monotonic() + max_runtime.total_seconds()
        self.lost = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heart-{token.entry}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop beating. Does not wait: the caller may hold the lock that a beat waits for."""
        self._stopped.set()

    def join(self) -> None:
        self._thread.join(self.lease.total_seconds())

    def _beat(self) -> None:
        try:
            while not self._stopped.wait(self.lease.total_seconds() / 3):
                if time.monotonic() >= self.until or not self._extend():
                    return
        finally:
            connections[self.using].close()

    def _extend(self) -> bool:
        try:
            held = protocol.extend(self.token, using=self.using, lease=self.lease)
        except DatabaseError as error:  # tried again at the next beat; the lease bounds how often
            logger.warning("Could not extend the lease of entry %s: %s", self.token.entry, error)
            connections[self.using].close()
            return True
        self.lost = not held
        return held


class Stage:
    """What a body is given: its row, and the means to report, to finish and to wait.

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
        self.idempotency_key = f"{subject.key['model']}:{subject.object}:{subject.field}:{entry.epoch}:{entry.step}"
        self._entry, self._token, self._binding, self._subject = entry, token, binding, subject
        self._checkpoint, self._lease = entry.checkpoint, enqueue.lease or conf().lease
        self._heart: Heart | None = None
        self._reported = float("-inf")
        self._finished = False

    def __repr__(self) -> str:
        return f"<Stage {self._entry} attempt {self.attempt}>"

    @property
    def checkpoint(self) -> Any:
        """What an earlier attempt left here, small JSON; None at first. Assigning keeps it at once.

        Raises:
            LeaseLost: The stage was superseded.
        """
        return self._checkpoint

    @checkpoint.setter
    def checkpoint(self, value: Any) -> None:
        self._extend(checkpoint=value)
        self._checkpoint = value

    def progress(self, done: int, total: int | None = None) -> None:
        """Say how far the work is, and extend the lease. Writes at most once a second.

        Raises:
            LeaseLost: The stage was superseded.
        """
        if self._heart is not None and self._heart.lost:
            raise self.lost()
        now = time.monotonic()
        if now - self._reported >= 1 or done == total:
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
        """
        if self._heart is not None:
            self._heart.stop()
        with transaction.atomic(using=self._subject.using, durable=True):
            yield
            self.conclude(**kwargs)

    def conclude(self, **kwargs: Any) -> None:
        """Open the next step, or fire the trigger of a finished stage, inside the caller's transaction."""
        state, step = self._state, self._entry.step + 1
        if step < len(state.steps):
            self._open_next(state, step)
        elif not self._binding.machine.fire(self.row, state.done, **kwargs):
            raise StateMachineError(
                f"{self._subject}: every guard of {state.done!r} from {state.name!r} refused.",
                hint="Give the stage an edge that is taken otherwise, or move the row with to_state().",
            )
        self._finished = True

    def _open_next(self, state: StateValue, step: int) -> None:
        try:
            entry = protocol.next_step(
                self._subject, self._token, state=state, step=step, epoch=self._entry.epoch
            )
        except Superseded:
            raise self.lost() from None
        ring(message_of(entry, self._subject.using))

    @property
    def _state(self) -> StateValue:
        return self._binding.states[self._entry.state]

    def wait(self, until: datetime | timedelta) -> NoReturn:
        """Give the work back until an instant, or for a while, and end the body. It costs no attempt.

        Raises:
            LeaseLost: The stage was superseded.
        """
        at = {"delay": until} if isinstance(until, timedelta) else {"until": until}
        if not protocol.release(self._token, using=self._subject.using, **at):  # type: ignore[arg-type]
            raise self.lost()
        raise Released

    def lost(self) -> LeaseLost:
        return LeaseLost.superseded(
            str(self._subject), state=self._entry.state, entry=self._token.entry, attempt=self._token.attempt
        )


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A claim that holds, and everything that belongs to it."""

    entry: Entry
    token: Token
    binding: RowBinding
    subject: Subject
    row: Any

    @property
    def state(self) -> StateValue:
        return self.binding.states[self.entry.state]

    @property
    def using(self) -> str:
        return self.subject.using


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
        heartbeat: Whether to extend the lease from a thread beside the body.
        elapsed: Whether to take the entry's wait as over: for tests, and eager mode.
    """
    entry = Entry.objects.using(using).open().filter(pk=entry_id).first()
    binding = registered(entry) if entry is not None else None
    if entry is None or binding is None or entry.task != task or entry.due_at is None:
        logger.debug("Entry %s is not for %s: left, unknown here, or not waiting.", entry_id, task or "a timer")
        return Outcome.DROPPED
    if task and task not in {step.task for step in binding.states[entry.state].steps}:
        return _adopt_or_drop(entry, binding, using)
    spent = bool(task) and entry.strikes >= _max_attempts(_enqueue(entry, binding))
    token = protocol.claim(
        entry,
        using=using,
        lease=(_enqueue(entry, binding).lease if task else None) or conf().lease,
        strike=bool(task) and not spent,
        worker=f"{socket.gethostname()}:{os.getpid()}",
        # A second later: SQLite compares instants as text, and a whole second is printed shorter.
        now=entry.ready_at + timedelta(seconds=1) if elapsed else None,
    )
    if token is None:
        return Outcome.DROPPED
    claimed = _read(entry, token, binding, using)
    if claimed is None:
        return Outcome.ADOPTED
    return _work(claimed, judge=judge, heartbeat=heartbeat, spent=spent)


def _enqueue(entry: Entry, binding: RowBinding) -> Enqueue:
    return next(step for step in binding.states[entry.state].steps if step.task == entry.task)


def _max_attempts(enqueue: Enqueue) -> int:
    return enqueue.max_attempts or conf().max_attempts


def _subject_of(entry: Entry, binding: RowBinding, using: str) -> Subject:
    pk = binding.owner._meta.pk.to_python(entry.object)
    return Subject(owner=binding.owner, pk=pk, field=entry.field, using=using)


def _adopt_or_drop(entry: Entry, binding: RowBinding, using: str) -> Outcome:
    adopt(_subject_of(entry, binding, using), binding)
    return Outcome.DROPPED


def adopt(subject: Subject, binding: RowBinding) -> bool:
    """Repair a row and an entry that disagree, and ring the right entry. Whether there was one to open."""
    entry = protocol.adopt(subject, binding.states)
    if entry is None:
        return False
    logger.warning("Adopted %s: its row and its open entry disagreed.", entry)
    if entry.task:
        ring(message_of(entry, subject.using))
    return True


def _read(entry: Entry, token: Token, binding: RowBinding, using: str) -> Claimed | None:
    """Read the row of a claim; None when it does not agree, which is then repaired."""
    subject = _subject_of(entry, binding, using)
    row = subject.rows.first()
    if row is None or (binding.read(row), getattr(row, binding.epoch)) != (entry.state, entry.epoch):
        adopt(subject, binding)
        return None
    return Claimed(entry=entry, token=token, binding=binding, subject=subject, row=row)


def _work(claimed: Claimed, *, judge: Callable[..., Verdict], heartbeat: bool, spent: bool) -> Outcome:
    claimed.binding.lend(claimed.row, claimed.token)
    with holding(claimed.subject, claimed.token):
        if not claimed.entry.task:
            assert claimed.state.after is not None
            return _fire_or_park(claimed, claimed.state.after[1])
        if spent:
            return _give_up(claimed, claimed.entry.error or "no attempt ever reported back")
        return _attempt(claimed, judge=judge, heartbeat=heartbeat)


def _attempt(claimed: Claimed, *, judge: Callable[..., Verdict], heartbeat: bool) -> Outcome:
    enqueue = _enqueue(claimed.entry, claimed.binding)
    stage = Stage(
        claimed.row,
        entry=claimed.entry,
        token=claimed.token,
        binding=claimed.binding,
        subject=claimed.subject,
        enqueue=enqueue,
    )
    with _beating(stage, enqueue, heartbeat):
        try:
            bodies[enqueue.task](stage)
            return _conclude(stage, claimed)
        except Released:
            return Outcome.WAITING
        except LeaseLost:
            logger.info("%r was superseded; nothing of it is kept.", stage)
            return Outcome.SUPERSEDED
        except BaseException as error:
            outcome = _judge(claimed, error, enqueue, judge)
            if isinstance(error, Exception):
                return outcome
            raise


@contextmanager
def _beating(stage: Stage, enqueue: Enqueue, heartbeat: bool) -> Iterator[None]:
    if not heartbeat:
        yield
        return
    heart = Heart(
        stage._token,
        using=stage._subject.using,
        lease=enqueue.lease or conf().lease,
        max_runtime=enqueue.max_runtime,
    )
    stage._heart = heart
    heart.start()
    try:
        yield
    finally:
        heart.stop()
        heart.join()


def _conclude(stage: Stage, claimed: Claimed) -> Outcome:
    """Finish a stage whose body returned, unless it did so itself: the database decides, not memory."""
    if stage._finished or not protocol._held(claimed.token, claimed.using).exists():
        return Outcome.FINISHED
    _put_back(claimed)
    with transaction.atomic(using=claimed.using, durable=True):
        stage.conclude()
    return Outcome.FINISHED


def _put_back(claimed: Claimed) -> None:
    """Undo in memory what a body rolled back in the database."""
    claimed.row.__dict__[claimed.binding.attribute] = claimed.entry.state
    claimed.row.__dict__[claimed.binding.epoch] = claimed.entry.epoch


def _judge(claimed: Claimed, error: BaseException, enqueue: Enqueue, judge: Callable[..., Verdict]) -> Outcome:
    strikes, text = claimed.entry.strikes + 1, describe(error)
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
    delay = backoff(strikes, enqueue.backoff or conf().backoff) if decided is Verdict.RETRY else timedelta()
    kept = protocol.release(
        claimed.token, using=claimed.using, delay=delay, strike=decided is Verdict.RETRY, error=text
    )
    return Outcome.BACKING_OFF if kept else Outcome.SUPERSEDED


def describe(error: BaseException) -> str:
    """An error in one line, as it is kept with the entry and shown to people."""
    text = " ".join(str(error).split())
    if isinstance(error, PermanentFailure | StateMachineError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _give_up(claimed: Claimed, error: str) -> Outcome:
    outcome = _fire_or_park(claimed, claimed.state.failed, error=error)
    return Outcome.GIVEN_UP if outcome is Outcome.FINISHED else outcome


def _fire_or_park(claimed: Claimed, trigger: str, **kwargs: Any) -> Outcome:
    """Fire the trigger of a timer or of a given-up stage; what refuses it waits for a person."""
    _put_back(claimed)
    try:
        if claimed.binding.machine.fire(claimed.row, trigger, **kwargs):
            return Outcome.FINISHED
        refused = f"every guard of {trigger!r} refused"
    except LeaseLost:
        return Outcome.SUPERSEDED
    except Exception as error:  # user callbacks raise what they like; the entry must not spin for it
        logger.exception("%s: %r could not be fired.", claimed.subject, trigger)
        refused = describe(error)
    cause = f"{kwargs['error']}; " if kwargs.get("error") else ""
    parked = protocol.park(claimed.token, using=claimed.using, error=f"{cause}{trigger!r}: {refused}")
    return Outcome.PARKED if parked else Outcome.SUPERSEDED


class Inline:
    """A publisher that runs stages where they are dispatched: in order, without recursion.

    For eager mode and tests. A backoff counts as elapsed; a wait does not, or it would spin.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self.outcomes: list[tuple[Message, Outcome]] = []

    def publish(self, message: Message) -> None:
        queue = self._local.__dict__.setdefault("queue", deque())
        queue.append((message, False))
        if not self._local.__dict__.get("draining"):
            self._drain(queue)

    def _drain(self, queue: deque[tuple[Message, bool]]) -> None:
        self._local.draining = True
        try:
            while queue:
                message, elapsed = queue.popleft()
                outcome = self._run(message, elapsed)
                self.outcomes.append((message, outcome))
                if outcome is Outcome.BACKING_OFF:
                    queue.append((message, True))
        finally:
            self._local.draining = False
            queue.clear()

    def _run(self, message: Message, elapsed: bool) -> Outcome:
        task = "" if message.task == "statemachine.timer" else message.task
        return run(message.entry, using=message.using, task=task, heartbeat=False, elapsed=elapsed)
