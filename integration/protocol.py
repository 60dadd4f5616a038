"""Every write of the protocol, each a compare-and-set. Nothing else writes a status or an entry.

Locks are taken in one order: row, then entry, then insert. Instants are the database's clock, or ``now``
where a caller that simulates time passes one; they are compared by order, never for equality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, connections, models, transaction
from django.db.models import DateTimeField, Expression, ExpressionWrapper, F, Max, QuerySet, Value

from integration.conf import conf
from integration.entries import DatabaseNow, Entry, EntryQuerySet
from statemachine import Enqueue, StateValue

__all__ = [
    "Cause",
    "Disagreement",
    "Subject",
    "Superseded",
    "Token",
    "adopt",
    "claim",
    "extend",
    "holds",
    "move",
    "next_step",
    "open_first",
    "park",
    "release",
    "turn",
]

Instant = datetime | Expression | None


class Superseded(Exception):
    """A compare-and-set found something else than it expected; the caller's transaction is to be undone."""


class Disagreement(Superseded):
    """The row is where it was thought to be, but its open entry says otherwise: adoption is due."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A row, as the protocol addresses it.

    Attributes:
        owner: The model whose table has the status column.
        pk: The row's primary key in that table.
        field: The name of the status column.
        using: The alias of the row's database.
    """

    owner: type[models.Model]
    pk: Any
    field: str
    using: str

    @property
    def key(self) -> dict[str, str]:
        """What its entries carry."""
        return {"model": self.owner._meta.label_lower, "field": self.field, "object": self.object}

    @property
    def object(self) -> str:
        """The primary key as this database prints it, so that it can be joined."""
        pk = self.owner._meta.pk
        return str(pk.get_db_prep_value(self.pk, connections[self.using], prepared=False))

    @property
    def rows(self) -> QuerySet[Any]:
        # No manager of the model: it may hide rows, and its queryset refuses to update a status.
        return QuerySet(self.owner, using=self.using).filter(pk=self.pk)

    def at(self, state: str, epoch: int) -> QuerySet[Any]:
        return self.rows.filter(**{self.field: state, f"{self.field}_epoch": epoch})

    @property
    def entries(self) -> EntryQuerySet:
        return Entry.objects.using(self.using).filter(**self.key)

    def __str__(self) -> str:
        return f"{self.owner.__name__} {self.pk}"


@dataclass(frozen=True)
class Token:
    """What a stage holds: an entry, and the attempt that claimed it."""

    entry: int
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Cause:
    """How a state was entered: the log."""

    trigger: str
    source: str = ""
    by: str = ""
    reason: str = ""


def later(now: Instant, delay: timedelta = timedelta()) -> Any:
    """An instant after ``now``, or after the database's clock."""
    if isinstance(now, datetime):
        return now + delay
    instant = now or DatabaseNow()
    return ExpressionWrapper(instant + Value(delay), output_field=DateTimeField()) if delay else instant


def _held(token: Token, using: str) -> QuerySet[Entry]:
    """The entry, while the token holds: a claim that was given back has no worker, and no say any more."""
    entries = Entry.objects.using(using).filter(pk=token.entry, open=True, attempt=token.attempt)
    return entries.exclude(worker="")


def holds(token: Token, *, using: str) -> bool:
    return _held(token, using).exists()


def _leave(entries: QuerySet[Entry]) -> int:
    return entries.filter(open=True).update(open=None, left_at=DatabaseNow(), due_at=None)


def _leave_any(entries: QuerySet[Entry]) -> int:
    """Leave whichever entry is open. Call it with the row locked.

    A step that another process opened while this statement waited for the one before it is not in the
    statement's snapshot, so an empty hand looks once more.
    """
    return _leave(entries) or _leave(entries)


def _highest(subject: Subject) -> int | None:
    """The highest epoch that any entry of the row ever had."""
    epoch: int | None = subject.entries.aggregate(epoch=Max("epoch"))["epoch"]
    return epoch


def _enter(
    subject: Subject, state: StateValue, *, epoch: int, cause: Cause, step: int = 0, task: str = ""
) -> Entry:
    """Insert an open entry, armed by what its state declares: for its first task, or the given one."""
    entry = Entry(
        **subject.key,
        epoch=epoch,
        step=step,
        trigger=cause.trigger,
        source=cause.source,
        state=state.name,
        by=cause.by[:190],
        reason=cause.reason,
        entered_at=DatabaseNow(),
        ready_at=DatabaseNow(),
    )
    if state.steps:
        entry.task, entry.due_at = task or state.steps[0].task, later(None, conf().grace)
    elif state.after:
        entry.ready_at = entry.due_at = later(None, state.after[0])
    entry.save(using=subject.using, force_insert=True)
    return entry


def move(
    subject: Subject,
    *,
    source: str,
    epoch: int,
    dest: StateValue,
    cause: Cause,
    values: Mapping[str, Any] | None = None,
    token: Token | None = None,
    anyhow: bool = False,
) -> Entry:
    """Move a row into a state: row, open entry and next entry, inside the caller's transaction.

    Args:
        source: The status that the row must have.
        epoch: The epoch that it must have.
        values: Further columns of the owner's table, written in the same statement.
        token: What a stage holds; without it an entry that was only claimed does not stand in the way.
        anyhow: Leave whatever entry is open, also one that does not agree: the operator's jump.

    Returns:
        The new open entry. Its epoch, which is the row's now, is one more; a jump raises it above every
        epoch that the row ever had.

    Raises:
        Superseded: The row, or in a stage the entry, is no longer there.
        Disagreement: The row is, but another entry is open for it.
    """
    next_epoch = epoch + 1
    if anyhow:  # what raises it in the meantime moves the row as well
        next_epoch = max(epoch, _highest(subject) or 0) + 1
    new = {subject.field: dest.name, f"{subject.field}_epoch": next_epoch}
    if subject.at(source, epoch).update(**new, **(values or {})) != 1:
        raise Superseded
    if not _leave_entry(subject, source, epoch, token, anyhow):
        _log_unknown(subject, source, epoch)
    return _enter(subject, dest, epoch=next_epoch, cause=cause)


def _leave_entry(subject: Subject, source: str, epoch: int, token: Token | None, anyhow: bool) -> bool:
    """Leave the open entry of a row that is being moved. False: it has none, and none stands in the way.

    Raises:
        Superseded: The token no longer holds.
        Disagreement: The entries tell of another epoch than the row.
    """
    if token is not None:
        if _leave(_held(token, subject.using).filter(**subject.key, epoch=epoch, state=source)) != 1:
            raise Superseded
        return True
    if _leave_any(subject.entries if anyhow else subject.entries.filter(epoch=epoch, state=source)):
        return True
    if subject.entries.open().exists() or (not anyhow and (_highest(subject) or 0) > epoch):
        raise Disagreement
    return False


def _log_unknown(subject: Subject, source: str, epoch: int) -> None:
    """Write down where a row was that has no entries, as those that were there before the field."""
    if not subject.entries.filter(epoch=epoch).exists():
        now = DatabaseNow()
        Entry(
            **subject.key,
            epoch=epoch,
            trigger="adopted",
            state=source,
            entered_at=now,
            ready_at=now,
            left_at=now,
            open=None,
        ).save(using=subject.using, force_insert=True)


def open_first(subject: Subject, *, state: StateValue, epoch: int) -> Entry:
    """Open the entry of a new row, inside the transaction that inserts it.

    An orphan of an earlier row with the same key is closed, and the new row's epoch raised above its.
    """
    highest = _highest(subject)
    if highest is not None:
        _leave_any(subject.entries)
        if highest >= epoch:
            epoch = highest + 1
            subject.rows.update(**{f"{subject.field}_epoch": epoch})
    return _enter(subject, state, epoch=epoch, cause=Cause(trigger="created"))


def claim(
    entry: Entry, *, using: str, lease: timedelta, worker: str, strike: bool = True, now: Instant = None
) -> Entry | None:
    """Take an entry for one attempt, in a transaction of its own; None when it is not to be had.

    Args:
        entry: As it was read; the claim holds only if nobody claimed it or gave it back since.
        lease: How long it is taken for.
        worker: Who takes it; never empty.
        strike: Whether the attempt counts towards giving up.

    Returns:
        The entry as this claim left it, its checkpoint and error included: an attempt whose lease had run
        out may have written them after ``entry`` was read.
    """
    until = later(now, lease)
    with transaction.atomic(using=using, durable=True):
        entries = Entry.objects.using(using).filter(pk=entry.pk)
        unchanged = entries.filter(open=True, attempt=entry.attempt, strikes=entry.strikes)
        taken = unchanged.filter(ready_at__lte=later(now), due_at__isnull=False).update(
            attempt=F("attempt") + 1,
            strikes=F("strikes") + (1 if strike else 0),
            ready_at=until,
            due_at=until,
            worker=worker[:190] or "?",
        )
        return entries.get() if taken else None


def extend(token: Token, *, using: str, lease: timedelta, **written: Any) -> bool:
    """Extend a lease, and write progress or a checkpoint with it. False: the token was superseded."""
    until = later(None, lease)
    return bool(_held(token, using).update(ready_at=until, due_at=until, **written))


def release(
    token: Token,
    *,
    using: str,
    until: datetime | None = None,
    delay: timedelta = timedelta(),
    strike: bool = False,
    error: str = "",
) -> bool:
    """Give the work back to its entry, to be claimed from an instant on. False: superseded.

    The token holds no longer: nothing more is written by it, not by a heartbeat that is under way either.

    Args:
        until: The instant; else ``delay`` after now.
        strike: Whether the attempt counts: an error does, a wait or a shutdown does not.
        error: What happened; what is kept of an earlier attempt stays when it is empty.
    """
    at = until if until is not None else later(None, delay)
    written: dict[str, Any] = {"ready_at": at, "due_at": at, "worker": ""}
    if not strike:
        written["strikes"] = F("strikes") - 1
    if error:
        written["error"] = error
    return bool(_held(token, using).update(**written))


def park(token: Token, *, using: str, error: str) -> bool:
    """Stop ringing an entry that only a person can help; its error is shown. False: superseded."""
    return bool(_held(token, using).update(due_at=None, error=error, worker=""))


def next_step(
    subject: Subject, token: Token, *, state: StateValue, enqueue: Enqueue, step: int, epoch: int
) -> Entry:
    """Leave a step's entry and open the next one's, inside the caller's transaction. The row is not touched.

    Args:
        enqueue: What is declared about the next one's task.
        step: Its running number in this epoch, whatever place the task has in the declaration by now.

    Raises:
        Superseded: The token no longer holds.
    """
    if _leave(_held(token, subject.using)) != 1:
        raise Superseded
    cause = Cause(trigger="step", source=state.name)
    return _enter(subject, state, epoch=epoch, cause=cause, step=step, task=enqueue.task)


def adopt(subject: Subject, states: Mapping[str, StateValue]) -> Entry | None:
    """Repair a row and an entry that disagree, in a transaction of its own. Safe to repeat.

    Returns:
        The entry that was opened; None when they agree, when another process was first, when the row's
        state is unknown to this code, or when the row is gone: then its entries are closed.
    """
    try:
        with transaction.atomic(using=subject.using):
            return _adopt(subject, states)
    except (Superseded, IntegrityError):  # the unique keys are the last to say that another was first
        return None


def _adopt(subject: Subject, states: Mapping[str, StateValue]) -> Entry | None:
    # Before the row: the entry of a row that is inserted in between is nobody's orphan.
    orphans = list(subject.entries.open().values_list("pk", flat=True))
    found = subject.rows.values_list(subject.field, f"{subject.field}_epoch").first()
    if found is None:
        _leave(subject.entries.filter(pk__in=orphans))
        return None
    status, epoch = found
    if status not in states or agrees(subject, states[status], epoch):
        return None
    return _reopen(subject, states[status], epoch)


def agrees(subject: Subject, state: StateValue, epoch: int) -> bool:
    """Whether the open entry is the one that a row in this state and epoch should have."""
    entries = subject.entries.open().filter(state=state.name, epoch=epoch)
    return bool((entries.exclude(task="") if state.works else entries).exists())


def _reopen(subject: Subject, state: StateValue, epoch: int) -> Entry:
    """Close the stray entry and open the right one, under an epoch that no entry ever had."""
    stray = subject.entries.open().first()
    new = max(epoch, _highest(subject) or 0) + 1
    if subject.at(state.name, epoch).update(**{f"{subject.field}_epoch": new}) != 1:
        raise Superseded
    if agrees(subject, state, epoch):  # somebody repaired it while we waited for the row
        raise Superseded
    _leave_any(subject.entries)
    cause = Cause(trigger="adopted", source=stray.state if stray else "")
    return _enter(subject, state, epoch=new, cause=cause)


def turn(name: str, *, every: timedelta, using: str) -> bool:
    """Whether it is this process's turn to do what only one in each period need do.

    The turn is kept in an entry that no row has, and that is never open. Losing it costs a turn, no more.
    """
    key = {"model": "statemachine.turn", "field": name, "epoch": 0}
    now, then = DatabaseNow(), later(None, every)
    turns = Entry.objects.using(using).filter(**key)
    if turns.filter(ready_at__lte=now).update(ready_at=then):
        return True
    if turns.exists():
        return False
    try:
        with transaction.atomic(using=using):
            entry = Entry(**key, entered_at=now, ready_at=then, left_at=now, open=None)
            entry.save(using=using, force_insert=True)
    except IntegrityError:
        return False
    return True
