"""Where the rows stand, and whether what is pending gets done: for people and for probes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Min, Q
from django.utils import timezone

from integration import protocol
from integration.conf import conf
from integration.entries import DatabaseNow, Entry, EntryQuerySet
from integration.protocol import later
from integration.recovery import unknown

__all__ = ["Health", "Standing", "Stranger", "age", "clock", "health", "status", "strangers", "unanswered"]

_PERIODS = 3
"""How many times a sweep may stay away while something is overdue."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How many rows stand in a state, and what is wrong with them.

    Attributes:
        model: The label of the model.
        field: The name of the status column.
        state: The state.
        rows: Open entries in it.
        overdue: Of these, entries that were not answered in time; they are rung again.
        unanswered: Of these, entries that nobody took for `STATEMACHINE_UNANSWERED`, however often they rang.
        parked: Of these, entries that only a person can help.
        oldest: When the longest waiting of them was entered.
        longest: Since when the longest unanswered of them could have been taken; None where there is none.
    """

    model: str
    field: str
    state: str
    rows: int
    overdue: int
    unanswered: int
    parked: int
    oldest: datetime
    longest: datetime | None


def clock(using: str) -> datetime:
    """The database's clock; this host's where there is no entry to be read with it."""
    entries = Entry.objects.using(using).annotate(now=DatabaseNow())
    return entries.values_list("now", flat=True).first() or timezone.now()


def _is_unanswered() -> Q:
    """Pending, and ready for long: the sweep pushes `due_at` alone, and who holds it, `ready_at`."""
    return Q(open=True, due_at__isnull=False, ready_at__lte=later(None, -conf().unanswered))


def unanswered(*, using: str = "default") -> EntryQuerySet:
    """Entries that nobody takes: no worker is up, none listens on the queue, or none has the task.

    They are rung for ever, and never given up for it.
    """
    return Entry.objects.using(using).filter(_is_unanswered())


def status(*, using: str = "default") -> Iterator[Standing]:
    """Where the rows of every pipeline stand, from their open entries."""
    groups = Entry.objects.using(using).open().order_by().values("model", "field", "state")
    silent = _is_unanswered()
    counted = groups.annotate(
        rows=Count("pk"),
        overdue=Count("pk", filter=Q(due_at__lte=DatabaseNow())),
        unanswered=Count("pk", filter=silent),
        parked=Count("pk", filter=Q(due_at__isnull=True) & ~Q(error="")),
        oldest=Min("entered_at"),
        longest=Min("ready_at", filter=silent),
    )
    for group in counted.order_by("model", "field", "oldest"):
        yield Standing(**group)


@dataclass(frozen=True, kw_only=True)
class Stranger:
    """Entries that wait for a task or a timer which this code does not know, so that it leaves them alone.

    Attributes:
        model: The label of the model.
        field: The name of the status column.
        state: The state.
        task: The task; empty for a timer.
        rows: How many.
    """

    model: str
    field: str
    state: str
    task: str
    rows: int

    def __str__(self) -> str:
        for_ = f"task {self.task!r}" if self.task else "a timer"
        return f"no code here answers {self.model}.{self.field} in {self.state!r}, {for_}: {self.rows} rows"


def strangers(*, using: str = "default") -> Iterator[Stranger]:
    """What the sweep leaves alone: of a newer or older code during a deploy, or else stuck."""
    columns = ("model", "field", "state", "task")
    for group in unknown(using).order_by(*columns).values(*columns).annotate(rows=Count("pk")):
        yield Stranger(**group)


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether what is pending on a database gets done.

    Attributes:
        using: The alias of the database.
        now: Its clock.
        unanswered: Entries that nobody takes.
        longest: Since when the longest of them could have been taken; None where there is none.
        parked: Entries that only a person can help.
        due: Since when the longest overdue entry should have been rung; None where nothing is overdue.
        swept: When a worker's sweep last began; None when none ever did.
        sweeping: Whether workers are to sweep by themselves.
        every: How often they are to.
    """

    using: str
    now: datetime
    unanswered: int
    longest: datetime | None
    parked: int
    due: datetime | None
    swept: datetime | None
    sweeping: bool
    every: timedelta

    @property
    def is_swept(self) -> bool:
        """Whether a sweep came by in time, or is not expected to, or had nothing to do."""
        late = self.now - _PERIODS * self.every
        if not self.sweeping or self.due is None or self.due > late:
            return True
        # One of the future is of a clock that was set back since.
        return self.swept is not None and late < self.swept < self.now + self.every

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, in sentences; empty when all is well."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.longest is not None:
            yield (
                f"{self.unanswered} entries are unanswered, the longest for {age(self.longest, self.now)}: "
                "no worker is up that listens on their queues and has their tasks."
            )
        if self.parked:
            yield f"{self.parked} entries are parked: only a person can help them."
        if not self.is_swept:
            last = f"the last was {age(self.swept, self.now)} ago" if self.swept else "none ever ran"
            yield f"No sweep runs while entries are overdue; {last}."

    def __bool__(self) -> bool:
        """Whether all is well."""
        return not self.problems


def health(*, using: str = "default") -> Health:
    """Look at a database, for a probe: three queries, whatever the number of pipelines."""
    silent, pending = _is_unanswered(), Q(due_at__isnull=False)
    numbers = (
        Entry.objects.using(using)
        .open()
        .aggregate(
            unanswered=Count("pk", filter=silent),
            longest=Min("ready_at", filter=silent),
            parked=Count("pk", filter=~pending & ~Q(error="")),
            due=Min("due_at", filter=Q(due_at__lte=DatabaseNow())),
        )
    )
    return Health(
        using=using,
        now=clock(using),
        swept=protocol.last_turn("sweep", using=using),
        sweeping=conf().sweep,
        every=conf().sweep_every,
        **numbers,
    )


def age(since: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that says something: ``3d``, ``14h``, ``5m``, ``12s``."""
    seconds = max(int((now - since).total_seconds()), 0)
    units = (("d", 86_400), ("h", 3_600), ("m", 60))
    return next((f"{seconds // size}{unit}" for unit, size in units if seconds >= size), f"{seconds}s")
