"""What every write of the protocol says that it expects, and the entries that it opens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, models
from django.db.models import DateTimeField, Expression, ExpressionWrapper, Q, QuerySet, Value

from integration.conf import conf
from integration.entries import DatabaseNow, Entry, EntryQuerySet
from statemachine import StateValue

__all__ = [
    "LEFT",
    "Cause",
    "Disagreement",
    "Instant",
    "Subject",
    "Superseded",
    "Token",
    "held",
    "later",
    "opened",
]

Instant = datetime | Expression | None

LEFT: dict[str, Any] = {"open": None, "left_at": DatabaseNow(), "due_at": None}
"""What is written into an entry that is left."""


class Superseded(Exception):
    """A compare-and-set found something else than it expected; the caller's transaction is to be undone."""


class Disagreement(Superseded):
    """The row is where it was thought to be, but its open entry says otherwise: adoption is due."""


def _is_one_of(column: str, names: Sequence[str]) -> Q:
    return Q(**{column: names[0]}) if len(names) == 1 else Q(**{f"{column}__in": names})


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

    def at(self, names: Sequence[str], epoch: int) -> QuerySet[Any]:
        """The row, if it is in a state, under any of the names that it is stored by."""
        return self.rows.filter(_is_one_of(self.field, names), **{f"{self.field}_epoch": epoch})

    @property
    def entries(self) -> EntryQuerySet:
        return Entry.objects.using(self.using).filter(**self.key)

    def entry_at(self, names: Sequence[str], epoch: int) -> EntryQuerySet:
        """Its entries of that state and epoch."""
        return self.entries.filter(_is_one_of("state", names), epoch=epoch)

    def expected(
        self, names: Sequence[str], epoch: int, *, token: Token | None = None, anyhow: bool = False
    ) -> EntryQuerySet:
        """The open entry that a transition leaves: the token's, the row's, or any that is open."""
        entries = self.entries if anyhow else self.entry_at(names, epoch)
        return entries.open() if token is None else held(token, entries)

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


def held(token: Token, entries: EntryQuerySet) -> EntryQuerySet:
    """The entry, while the token holds: a claim that was given back has no worker, and no say any more."""
    return entries.open().filter(pk=token.entry, attempt=token.attempt).exclude(worker="")


def later(now: Instant, delay: timedelta = timedelta()) -> Any:
    """An instant after ``now``, or after the database's clock."""
    if isinstance(now, datetime):
        return now + delay
    instant = now or DatabaseNow()
    return ExpressionWrapper(instant + Value(delay), output_field=DateTimeField()) if delay else instant


def opened(
    subject: Subject, state: StateValue, *, epoch: int, cause: Cause, step: int = 0, task: str = ""
) -> Entry:
    """An open entry, armed by what its state declares: for its first task, or the given one. Not stored."""
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
    return entry
