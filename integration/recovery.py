"""What finds work that nobody answers: the sweep, the scan for rows to adopt, and what people are shown.

The sweep decides nothing and runs no user code: it rings, and the claimant decides.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections, models, router, transaction
from django.db.models import CharField, Count, Exists, Min, OuterRef, Q
from django.db.models.functions import Cast

from integration.binding import RowBinding, bindings, message_of
from integration.conf import conf
from integration.dispatch import Sending, circuit, publish_all
from integration.entries import DatabaseNow, Entry, EntryQuerySet
from integration.protocol import Subject, later
from integration.stage import adopt

__all__ = [
    "Standing",
    "Stranger",
    "Sweep",
    "aliases",
    "disagreeing",
    "due_again",
    "holds",
    "orphans",
    "scan",
    "scan_all",
    "status",
    "strangers",
    "sweep",
]

logger = logging.getLogger("statemachine")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep did.

    Attributes:
        rung: Entries whose message was sent again.
        unsent: Entries whose message could not be sent; they are due again later.
        adopted: Rows that were given an entry, by `scan`.
    """

    rung: int = 0
    unsent: int = 0
    adopted: int = 0

    def __add__(self, other: Sweep) -> Sweep:
        return Sweep(
            rung=self.rung + other.rung,
            unsent=self.unsent + other.unsent,
            adopted=self.adopted + other.adopted,
        )


def due_again(now: datetime, ready_at: datetime, *, grace: timedelta, longest: timedelta) -> datetime:
    """When to ring an unanswered entry again: after as long as it has waited, within bounds.

    So a slow queue is not flooded, and no counter is needed.
    """
    return now + min(max(now - ready_at, grace), longest)


def aliases() -> list[str]:
    """The databases that hold entries. One that cannot be reached is logged, and left out."""
    return [alias for alias in connections if _is_there(alias)]


def _is_there(alias: str) -> bool:
    try:
        return holds(alias)
    except (Error, ImproperlyConfigured) as error:
        logger.warning("The database %r cannot be reached, and is left out: %s", alias, error)
        return False


def holds(alias: str) -> bool:
    """Whether a database has entries of its own: it is no replica, nor kept from them by a router."""
    connection = connections[alias]
    if connection.settings_dict["TEST"]["MIRROR"] or not router.allow_migrate_model(alias, Entry):
        return False
    return Entry._meta.db_table in connection.introspection.table_names()


def sweep(*, using: str = "default", limit: int = 500, now: datetime | None = None) -> Sweep:
    """Ring overdue entries again, oldest first.

    Safe to repeat and to run in many processes at once. While the circuit to the broker is open it does
    nothing, so that entries do not grow old for a message that nobody sent. Entries of a model, state or task
    that this code does not know are left to a process that does.

    Args:
        limit: Entries at most in this call.
        now: Aware instant to measure from; the database's clock by default.
    """
    if circuit.is_open:
        return Sweep()
    messages = [message_of(entry, using) for entry in _take(using, limit, now)]
    became = publish_all(messages)
    skipped = [message.entry for message in became[Sending.SKIPPED]]
    if skipped:  # what failed stays pushed, or what can never be sent would stay before all the others
        _due_soon(skipped, using)
    rung = len(became[Sending.SENT])
    return Sweep(rung=rung, unsent=len(messages) - rung)


def _known(using: str) -> EntryQuerySet:
    """Entries that this code can answer: during a deploy there are others."""
    return Entry.objects.using(using).filter(_is_known())


def _is_known() -> Q:
    known = Q(pk__in=[])
    for binding in bindings.values():
        pending = [state for state in binding.states.values() if state.works or state.after]
        tasks = {step.task for state in pending for step in state.steps}
        names = [state.name for state in pending]
        model, field = binding.label
        known |= Q(model=model, field=field, state__in=names, task__in=["", *sorted(tasks)])
    return known


def _take(using: str, limit: int, now: datetime | None) -> list[Entry]:
    """Push the due instants of a batch, in one transaction: whoever commits first rings."""
    features = connections[using].features
    with transaction.atomic(using=using):
        queryset = _known(using).overdue(now).order_by("due_at")
        if features.has_select_for_update:
            queryset = queryset.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
        batch = list(queryset.annotate(now=DatabaseNow())[:limit])
        taken = []
        for due_at, entries in _pushed(batch, now).items():
            ids = [entry.pk for entry in entries]
            still = Entry.objects.using(using).overdue(now).filter(pk__in=ids)
            if still.update(due_at=due_at) == len(ids):
                taken += entries
            # else another sweep was first, on a database without row locks: it rings
    return taken


def _pushed(batch: list[Any], now: datetime | None) -> dict[datetime, list[Entry]]:
    """The batch by when it is due again, in whole graces, so that a few updates do."""
    settings, groups = conf(), defaultdict(list)
    for entry in batch:
        instant = now or batch[0].now
        at = due_again(instant, entry.ready_at, grace=settings.grace, longest=settings.max_backoff)
        groups[instant + settings.grace * round((at - instant) / settings.grace)].append(entry)
    return groups


def _due_soon(ids: list[int], using: str) -> None:
    """Locked by id, as every sweep does, and without those that a claimant holds, which knows better."""
    features = connections[using].features
    with transaction.atomic(using=using):
        still = Entry.objects.using(using).open().filter(pk__in=ids, due_at__isnull=False).order_by("pk")
        if features.has_select_for_update:
            still = still.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
        free = list(still.values_list("pk", flat=True))
        Entry.objects.using(using).filter(pk__in=free).update(due_at=later(None, conf().grace))


def disagreeing(binding: RowBinding, using: str) -> models.QuerySet[Any]:
    """Rows in a state of this pipeline whose open entry is missing, or tells of something else."""
    owner, states = binding.owner, binding.states
    entries = Entry.objects.using(using).filter(
        model=owner._meta.label_lower,
        field=binding.attribute,
        object=Cast(OuterRef(owner._meta.pk.name), CharField()),
        open=True,
        epoch=OuterRef(binding.epoch),
        state=OuterRef(binding.attribute),
    )
    working = [name for name, state in states.items() if state.works]
    rows: models.QuerySet[Any] = models.QuerySet(owner, using=using).filter(
        **{f"{binding.attribute}__in": list(states)}
    )
    agreeing = Exists(entries.exclude(task=""))
    waiting = Exists(entries)
    in_work = Q(**{f"{binding.attribute}__in": working})
    return rows.exclude(in_work & agreeing).exclude(~in_work & waiting)


def orphans(binding: RowBinding, using: str) -> EntryQuerySet:
    """Open entries of this pipeline whose row is gone, as a raw delete leaves them."""
    owner, (model, field) = binding.owner, binding.label
    rows = models.QuerySet(owner, using=using).annotate(_object=Cast(owner._meta.pk.name, CharField()))
    entries = Entry.objects.using(using).open().filter(model=model, field=field)
    return entries.exclude(Exists(rows.filter(_object=OuterRef("object"))))


def scan(*, using: str = "default", limit: int = 500, everything: bool = False) -> Sweep:
    """Give an entry to rows that need one and have none, as raw SQL and bulk inserts leave them.

    Safe to repeat. Rows in states that this code does not know are left alone.

    Args:
        limit: Rows at most, for each pipeline.
        everything: Also rows in states where nothing is pending, for the sake of their history; and entries
            whose row is gone are closed.
    """
    adopted = 0
    for binding in list(bindings.values()):
        adopted += _adopt_all(_to_adopt(binding, using, everything).order_by("pk")[:limit], binding, using)
        if everything:
            _close_all(orphans(binding, using).order_by("pk")[:limit], binding, using)
    return Sweep(adopted=adopted)


def scan_all(
    *,
    using: str = "default",
    batch: int = 500,
    everything: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> Sweep:
    """Scan to the end, in batches by primary key, so that rows that cannot be adopted hold up no others.

    Args:
        stopped: Asked before each batch whether to leave the rest.
    """
    adopted = 0
    for binding in list(bindings.values()):
        for rows in _batches(_to_adopt(binding, using, everything), batch, stopped):
            adopted += _adopt_all(rows, binding, using)
        for entries in _batches(orphans(binding, using), batch, stopped) if everything else ():
            _close_all(entries, binding, using)
    return Sweep(adopted=adopted)


def _batches(queryset: models.QuerySet[Any], size: int, stopped: Callable[[], bool]) -> Iterator[list[Any]]:
    rest = queryset = queryset.order_by("pk")
    while not stopped():
        found = list(rest[:size])
        yield found
        if len(found) < size:
            return
        rest = queryset.filter(pk__gt=found[-1].pk)


def _adopt_all(rows: Iterable[Any], binding: RowBinding, using: str) -> int:
    owner, field = binding.owner, binding.attribute
    subjects = [Subject(owner=owner, pk=row.pk, field=field, using=using) for row in rows]
    return sum(adopt(subject, binding) for subject in subjects)


def _close_all(entries: Iterable[Entry], binding: RowBinding, using: str) -> None:
    owner, field = binding.owner, binding.attribute
    for entry in entries:
        pk = owner._meta.pk.to_python(entry.object)
        adopt(Subject(owner=owner, pk=pk, field=field, using=using), binding)


def _to_adopt(binding: RowBinding, using: str, everything: bool) -> models.QuerySet[Any]:
    rows = disagreeing(binding, using)
    if everything:
        return rows
    pending = [name for name, state in binding.states.items() if state.works or state.after]
    return rows.filter(**{f"{binding.attribute}__in": pending})


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How many rows stand in a state, and what is wrong with them.

    Attributes:
        model: The label of the model.
        field: The name of the status column.
        state: The state.
        rows: Open entries in it.
        overdue: Of these, entries that were not answered in time.
        parked: Of these, entries that only a person can help.
        oldest: When the longest waiting of them was entered.
    """

    model: str
    field: str
    state: str
    rows: int
    overdue: int
    parked: int
    oldest: datetime


def status(*, using: str = "default") -> Iterator[Standing]:
    """Where the rows of every pipeline stand, from their open entries."""
    groups = Entry.objects.using(using).open().order_by().values("model", "field", "state")
    counted = groups.annotate(
        rows=Count("pk"),
        overdue=Count("pk", filter=Q(due_at__lte=DatabaseNow())),
        parked=Count("pk", filter=Q(due_at__isnull=True) & ~Q(error="")),
        oldest=Min("entered_at"),
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
    pending = Entry.objects.using(using).open().filter(due_at__isnull=False).exclude(_is_known())
    columns = ("model", "field", "state", "task")
    for group in pending.order_by(*columns).values(*columns).annotate(rows=Count("pk")):
        yield Stranger(**group)
