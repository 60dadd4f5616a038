"""`prune`: forgets history that is old enough, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from integration.entries import Entry, EntryQuerySet
from integration.protocol import later

__all__ = ["prunable", "prune"]


def prune(*, older_than: timedelta, using: str = "default", batch: int = 1000) -> int:
    """Delete entries that were left longer ago; returns how many.

    What is deleted of a row is always the beginning of its history, after each batch too. Open entries stay,
    however old. Safe to repeat, to interrupt, and to run in many processes at once.

    Args:
        older_than: How long ago they were left, by the database's clock.
        batch: Entries at most in a transaction.
    """
    old = prunable(older_than=older_than, using=using)
    pipelines = list(_history(using).order_by("model", "field").values_list("model", "field").distinct())
    return sum(
        deleted
        for model, field in pipelines
        for deleted in _batches(old.filter(model=model, field=field), using, batch)
    )


def prunable(*, older_than: timedelta, using: str = "default") -> EntryQuerySet:
    """What `prune` would delete.

    Raises:
        ValueError: The duration is negative.
    """
    if older_than < timedelta():
        raise ValueError(f"older_than={older_than!r} is in the future: pass a duration of 0 or more.")
    left = Q(open=None, left_at__lt=later(None, -older_than))
    earlier = Q(epoch__lt=OuterRef("epoch")) | Q(epoch=OuterRef("epoch"), step__lt=OuterRef("step"))
    same: dict[str, Any] = {name: OuterRef(name) for name in ("model", "field", "object")}
    # By epoch, not by time: a clock that was set back may have an entry left before the one before it.
    kept = Entry.objects.using(using).filter(earlier, **same).exclude(left)
    return _history(using).filter(left).exclude(Exists(kept))


def _history(using: str) -> EntryQuerySet:
    """Entries of rows: the library keeps its turns in the same table."""
    return Entry.objects.using(using).exclude(model="statemachine.turn")


def _batches(old: EntryQuerySet, using: str, size: int) -> Iterator[int]:
    """Delete along the unique key, so that each batch ends inside a history or between two."""
    rest = old = old.order_by("object", "epoch", "step")
    while True:
        with transaction.atomic(using=using):
            # By id: MariaDB cannot delete from a table that it selects from with a limit.
            found = list(rest.values_list("pk", "object")[:size])
            ids = [pk for pk, _ in found]
            deleted, _ = Entry.objects.using(using).filter(pk__in=ids).delete()
        yield deleted
        if len(found) < size:
            return
        rest = old.filter(object__gte=found[-1][1])
