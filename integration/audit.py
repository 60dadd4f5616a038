"""`audit`: reads rows and entries, and says where they break what the protocol promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.db import models
from django.db.models import CharField, Count, Exists, OuterRef, Q, Subquery
from django.db.models.functions import Cast

from integration.binding import RowBinding
from integration.entries import DatabaseNow, Entry, EntryQuerySet
from integration.fields import StateField
from integration.invariants import Violation, Where, judge, stranger
from integration.protocol import Subject
from integration.recovery import key_of, residents

__all__ = ["Audit", "Violation", "audit"]

_DEPLOY = "Expected while a deploy is under way; otherwise run the code that declares it, or move the rows."


def audit(*, using: str = "default", fields: Iterable[StateField] | None = None) -> Audit:
    """Look for what the tables should not say. Writes nothing, and takes no lock.

    Rows may move meanwhile: what looks wrong is read once more, with its row in the same statement, before it
    is reported. The tables are read in batches, so the memory grows with the longest history only.

    Args:
        fields: The pipelines to look at; by default all of them, and entries of those that are unknown here.
    """
    return Audit(using, None if fields is None else [field.binding for field in fields])


class Audit(Iterator[Violation]):
    """What an audit finds, pipeline by pipeline, by object, epoch and step. It reads as it is iterated.

    Attributes:
        rows: Rows read so far.
        entries: Entries read so far.
    """

    def __init__(self, using: str, chosen: list[RowBinding] | None, *, batch: int = 1000) -> None:
        self.using, self.batch = using, batch
        self.rows = self.entries = 0
        self._found = self._run(chosen)

    def __next__(self) -> Violation:
        return next(self._found)

    def _run(self, chosen: list[RowBinding] | None) -> Iterator[Violation]:
        here = [
            _Pipeline(binding, self.using)
            for binding in residents(self.using)
            if chosen is None or binding in chosen
        ]
        for pipeline in here:
            yield from self._histories(pipeline)
            yield from self._rows_without_entries(pipeline)
            yield from pipeline.told()
        if chosen is None:
            yield from _unknown_pipelines(self.using, here)

    def _histories(self, pipeline: _Pipeline) -> Iterator[Violation]:
        for object, entries in groupby(self._read(pipeline), attrgetter("object")):
            history: list[Any] = list(entries)
            where = pipeline.seen.get(object)
            self.rows += where is not None
            pipeline.note(history, where)
            if any(pipeline.judge(history, where)):
                yield from pipeline.judge(*pipeline.again(object))

    def _read(self, pipeline: _Pipeline) -> Iterator[Entry]:
        """Every entry of a pipeline, by object, epoch and step, with the rows of each batch beside it."""
        batch = list(pipeline.ordered[: self.batch])
        while batch:
            self.entries += len(batch)
            pipeline.look({entry.object for entry in batch})
            yield from batch
            batch = list(pipeline.after(batch[-1])[: self.batch]) if len(batch) == self.batch else []

    def _rows_without_entries(self, pipeline: _Pipeline) -> Iterator[Violation]:
        """Rows that nothing was ever written about: right, unless their state works or has a timer."""
        rows = pipeline.bare.order_by("pk")
        batch = list(rows[: self.batch])
        while batch:
            self.rows += len(batch)
            for row in batch:
                yield from pipeline.judge_bare(row)
            batch = list(rows.filter(pk__gt=batch[-1].pk)[: self.batch]) if len(batch) == self.batch else []


class _Pipeline:
    """The rows and entries of one field on one database.

    Attributes:
        seen: Where the rows of the last two batches are, by object: a history may go on in the next batch.
        strange: What this code does not know, with how often it was seen.
    """

    def __init__(self, binding: RowBinding, using: str) -> None:
        self.binding, self.using = binding, using
        self.seen: dict[str, Where] = {}
        self._latest: dict[str, Where] = {}
        self.strange: Counter[str] = Counter()
        self.states = binding.states

    @property
    def rows(self) -> models.QuerySet[Any]:
        pk, (_, field) = self.binding.owner._meta.pk.name, self.binding.label
        return models.QuerySet(self.binding.owner, using=self.using).only(pk, field, self.binding.epoch)

    @property
    def entries(self) -> EntryQuerySet:
        model, field = self.binding.label
        entries = Entry.objects.using(self.using).filter(model=model, field=field)
        return entries.defer("checkpoint", "progress", "traceparent")

    @property
    def ordered(self) -> EntryQuerySet:
        return self.entries.order_by("object", "epoch", "step").annotate(now=DatabaseNow())

    def after(self, last: Entry) -> EntryQuerySet:
        """What follows an entry. The first condition says nothing new, but is what an index understands."""
        later = Q(epoch__gt=last.epoch) | Q(epoch=last.epoch, step__gt=last.step)
        following = Q(object__gt=last.object) | Q(object=last.object) & later
        return self.ordered.filter(following, object__gte=last.object)

    def subject(self, pk: Any) -> Subject:
        return Subject(owner=self.binding.owner, pk=pk, field=self.binding.attribute, using=self.using)

    def pk(self, object: str) -> Any:
        return key_of(object, self.binding, self.using)

    def where(self, row: Any) -> Where:
        return Where(self.binding.read(row), getattr(row, self.binding.epoch))

    def look(self, objects: set[str]) -> None:
        """Read where the rows of these objects are."""
        pks = [pk for object in objects if (pk := self.pk(object)) is not None]
        before = self._latest
        self._latest = {self.subject(row.pk).object: self.where(row) for row in self.rows.filter(pk__in=pks)}
        self.seen = {**before, **self._latest}

    def judge(self, history: list[Any], where: Where | None) -> Iterator[Violation]:
        """What is wrong with a row, at the instant when its last entry was read."""
        return judge(self.binding, history, where, now=history[-1].now) if history else iter(())

    def again(self, object: str) -> tuple[list[Any], Where | None]:
        """Read the entries of an object and its row in one statement, so that nothing moves in between."""
        row = self.rows.filter(pk=self.pk(object))
        status, epoch = Subquery(row.values(self.binding.attribute)), Subquery(row.values(self.binding.epoch))
        found: list[Any] = list(self.ordered.filter(object=object).annotate(_status=status, _epoch=epoch))
        if not found or found[0]._epoch is None:
            return found, None
        return found, Where(found[0]._status, found[0]._epoch)

    @property
    def bare(self) -> models.QuerySet[Any]:
        """Rows without any entry."""
        key = Cast(OuterRef(self.binding.owner._meta.pk.name), CharField())
        return self.rows.exclude(Exists(self.entries.filter(object=key)))

    def judge_bare(self, row: Any) -> Iterator[Violation]:
        where = self.where(row)
        state = self.states.get(where.status)
        if state is None:
            self.strange[f"rows are in the state {where.status!r}"] += 1
        elif (state.works or state.after) and self.bare.filter(pk=row.pk).exists():
            yield self.notice(
                "row-and-entry-agree",
                f"the row is in {where.status!r}, epoch {where.epoch}, and has no entry",
                "manage.py statemachine recover repairs it, and so do the workers.",
                object=self.subject(row.pk).object,
            )

    def note(self, history: list[Entry], where: Where | None) -> None:
        """Count what this code does not know, and passes over."""
        for entry in history:
            if name := stranger(self.binding, entry):
                self.strange[f"entries tell of {name}"] += 1
        if where is not None and where.status not in self.states:
            self.strange[f"rows are in the state {where.status!r}"] += 1

    def told(self) -> Iterator[Violation]:
        for what, number in self.strange.items():
            yield self.notice("known-here", f"{number} {what}, which this code does not know", _DEPLOY)

    def notice(self, invariant: str, msg: str, hint: str, *, object: str = "") -> Violation:
        model, field = self.binding.label
        return Violation(
            invariant=invariant, msg=msg, hint=hint, level="notice", model=model, field=field, object=object
        )


def _unknown_pipelines(using: str, known: Iterable[_Pipeline]) -> Iterator[Violation]:
    """Entries of pipelines that are not here: of a newer or older code, or of an application taken out."""
    rest = Entry.objects.using(using).exclude(model="statemachine.turn")
    for pipeline in known:
        model, field = pipeline.binding.label
        rest = rest.exclude(model=model, field=field)
    groups = rest.order_by("model", "field").values_list("model", "field").annotate(number=Count("pk"))
    for model, field, number in groups:
        yield Violation(
            invariant="known-here",
            msg=f"{number} entries tell of a pipeline that this code does not know",
            hint=_DEPLOY,
            level="notice",
            model=model,
            field=field,
        )
