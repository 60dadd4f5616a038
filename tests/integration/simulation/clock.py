"""The database's clock, in the test's hand."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.db.models import DateTimeField, Value
from django.db.models.functions import Cast

from integration.entries import DatabaseNow

# SQLite compares instants as text, and prints a whole second without decimals: none is whole here.
BEGINNING = datetime(2030, 1, 1, microsecond=1, tzinfo=UTC)


class Clock:
    """An instant that passes only when it is told to."""

    def __init__(self):
        self.now = BEGINNING

    def reset(self):
        self.now = BEGINNING

    def advance(self, by: timedelta):
        self.now += by


@contextmanager
def database_clock(clock):
    """Let every statement that asks the database for the time get the clock's."""

    def instant(self, compiler, connection, *args, **extra):
        value = Value(clock.now, output_field=DateTimeField())
        # A bare parameter has no type for a server to add an interval to.
        return compiler.compile(value if connection.vendor == "sqlite" else Cast(value, DateTimeField()))

    names = ["as_sql", "as_postgresql", "as_mysql", "as_sqlite"]
    before = {name: getattr(DatabaseNow, name) for name in names}
    for name in names:
        setattr(DatabaseNow, name, instant)
    try:
        yield clock
    finally:
        for name, method in before.items():
            setattr(DatabaseNow, name, method)
