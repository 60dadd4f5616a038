"""Plays the onboarding of one team: chooses it, starts it, watches it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.core.management import call_command

from integration.entries import DatabaseNow, Entry
from integration.onboarding.machine import onboarding
from integration.onboarding.models import Team
from statemachine import StateValue

__all__ = ["Look", "continued", "created", "get_going", "look", "prepare", "watch"]

EVERY = 0.1


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the database says at one instant.

    Attributes:
        now: The database's clock.
        entries: The team's, oldest first.
    """

    now: datetime
    team: Team
    entries: tuple[Entry, ...]

    @property
    def open(self) -> Entry | None:
        return next((entry for entry in reversed(self.entries) if entry.open), None)

    @property
    def state(self) -> StateValue:
        return onboarding.graph[self.team.onboarding_pipeline_status]

    @property
    def complete(self) -> bool:
        return self.state.name in onboarding.graph.goals

    @property
    def over(self) -> bool:
        """Nothing more happens by itself: it is complete, or it waits for a person."""
        return not self.state.works or self.parked

    @property
    def parked(self) -> bool:
        return self.open is not None and bool(self.open.task) and self.open.due_at is None

    @property
    def error(self) -> str:
        """Why it is over without being complete."""
        if self.parked and self.open is not None:
            return self.open.error
        return self.team.onboarding_pipeline_error

    @property
    def unanswered(self) -> timedelta:
        """How long nobody has claimed what is pending; zero when somebody has."""
        entry = self.open
        if entry is None or not entry.task or entry.attempt:
            return timedelta()
        return self.now - entry.entered_at


def prepare() -> None:
    """Make the tables, or bring them up to date."""
    call_command("migrate", verbosity=0, interactive=False)


def created(source: str, analyst: str = "") -> Team:
    name = Path(source).name or source
    team: Team = Team.objects.create(name=name[:200], source=source, analyst=analyst)
    return team


def continued(source: str, analyst: str = "") -> Team | None:
    """The newest team of the source, unless it is complete."""
    newest: Team | None = Team.objects.filter(source=source, analyst=analyst).order_by("-pk").first()
    if newest is None or newest.onboarding_pipeline_status in onboarding.graph.goals:
        return None
    return newest


def get_going(team: Team) -> str:
    """Fire what moves a waiting team; the trigger, empty when it is on its way already."""
    for trigger in ("start", "retry", "restart"):
        if onboarding.may(team, trigger):
            onboarding.fire(team, trigger)
            return trigger
    return ""


def look(team: int) -> Look:
    row = Team.objects.annotate(now=DatabaseNow()).get(pk=team)
    # The row first: entries read after it are as new or newer, so that a complete team has all of them.
    return Look(now=row.now, team=row, entries=tuple(row.entries.all()))


def watch(team: int, *, every: float = EVERY, before: Callable[[], None] = lambda: None) -> Iterator[Look]:
    """Look again and again; the last look is at a team that is over.

    Args:
        team: Its key.
        every: Seconds between two looks.
        before: Called before each look; what it raises ends the watch.
    """
    while True:
        before()
        seen = look(team)
        yield seen
        if seen.over:
            return
        time.sleep(every)
