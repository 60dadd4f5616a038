"""A team, and what its onboarding found: people, changes, weekly metrics, insights."""

from __future__ import annotations

from typing import Any

from django.db import models

from integration.models import StateField, StateMachineModel

from .machine import SECOND, onboarding
from .ports import KINDS, Window

__all__ = ["Change", "Insight", "Member", "Snapshot", "Team", "WeeklyMetric"]


class Team(StateMachineModel):
    """A team that is onboarded from its repository."""

    name = models.CharField(max_length=200)
    source = models.CharField(max_length=1000, help_text="A path of a git repository, or github:owner/name.")
    analyst = models.CharField(
        max_length=1000, blank=True, help_text="An OpenAI-compatible endpoint; rules when empty."
    )
    onboarding_pipeline_status = StateField(onboarding)
    onboarding_pipeline_error = models.TextField(blank=True)
    onboarding_pipeline_started_at = models.DateTimeField(null=True, blank=True)
    onboarding_pipeline_completed_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name

    @property
    def dashboard_accessible(self) -> bool:
        return "dashboard" in self.state.tags

    @property
    def pipeline_in_progress(self) -> bool:
        return "running" in self.state.tags

    @property
    def background_in_progress(self) -> bool:
        return self.pipeline_in_progress and self.state.phase == SECOND

    @property
    def failed_in(self) -> str:
        """The state that the open entry came from: where `retry` resumes."""
        entry = self.entries.filter(field="onboarding_pipeline_status").open().first()
        return entry.source if entry is not None else ""

    def update_pipeline_status(self, status: str, *, reason: str, by: Any = None) -> None:
        """Put the team into a state by hand: a jump, with who and why kept in its entry."""
        onboarding.to_state(self, status, reason=reason, by=by)

    # Callbacks of the machine

    def keep_error(self, event: Any) -> None:
        self.onboarding_pipeline_error = str(event.kwargs.get("error") or "It was given up without an error.")

    def clear_error(self, event: Any) -> None:
        self.onboarding_pipeline_error = ""


class Snapshot(models.Model):
    """What the stages know of the team as a whole; apart from it, so that saving a team cannot undo it."""

    team = models.OneToOneField(Team, models.CASCADE, related_name="snapshot")
    newest_change_at = models.DateTimeField(help_text="The instant that both phases count their days from.")
    summary = models.TextField(blank=True, help_text="The insights, in a paragraph.")

    def __str__(self) -> str:
        return f"{self.team} at {self.newest_change_at:%Y-%m-%d}"

    def window(self, first_day: int, last_day: int) -> Window:
        """The days, counted back from the newest change that the onboarding saw."""
        return Window(self.newest_change_at, first_day, last_day)


class Member(models.Model):
    """Somebody who writes the team's changes."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="members")
    email = models.CharField(max_length=320)
    name = models.CharField(max_length=500)
    commits = models.PositiveIntegerField(help_text="In the whole history.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "email"], name="onboarding_one_member")]

    def __str__(self) -> str:
        return self.name


class Change(models.Model):
    """A commit or a merge, and what the analyst says of it."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="changes")
    sha = models.CharField(max_length=64)
    merge = models.BooleanField()
    author_email = models.CharField(max_length=320)
    author_name = models.CharField(max_length=500)
    co_authors = models.JSONField(default=list, help_text="Pairs of name and email.")
    authored_at = models.DateTimeField()
    committed_at = models.DateTimeField()
    title = models.TextField()
    body = models.TextField(blank=True)
    additions = models.PositiveIntegerField()
    deletions = models.PositiveIntegerField()
    files = models.PositiveIntegerField()
    paths = models.JSONField(default=list)
    reviews = models.PositiveIntegerField(default=0)

    kind = models.CharField(max_length=20, blank=True, choices=[(kind, kind) for kind in KINDS])
    ai_assisted = models.BooleanField(default=False)
    ai_tool = models.CharField(max_length=100, blank=True)
    summary = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "sha"], name="onboarding_one_change")]
        indexes = [models.Index(fields=["team", "committed_at"], name="onboarding_by_time")]

    def __str__(self) -> str:
        return f"{self.sha[:10]} {self.title}"


class WeeklyMetric(models.Model):
    """One ISO week of a team."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="weeks")
    iso_year = models.PositiveSmallIntegerField()
    iso_week = models.PositiveSmallIntegerField()
    changes = models.PositiveIntegerField()
    merges = models.PositiveIntegerField()
    people = models.PositiveIntegerField()
    additions = models.PositiveIntegerField()
    deletions = models.PositiveIntegerField()
    files = models.PositiveIntegerField()
    reviews = models.PositiveIntegerField()
    ai_assisted = models.PositiveIntegerField()
    median_size = models.FloatField()
    kinds = models.JSONField(default=dict)
    authors = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "iso_year", "iso_week"], name="onboarding_one_week")
        ]
        ordering = ["iso_year", "iso_week"]

    def __str__(self) -> str:
        return f"{self.iso_year}-W{self.iso_week:02}"


class Insight(models.Model):
    """One fact about the work of a team, in words and in numbers."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="insights")
    position = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=50)
    title = models.CharField(max_length=200)
    body = models.TextField()
    level = models.CharField(max_length=10)
    evidence = models.JSONField(default=dict)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "key"], name="onboarding_one_insight")]
        ordering = ["position"]

    def __str__(self) -> str:
        return self.title
