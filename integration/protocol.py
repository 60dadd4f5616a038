"""Every write of the protocol, each a compare-and-set. Nothing else writes a status or an entry.

Locks are taken in one order: row, then entry, then insert. Instants are the database's clock, or ``now``
where a caller that simulates time passes one; they are compared by order, never for equality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, models, transaction
from django.db.models import DateTimeField, Expression, ExpressionWrapper, F, Max, QuerySet, Value

from integration.conf import conf
from integration.entries import DatabaseNow, Entry
from statemachine import StateValue

__all__ = [
    "Cause",
    "Disagreement",
    "Superseded",
    "Subject",
    "Token",
    "adopt",
    "claim",
    "extend",
    "move",
    "next_step",
    "open_first",
    "park",
    "release",
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
        return self.owner._base_manager.using(self.using).filter(pk=self.pk)

    def at(self, state: str, epoch: int) -> QuerySet[Any]:
        return self.rows.filter(**{self.field: state, f"{self.field}_epoch": epoch})

    @property
    def entries(self) -> QuerySet[Entry]:
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
    return Entry.objects.using(using).filter(pk=token.entry, open=True, attempt=token.attempt)


def _leave(entries: QuerySet[Entry], now: Instant = None) -> int:
    return entries.filter(open=True).update(open=None, left_at=later(now), due_at=None)


def _enter(subject: Subject, state: StateValue, step: int, epoch: int, cause: Cause, now: Instant = None) -> Entry:
    """Insert an open entry, armed by what its state declares."""
    entry = Entry(
        **subject.key,
        epoch=epoch,
        step=step,
        trigger=cause.trigger,
        source=cause.source,
        state=state.name,
        by=cause.by[:190],
        reason=cause.reason,
        entered_at=later(now),
        ready_at=later(now),
    )
    if state.steps:
        entry.task, entry.due_at = state.steps[step].task, later(now, conf().grace)
    elif state.after:
        entry.ready_at = entry.due_at = later(now, state.after[0])
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
        The new open entry.

    Raises:
        Superseded: The row, or in a stage the entry, is no longer there.
        Disagreement: The row is, but another entry is open for it.
    """
    new = {subject.field: dest.name, f"{subject.field}_epoch": epoch + 1}
    if subject.at(source, epoch).update(**new, **(values or {})) != 1:
        raise Superseded
    entries = subject.entries
    if not anyhow:
        entries = entries.filter(epoch=epoch, state=source)
    if token is not None:
        entries = entries.filter(pk=token.entry, attempt=token.attempt)
    if _leave(entries) != 1:
        _absent(subject, source, epoch, token)
    return _enter(subject, dest, 0, epoch + 1, cause)


def _absent(subject: Subject, source: str, epoch: int, token: Token | None) -> None:
    """No entry was left: fine only if there is none, as for rows that were there before the field."""
    if token is not None:
        raise Superseded
    if subject.entries.open().exists():
        raise Disagreement
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
    highest = subject.entries.aggregate(epoch=Max("epoch"))["epoch"]
    if highest is not None:
        _leave(subject.entries)
        if highest >= epoch:
            epoch = highest + 1
            subject.rows.update(**{f"{subject.field}_epoch": epoch})
    return _enter(subject, state, 0, epoch, Cause(trigger="created"))


def claim(
    entry: Entry, *, using: str, lease: timedelta, strike: bool = True, worker: str = "", now: Instant = None
) -> Token | None:
    """Take an entry for one attempt, in a transaction of its own; None when it is not to be had.

    Args:
        entry: As it was read; the claim holds only if nobody claimed it since.
        lease: How long it is taken for.
        strike: Whether the attempt counts towards giving up.
    """
    until = later(now, lease)
    with transaction.atomic(using=using, durable=True):
        claimed = _held(Token(entry.pk, entry.attempt), using).filter(ready_at__lte=later(now))
        taken = claimed.update(
            attempt=F("attempt") + 1,
            strikes=F("strikes") + (1 if strike else 0),
            ready_at=until,
            due_at=until,
            worker=worker[:190],
        )
    return Token(entry.pk, entry.attempt + 1) if taken else None


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

    Args:
        until: The instant; else ``delay`` after now.
        strike: Whether the attempt counts: an error does, a wait or a shutdown does not.
    """
    at = until if until is not None else later(None, delay)
    given_back = {} if strike else {"strikes": F("strikes") - 1}
    return bool(_held(token, using).update(ready_at=at, due_at=at, error=error, worker="", **given_back))


def park(token: Token, *, using: str, error: str) -> bool:
    """Stop ringing an entry that only a person can help; its error is shown. False: superseded."""
    return bool(_held(token, using).update(due_at=None, error=error, worker=""))


def next_step(subject: Subject, token: Token, *, state: StateValue, step: int, epoch: int) -> Entry:
    """Leave a step's entry and open the next one's, inside the caller's transaction. The row is not touched.

    Raises:
        Superseded: The token no longer holds.
    """
    if _leave(_held(token, subject.using)) != 1:
        raise Superseded
    cause = Cause(trigger="step", source=state.name)
    return _enter(subject, state, step, epoch, cause)


def adopt(subject: Subject, states: Mapping[str, StateValue]) -> Entry | None:
    """Repair a row and an entry that disagree, in a transaction of its own. Safe to repeat.

    Returns:
        The entry that was opened; None when they agree, when another process was first, when the row's
        state is unknown to this code, or when the row is gone: then its entries are closed.
    """
    try:
        with transaction.atomic(using=subject.using):
            return _adopt(subject, states)
    except Superseded:
        return None


def _adopt(subject: Subject, states: Mapping[str, StateValue]) -> Entry | None:
    found = subject.rows.values_list(subject.field, f"{subject.field}_epoch").first()
    if found is None:
        _leave(subject.entries)
        return None
    status, epoch = found
    if status not in states or agrees(subject, states[status], epoch):
        return None
    return _reopen(subject, states[status], epoch)


def agrees(subject: Subject, state: StateValue, epoch: int) -> bool:
    """Whether the open entry is the one that a row in this state and epoch should have."""
    entries = subject.entries.open().filter(state=state.name, epoch=epoch)
    return (entries.exclude(task="") if state.works else entries).exists()


def _reopen(subject: Subject, state: StateValue, epoch: int) -> Entry:
    """Close the stray entry and open the right one, under an epoch that no entry ever had."""
    stray = subject.entries.open().first()
    highest = subject.entries.aggregate(epoch=Max("epoch"))["epoch"] or 0
    new = max(epoch, highest) + 1
    if subject.at(state.name, epoch).update(**{f"{subject.field}_epoch": new}) != 1:
        raise Superseded
    if agrees(subject, state, epoch):  # somebody repaired it while we waited for the row
        raise Superseded
    _leave(subject.entries)
    cause = Cause(trigger="adopted", source=stray.state if stray else "")
    return _enter(subject, state, 0, new, cause)
