"""Whether the columns of a state field hold what it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from django.core import checks
from django.db import models, router

from integration.entries import Entry
from integration.fields import StateField
from integration.models import StateMachineModel

__all__ = ["LOOKS"]

Messages = Iterator[checks.CheckMessage]


def _base(field: StateField) -> Messages:
    if not issubclass(field.model, StateMachineModel):
        msg = f"{field.model.__name__} has a StateField, and its save() could write the status back."
        hint = "Inherit from integration.models.StateMachineModel."
        yield checks.Error(msg, hint=hint, obj=field, id="statemachine.E001")


def _primary_key(field: StateField) -> Messages:
    if len(field.model._meta.pk_fields) > 1:
        msg = "A composite primary key cannot be named by an entry."
        hint = f"Give {field.model.__name__} a single primary key, and the others a unique constraint."
        yield checks.Error(msg, hint=hint, obj=field, id="statemachine.E002")


def _column(field: StateField) -> Messages:
    limit = field.max_length
    # A former name too: one that does not fit was never stored, so it is misspelt.
    names = [name for state in field.machine.graph for name in state.names]
    long = [name for name in names if limit and len(name) > limit]
    if long:
        msg = f"The column holds {limit} characters, which is too short for: {', '.join(long)}."
        hint = f"Pass max_length={max(map(len, long))}, or shorten the names."
        yield checks.Error(msg, hint=hint, obj=field, id="statemachine.E003")


def _lengths(field: StateField) -> Messages:
    for column, what, length in _stored(field):
        limit = Entry._meta.get_field(column).max_length  # type: ignore[union-attr]
        if limit is not None and length > limit:
            msg = f"{what} can have {length} characters, and an entry holds {limit}."
            hint = "Shorten it."
            yield checks.Error(msg, hint=hint, obj=field, id="statemachine.E004")


def _stored(field: StateField) -> Iterable[tuple[str, str, int]]:
    """What an entry stores of a field's declaration: in which column, what, and how long it can be."""
    graph, meta = field.machine.graph, field.model._meta
    yield "model", f"The label {meta.label_lower!r}", len(meta.label_lower)
    yield "object", "The primary key", getattr(meta.pk, "max_length", None) or 0
    yield from (("state", f"The state {state.name!r}", len(state.name)) for state in graph)
    triggers = dict.fromkeys(edge.trigger for edge in graph.edges)
    yield from (("trigger", f"The trigger {trigger!r}", len(trigger)) for trigger in triggers)
    tasks = [step.task for state in graph for step in state.steps]
    yield from (("task", f"The task {task!r}", len(task)) for task in tasks)


def _stamps(field: StateField) -> Messages:
    for state in field.machine.graph:
        column = state.stamps and field.model._meta.get_field(state.stamps)
        if column and not isinstance(column, models.DateTimeField):
            msg = f"{state.name!r} stamps {state.stamps!r}, which is no DateTimeField: no row could enter it."
            hint = f"Make {field.model.__name__}.{state.stamps} a DateTimeField(null=True)."
            yield checks.Error(msg, hint=hint, obj=field, id="statemachine.E007")


def _home(field: StateField) -> Messages:
    alias = router.db_for_write(field.model)
    if not router.allow_migrate_model(alias, Entry):
        msg = f"Rows are written to {alias!r}, where a router lets no entry table be."
        hint = f"Allow the application 'statemachine' on {alias!r}: row and entry are one transaction."
        yield checks.Error(msg, hint=hint, obj=field, id="statemachine.E008")


LOOKS: tuple[Callable[[StateField], Messages], ...] = (
    _base,
    _primary_key,
    _column,
    _lengths,
    _stamps,
    _home,
)
