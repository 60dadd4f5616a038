"""System checks. What `verify` finds in the graph of a field is shown by ``manage.py check``, one id each.

========  =====================================================================================
E001      a model with a `StateField` that is no `StateMachineModel`
E002      a composite primary key
E003      a column too short for a state's name
E004      a name or primary key too long for the entry table
W001      SQLite whose transactions do not begin with a write lock (with ``--database``)
W002      entries that only a person can help (with ``--database``)
W003      entries that no code here answers (with ``--database``)
W004      entries that nobody took for `STATEMACHINE_UNANSWERED` (with ``--database``)
W005      an entry table that cannot be read (with ``--database``)
E1xx      a property of the graph that does not hold: a row can get stuck or lost
W1xx      a property of the graph that does not hold: the declaration says too little
========  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core import checks
from django.db import DatabaseError, connections

from integration import recovery, status
from integration.entries import Entry
from integration.fields import StateField, owned_fields
from integration.models import StateMachineModel
from statemachine import Finding
from statemachine.verify import verify

__all__ = ["NUMBERS", "check_databases", "check_fields", "check_graphs"]

NUMBERS: Mapping[str, int] = {
    "reachable": 101,
    "can-reach-goal": 102,
    "finished-stage-moves-on": 103,
    "stage-can-be-given-up": 104,
    "can-be-left": 105,
    "final-is-an-end": 106,
    "names-who-moves-it": 107,
    "timer-can-fire": 108,
    "edge-can-be-taken": 109,
}
"""The number of each property in the ids of its findings. A number is never given to another property."""

Messages = Iterator[checks.CheckMessage]


def fields_of(app_configs: Sequence[AppConfig] | None) -> list[StateField]:
    """The state fields of these applications, or of all; each once, where its column is."""
    configs = apps.get_app_configs() if app_configs is None else app_configs
    models = [model for config in configs for model in config.get_models() if not model._meta.proxy]
    return [field for model in models for field in owned_fields(model)]


@checks.register(checks.Tags.models)
def check_fields(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Whether each state field can do its work on its model."""
    looks = (_base, _primary_key, _column, _lengths)
    return [message for field in fields_of(app_configs) for look in looks for message in look(field)]


@checks.register(checks.Tags.models)
def check_graphs(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Every finding of every bound graph, as an error or a warning of its field."""
    fields = fields_of(app_configs)
    return [_message(field, finding) for field in fields for finding in verify(field.machine.graph).findings]


def _message(field: StateField, finding: Finding) -> checks.CheckMessage:
    story = f"\n{finding.path}" if finding.path is not None else ""
    kind, level = ("E", checks.Error) if finding.level == "error" else ("W", checks.Warning)
    return level(
        f"{finding.property}: {finding.msg}{story}",
        hint=finding.hint,
        obj=field,
        id=f"statemachine.{kind}{NUMBERS.get(finding.property, 100)}",
    )


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
    long = [state.name for state in field.machine.graph if limit and len(state.name) > limit]
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


@checks.register(checks.Tags.database)
def check_databases(databases: Iterable[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Whether the databases can do what the protocol needs, and what in them waits for a person."""
    return [
        message for alias in databases or () for look in (_immediate, _readable) for message in look(alias)
    ]


def _immediate(alias: str) -> Messages:
    connection = connections[alias]
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED"
    if connection.vendor == "sqlite" and mode.upper() == "DEFERRED":
        msg = f"Transactions on the SQLite database {alias!r} begin without a write lock."
        hint = (
            "Two that read and then write fail with 'database is locked', without waiting. "
            f'Set DATABASES["{alias}"]["OPTIONS"]["transaction_mode"] = "IMMEDIATE".'
        )
        yield checks.Warning(msg, hint=hint, id="statemachine.W001")


def _readable(alias: str) -> Messages:
    """What waits, unless the table has yet to be migrated: ``migrate`` runs this before it adds a column."""
    if not recovery.holds(alias):
        return
    try:
        found = list(_waiting(alias))
    except DatabaseError as error:
        msg = f"The entries on {alias!r} cannot be read: {error}"
        hint = f"Run manage.py migrate --database {alias}."
        found = [checks.Warning(msg, hint=hint, id="statemachine.W005")]
    yield from found


def _waiting(alias: str) -> Messages:
    parked = Entry.objects.using(alias).parked().count()
    if parked:
        msg = f"{parked} entries on {alias!r} wait for a person: their failure could not be handled."
        hint = "See manage.py statemachine status, then move the rows with manage.py statemachine to-state."
        yield checks.Warning(msg, hint=hint, id="statemachine.W002")
    for stranger in status.strangers(using=alias):
        msg = f"On {alias!r} {stranger}."
        hint = "Run the code that declares it, or move the rows with manage.py statemachine to-state."
        yield checks.Warning(msg, hint=hint, id="statemachine.W003")
    health = status.health(using=alias)
    if health.longest is not None:
        waited = status.age(health.longest, health.now)
        msg = f"{health.unanswered} entries on {alias!r} are unanswered, the longest for {waited}."
        hint = (
            "Start a worker that listens on their queues and imports their tasks: nothing is given up for it."
        )
        yield checks.Warning(msg, hint=hint, id="statemachine.W004")
