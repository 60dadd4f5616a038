"""The protocol's writes on any database: one statement after the other, in one transaction.

Locks are taken in one order: row, then entry, then insert.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import Max, Q

from integration.entries import DatabaseNow, Entry, EntryQuerySet
from integration.fence import LEFT, Disagreement, Instant, Subject, Superseded, Token

__all__ = [
    "claim",
    "due_again",
    "due_soon",
    "highest",
    "insert",
    "leave",
    "leave_any",
    "move",
    "next_step",
    "take",
]


def leave(entries: EntryQuerySet) -> int:
    return entries.open().update(**LEFT)


def leave_any(entries: EntryQuerySet) -> int:
    """Leave whichever entry is open. Call it with the row locked.

    A step that another process opened while this statement waited for the one before it is not in the
    statement's snapshot, so an empty hand looks once more.
    """
    return leave(entries) or leave(entries)


def insert(entry: Entry, using: str) -> Entry:
    """Store an entry. No signal of Django's tells of it: who listens hears of the transition."""
    fields = [field for field in Entry._meta.local_concrete_fields if not field.primary_key]
    entries: Any = EntryQuerySet(Entry, using=using)
    ((entry.pk,),) = entries._insert([entry], fields=fields, returning_fields=[Entry._meta.pk], using=using)
    entry._state.adding, entry._state.db = False, using
    return entry


def highest(subject: Subject) -> int | None:
    """The highest epoch that any entry of the row ever had."""
    epoch: int | None = subject.entries.aggregate(epoch=Max("epoch"))["epoch"]
    return epoch


def claim(ready: EntryQuerySet, pk: int, written: Mapping[str, Any]) -> Entry | None:
    """Write the claim of an entry, if it is ready, and read what is written there now."""
    with transaction.atomic(using=ready.db, durable=True):
        return Entry.objects.using(ready.db).get(pk=pk) if ready.update(**written) else None


def move(
    subject: Subject,
    entry: Entry,
    *,
    source: Sequence[str],
    epoch: int,
    written: Mapping[str, Any],
    token: Token | None,
    anyhow: bool,
) -> Entry:
    """Write the row, leave its open entry, and insert the next one.

    Raises:
        Superseded: The row, or in a stage the entry, is no longer there.
        Disagreement: The row is, but another entry is open for it.
    """
    if subject.at(source, epoch).update(**written) != 1:
        raise Superseded
    if not _leave_entry(subject, source, epoch, token, anyhow):
        _log_unknown(subject, source[0], epoch)
    return insert(entry, subject.using)


def _leave_entry(
    subject: Subject, source: Sequence[str], epoch: int, token: Token | None, anyhow: bool
) -> bool:
    """Leave the open entry of a row that is being moved. False: it has none, and none stands in the way.

    Raises:
        Superseded: The token no longer holds.
        Disagreement: The entries tell of another epoch than the row, or of another state in it.
    """
    expected = subject.expected(source, epoch, token=token, anyhow=anyhow)
    if token is not None:
        if leave(expected) != 1:
            raise Superseded
        return True
    if leave_any(expected):
        return True
    if subject.entries.open().exists() or (not anyhow and _tells_otherwise(subject, source, epoch)):
        raise Disagreement
    return False


def _tells_otherwise(subject: Subject, source: Sequence[str], epoch: int) -> bool:
    """Whether the entries of a row without an open one were further, or elsewhere in the same epoch."""
    agreeing = Q(epoch=epoch, state__in=source)
    return subject.entries.filter(epoch__gte=epoch).exclude(agreeing).exists()


def _log_unknown(subject: Subject, source: str, epoch: int) -> None:
    """Write down where a row was that has no entries, as those that were there before the field."""
    if not subject.entries.filter(epoch=epoch).exists():
        now = DatabaseNow()
        entry = Entry(
            **subject.key,
            epoch=epoch,
            trigger="adopted",
            state=source,
            entered_at=now,
            ready_at=now,
            left_at=now,
            open=None,
        )
        insert(entry, subject.using)


def next_step(held: EntryQuerySet, entry: Entry) -> Entry:
    """Leave the entry that is held, and insert the next one.

    Raises:
        Superseded: It is held no longer.
    """
    if leave(held) != 1:
        raise Superseded
    return insert(entry, held.db)


def due_again(now: datetime, ready_at: datetime, *, shortest: timedelta, longest: timedelta) -> datetime:
    """When to ring an unanswered entry again: after as long as it has waited, within bounds.

    So a slow queue is not flooded, and no counter is needed.
    """
    return now + min(max(now - ready_at, shortest), longest)


def take(
    overdue: EntryQuerySet, *, limit: int, now: Instant, shortest: timedelta, longest: timedelta
) -> list[Entry]:
    """Push the due instants of the oldest entries that no other sweep has taken; as they were before it."""
    with transaction.atomic(using=overdue.db):
        batch: list[Any] = list(_free(overdue.order_by("due_at")).annotate(now=DatabaseNow())[:limit])
        instant = now or (batch[0].now if batch else None)
        taken: list[Any] = []
        for due_at, entries in _pushed(batch, instant, shortest, longest).items():
            still = overdue.filter(pk__in=[entry.pk for entry in entries])
            if still.update(due_at=due_at) == len(entries):
                taken += entries
            # else another sweep was first, on a database without row locks: it rings
    return sorted(taken, key=lambda entry: entry.due_at)


def _free(entries: EntryQuerySet) -> EntryQuerySet:
    """The entries, locked; without those that others have locked, where the database can leave them out."""
    features = connections[entries.db].features
    if not features.has_select_for_update:
        return entries
    return entries.select_for_update(skip_locked=features.has_select_for_update_skip_locked)


def _pushed(
    batch: Iterable[Entry], now: Any, shortest: timedelta, longest: timedelta
) -> dict[datetime, list[Entry]]:
    """The batch by when it is due again, in whole periods of the shortest, so that a few updates do."""
    groups, period = defaultdict(list), shortest or timedelta(seconds=1)
    for entry in batch:
        at = due_again(now, entry.ready_at, shortest=shortest, longest=longest)
        groups[now + period * round((at - now) / period)].append(entry)
    return groups


def due_soon(taken: Iterable[Entry], due_at: Any, *, using: str) -> None:
    """Let entries be due that a sweep took and did not ring; not those that were claimed since."""
    by_attempt = defaultdict(list)
    for entry in taken:
        by_attempt[entry.attempt].append(entry.pk)
    for attempt, ids in by_attempt.items():
        entries = Entry.objects.using(using).open().filter(attempt=attempt, due_at__isnull=False)
        with transaction.atomic(using=using):
            free = list(_free(entries.filter(pk__in=ids).order_by("pk")).values_list("pk", flat=True))
            entries.filter(pk__in=free).update(due_at=due_at)
