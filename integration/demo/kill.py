"""Kills the worker again and again, and proves from the entry table that nothing happened twice."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.text import Text

from integration.demo import export, ledger, play, report, run, settings
from integration.demo.crash import MOMENTS, Point
from integration.demo.options import Options
from integration.demo.run import Look
from integration.demo.show import Screen, screen
from integration.demo.victim import COMMAND, Victim, output, victim
from integration.demo.words import duration
from integration.entries import Entry
from integration.onboarding.machine import onboarding

__all__ = ["Kill", "kill", "plan"]

EVERY = 0.03


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One SIGKILL and what came of it.

    Attributes:
        point: Where the process stood.
        detail: How far its work was, if it says.
        pid: Of the process; all that it had started died with it.
        resumed_after: How long nobody had claimed what it left; None until somebody has.
    """

    point: Point
    detail: str
    pid: int
    resumed_after: timedelta | None = None

    def __str__(self) -> str:
        state = onboarding.graph[self.point.state]
        part = f" {self.point.step + 1}/{len(state.steps)}" if len(state.steps) > 1 else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"kill -9 in {state.label}{part}: {MOMENTS[self.point.moment]}{detail}"

    @property
    def record(self) -> dict[str, object]:
        after = self.resumed_after.total_seconds() if self.resumed_after is not None else None
        about = {"state": self.point.state, "task": self.point.task, "moment": self.point.moment}
        return {**about, "detail": self.detail, "pid": self.pid, "resumed_after_seconds": after}


def plan(team: int, seed: int) -> list[Point]:
    """One point for each moment, each in a task of its own, in the order in which they are reached."""
    chosen: dict[int, Point] = {}
    choice, works = random.Random(seed), [line for line in ledger.lines(onboarding.graph) if line.task]
    for moment in MOMENTS:
        at = choice.choice([n for n in range(len(works)) if n not in chosen and _can(moment, works, n)])
        chosen[at] = Point(team=team, state=works[at].state, step=works[at].step, moment=moment)
    return [chosen[at] for at in sorted(chosen)]


def _can(moment: str, works: Sequence[ledger.Line], n: int) -> bool:
    """Signals tell of transitions, not of steps; and after the last commit nothing is left to do."""
    last = n + 1 == len(works)
    ends_its_state = last or works[n + 1].state != works[n].state
    return {
        "working": True,
        "uncommitted": ends_its_state,
        "unsent": not last,
        "unanswered": ends_its_state and not last,
    }[moment]


class Hunt:
    """Kills whoever works on a team, and watches it recover."""

    def __init__(self, options: Options, team: int, live: Screen) -> None:
        self.kills: list[Kill] = []
        self._options, self._team, self._live = options, team, live
        self._left: tuple[Entry | None, datetime] | None = None

    def strike(self, point: Point) -> Look:
        """Let one work until it stands at the point, and kill it there."""
        with victim(self._options, point) as process:
            seen = self._watch(process, Path(point.flag))
            if not seen.over:
                process.kill()
                self._struck(point, process.pid)
        return seen

    def finish(self) -> Look:
        """Let one work until nothing is left to do."""
        with victim(self._options, None) as process:
            seen = self._watch(process)
            process.end()
        return seen

    def _struck(self, point: Point, pid: int) -> None:
        seen = run.look(self._team)
        self._left = (seen.open, seen.now)
        detail = Path(point.flag).read_text(encoding="utf-8")
        self.kills.append(Kill(point=point, detail=detail, pid=pid))
        self._live.note(str(self.kills[-1]))

    def _watch(self, process: Victim, flag: Path | None = None) -> Look:
        while True:
            code, stands = process.exit_code, flag is not None and flag.exists()
            seen = run.look(self._team)
            self._recovered(seen)
            self._live.show(seen)
            if stands or seen.over:
                return seen
            if code is not None:
                raise play.WorkerDied(f"its exit code is {code}, and its output in {output()}")
            time.sleep(EVERY)

    def _recovered(self, seen: Look) -> None:
        if self._left is None or not _claimed_since(self._left[0], seen.open):
            return
        after = seen.now - self._left[1]
        self.kills[-1], self._left = replace(self.kills[-1], resumed_after=after), None
        self._live.add(f"resumed after {duration(after)}")


def _claimed_since(left: Entry | None, entry: Entry | None) -> bool:
    return left is None or entry is None or (left.pk, left.attempt) != (entry.pk, entry.attempt)


def kill(options: Options, console: Console) -> int:
    """Onboard a team under kills, and another one without; 0 when they agree and nothing happened twice."""
    seed = random.randrange(10_000) if options.seed is None else options.seed
    kind = "a process of its own" if settings.IN_PROCESS else COMMAND
    play.headline(console, options, f"{kind}, to be killed {len(MOMENTS)} times (--seed {seed} again)")
    console.print()
    run.prepare()
    output().unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="onward-demo-") as folder, _queue():
        killed, kills = _killed(options, console, seed, folder)
        if killed.complete:
            console.print(Text("\nThe same once more, without kills, to compare.", style="dim"))
            straight = _straight(options)
    if not killed.complete:
        return play.wrap_up(console, killed, options)
    wrong = _wrong(killed, straight)
    report.timeline(console, killed)
    report.verdict(console, kills=len(kills), entries=len(killed.entries), wrong=wrong)
    files = play.keep(killed, options, kills=[one.record for one in kills], violations=wrong)
    report.files(console, files)
    return 1 if wrong else 0


@contextmanager
def _queue() -> Iterator[None]:
    """Where there is a broker: a queue that no other worker listens on."""
    from integration.demo import celery

    if settings.IN_PROCESS:
        yield
        return
    celery.reach_broker()
    name = f"onward-demo-kill-{os.getpid()}"
    celery.app.conf.task_default_queue = os.environ["ONWARD_DEMO_QUEUE"] = name
    try:
        yield
    finally:
        celery.delete_queue(name)


def _killed(options: Options, console: Console, seed: int, folder: str) -> tuple[Look, list[Kill]]:
    team = run.created(options.source, options.analyst)
    run.get_going(team)
    with screen(console) as live:
        hunt = Hunt(options, team.pk, live)
        for number, point in enumerate(plan(team.pk, seed)):
            seen = hunt.strike(replace(point, flag=str(Path(folder, str(number)))))
            if seen.over:
                return seen, hunt.kills
        return hunt.finish(), hunt.kills


def _straight(options: Options) -> Look:
    team = run.created(options.source, options.analyst)
    run.get_going(team)
    with victim(options, None) as process:
        *_, seen = run.watch(team.pk, before=lambda: _alive(process, team.pk))
        process.end()
    return seen


def _alive(process: Victim, team: int) -> None:
    if process.exit_code is not None and not run.look(team).over:
        raise play.WorkerDied(f"its exit code is {process.exit_code}, and its output in {output()}")


def _wrong(killed: Look, straight: Look) -> list[str]:
    """What contradicts that a kill changes nothing but the time; none if nothing."""
    wrong = ledger.violations(killed.entries, onboarding.graph)
    if len(killed.entries) != len(straight.entries):
        wrong.append(f"The run without kills has {len(straight.entries)} entries, not {len(killed.entries)}.")
    here, there = export.found(killed.team), export.found(straight.team)
    return [
        *wrong,
        *(f"The run without kills found other {name}." for name in here if here[name] != there[name]),
    ]
