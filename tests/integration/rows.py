"""Papers in every situation, and what is written about them."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.db import transaction

from integration.entries import Entry
from integration.protocol import Subject, later
from integration.stage import run
from tests.papers.machine import review
from tests.papers.models import Paper

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def paper_in(state, **values):
    paper = Paper.objects.create(**values)
    if state != paper.status:
        review.to_state(paper, state, reason="the test begins here")
    return paper


def pending(row):
    """The row's open entry."""
    return row.entries.get(open=True)


def where(row):
    """The row's status and epoch, as they are stored."""
    return type(row).objects.values_list("status", "status_epoch").get(pk=row.pk)


def answer(row, **options):
    """What a worker makes of the message that rings the row's open entry."""
    entry = pending(row)
    return run(entry.pk, **{"task": entry.task, "heartbeat": False, **options})


def elapse(row, *, ago=timedelta(hours=2)):
    """Let the open entry's lease, backoff, wait or timer be over."""
    row.entries.filter(open=True).update(ready_at=later(None, -ago), due_at=later(None, -ago))


def raw(row, **columns):
    """What a foreign program does to a row."""
    from django.db import models

    models.QuerySet(type(row)).filter(pk=row.pk).update(**columns)


def is_due_in(entry, least, most):
    """Whether the entry is rung between two durations from now, by the database's clock."""
    near = Entry.objects.filter(pk=entry.pk, due_at__gte=later(None, least), due_at__lte=later(None, most))
    return near.exists()


def subject_of(row):
    return Subject(owner=type(row), pk=row.pk, field="status", using="default")


def trail(row):
    """How the row came where it is: the triggers and states of its entries."""
    return [f"{entry.trigger} {entry.state}" for entry in row.entries.order_by("epoch", "step")]


def agree(row):
    """The invariants that hold for a row at all times when nothing is in the middle of a transaction."""
    status, epoch = where(row)
    entries = list(row.entries.order_by("epoch", "step"))
    opened = [entry for entry in entries if entry.open]
    assert len(opened) == 1
    assert (opened[0].state, opened[0].epoch) == (status, epoch)
    assert all((entry.left_at is None) == bool(entry.open) for entry in entries)
    assert all(entry.due_at is None for entry in entries if not entry.open)
    epochs = sorted({entry.epoch for entry in entries})
    assert epochs == list(range(epochs[0], epochs[0] + len(epochs)))
    return True


__all__ = [
    "LONG_AGO",
    "agree",
    "answer",
    "elapse",
    "is_due_in",
    "paper_in",
    "pending",
    "raw",
    "subject_of",
    "trail",
    "where",
]


@contextmanager
def rolled_back():
    """A transaction that is given up at its end."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
