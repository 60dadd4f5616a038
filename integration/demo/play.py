"""One onboarding from beginning to end, before the eyes of a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.text import Text

from integration.demo import export, places, report, run, settings
from integration.demo.options import Options
from integration.demo.run import Look
from integration.demo.show import Screen, screen
from integration.demo.words import clean, duration, glyphs, printable
from integration.onboarding.machine import onboarding
from integration.onboarding.models import Team
from statemachine import DeclarationError

__all__ = ["WorkerDied", "headline", "keep", "play", "wrap_up"]

PATIENCE = timedelta(seconds=4)


class WorkerDied(Exception):
    """What does the work ended by itself."""


def play(options: Options, console: Console) -> int:
    """Onboard a team; 0 when it is complete, 1 when it is not."""
    headline(console, options, "in this process" if settings.IN_PROCESS else "elsewhere, over the broker")
    run.prepare()
    with worker() as check:
        team = None if options.new else run.continued(options.source, options.analyst)
        console.print(Text(_beginning(team)), end="\n\n")
        team = team or run.created(options.source, options.analyst)
        run.get_going(team)
        with screen(console) as live:
            seen = _watched(team, live, check, options)
    return wrap_up(console, seen, options)


def headline(console: Console, options: Options, worker: str) -> None:
    """What is about to happen, where."""
    name = Path(options.source).name or options.source
    console.print(Text.assemble(("Onboarding ", "bold"), (printable(name), "bold cyan")))
    where = places.described(settings.DATABASES["default"])
    report.files(console, [("Source", options.source), ("Database", where), ("Worker", worker)], before=False)


def _beginning(team: Team | None) -> str:
    if team is None:
        return "A new team."
    label = onboarding.graph[team.onboarding_pipeline_status].label
    if team.pipeline_in_progress:
        return f"Team {team.pk} stands in {label!r} and goes on from there. --new begins another one."
    if team.onboarding_pipeline_error:
        return f"Team {team.pk} failed and is tried again where it did. --new begins another one."
    return f"Team {team.pk} was never started."


@contextmanager
def worker() -> Iterator[Callable[[], None]]:
    """A worker in this process, unless a broker has its own; yields what raises when it died."""
    from integration.demo import celery

    if not settings.IN_PROCESS:
        celery.reach_broker()
        yield lambda: None
        return
    thread = celery.Worker()

    def check() -> None:
        if not thread.alive:
            raise WorkerDied

    thread.start()
    try:
        yield check
    finally:
        thread.stop(timeout=3)


def _watched(team: Team, live: Screen, check: Callable[[], None], options: Options) -> Look:
    for seen in run.watch(team.pk, before=check):
        live.show(seen)
        live.hint(_hint(seen, options))
    return seen


def _hint(seen: Look, options: Options) -> str:
    entry = seen.open
    if not settings.IN_PROCESS and seen.unanswered > PATIENCE:
        return f"No worker has answered yet. Start one with the same BROKER_URL:\n  {worker_command(options)}"
    if entry is not None and entry.task and entry.attempt and not entry.worker and entry.ready_at > seen.now:
        error = f"{clean(entry.error, 200)}\n" if entry.error else ""
        return f"{error}It will be tried again in {duration(entry.ready_at - seen.now)}."
    return ""


def worker_command(options: Options) -> str:
    """What starts a worker for this database and broker; what the environment says already is left out."""
    given = "" if options.chosen else f"DATABASE_URL={options.database_url} "
    return f"{given}celery -A integration.demo worker"


def wrap_up(console: Console, seen: Look, options: Options) -> int:
    """Show and write what was found; the exit code."""
    if "dashboard" in seen.state.tags:
        report.findings(console, seen.team)
    report.timeline(console, seen)
    if seen.complete:
        console.print(Text(f"\n{glyphs(console).goal} Complete.", style="bold green"))
    else:
        report.failure(console, seen)
    more = [("Diagram", diagram(settings.LOG_FILE.parent))] if seen.complete else []
    report.files(console, [*more, *keep(seen, options)])
    return 0 if seen.complete else 1


def keep(seen: Look, options: Options, **more: object) -> list[tuple[str, Path]]:
    """Write what is to be kept; the files that a person may want to open."""
    files: list[tuple[str, Path]] = []
    if options.json is not None:
        export.write(options.json, {**export.document(seen), **more})
        files.append(("JSON", options.json))
    if not seen.complete and settings.LOG_FILE.exists():
        files.append(("Log", settings.LOG_FILE))
    return files


def diagram(folder: Path) -> Path:
    """Draw the pipeline, as SVG where that can be done."""
    try:
        file, drawn = folder / "onboarding.svg", onboarding.draw("svg")
    except DeclarationError:
        file, drawn = folder / "onboarding.mmd", onboarding.draw("mermaid")
    file.write_text(drawn, encoding="utf-8")
    return file
