"""What finds work that nobody answers: the sweep, and the scan for rows to adopt.

The sweep decides nothing and runs no user code: it rings, and the claimant decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import Error, connections, models, router
from django.db.models import CharField, Exists, OuterRef, Q
from django.db.models.functions import Cast

from integration import protocol
from integration.binding import RowBinding, bindings, message_of
from integration.claimed import subject_of
from integration.dispatch import Sending, circuit, publish_all
from integration.entries import Entry, EntryQuerySet
from integration.protocol import Subject
from statemachine import StateValue

__all__ = [
    "Sweep",
    "aliases",
    "disagreeing",
    "holds",
    "key_of",
    "orphans",
    "residents",
    "scan",
    "scan_all",
    "sweep",
    "unknown",
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


def aliases() -> list[str]:
    """The databases that hold entries. One that cannot be reached is logged, and left out."""
    return [alias for alias in connections if _is_there(alias)]


def _is_there(alias: str) -> bool:
    try:
        return holds(alias)
    except (Error, ImproperlyConfigured) as error:
        logger.warning("The database %r cannot be reached, and is left out: %s", alias, error)
        _hang_up(alias)
        return False


def _hang_up(alias: str) -> None:
    """Let the next query open a connection anew: a loop would never find the database again otherwise."""
    if not connections[alias].in_atomic_block:
        with suppress(Error):  # some drivers cannot close what is closed
            connections[alias].close()


def holds(alias: str) -> bool:
    """Whether a database has entries of its own: it is no replica, nor kept from them by a router."""
    connection = connections[alias]
    if connection.settings_dict["ENGINE"] == "django.db.backends.dummy":
        return False  # an empty default, where every model has a database of its own
    if connection.settings_dict["TEST"]["MIRROR"] or not router.allow_migrate_model(alias, Entry):
        return False
    return Entry._meta.db_table in connection.introspection.table_names()


def residents(using: str) -> list[RowBinding]:
    """The pipelines whose rows are on a database. Where a router keeps them from it there is no table."""
    listed = {name.lower() for name in connections[using].introspection.table_names(include_views=True)}
    return [binding for binding in list(bindings.values()) if _lives(binding, using, listed)]


def _lives(binding: RowBinding, using: str, listed: set[str]) -> bool:
    """Whether a database has a pipeline's table. One of another schema, named as ``a"."b``, is not listed."""
    table = binding.owner._meta.db_table
    elsewhere = not {'"', "`"}.isdisjoint(table)
    return router.allow_migrate_model(using, binding.owner) and (elsewhere or table.lower() in listed)


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
    taken = _take(using, limit, now)
    became = publish_all(message_of(entry, using) for entry in taken)
    skipped = {message.entry for message in became[Sending.SKIPPED]}
    if skipped:  # what failed stays pushed, or what can never be sent would stay before all the others
        protocol.due_soon([entry for entry in taken if entry.pk in skipped], using=using)
    rung = len(became[Sending.SENT])
    return Sweep(rung=rung, unsent=len(taken) - rung)


def _take(using: str, limit: int, now: datetime | None) -> list[Entry]:
    """A batch, oldest first. Each pipeline gives an equal share of it, as far as it has as much.

    So however long one is overdue, it delays another by no more than the batch.
    """
    taken: list[Any] = []
    waiting = [binding for binding in bindings.values() if _pending(binding)]
    while waiting and len(taken) < limit:
        share = max(1, (limit - len(taken)) // len(waiting))
        batches = [
            (binding, protocol.take(_known(binding, using), limit=share, now=now)) for binding in waiting
        ]
        taken += [entry for _, batch in batches for entry in batch]
        waiting = [binding for binding, batch in batches if len(batch) == share]
    return sorted(taken, key=lambda entry: (entry.due_at, entry.pk))


def _known(binding: RowBinding, using: str) -> EntryQuerySet:
    """Entries of a pipeline that this code can answer: during a deploy there are others."""
    return Entry.objects.using(using).filter(_is_known(binding))


def unknown(using: str) -> EntryQuerySet:
    """Pending entries that no code here answers, and that the sweep leaves alone."""
    pending = Entry.objects.using(using).open().filter(due_at__isnull=False)
    for binding in list(bindings.values()):
        if _pending(binding):
            pending = pending.exclude(_is_known(binding))
    return pending


def _pending(binding: RowBinding) -> list[StateValue]:
    """The states in which something is to be rung."""
    return [state for state in binding.states.values() if state.works or state.after]


def _is_known(binding: RowBinding) -> Q:
    pending = _pending(binding)
    tasks = {task for state in pending for step in state.steps for task in step.names}
    model, field = binding.label
    to_do = Q(state__in=_names(pending), task__in=sorted(tasks))
    # A timer that was taken out of the declaration too: whoever is rung for it disarms it.
    return Q(to_do | Q(state__in=sorted(binding.states), task=""), model=model, field=field)


def _names(states: Iterable[StateValue]) -> list[str]:
    """What may be stored for any of the states."""
    return sorted({name for state in states for name in state.names})


def disagreeing(binding: RowBinding, using: str) -> models.QuerySet[Any]:
    """Rows in a state of this pipeline whose open entry is missing, tells of something else, or has a timer
    that nobody armed.
    """
    owner, states = binding.owner, binding.states
    entries = Entry.objects.using(using).filter(
        model=owner._meta.label_lower,
        field=binding.attribute,
        object=Cast(OuterRef(owner._meta.pk.name), CharField()),
        open=True,
        epoch=OuterRef(binding.epoch),
    )
    working = [name for name, state in states.items() if state.works]
    timed = [name for name, state in states.items() if state.after]
    rows: models.QuerySet[Any] = models.QuerySet(owner, using=using).filter(
        **{f"{binding.attribute}__in": list(states)}
    )
    in_work, in_time = (Q(**{f"{binding.attribute}__in": names}) for names in (working, timed))
    rows = rows.exclude(in_work & _agreeing(binding, entries.exclude(task="")))
    rows = rows.exclude(in_time & _agreeing(binding, entries.exclude(due_at=None, error="")))
    return rows.exclude(~in_work & ~in_time & _agreeing(binding, entries))


def _agreeing(binding: RowBinding, entries: EntryQuerySet) -> Q:
    """Whether one of the entries tells of the state that the outer row is in, by whatever name."""
    agreeing = Q(Exists(entries.filter(state=OuterRef(binding.attribute))))
    for state in binding.machine.graph:
        if state.formerly:
            renamed = Q(**{f"{binding.attribute}__in": state.names})
            agreeing |= renamed & Q(Exists(entries.filter(state__in=state.names)))
    return agreeing


def orphans(
    binding: RowBinding, using: str, *, batch: int = 500, stopped: Callable[[], bool] = lambda: False
) -> Iterator[list[Entry]]:
    """Open entries of this pipeline whose row is gone, as a raw delete leaves them; of one batch at a time.

    Args:
        batch: Entries to look at in one query, and their rows in another.
        stopped: Asked before each batch whether to leave the rest.
    """
    model, field = binding.label
    entries = Entry.objects.using(using).open().filter(model=model, field=field)
    # The unique key of open entries is in this order, and is read once from end to end.
    for found in _batches(entries, batch, stopped, key="object"):
        yield _without_row(found, binding, using)


def _without_row(entries: list[Entry], binding: RowBinding, using: str) -> list[Entry]:
    # A join would cast one side: SQLite, MariaDB and MySQL then read every row for every entry.
    keys = {entry.pk: key_of(entry.object, binding, using) for entry in entries}
    named = [key for key in keys.values() if key is not None]
    rows: models.QuerySet[Any] = models.QuerySet(binding.owner, using=using).filter(pk__in=named)
    there = set(rows.values_list("pk", flat=True))
    return [entry for entry in entries if keys[entry.pk] not in there]


def key_of(object: str, binding: RowBinding, using: str) -> Any:
    """The primary key that an entry names; None when the column cannot hold it, so that no row has it."""
    pk: Any = binding.owner._meta.pk
    while pk.remote_field:
        pk = pk.target_field
    try:
        key = pk.to_python(object)
    except ValidationError:
        return None
    return key if _fits(key, pk, using) else None


def _fits(key: Any, pk: models.Field[Any, Any], using: str) -> bool:
    """Whether an integer is in the column's range: SQLite refuses even to look for one beyond 64 bits."""
    if not isinstance(pk, models.IntegerField):
        return True
    least, most = connections[using].ops.integer_field_range(pk.get_internal_type())
    return bool((least is None or least <= key) and (most is None or key <= most))


def scan(*, using: str = "default", limit: int = 500, everything: bool = False) -> Sweep:
    """Give an entry to rows that need one and have none, as raw SQL and bulk inserts leave them.

    Safe to repeat. Rows in states that this code does not know are left alone.

    Args:
        limit: Rows at most, for each pipeline.
        everything: Also rows in states where nothing is pending, for the sake of their history; and entries
            whose row is gone are closed.
    """
    adopted = 0
    for binding in residents(using):
        adopted += _adopt_all(_to_adopt(binding, using, everything).order_by("pk")[:limit], binding, using)
        if everything:
            gone = chain.from_iterable(orphans(binding, using))
            _close_all(islice(gone, limit), binding, using)
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
    for binding in residents(using):
        for rows in _batches(_to_adopt(binding, using, everything), batch, stopped):
            adopted += _adopt_all(rows, binding, using)
        for entries in orphans(binding, using, batch=batch, stopped=stopped) if everything else ():
            _close_all(entries, binding, using)
    return Sweep(adopted=adopted)


def _batches(
    queryset: models.QuerySet[Any], size: int, stopped: Callable[[], bool], *, key: str = "pk"
) -> Iterator[list[Any]]:
    rest = queryset = queryset.order_by(key)
    while not stopped():
        found = list(rest[:size])
        yield found
        if len(found) < size:
            return
        rest = queryset.filter(**{f"{key}__gt": getattr(found[-1], key)})


def _adopt_all(rows: Iterable[Any], binding: RowBinding, using: str) -> int:
    adopted = 0
    for row in rows:
        subject = Subject(owner=binding.owner, pk=row.pk, field=binding.attribute, using=using)
        with _surviving(subject, using):
            adopted += binding.adopt(subject)
    return adopted


def _close_all(entries: Iterable[Entry], binding: RowBinding, using: str) -> None:
    for entry in entries:
        with _surviving(entry, using):
            binding.adopt(subject_of(entry, binding, using))


@contextmanager
def _surviving(what: object, using: str) -> Iterator[None]:
    """Log what cannot be adopted, and go on: the next scan finds it again."""
    try:
        yield
    except Exception as error:
        if not _is_usable(using):
            raise  # nor can any other be
        logger.exception("Could not adopt %s (%s); the next scan tries again.", what, error)


def _is_usable(using: str) -> bool:
    connection = connections[using]
    return connection.connection is not None and connection.is_usable()


def _to_adopt(binding: RowBinding, using: str, everything: bool) -> models.QuerySet[Any]:
    rows = disagreeing(binding, using)
    if everything:
        return rows
    return rows.filter(**{f"{binding.attribute}__in": _names(_pending(binding))})
