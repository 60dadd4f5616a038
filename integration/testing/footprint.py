"""What a stage leaves in the tables, so that two ways to run it can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.apps import apps
from django.db import models

from integration.entries import Entry
from integration.fields import EpochField

__all__ = ["Footprint", "footprint", "unlike"]

Footprint = Mapping[str, Counter[tuple[str, ...]]]
"""By model, how often a row with these values is there."""

# Keys are given anew to what is written anew, and instants pass.
_PASSING = (
    models.AutoField,
    models.DateField,
    models.DurationField,
    models.TimeField,
    models.UUIDField,
    EpochField,
)


def footprint(tables: Iterable[str], *, using: str, volatile: Iterable[str] = ()) -> Footprint:
    """The rows of some tables, but for keys, relations, instants and what is named volatile.

    Args:
        volatile: Columns that no two attempts write alike, each as ``app.Model.field``.
    """
    ignored, written = {name.lower() for name in volatile}, set(tables)
    return {
        model._meta.label: _rows(model, list(_columns(model, ignored)), using)
        for model in apps.get_models(include_auto_created=True)
        if model._meta.db_table in written
        and model is not Entry
        and model._meta.managed
        and not model._meta.proxy
    }


def _columns(model: type[models.Model], ignored: set[str]) -> Iterator[str]:
    for field in model._meta.local_concrete_fields:
        named = f"{model._meta.label_lower}.{field.name}".lower()
        if not (field.is_relation or isinstance(field, _PASSING) or named in ignored):
            yield field.attname


def _rows(model: type[models.Model], columns: list[str], using: str) -> Counter[tuple[str, ...]]:
    rows: Any = models.QuerySet(model, using=using)
    if not columns:
        return Counter({(): rows.count()})
    return Counter(
        tuple(f"{name}={value!r}" for name, value in zip(columns, row, strict=True))
        for row in rows.values_list(*columns)
    )


def unlike(once: Footprint, again: Footprint) -> Iterator[str]:
    """Where two footprints differ, a line each: what the second has more, and what it lacks."""
    for label in sorted({*once, *again}):
        before, after = once.get(label, Counter()), again.get(label, Counter())
        for what, rows in (("too much", after - before), ("missing", before - after)):
            for row, number in sorted(rows.items()):
                yield f"{what}: {number} {label} ({', '.join(row)})"
