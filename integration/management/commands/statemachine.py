"""``manage.py statemachine``: what a pipeline promises, where its rows stand, and how to recover them."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, Error, connections, models
from django.utils import timezone

from integration import recovery
from integration.conf import conf
from integration.dispatch import circuit
from integration.entries import Entry
from integration.fields import StateField, state_fields
from integration.recovery import Standing, Sweep
from statemachine import StaleState, StateMachineError
from statemachine.__main__ import fenced, format_of
from statemachine.diagrams import FORMATS, draw
from statemachine.verify import verify

__all__ = ["Command"]

COLUMNS = ("model", "field", "state", "rows", "overdue", "parked", "oldest")


class Command(BaseCommand):
    """One command, many verbs."""

    help = "Prove, draw, watch and recover the pipelines of this project."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        _add_verify(verbs)
        _add_draw(verbs)
        _add_status(verbs)
        _add_recover(verbs)
        _add_to_state(verbs)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        run: Callable[..., None] = getattr(self, verb.replace("-", "_"))
        run(**options)

    def verify(self, fields: Sequence[str], **options: Any) -> None:
        """Print the report of each field; an error finding fails the command."""
        reports = [(field, verify(field.machine.graph)) for field in _chosen(fields)]
        for field, report in reports:
            self.stdout.write(self.style.MIGRATE_HEADING(str(field)))
            self.stdout.write(str(report))
        refuted = [str(field) for field, report in reports if not report.ok]
        if refuted:
            raise CommandError(f"Rows of {', '.join(refuted)} can get stuck or lost: see the findings above.")

    def draw(self, field: str, format: str | None, output: Path | None, **options: Any) -> None:
        """Draw a pipeline, to a file or the terminal."""
        try:
            format = format or format_of(output)
            drawing = draw(_field(field).machine.graph, format)
        except StateMachineError as error:
            raise CommandError(str(error)) from error
        if output is None:
            self.stdout.write(drawing)
            return
        try:
            output.write_text(fenced(drawing, format, output), encoding="utf-8")
        except OSError as error:
            raise CommandError(
                f"{output} cannot be written: {error.strerror}. Choose another file."
            ) from error

    def status(self, database: str, **options: Any) -> None:
        """Print where the rows stand, and what waits for a person."""
        _check_database(database)
        standings = list(recovery.status(using=database))
        if not standings:
            self.stdout.write("No row has an open entry.")
            return
        for line in _table([COLUMNS, *(_cells(standing) for standing in standings)]):
            self.stdout.write(line)
        for entry in Entry.objects.using(database).parked():
            self.stdout.write(self.style.ERROR(f"parked: {entry}: {entry.error}"))
        for stranger in recovery.strangers(using=database):
            self.stdout.write(self.style.WARNING(str(stranger)))

    def recover(
        self, database: str | None, loop: bool, every: timedelta, all_rows: bool, **options: Any
    ) -> None:
        """Ring what is overdue and adopt rows, once or until told to stop."""
        if database is not None:
            _check_alias(database) if loop else _check_database(database)
        with _stopping() as stopped:
            while True:
                away: list[str] = []
                for using in recovery.aliases() if database is None else [database]:
                    with self._surviving(using, away):
                        self._recover(using, all_rows, stopped)
                if away and not loop:
                    raise CommandError(f"Not recovered: {', '.join(away)}. See above, and try again.")
                if not loop or stopped.wait(every.total_seconds()):
                    return

    def _recover(self, using: str, all_rows: bool, stopped: threading.Event) -> None:
        done = recovery.scan_all(using=using, batch=_LIMIT, everything=all_rows, stopped=stopped.is_set)
        for _ in range(_batches(using)):
            if stopped.is_set():
                break
            done += recovery.sweep(using=using, limit=_LIMIT)
        self.stdout.write(f"{using}: {_told(done)}")
        if circuit.is_open:
            self.stderr.write("The broker does not answer: what is due stays due, and is rung later.")

    @contextmanager
    def _surviving(self, using: str, away: list[str]) -> Iterator[None]:
        """A database that is away comes back, and must not keep the others waiting until then."""
        try:
            yield
        except Error as error:
            self.stderr.write(f"{using}: {type(error).__name__}: {error}; tried again at the next pass.")
            away.append(using)
            connections[using].close()

    def to_state(
        self,
        model: str,
        pk: str,
        state: str,
        reason: str,
        by: str,
        field: str,
        expect: str | None,
        database: str,
        **options: Any,
    ) -> None:
        """Put one row into a state: no guard is asked."""
        _check_database(database)
        declared = _field(f"{model}.{field}" if field else model)
        row = _row(_model(model), pk, database)
        before = declared.binding.read(row)
        try:
            declared.machine.to_state(row, state, reason=reason, by=by, expect=expect)
        except StaleState as error:
            now = declared.binding.read(_row(_model(model), pk, database))
            raise CommandError(
                f"{error.row} is in {now!r}, so nothing was done. Look whether the jump is still right, and "
                f"repeat the command with --expect {now}."
            ) from error
        except StateMachineError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{declared.binding.describe(row)}: {before} -> {declared.binding.read(row)}")


# The arguments of each verb


def _add_verify(verbs: Any) -> None:
    parser = verbs.add_parser("verify", help="Prove what each graph promises; exit 1 when it is refuted.")
    parser.add_argument("fields", nargs="*", metavar="app.Model[.field]", help="All of them by default.")


def _add_draw(verbs: Any) -> None:
    parser = verbs.add_parser("draw", help="Draw a pipeline.")
    parser.add_argument("field", metavar="app.Model[.field]")
    parser.add_argument("--format", choices=sorted(FORMATS), help="By the suffix of FILE, or mermaid.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="The terminal by default.")


def _add_status(verbs: Any) -> None:
    parser = verbs.add_parser("status", help="Show where the rows stand, and what waits for a person.")
    parser.add_argument("--database", default=DEFAULT_DB_ALIAS, metavar="ALIAS")


def _add_recover(verbs: Any) -> None:
    parser = verbs.add_parser("recover", help="Ring what is overdue, and adopt rows without an entry.")
    parser.add_argument("--database", metavar="ALIAS", help="All that hold entries by default.")
    parser.add_argument("--loop", action="store_true", help="Until SIGINT or SIGTERM.")
    parser.add_argument("--every", type=_duration, default=conf().sweep_every, metavar="SECONDS")
    parser.add_argument("--all-rows", action="store_true", help="Adopt rows too that wait for nothing.")


def _add_to_state(verbs: Any) -> None:
    parser = verbs.add_parser("to-state", help="Put one row into a state, past its guards.")
    parser.add_argument("model", metavar="app.Model")
    parser.add_argument("pk", metavar="PK")
    parser.add_argument("state", metavar="STATE")
    parser.add_argument("--reason", required=True, help="Why; kept with the entry.")
    parser.add_argument("--by", default="manage.py", metavar="WHO", help="Who; kept with the entry.")
    parser.add_argument("--field", default="", help="Where the model has several.")
    parser.add_argument("--expect", metavar="STATE", help="Refuse, unless the row is in this state.")
    parser.add_argument("--database", default=DEFAULT_DB_ALIAS, metavar="ALIAS")


def _duration(text: str) -> timedelta:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return timedelta(seconds=seconds)


# What the arguments name


def _chosen(labels: Sequence[str]) -> list[StateField]:
    if labels:
        return [_field(label) for label in labels]
    fields = [field for model in apps.get_models() for field in state_fields(model) if field.model is model]
    return sorted(fields, key=str)


def _model(label: str) -> type[models.Model]:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError) as error:
        hint = f"Name one of: {', '.join(map(str, _chosen(()))) or 'no model has a StateField'}."
        raise CommandError(f"{label!r} is no model. {hint}") from error


def _field(label: str) -> StateField:
    """The field of ``app.Model``, or of ``app.Model.field`` where there are several."""
    model, _, name = label.rpartition(".") if label.count(".") > 1 else (label, "", "")
    fields = state_fields(_model(model))
    named = [field for field in fields if name in ("", field.name)]
    if len(named) == 1:
        return named[0]
    names = ", ".join(field.name for field in fields) or "none"
    hint = "Name one of them." if fields else "Choose a model that has one."
    raise CommandError(f"{label!r} does not name one state field; {model} has: {names}. {hint}")


def _row(model: type[models.Model], pk: str, database: str) -> Any:
    rows: models.QuerySet[Any] = models.QuerySet(model, using=database)
    try:
        return rows.get(pk=pk)
    except (ObjectDoesNotExist, ValidationError, ValueError) as error:
        hint = "Give the primary key of a row, and --database where there are several."
        raise CommandError(f"There is no {model.__name__} {pk!r} on {database!r}. {hint}") from error


def _check_alias(alias: str) -> None:
    if alias not in connections:
        raise CommandError(
            f"{alias!r} is no database of this project. Choose one of: {', '.join(connections)}."
        )


def _check_database(alias: str) -> None:
    _check_alias(alias)
    try:
        held = recovery.holds(alias)
    except Error as error:
        raise CommandError(f"{alias!r} cannot be reached: {error}") from error
    if not held:
        raise CommandError(f"{alias!r} has no entry table. Run manage.py migrate --database {alias} first.")


# What is printed


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(standing: Standing) -> tuple[str, ...]:
    numbers = (standing.rows, standing.overdue, standing.parked)
    return (
        standing.model,
        standing.field,
        standing.state,
        *map(str, numbers),
        age(standing.oldest, timezone.now()),
    )


def age(since: datetime, now: datetime) -> str:
    """How long ago, in the largest unit that says something: ``3d``, ``14h``, ``5m``, ``12s``."""
    seconds = max(int((now - since).total_seconds()), 0)
    units = (("d", 86_400), ("h", 3_600), ("m", 60))
    return next((f"{seconds // size}{unit}" for unit, size in units if seconds >= size), f"{seconds}s")


def _told(done: Sweep) -> str:
    told = f"{done.rung} rung, {done.adopted} adopted"
    return f"{told}, {done.unsent} could not be sent" if done.unsent else told


def _batches(using: str) -> int:
    """How many sweeps what is due now takes: what falls due meanwhile is left to the next pass."""
    return -(-Entry.objects.using(using).overdue().count() // _LIMIT)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set, so that the sweep under way is finished."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in _SIGNALS}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_LIMIT = 500
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
