"""Every write of the protocol, each a compare-and-set. Nothing else writes a status or an entry.

Locks are taken in one order: row, then entry, then insert. Instants are the database's clock, or ``now``
where a caller that simulates time passes one; they are compared by order, never for equality.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, connections, transaction
from django.db.models import DateTimeField, ExpressionWrapper, F, Q, Value

from integration import portable, postgresql
from integration.conf import conf
from integration.entries import DatabaseNow, Entry, EntryQuerySet
from integration.fence import (
    Cause,
    Disagreement,
    Instant,
    Subject,
    Superseded,
    Token,
    held,
    later,
    opened,
)
from integration.portable import highest, insert, leave, leave_any
from statemachine import Enqueue, StateValue

__all__ = [
    "Cause",
    "Disagreement",
    "Subject",
    "Superseded",
    "Token",
    "adopt",
    "claim",
    "due_soon",
    "extend",
    "holds",
    "last_turn",
    "later",
    "lock_first",
    "move",
    "next_step",
    "open_first",
    "park",
    "release",
    "take",
    "turn",
]


def _in_one_statement(using: str) -> bool:
    """Whether the database writes an entry and what belongs to it in one statement."""
    return connections[using].vendor == "postgresql"


def _held(token: Token, using: str) -> EntryQuerySet:
    return held(token, Entry.objects.using(using))


def holds(token: Token, *, using: str) -> bool:
    return _held(token, using).exists()


def move(
    subject: Subject,
    *,
    source: Sequence[str],
    epoch: int,
    dest: StateValue,
    cause: Cause,
    values: Mapping[str, Any] | None = None,
    token: Token | None = None,
    anyhow: bool = False,
) -> Entry:
    """Move a row into a state: row, open entry and next entry, inside the caller's transaction.

    Args:
        source: The status that the row must have: any of the names of its state, today's first.
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
        next_epoch = max(epoch, highest(subject) or 0) + 1
    written = {subject.field: dest.name, f"{subject.field}_epoch": next_epoch, **(values or {})}
    entry = opened(subject, dest, epoch=next_epoch, cause=cause)
    fence: dict[str, Any] = {"source": source, "epoch": epoch, "token": token, "anyhow": anyhow}
    if _in_one_statement(subject.using) and postgresql.move(subject, entry, written=written, **fence):
        return entry
    # Also when the one statement found nothing: a step that was opened beside it, or what is to be raised.
    return portable.move(subject, entry, written=written, **fence)


def open_first(subject: Subject, *, state: StateValue, epoch: int) -> Entry:
    """Open the entry of a new row, inside the transaction that inserts it.

    An orphan of an earlier row with the same key is closed, and the new row's epoch raised above its.
    """
    seen = highest(subject)
    if seen is not None:
        leave_any(subject.entries)
        if seen >= epoch:
            epoch = _raise_epoch(subject, state, epoch, seen + 1)
    return insert(opened(subject, state, epoch=epoch, cause=Cause(trigger="created")), subject.using)


def _raise_epoch(subject: Subject, state: StateValue, epoch: int, new: int) -> int:
    """Give the row an epoch that no entry ever had, and today's name, if it still is where it was seen.

    Raises:
        Superseded: It is not.
    """
    written = {subject.field: state.name, f"{subject.field}_epoch": new}
    if subject.at(state.names, epoch).update(**written) != 1:
        raise Superseded(f"{subject} is no longer {state.name!r} in epoch {epoch}: something else wrote it.")
    return new


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
    entries = Entry.objects.using(using).filter(pk=entry.pk, attempt=entry.attempt, strikes=entry.strikes)
    ready = entries.open().filter(ready_at__lte=later(now), due_at__isnull=False)
    written = {
        "attempt": F("attempt") + 1,
        "strikes": F("strikes") + (1 if strike else 0),
        "ready_at": until,
        "due_at": until,
        "worker": worker[:190] or "?",
    }
    if _in_one_statement(using):
        return postgresql.claim(ready, written)
    return portable.claim(ready, entry.pk, written)


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


def lock_first(subject: Subject) -> None:
    """Lock the row before what follows in a transaction, on MariaDB and MySQL; elsewhere nothing is needed.

    A child row that a stage inserts takes that lock shared there, and two that hold it shared can never both
    write the row. And an entry is found by its row's key or by its own id, which are locked one after the
    other, in either order.
    """
    features = connections[subject.using].features
    if features.has_select_for_update and not features.has_select_for_no_key_update:
        list(subject.rows.select_for_update().values_list("pk"))


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
    cause = Cause(trigger="step", source=state.name)
    entry = opened(subject, state, epoch=epoch, cause=cause, step=step, task=enqueue.task)
    held = subject.expected(state.names, epoch, token=token)
    if _in_one_statement(subject.using) and postgresql.next_step(held, entry):
        return entry
    lock_first(subject)
    return portable.next_step(held, entry)


def take(entries: EntryQuerySet, *, limit: int, now: datetime | None = None) -> list[Entry]:
    """Push the due instants of overdue entries, oldest first, and return those that are now to be rung.

    Any number of processes may do so at once: each entry is returned to one of them. It is due again after
    as long as it has waited, at least a grace and at most the longest backoff.
    """
    settings, overdue = conf(), entries.overdue(now)
    bounds = {"shortest": settings.grace, "longest": settings.max_backoff}
    write = postgresql.take if _in_one_statement(entries.db) else portable.take
    return write(overdue, limit=limit, now=now, **bounds)


def due_soon(taken: Iterable[Entry], *, using: str) -> None:
    """Let entries that were taken, and then not rung, be due after a grace; not those claimed since."""
    portable.due_soon(taken, later(None, conf().grace), using=using)


def adopt(subject: Subject, states: Mapping[str, StateValue]) -> Entry | None:
    """Repair a row and an entry that disagree, in a transaction of its own. Safe to repeat.

    Returns:
        The entry that was opened, or whose timer was armed; None when they agree, when another process was
        first, when the row's state is unknown to this code, or when the row is gone: then its entries are
        closed.
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
        leave(subject.entries.filter(pk__in=orphans))
        return None
    status, epoch = found
    if status not in states:
        return None
    if agrees(subject, states[status], epoch):
        return _arm(subject, states[status], epoch)
    return _reopen(subject, states[status], epoch)


def _arm(subject: Subject, state: StateValue, epoch: int) -> Entry | None:
    """Arm the timer of a state that had none when the row entered it: it counts from then on."""
    if state.after is None:
        return None
    then = ExpressionWrapper(F("entered_at") + Value(state.after[0]), output_field=DateTimeField())
    entries = subject.expected(state.names, epoch)
    # What is parked has an error, and waits for a person.
    armed = entries.filter(task="", due_at=None, error="").update(ready_at=then, due_at=then)
    return entries.first() if armed else None


def agrees(subject: Subject, state: StateValue, epoch: int) -> bool:
    """Whether the open entry is the one that a row in this state and epoch should have."""
    entries = subject.expected(state.names, epoch)
    return bool((entries.exclude(task="") if state.works else entries).exists())


def _reopen(subject: Subject, state: StateValue, epoch: int) -> Entry:
    """Close the stray entry and open the right one, under an epoch that no entry ever had."""
    stray = subject.entries.open().first()
    new = _raise_epoch(subject, state, epoch, max(epoch, highest(subject) or 0) + 1)
    if agrees(subject, state, epoch):  # somebody repaired it while we waited for the row
        raise Superseded
    leave_any(subject.entries)
    cause = Cause(trigger="adopted", source=stray.state if stray else "")
    return insert(opened(subject, state, epoch=new, cause=cause), subject.using)


def _turns(name: str, using: str) -> EntryQuerySet:
    """The entry that keeps a turn: no row has it, and it is never open."""
    return Entry.objects.using(using).filter(model="statemachine.turn", field=name, epoch=0)


def turn(name: str, *, every: timedelta, using: str) -> bool:
    """Whether it is this process's turn to do what only one in each period need do.

    The turn is taken by the instant that it gives way to the next. Losing it costs a turn, no more: one that
    gives way later than two periods from now is of a clock that was set back since, or of a longer period.
    Two, not one: MariaDB's clock stands still in a statement that waits, while another's turn is written.
    """
    now, then = DatabaseNow(), later(None, every)
    turns = _turns(name, using)
    over = Q(ready_at__lte=now) | Q(ready_at__gt=later(None, 2 * every))
    if turns.filter(over).update(entered_at=now, ready_at=then):
        return True
    if turns.exists():
        return False
    first = Entry(
        model="statemachine.turn",
        field=name,
        epoch=0,
        entered_at=now,
        ready_at=then,
        left_at=now,
        open=None,
    )
    try:
        with transaction.atomic(using=using):
            insert(first, using)
    except IntegrityError:
        return False
    return True


def last_turn(name: str, *, using: str) -> datetime | None:
    """When a turn was taken last, in any process; None when it never was."""
    return _turns(name, using).values_list("entered_at", flat=True).first()
