"""Small things that everything on the terminal shares: glyphs, durations, texts of strangers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from rich.console import Console

__all__ = ["Glyphs", "clean", "duration", "glyphs", "plural", "printable", "short"]


@dataclass(frozen=True, kw_only=True)
class Glyphs:
    """What stands for things.

    Attributes:
        spinner: The frames of what is going on.
    """

    done: str = "✓"
    ahead: str = "·"
    failed: str = "✗"
    goal: str = "★"
    warning: str = "!"
    info: str = "•"
    bar: str = "━"
    dash: str = "–"
    arrow: str = "→"
    kill: str = "⚡"
    times: str = "×"
    spinner: str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


_ASCII = Glyphs(
    done="+",
    ahead=".",
    failed="x",
    goal="*",
    info="-",
    bar="=",
    dash="-",
    arrow="->",
    kill="!",
    times="x",
    spinner="|/-\\",
)


def glyphs(console: Console) -> Glyphs:
    """Those that the terminal's encoding has."""
    return _ASCII if console.options.ascii_only else Glyphs()


def printable(text: str) -> str:
    """A stranger's text without anything that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def clean(text: str, limit: int = 0) -> str:
    """The same on one line, and no longer than the limit."""
    shown = printable(" ".join(text.split()))
    return f"{shown[: limit - 1]}…" if 0 < limit < len(shown) else shown


def duration(length: timedelta) -> str:
    """In the unit that a person would choose; a clock that went back counts as no time."""
    total = max(length.total_seconds(), 0.0)
    if total < 100:
        return f"{total:.2f} s" if total < 10 else f"{total:.1f} s"
    minutes, seconds = divmod(round(total), 60)
    if minutes < 100:
        return f"{minutes}:{seconds:02} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"


def plural(count: int, noun: str, many: str = "") -> str:
    return f"{count:,} {noun if count == 1 else many or f'{noun}s'}"


def short(task: str) -> str:
    """A task without the name of its application."""
    return task.rpartition(".")[2]
