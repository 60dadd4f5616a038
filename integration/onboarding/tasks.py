"""The stages of the onboarding.

What a stage writes replaces what an earlier run wrote, and commits with the transition. So a stage that
is repeated, or killed anywhere, leaves the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from integration.tasks import PermanentFailure, Stage, stage_task

from . import store
from .adapters import analyst_for, source_for
from .insights import find_insights
from .machine import SECOND
from .metrics import weekly
from .models import Snapshot, Team
from .ports import (
    PHASE_1,
    PHASE_2,
    Analysis,
    Analyst,
    AnalystError,
    AnalystUnavailable,
    Source,
    SourceError,
    SourceUnavailable,
    Window,
)

__all__ = [
    "aggregate_weekly_metrics",
    "analyse_changes",
    "compute_insights",
    "generate_llm_insights",
    "start_phase2",
    "sync_history",
    "sync_members",
]

BATCH = 20
"""Changes in each call of the analyst."""


@contextmanager
def outside(stage: Stage) -> Iterator[None]:
    """Turn what the outside world says into what becomes of the stage: wait, try again, or give up."""
    try:
        yield
    except (SourceUnavailable, AnalystUnavailable) as error:
        retry_at = getattr(error, "retry_at", None)
        if retry_at is not None:
            stage.wait(until=retry_at)
        raise
    except (SourceError, AnalystError) as error:
        raise PermanentFailure(str(error)) from error


def source_of(team: Team) -> Source:
    return source_for(team.source, token=getattr(settings, "ONBOARDING_GITHUB_TOKEN", ""))


def analyst_of(team: Team) -> Analyst:
    return analyst_for(
        team.analyst,
        model=getattr(settings, "ONBOARDING_ANALYST_MODEL", ""),
        api_key=getattr(settings, "ONBOARDING_ANALYST_API_KEY", ""),
    )


def snapshot_of(stage: Stage) -> Snapshot:
    """Where days are counted from; a team that was put past the first stage by hand gets it here."""
    return Snapshot.objects.filter(team=stage.row).first() or _count_from_now(stage)


def _count_from_now(stage: Stage) -> Snapshot:
    with outside(stage):
        newest = source_of(stage.row).newest()
    # Not in finish(): whichever attempt comes first says it, and no other changes it.
    return Snapshot.objects.get_or_create(team=stage.row, defaults={"newest_change_at": newest})[0]


def window_of(stage: Stage) -> Window:
    return snapshot_of(stage).window(stage.kwargs["first_day"], stage.kwargs["last_day"])


@stage_task("onboarding.sync_members")
def sync_members(stage: Stage) -> None:
    """The people of the repository, and the instant that both phases count their days from."""
    team: Team = stage.row
    with outside(stage):
        source = source_of(team)
        people, newest = list(source.people()), source.newest()
    with stage.finish():
        store.start_over(team, newest)
        store.replace_members(team, people)


@stage_task("onboarding.sync_history")
def sync_history(stage: Stage) -> None:
    """The changes of the window, with sizes, files and co-authors."""
    window, changes = window_of(stage), []
    with outside(stage):
        source = source_of(stage.row)
        total = source.count(window)
        stage.progress(0, total)
        for change in source.changes(window):
            changes.append(change)
            stage.progress(len(changes), max(total, len(changes)))
    with stage.finish():
        store.replace_changes(stage.row, window, changes)


@stage_task("onboarding.analyse_changes")
def analyse_changes(stage: Stage) -> None:
    """What each change of the window is, in batches."""
    rows = list(store.in_window(stage.row, window_of(stage)))
    analyses: list[Analysis] = []
    stage.progress(0, len(rows))
    with outside(stage):
        analyst = analyst_of(stage.row)
        for first in range(0, len(rows), BATCH):
            batch = [store.source_change(row) for row in rows[first : first + BATCH]]
            analyses += analyst.analyse(batch)
            stage.progress(len(analyses), len(rows))
    with stage.finish():
        store.write_analyses(rows, analyses)


@stage_task("onboarding.aggregate_weekly_metrics")
def aggregate_weekly_metrics(stage: Stage) -> None:
    """The weeks of everything that was synced so far."""
    weeks = weekly(store.records(stage.row))
    with stage.finish():
        store.replace_weeks(stage.row, weeks)


@stage_task("onboarding.compute_insights")
def compute_insights(stage: Stage) -> None:
    """What the weeks say."""
    team: Team = stage.row
    weeks = [store.week_metrics(row) for row in team.weeks.all()]
    names = dict(team.members.values_list("email", "name"))
    window = snapshot_of(stage).window(0, _last_day(team))
    found = find_insights(weeks, window=window, names=names)
    with stage.finish():
        store.replace_insights(team, found)


def _last_day(team: Team) -> int:
    """How far back the history is synced by now."""
    return (PHASE_2 if team.state.phase == SECOND else PHASE_1)[1]


@stage_task("onboarding.generate_llm_insights")
def generate_llm_insights(stage: Stage) -> None:
    """The insights in a paragraph, by the analyst."""
    team: Team = stage.row
    found = [store.found_insight(row) for row in team.insights.all()]
    with outside(stage):
        summary = analyst_of(team).summarise(found)
    with stage.finish():
        store.write_summary(team, summary)


@stage_task("onboarding.start_phase2")
def start_phase2(stage: Stage) -> None:
    """Nothing is left to do for the dashboard: when this returns, the background work begins."""
