"""What an onboarding found, for a person: people, weeks, insights, a paragraph, and how it went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from integration.demo import export
from integration.demo.run import Look
from integration.demo.words import Glyphs, clean, duration, glyphs, plural, printable, short
from integration.entries import Entry
from integration.onboarding.machine import onboarding
from integration.onboarding.models import Team
from integration.onboarding.ports import PHASE_1, PHASE_2

__all__ = ["failure", "files", "findings", "timeline", "verdict"]

PEOPLE = 8
WEEKS = 14
LEVELS = {"good": ("done", "green"), "info": ("info", "blue"), "warning": ("warning", "yellow")}


def findings(console: Console, team: Team) -> None:
    """Everything that a dashboard would show."""
    signs = glyphs(console)
    _headline(console, team, signs)
    _people(console, team, signs)
    _weeks(console, team, signs)
    _insights(console, team, signs)


def _headline(console: Console, team: Team, signs: Glyphs) -> None:
    counted = export.counts(team)
    console.print()
    for days, name in ((PHASE_1, "phase_1"), (PHASE_2, "phase_2")):
        found = counted["changes"][name]
        merges = f", {plural(found['merges'], 'merge')} among them" if found["merges"] else ""
        text = f"Days {days[0]}{signs.dash}{days[1]}: {plural(found['changes'], 'change')}{merges}."
        console.print(Text(text))
    seen = export.snapshot(team)
    if seen is not None:
        newest = seen.newest_change_at
        console.print(
            Text(f"Days are counted back from the newest change, {newest:%Y-%m-%d %H:%M} UTC.", style="dim")
        )


def _heading(console: Console, text: str, more: str = "") -> None:
    console.print()
    console.print(Text.assemble((text, "bold"), (f"  {more}" if more else "", "dim")))


def _table(*columns: tuple[str, JustifyMethod]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title, justify in columns:
        table.add_column(title, justify=justify, no_wrap=True, overflow="ellipsis")
    return table


def _people(console: Console, team: Team, signs: Glyphs) -> None:
    people = list(team.members.order_by("-commits", "email"))
    if not people:
        return
    _heading(console, "People", f"{plural(len(people), 'person', 'people')}, by commits of the whole history")
    table = _table(("Name", "left"), ("Email", "left"), ("Commits", "right"), ("", "left"))
    most = people[0].commits
    room = _room(console, 71)
    for person in people[:PEOPLE]:
        bar = Text(_bar(person.commits, most, room, signs), style="cyan")
        table.add_row(
            Text(clean(person.name, 26)),
            Text(clean(person.email, 32), style="dim"),
            f"{person.commits:,}",
            bar,
        )
    console.print(table)
    if len(people) > PEOPLE:
        console.print(Text(f"and {len(people) - PEOPLE:,} more", style="dim"))


def _weeks(console: Console, team: Team, signs: Glyphs) -> None:
    weeks = list(team.weeks.all())
    if not weeks:
        return
    _heading(console, "Weeks", "lines of merges are those of their commits, and not counted twice")
    titles = ("Changes", "Merges", "People", "Added", "Deleted", "Median", "With AI")
    table = _table(("Week", "left"), *((title, "right") for title in titles), ("", "left"))
    most = max(week.changes for week in weeks)
    room = _room(console, 71)
    for week in weeks[-WEEKS:]:
        numbers = (
            week.changes,
            week.merges,
            week.people,
            week.additions,
            week.deletions,
            round(week.median_size),
        )
        bar = Text(_bar(week.changes, most, room, signs), style="cyan")
        table.add_row(str(week), *(f"{n:,}" if n else signs.dash for n in numbers), _share(week, signs), bar)
    console.print(table)


def _share(week: Any, signs: Glyphs) -> str:
    return f"{week.ai_assisted / week.changes:.0%}" if week.ai_assisted else signs.dash


def _room(console: Console, taken: int) -> int:
    """What is left for a bar beside the other columns."""
    return min(max(console.width - taken, 6), 40)


def _bar(part: float, whole: float, width: int, signs: Glyphs) -> str:
    return signs.bar * max(round(width * part / whole), 1) if part and whole else ""


def _insights(console: Console, team: Team, signs: Glyphs) -> None:
    insights = list(team.insights.all())
    if not insights:
        return
    _heading(console, "Insights")
    for insight in insights:
        name, style = LEVELS.get(insight.level, LEVELS["info"])
        line = Table.grid(padding=(0, 1))
        said = Text.assemble((clean(insight.title), "bold"), ". ", clean(insight.body))
        line.add_row(Text(getattr(signs, name), style=style), said)
        console.print(line)
    seen = export.snapshot(team)
    if seen is not None and seen.summary:
        _heading(console, "Summary")
        console.print(Text(clean(seen.summary)))


def timeline(console: Console, seen: Look) -> None:
    """The entry table as it is: one line for each entry, against the time that the whole took."""
    signs, entries = glyphs(console), seen.entries
    _heading(console, "Entries", "history and queue are one table: each line is a row of it")
    titles: list[tuple[str, JustifyMethod]] = [
        ("At", "right"),
        ("By", "left"),
        ("Entered", "left"),
        ("Tries", "right"),
        ("Process", "right"),
    ]
    table, room = _table(*titles, ("Took", "right"), ("", "left")), _room(console, 70)
    for entry in entries:
        table.add_row(*_cells(entry, entries, signs), _span(entry, entries, room, signs))
    console.print(table)


def _cells(entry: Entry, entries: Sequence[Entry], signs: Glyphs) -> Iterable[Text | str]:
    label = onboarding.graph[entry.state].label if entry.state in onboarding.graph else entry.state
    yield f"+{duration(entry.entered_at - entries[0].entered_at)}"
    yield Text(entry.trigger, style="dim")
    yield Text(f"  {short(entry.task)}" if entry.step else label)
    yield Text(str(entry.attempt or ""), style="yellow" if entry.attempt > 1 else "dim")
    yield Text(entry.worker.rpartition(":")[2], style="dim")
    yield duration(entry.left_at - entry.entered_at) if entry.left_at else signs.dash


def _span(entry: Entry, entries: Sequence[Entry], width: int, signs: Glyphs) -> Text:
    start, end = entries[0].left_at or entries[0].entered_at, entries[-1].entered_at
    whole = max(end - start, timedelta(milliseconds=1))
    if not entry.task:
        return Text("")
    first = min(int((entry.entered_at - start) / whole * width), width - 1)
    length = max(round(((entry.left_at or end) - entry.entered_at) / whole * width), 1)
    return Text(" " * max(first, 0) + signs.bar * min(length, width - first), style="green")


def failure(console: Console, seen: Look) -> None:
    """What the team says of it."""
    signs, error = glyphs(console), clean(seen.error) or "There is no message."
    console.print()
    console.print(Text(f"{signs.failed} {seen.state.label}", style="bold red"))
    console.print(Text(error))
    if "dashboard" in seen.state.tags:
        console.print(Text("The dashboard stays: only the background work is missing.", style="dim"))


def verdict(console: Console, *, kills: int, entries: int, wrong: Sequence[str]) -> None:
    """Whether the kills did any harm."""
    signs = glyphs(console)
    console.print()
    for sentence in wrong:
        console.print(Text(f"{signs.failed} {sentence}", style="bold red"))
    if not wrong:
        for sentence in (
            f"{plural(entries, 'entry', 'entries')} after {plural(kills, 'kill')}, as many as without one.",
            "Each state and step was entered once, by a declared edge.",
            "People, changes, weeks, insights and summary are the same, too.",
        ):
            console.print(Text.assemble((f"{signs.done} ", "bold green"), sentence))


def files(console: Console, named: Iterable[tuple[str, object]], *, before: bool = True) -> None:
    """Names and paths, unbroken, so that they can be copied."""
    named = list(named)
    if before and named:
        console.print()
    for name, path in named:
        text = Text.assemble((f"{name:<9} ", "dim"), printable(str(path)))
        console.print(text, soft_wrap=True)
