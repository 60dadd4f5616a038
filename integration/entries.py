"""The entry table: history and queue are the same rows, in the database of the rows they tell of."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import DateTimeField, Func, Index, Q, QuerySet

__all__ = ["DatabaseNow", "Entry", "EntryQuerySet", "IndexWhere"]


class DatabaseNow(Func):
    """The database's clock, to the microsecond where it has them: no two hosts agree on the time."""

    output_field = DateTimeField()

    def as_sql(self, compiler: Any, connection: Any, *args: Any, **extra: Any) -> Any:
        return super().as_sql(compiler, connection, template="CURRENT_TIMESTAMP", **extra)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # Not the transaction's start: a claim made late in a long transaction is not an old one.
        return super().as_sql(compiler, connection, template="CLOCK_TIMESTAMP()", **extra)

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # NOW() is in the session's time zone, and Django stores UTC.
        return super().as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # Six decimals, as Django stores them: instants are compared as text.
        template = "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f000', 'NOW')"
        return super().as_sql(compiler, connection, template=template, **extra)


class _OneNow(DatabaseNow):
    """The database's clock, asked once: an index cannot be searched for what changes from row to row."""

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        asked, values = super().as_postgresql(compiler, connection, **extra)
        return f"(SELECT {asked})", values


class IndexWhere(Index):
    """An index of some rows, where the database has those; of all rows on MariaDB and MySQL.

    They would ignore the condition of an `Index` as well, but warn of it at each check.
    """

    def __init__(self, *, where: Q, **options: Any) -> None:
        super().__init__(**options)
        self.where = where

    def deconstruct(self) -> Any:
        path, args, options = super().deconstruct()
        return path, args, {**options, "where": self.where}

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **options: Any) -> Any:
        supported = schema_editor.connection.features.supports_partial_indexes
        index = Index(fields=self.fields, name=self.name, condition=self.where if supported else None)
        return index.create_sql(model, schema_editor, using=using, **options)


class EntryQuerySet(QuerySet["Entry"]):
    def open(self) -> EntryQuerySet:
        """Entries that were not left: where their rows are."""
        return self.filter(open=True)

    def overdue(self, now: Any = None) -> EntryQuerySet:
        """Entries that the sweep should ring."""
        return self.filter(due_at__lte=now or _OneNow())

    def parked(self) -> EntryQuerySet:
        """Open entries whose failure could not be handled: only a person can help."""
        return self.filter(open=True, due_at=None).exclude(error="")


class Entry(models.Model):
    """One entry of a state, or one step of its stage: how it was entered, and what is pending.

    Its id is the whole content of a message.
    """

    model = models.CharField(max_length=100)
    field = models.CharField(max_length=63)
    object = models.CharField(max_length=190)

    epoch = models.BigIntegerField()
    step = models.PositiveSmallIntegerField(default=0)

    trigger = models.CharField(max_length=100, blank=True)
    source = models.CharField(max_length=190, blank=True)
    state = models.CharField(max_length=190)
    entered_at = models.DateTimeField()
    by = models.CharField(max_length=190, blank=True)
    reason = models.TextField(blank=True)
    traceparent = models.CharField(max_length=55, blank=True)

    task = models.CharField(max_length=190, blank=True, help_text="Empty: a person or a timer is waited for.")
    attempt = models.PositiveIntegerField(default=0, help_text="One more at each claim: the fence.")
    strikes = models.PositiveIntegerField(default=0, help_text="Claims that count towards giving up.")
    ready_at = models.DateTimeField(help_text="A claim is admitted from here on.")
    due_at = models.DateTimeField(null=True, blank=True, help_text="The sweep rings from here on.")
    worker = models.CharField(max_length=190, blank=True)
    progress = models.JSONField(null=True, blank=True)
    checkpoint = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)

    left_at = models.DateTimeField(null=True, blank=True)
    # NULL when left: a unique key over it means "at most one open", on every database.
    open = models.BooleanField(null=True, default=True, editable=False)

    objects = EntryQuerySet.as_manager()

    class Meta:
        app_label = "statemachine"
        verbose_name_plural = "entries"
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["model", "field", "object", "open"], name="statemachine_one_open"
            ),
            models.UniqueConstraint(
                fields=["model", "field", "object", "epoch", "step"], name="statemachine_one_entry"
            ),
        ]
        indexes = [
            IndexWhere(
                fields=["model", "field", "due_at"], where=Q(due_at__isnull=False), name="statemachine_due"
            )
        ]

    def __str__(self) -> str:
        step = f", step {self.step + 1}" if self.step else ""
        return f"{self.model} {self.object}: {self.state} (epoch {self.epoch}{step})"
