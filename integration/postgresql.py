"""The protocol's writes on PostgreSQL: one statement each, put together from SQL that Django compiled.

A statement that changes nothing does not say why: the portable way is tried after it, and finds out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import connections, transaction
from django.db.models import DateTimeField, DurationField, ExpressionWrapper, F, QuerySet, Value, sql
from django.db.models.functions import Greatest, Least

from integration.entries import DatabaseNow, Entry, EntryQuerySet
from integration.fence import LEFT, Instant, Subject, Token

__all__ = ["claim", "move", "next_step", "take"]

ENTRY = f'"{Entry._meta.db_table}"'


class _Sql(NamedTuple):
    """A part of a statement, and the values of its placeholders."""

    text: str
    values: Sequence[Any]


def _statement(template: str, **parts: _Sql) -> _Sql:
    """Put parts in the places that a template names."""
    order = sorted(parts, key=lambda name: template.index("{" + name + "}"))
    values = [value for name in order for value in parts[name].values]
    return _Sql(template.format(entry=ENTRY, **{name: parts[name].text for name in order}), values)


def _where(rows: QuerySet[Any]) -> _Sql:
    """The condition of a query on one table."""
    return _Sql(*rows.query.get_compiler(rows.db).compile(rows.query.where))


def _update(rows: QuerySet[Any], written: Mapping[str, Any]) -> _Sql:
    query: Any = rows.query.chain(sql.UpdateQuery)
    query.add_update_values(written)
    return _Sql(*query.get_compiler(rows.db).as_sql())


def _insert(entry: Entry, using: str) -> tuple[_Sql, _Sql]:
    """The columns of an entry, and what is selected into them."""
    fields = [field for field in Entry._meta.local_concrete_fields if not field.primary_key]
    query = sql.InsertQuery(Entry)
    query.insert_values(fields, [entry])
    compiler: Any = query.get_compiler(using)
    row = [compiler.prepare_value(field, getattr(entry, field.attname)) for field in fields]
    ((places,), (values,)) = compiler.assemble_as_sql(fields, [row])
    columns = ", ".join(f'"{field.column}"' for field in fields)
    return _Sql(columns, ()), _Sql(", ".join(places), values)


def _inserted(statement: _Sql, entry: Entry, using: str) -> bool:
    """Execute what inserts an entry, and give it its key. False: it inserted none."""
    with connections[using].cursor() as cursor:
        cursor.execute(*statement)
        found = cursor.fetchone()
    if found is None:
        return False
    entry.pk, entry._state.adding, entry._state.db = found[0], False, using
    return True


# The row is locked, then the entry, and each at its newest version; then they are written in that order. What
# only asks whether the row and the entry EXIST would read the versions of before, and lose half of the races.
MOVE = """
WITH _row AS (SELECT 1 FROM {table} WHERE {at} FOR NO KEY UPDATE),
_entry AS (SELECT {entry}."id" FROM {entry}, _row WHERE {expected} FOR NO KEY UPDATE OF {entry}),
_moved AS ({moved} FROM _entry WHERE {row} RETURNING 1),
_left AS ({left} FROM _entry, _moved WHERE {entry}."id" = _entry."id" RETURNING 1)
INSERT INTO {entry} ({columns}) SELECT {values} FROM _left RETURNING "id"
"""

STEP = """
WITH _left AS ({left} RETURNING 1)
INSERT INTO {entry} ({columns}) SELECT {values} FROM _left RETURNING "id"
"""

# What is locked is in a part of its own: the planner may run a subquery of an UPDATE again for each row.
TAKE = """
WITH _batch AS (
    SELECT "id", "due_at" FROM {entry} WHERE {overdue} ORDER BY "due_at" LIMIT {limit}
    FOR NO KEY UPDATE SKIP LOCKED
)
{pushed} FROM _batch WHERE {entry}."id" = _batch."id" RETURNING {entry}.*, _batch."due_at" AS "was_due"
"""


def move(
    subject: Subject,
    entry: Entry,
    *,
    source: Sequence[str],
    epoch: int,
    written: Mapping[str, Any],
    token: Token | None,
    anyhow: bool,
) -> bool:
    """Write the row, leave its open entry, and insert the next one. False: nothing was written."""
    try:
        at = _where(subject.at(source, epoch))
    except EmptyResultSet:  # no row can have such a key or epoch
        return False
    using, table = subject.using, subject.owner._meta.db_table
    columns, values = _insert(entry, using)
    statement = _statement(
        MOVE,
        table=_Sql(connections[using].ops.quote_name(table), ()),
        at=at,
        expected=_where(subject.expected(source, epoch, token=token, anyhow=anyhow)),
        moved=_update(QuerySet(subject.owner, using=using), written),
        row=_where(subject.rows),
        left=_update(EntryQuerySet(Entry, using=using), LEFT),
        columns=columns,
        values=values,
    )
    return _inserted(statement, entry, using)


def next_step(held: EntryQuerySet, entry: Entry) -> bool:
    """Leave the entry that is held, and insert the next one. False: it is held no longer."""
    columns, values = _insert(entry, held.db)
    statement = _statement(STEP, left=_update(held, LEFT), columns=columns, values=values)
    return _inserted(statement, entry, held.db)


def claim(ready: EntryQuerySet, written: Mapping[str, Any]) -> Entry | None:
    """Write the claim of an entry, if it is ready, and read what is written there now."""
    with transaction.atomic(using=ready.db, durable=True):
        pass  # refuses an outer transaction; nothing is sent for it
    statement = _update(ready, written)
    taken = EntryQuerySet(Entry, using=ready.db).raw(f"{statement.text} RETURNING *", statement.values)
    return next(iter(taken), None)


def take(
    overdue: EntryQuerySet, *, limit: int, now: Instant, shortest: timedelta, longest: timedelta
) -> list[Entry]:
    """Push the due instants of the oldest entries that no other sweep has taken; as they were before it."""
    instant: Any = Value(now, DateTimeField()) if now else DatabaseNow()
    waited = ExpressionWrapper(instant - F("ready_at"), output_field=DurationField())
    pause = Least(Greatest(waited, Value(shortest)), Value(longest))
    pushed = ExpressionWrapper(instant + pause, output_field=DateTimeField())
    statement = _statement(
        TAKE,
        overdue=_where(overdue),
        limit=_Sql("%s", [limit]),
        pushed=_update(EntryQuerySet(Entry, using=overdue.db), {"due_at": pushed}),
    )
    taken: list[Any] = list(EntryQuerySet(Entry, using=overdue.db).raw(statement.text, statement.values))
    for entry in taken:
        entry.due_at = entry.was_due
    return sorted(taken, key=lambda entry: entry.due_at)
