"""The onboarding while it runs: a board that is drawn again and again, or plain lines where none can be."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from integration.demo.ledger import Line, lines
from integration.demo.run import Look
from integration.demo.words import Glyphs, clean, duration, glyphs, short
from integration.entries import Entry
from integration.onboarding.machine import onboarding

__all__ = ["Board", "Journal", "Screen", "screen", "standing"]

GRAPH = onboarding.graph
LINES = [line for line in lines(GRAPH) if line.state != GRAPH.initial]
FIRST_WITH_DASHBOARD = next(line for line in LINES if "dashboard" in GRAPH[line.state].tags)
WIDE = 96


def standing(entries: Sequence[Entry]) -> dict[Line, Entry]:
    """Which entry stands for each line; a run that starts over forgets the lines after where it starts."""
    found: dict[Line, Entry] = {}
    for entry in entries:
        line = Line(entry.state, entry.step, entry.task)
        if line in LINES:
            found = {kept: other for kept, other in found.items() if LINES.index(kept) < LINES.index(line)}
            found[line] = entry
    return found


@dataclass(frozen=True)
class Board:
    """One look at a team, drawn from the declaration: a line for each task, under its phase."""

    seen: Look
    glyphs: Glyphs
    width: int
    notes: tuple[str, ...] = ()
    hint: str = ""

    def __rich__(self) -> RenderableType:
        parts: list[RenderableType] = [self._lines()]
        parts += [Text(f"{self.glyphs.kill} {note}", style="yellow") for note in self.notes]
        if self.hint:
            parts.append(Text(self.hint, style="yellow"))
        return Group(*parts)

    def _lines(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for _ in range(4):
            table.add_column(no_wrap=True)
        for _ in range(2):
            table.add_column(no_wrap=True, justify="right")
        phase, entries = None, standing(self.seen.entries)
        for line in LINES:
            state = GRAPH[line.state]
            if state.phase != phase and state.phase is not None:
                phase = state.phase
                table.add_row("", Text(phase, style="bold"))
            table.add_row(*self._cells(line, entries.get(line)))
        return table

    def _cells(self, line: Line, entry: Entry | None) -> Iterator[RenderableType]:
        dim = "dim" if entry is None else ""
        yield self._mark(line, entry)
        yield Text("" if line.step else GRAPH[line.state].label, style=dim)
        yield Text(short(line.task), style=dim or "cyan")
        yield self._bar(line, entry)
        yield Text(_count(entry), style="dim")
        yield Text(self._time(entry), style="" if entry is not None and entry.open else "dim")

    def _mark(self, line: Line, entry: Entry | None) -> Text:
        if entry is None:
            return Text(self.glyphs.ahead, style="dim")
        if line.state in GRAPH.goals:
            return Text(self.glyphs.goal, style="bold green")
        if self._failed(entry):
            return Text(self.glyphs.failed, style="bold red")
        if not entry.open:
            return Text(self.glyphs.done, style="green")
        return Text(
            self.glyphs.spinner[int(time.monotonic() * 10) % len(self.glyphs.spinner)], style="yellow"
        )

    def _failed(self, entry: Entry) -> bool:
        now = self.seen.open
        if self.seen.parked:
            return entry == now
        if now is None or now.task or self.seen.complete:
            return False
        same = [other.pk for other in self.seen.entries if other.epoch == now.epoch - 1]
        return bool(same) and entry.pk == max(same)

    def _bar(self, line: Line, entry: Entry | None) -> RenderableType:
        progress = entry.progress if entry is not None else None
        if entry is not None and progress and progress.get("total"):
            width = 28 if self.width >= WIDE else 10
            return ProgressBar(
                total=progress["total"],
                completed=progress["done"],
                width=width,
                complete_style="yellow" if entry.open else "green",
                finished_style="green",
            )
        if entry is not None and entry.error:
            return Text(clean(entry.error, 28 if self.width >= WIDE else 10), style="yellow")
        if line == FIRST_WITH_DASHBOARD:
            return Text("dashboard", style="green" if entry is not None else "dim")
        return Text("")

    def _time(self, entry: Entry | None) -> str:
        if entry is None:
            return ""
        if entry.state in GRAPH.goals:
            return duration(entry.entered_at - self.seen.entries[0].entered_at)
        tries = f"{self.glyphs.times}{entry.attempt} " if entry.attempt > 1 else ""
        return f"{tries}{duration((entry.left_at or self.seen.now) - entry.entered_at)}"


def _count(entry: Entry | None) -> str:
    progress = entry.progress if entry is not None else None
    return f"{progress['done']}/{progress['total']}" if progress and progress.get("total") is not None else ""


class Screen:
    """Shows looks at a team as a board in place."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._notes: list[str] = []
        self._hint = ""
        self._seen: Look | None = None

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, seen: Look) -> None:
        self._seen = seen
        board = Board(seen, glyphs(self.console), self.console.width, tuple(self._notes), self._hint)
        self._live.update(board, refresh=True)

    def note(self, text: str) -> None:
        """Say something that stays."""
        self._notes.append(text)
        self._again()

    def add(self, text: str) -> None:
        """Go on with what was said last."""
        self._notes[-1] += f", {text}"
        self._again()

    def hint(self, text: str) -> None:
        """Say something until something else is said."""
        if text != self._hint:
            self._hint = text
            self._again()

    def _again(self) -> None:
        if self._seen is not None:
            self.show(self._seen)


class Journal(Screen):
    """The same as lines, one for each entry that was left: for pipes, files and simple terminals."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._hint = ""
        self._told: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def show(self, seen: Look) -> None:
        for entry in seen.entries:
            if entry.pk not in self._told and entry.left_at is not None:
                self._told.add(entry.pk)
                self._tell(entry, seen.entries[0])

    def note(self, text: str) -> None:
        self.console.print(
            f"{glyphs(self.console).kill} {text}", markup=False, highlight=False, soft_wrap=True
        )

    def add(self, text: str) -> None:
        self.console.print(f"  {text}", markup=False, highlight=False, soft_wrap=True)

    def hint(self, text: str) -> None:
        if text and text != self._hint:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._hint = text

    def _tell(self, entry: Entry, first: Entry) -> None:
        if not entry.task or entry.left_at is None:
            return
        state, at = GRAPH[entry.state], f"+{duration(entry.left_at - first.entered_at)}"
        took = duration(entry.left_at - entry.entered_at)
        tries = f"  {glyphs(self.console).times}{entry.attempt}" if entry.attempt > 1 else ""
        text = f"{at:>9}  {state.label:<21}  {short(entry.task):<24}  {_count(entry):>11}  {took}{tries}"
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def screen(console: Console) -> Screen:
    """A board where the terminal can draw one, else lines."""
    moves = console.is_terminal and not console.is_dumb_terminal
    return Screen(console) if moves else Journal(console)
