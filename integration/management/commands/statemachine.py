"""``manage.py statemachine``: what a pipeline promises, where its rows stand, and how to recover them."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connections

from integration import recovery, status
from integration.audit import Violation, audit
from integration.dispatch import circuit
from integration.entries import Entry
from integration.fields import StateField
from integration.management.arguments import (
    add_verbs,
    check_alias,
    check_database,
    chosen,
    field_of,
    model_of,
    row_of,
)
from integration.management.printing import (
    COLUMNS,
    cells,
    counted,
    findings_in_lines,
    in_json,
    swept,
    table,
    told,
)
from integration.prune import prunable, prune
from integration.status import Health, Standing
from statemachine import StaleState, StateMachineError, diagrams, export
from statemachine.diagrams.files import as_file, as_text, format_of
from statemachine.diagrams.kept import Comparison, check, keep
from statemachine.verify import Report, verify
from statemachine.verify.places import place_of
from statemachine.verify.sarif import Verified, as_sarif

__all__ = ["Command"]


class Command(BaseCommand):
    """One command, many verbs."""

    help = "Prove, draw, watch and recover the pipelines of this project."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        add_verbs(verbs)

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        run: Callable[..., None] = getattr(self, verb.replace("-", "_"))
        run(**options)

    def verify(
        self, fields: Sequence[str], properties: Sequence[str] | None, format: str, **options: Any
    ) -> None:
        """Print the report of each field; an error finding fails the command."""
        with _told(None):
            reports = [(field, verify(field.machine.graph, properties)) for field in chosen(fields)]
        if format == "json":
            self.stdout.write(
                in_json([{"field": str(field), **report.as_dict()} for field, report in reports])
            )
        elif format == "sarif":
            self.stdout.write(in_json(as_sarif(_verified(field, report) for field, report in reports)))
        else:
            for field, report in reports:
                self.stdout.write(self.style.MIGRATE_HEADING(str(field)))
                self.stdout.write(str(report))
        refuted = [str(field) for field, report in reports if not report.ok]
        if refuted:
            raise CommandError(f"Not everything holds of {', '.join(refuted)}: see the findings above.")

    def draw(
        self, field: str, format: str | None, output: Path | None, checked: Path | None, **options: Any
    ) -> None:
        """Draw a pipeline, to a file or the terminal; or compare a file with it."""
        graph = field_of(field).machine.graph
        with _told(checked or output):
            if checked is not None:
                self._check(check(graph, checked, format or format_of(checked)))
                return
            format = format or format_of(output)
            drawing = keep(diagrams.draw(graph, format), graph, format)
            if output is None:
                self.stdout.write(as_text(drawing))
            else:
                output.write_bytes(as_file(drawing, format, output))

    def _check(self, comparison: Comparison) -> None:
        if not comparison.ok:
            raise CommandError(str(comparison))
        self.stdout.write(str(comparison))

    def export(self, field: str, format: str | None, output: Path | None, **options: Any) -> None:
        """Write a pipeline for other programs, to a file or the terminal."""
        with _told(output):
            text = export.export(field_of(field).machine.graph, format or export.format_of(output))
            if output is None:
                self.stdout.write(text)
            else:
                output.write_bytes(text.encode())

    def status(self, database: str, format: str, check: bool, **options: Any) -> None:
        """Print where the rows stand, and what waits for a person."""
        check_database(database)
        show = self._status_in_json if format == "json" else self._status
        health = status.health(using=database)
        show(health, list(status.status(using=database)))
        if check and not health:
            raise CommandError(f"{database!r} is not well. {' '.join(health.problems)}")

    def _status(self, health: Health, standings: Sequence[Standing]) -> None:
        if not standings:
            self.stdout.write("No row has an open entry.")
            return
        for line in table([COLUMNS, *(cells(standing, health.now) for standing in standings)]):
            self.stdout.write(line)
        for entry in Entry.objects.using(health.using).parked():
            self.stdout.write(self.style.ERROR(f"parked: {entry}: {entry.error}"))
        for stranger in status.strangers(using=health.using):
            self.stdout.write(self.style.WARNING(str(stranger)))
        self.stdout.write(swept(health))

    def _status_in_json(self, health: Health, standings: Sequence[Standing]) -> None:
        parked = Entry.objects.using(health.using).parked()
        shown = {
            "health": {**asdict(health), "problems": health.problems},
            "standings": standings,
            "parked": list(parked.values("id", "model", "field", "object", "state", "error")),
            "strangers": list(status.strangers(using=health.using)),
        }
        self.stdout.write(in_json(shown))

    def audit(self, fields: Sequence[str], database: str, format: str, **options: Any) -> None:
        """Print what the tables should not say; a violation fails the command."""
        check_database(database)
        reading = audit(using=database, fields=[field_of(label) for label in fields] if fields else None)
        levels: Counter[str] = Counter()
        findings = _counting(reading, levels)
        if format == "json":
            found = list(findings)
            read = {"database": database, "rows": reading.rows, "entries": reading.entries}
            self.stdout.write(in_json({**read, "findings": found}))
        else:
            for line in findings_in_lines(findings):
                self.stdout.write(line)
            rows, entries = counted(reading.rows, "row"), counted(reading.entries, "entry", "entries")
            numbers = f"{counted(levels['violation'], 'violation')}, {counted(levels['notice'], 'notice')}"
            self.stdout.write(f"{database}: {rows} and {entries} read: {numbers}")
        if levels["violation"]:
            raise CommandError(
                f"Rows and entries on {database!r} break what the protocol promises: see above."
            )

    def prune(self, database: str, older_than: timedelta, batch: int, dry_run: bool, **options: Any) -> None:
        """Delete history that is old enough."""
        check_database(database)
        if dry_run:
            number = prunable(older_than=older_than, using=database).count()
            self.stdout.write(f"{database}: {counted(number, 'entry', 'entries')} would be deleted")
            return
        number = prune(older_than=older_than, using=database, batch=batch)
        self.stdout.write(f"{database}: {counted(number, 'entry', 'entries')} deleted")

    def recover(
        self, database: str | None, loop: bool, every: timedelta, all_rows: bool, **options: Any
    ) -> None:
        """Ring what is overdue and adopt rows, once or until told to stop."""
        if database is not None:
            check_alias(database) if loop else check_database(database)
        with _stopping() as stopped:
            while True:
                away: list[str] = []
                for using in connections if database is None else [database]:
                    with self._surviving(using, away):
                        if database is not None or recovery.holds(using):
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
        self.stdout.write(f"{using}: {told(done)}")
        if circuit.is_open:
            self.stderr.write("The broker does not answer: what is due stays due, and is rung later.")

    @contextmanager
    def _surviving(self, using: str, away: list[str]) -> Iterator[None]:
        """A database that is away comes back, and must not keep the others waiting until then."""
        try:
            yield
        except (Error, ImproperlyConfigured) as error:
            self.stderr.write(f"{using}: {type(error).__name__}: {error}; tried again at the next pass.")
            away.append(using)
            with suppress(Error, ImproperlyConfigured):  # there may be no driver, or nothing left to close
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
        check_database(database)
        declared = field_of(f"{model}.{field}" if field else model)
        row = row_of(model_of(model), pk, database)
        before = declared.binding.read(row)
        try:
            declared.machine.to_state(row, state, reason=reason, by=by, expect=expect)
        except StaleState as error:
            now = declared.binding.read(row_of(model_of(model), pk, database))
            raise CommandError(
                f"{error.row} is in {now!r}, so nothing was done. Look whether the jump is still right, and "
                f"repeat the command with --expect {now}."
            ) from error
        except StateMachineError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{declared.binding.describe(row)}: {before} -> {declared.binding.read(row)}")


@contextmanager
def _told(file: Path | None) -> Iterator[None]:
    """Say what went wrong, and with which file, in place of a traceback."""
    try:
        yield
    except StateMachineError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}. Choose another file.") from error


def _counting(findings: Iterable[Violation], levels: Counter[str]) -> Iterator[Violation]:
    for finding in findings:
        levels[finding.level] += 1
        yield finding


def _verified(field: StateField, report: Report) -> Verified:
    return Verified(report=report, name=str(field), place=place_of(field.machine))


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
