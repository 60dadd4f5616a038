"""Whether a database can do what the protocol needs, and what in it waits for a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, Error, connections, models
from django.db.models import Count, Q

from integration import recovery, status
from integration.binding import RowBinding

__all__ = ["contents", "immediate"]

Messages = Iterator[checks.CheckMessage]

_TOLD = 5

_LOOKED_AT = 50_000
"""How many rows at each end of a table are read. ``migrate`` waits for this; the audit reads all of them."""


def immediate(alias: str) -> Messages:
    connection = connections[alias]
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED"
    if connection.vendor == "sqlite" and mode.upper() == "DEFERRED":
        msg = f"Transactions on the SQLite database {alias!r} begin without a write lock."
        hint = (
            "Two that read and then write fail with 'database is locked', without waiting. "
            f'Set DATABASES["{alias}"]["OPTIONS"]["transaction_mode"] = "IMMEDIATE".'
        )
        yield checks.Warning(msg, hint=hint, id="statemachine.W001")


def contents(alias: str) -> Messages:
    """What the tables say, where there is an entry table."""
    try:
        residents = recovery.residents(alias) if recovery.holds(alias) else None
    except (Error, ImproperlyConfigured) as error:
        msg = f"The database {alias!r} cannot be reached: {error}"
        hint = "Nothing else is said of it: look again when it is up."
        yield checks.Warning(msg, hint=hint, id="statemachine.W015")
        return
    if residents is not None:
        yield from _looks(alias, residents)


def _looks(alias: str, residents: Iterable[RowBinding]) -> Messages:
    yield from _readable("The entries", alias, _waiting)
    for binding in residents:
        label = ".".join(binding.label)
        yield from _readable(f"The rows of {label}", alias, partial(_strange, binding))


def _readable(what: str, alias: str, look: Callable[[str], Messages]) -> Messages:
    """What is found; a table that has yet to be migrated is no error, since ``migrate`` runs this first."""
    try:
        found = list(look(alias))
    except DatabaseError as error:
        msg = f"{what} on {alias!r} cannot be read: {error}"
        hint = f"Run manage.py migrate --database {alias}."
        found = [checks.Warning(msg, hint=hint, id="statemachine.W005")]
    yield from found


def _waiting(alias: str) -> Messages:
    health = status.health(using=alias)
    if health.parked:
        msg = f"{health.parked} entries on {alias!r} wait for a person: their failure could not be handled."
        hint = "See manage.py statemachine status, then move the rows with manage.py statemachine to-state."
        yield checks.Warning(msg, hint=hint, id="statemachine.W002")
    for stranger in status.strangers(using=alias):
        msg = f"On {alias!r} {stranger}."
        hint = "Run the code that declares it, or move the rows with manage.py statemachine to-state."
        yield checks.Warning(msg, hint=hint, id="statemachine.W003")
    if health.longest is not None:
        waited = status.age(health.longest, health.now)
        msg = f"{health.unanswered} entries on {alias!r} are unanswered, the longest for {waited}."
        hint = (
            "Start a worker that listens on their queues and imports their tasks: nothing is given up for it."
        )
        yield checks.Warning(msg, hint=hint, id="statemachine.W004")


def _strange(binding: RowBinding, alias: str) -> Messages:
    """Stored values that the graph does not know: no trigger can be fired on such a row.

    Reads the oldest and the newest rows, and all when one of those holds such a value.
    """
    found = list(_values(binding, alias)) if _has_strange(binding, alias) else []
    if found:
        told = ", ".join(f"{value!r} ({number})" for value, number in found[:_TOLD])
        more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        model, field = binding.label
        yield checks.Warning(
            f"Rows on {alias!r} hold what is no state of {model}.{field}: {told}{more}.",
            hint="If a state was renamed, declare formerly=…; "
            "otherwise move the rows with manage.py statemachine to-state.",
            obj=binding.owner._meta.get_field(field),
            id="statemachine.W014",
        )


def _rows(binding: RowBinding, alias: str) -> models.QuerySet[Any]:
    return models.QuerySet(binding.owner, using=alias)


def _unknown(binding: RowBinding) -> Q:
    return ~Q(**{f"{binding.attribute}__in": list(binding.states)})


def _has_strange(binding: RowBinding, alias: str) -> bool:
    strange = Count("pk", filter=_unknown(binding))
    ends = (_rows(binding, alias).order_by(order)[:_LOOKED_AT] for order in ("pk", "-pk"))
    return any(end.aggregate(strange=strange)["strange"] for end in ends)


def _values(binding: RowBinding, alias: str) -> Iterable[tuple[Any, int]]:
    """Each unknown value with how many rows hold it. Grouped by the column: what is read has today's name."""
    column: Any = binding.attribute
    unknown = _rows(binding, alias).filter(_unknown(binding))
    counted = unknown.order_by().values_list(column).annotate(number=Count("pk"))
    yield from counted.order_by("-number", column)
