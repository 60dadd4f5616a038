"""What the stages write. Each function replaces what was there, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from .metrics import Record, WeekMetrics
from .models import Change, Insight, Member, Snapshot, Team, WeeklyMetric
from .ports import Analysis, Contributor, Person, Window
from .ports import Change as SourceChange
from .ports import Insight as Found

__all__ = [
    "found_insight",
    "in_window",
    "records",
    "replace_changes",
    "replace_insights",
    "replace_members",
    "replace_weeks",
    "source_change",
    "start_over",
    "week_metrics",
    "write_analyses",
    "write_summary",
]

BATCH = 500


def start_over(team: Team, newest: datetime) -> None:
    """Forget what an earlier onboarding found, and count days from a newest change."""
    for found in (team.changes, team.weeks, team.insights):
        found.all().delete()
    Snapshot.objects.update_or_create(team=team, defaults={"newest_change_at": newest, "summary": ""})


def replace_members(team: Team, people: Iterable[Contributor]) -> None:
    team.members.all().delete()
    members = [
        Member(
            team=team,
            email=one.person.email[:320],
            name=one.person.name[:500],
            commits=one.commits,
        )
        for one in people
    ]
    Member.objects.bulk_create(members, batch_size=BATCH)


def replace_changes(team: Team, window: Window, changes: Iterable[SourceChange]) -> None:
    """The window's changes, and no others: also those are forgotten that a rebase took away."""
    in_window(team, window).delete()
    Change.objects.bulk_create([_row(team, change) for change in changes], batch_size=BATCH)


def in_window(team: Team, window: Window) -> Any:
    """The stored changes of a window, oldest first."""
    changes = team.changes.filter(committed_at__gt=window.start, committed_at__lte=window.end)
    return changes.order_by("committed_at", "sha")


def _row(team: Team, change: SourceChange) -> Change:
    return Change(
        team=team,
        sha=change.sha,
        merge=change.kind == "merge",
        author_email=change.author.email[:320],
        author_name=change.author.name[:500],
        co_authors=[[person.name, person.email] for person in change.co_authors],
        authored_at=change.authored_at,
        committed_at=change.committed_at,
        title=change.title,
        body=change.body,
        additions=change.additions,
        deletions=change.deletions,
        files=change.files,
        paths=list(change.paths),
        reviews=change.reviews,
    )


def source_change(row: Change) -> SourceChange:
    """A stored change as the analyst takes it."""
    return SourceChange(
        sha=row.sha,
        kind="merge" if row.merge else "commit",
        author=Person(row.author_name, row.author_email),
        co_authors=tuple(Person(name, email) for name, email in row.co_authors),
        authored_at=row.authored_at,
        committed_at=row.committed_at,
        title=row.title,
        body=row.body,
        additions=row.additions,
        deletions=row.deletions,
        files=row.files,
        paths=tuple(row.paths),
        reviews=row.reviews,
    )


def write_analyses(rows: Sequence[Change], analyses: Sequence[Analysis]) -> None:
    for row, analysis in zip(rows, analyses, strict=True):
        row.kind, row.summary = analysis.kind, analysis.summary
        row.ai_assisted, row.ai_tool = analysis.ai_assisted, analysis.ai_tool[:100]
    fields = ["kind", "summary", "ai_assisted", "ai_tool"]
    Change.objects.bulk_update(rows, fields, batch_size=BATCH)


def records(team: Team) -> list[Record]:
    """Every stored change, as the metrics take it."""
    return [
        Record(
            author=row.author_email,
            committed_at=row.committed_at,
            additions=row.additions,
            deletions=row.deletions,
            files=row.files,
            kind=row.kind or "other",
            ai_assisted=row.ai_assisted,
            merge=row.merge,
            reviews=row.reviews,
        )
        for row in team.changes.defer("body", "title", "paths", "summary").iterator(chunk_size=2000)
    ]


def replace_weeks(team: Team, weeks: Iterable[WeekMetrics]) -> None:
    team.weeks.all().delete()
    rows = [
        WeeklyMetric(
            team=team,
            iso_year=week.iso_year,
            iso_week=week.iso_week,
            changes=week.changes,
            merges=week.merges,
            people=week.people,
            additions=week.additions,
            deletions=week.deletions,
            files=week.files,
            reviews=week.reviews,
            ai_assisted=week.ai_assisted,
            median_size=week.median_size,
            kinds=dict(week.kinds),
            authors=dict(week.authors),
        )
        for week in weeks
    ]
    WeeklyMetric.objects.bulk_create(rows, batch_size=BATCH)


def week_metrics(row: WeeklyMetric) -> WeekMetrics:
    """A stored week as the insights take it."""
    return WeekMetrics(
        iso_year=row.iso_year,
        iso_week=row.iso_week,
        changes=row.changes,
        merges=row.merges,
        additions=row.additions,
        deletions=row.deletions,
        files=row.files,
        reviews=row.reviews,
        ai_assisted=row.ai_assisted,
        median_size=row.median_size,
        kinds=row.kinds,
        authors=row.authors,
    )


def replace_insights(team: Team, found: Iterable[Found]) -> None:
    team.insights.all().delete()
    rows = [
        Insight(
            team=team,
            position=position,
            key=insight.key,
            title=insight.title[:200],
            body=insight.body,
            level=insight.level,
            evidence=dict(insight.evidence),
        )
        for position, insight in enumerate(found)
    ]
    Insight.objects.bulk_create(rows, batch_size=BATCH)


def write_summary(team: Team, summary: str) -> None:
    Snapshot.objects.filter(team=team).update(summary=summary)


def found_insight(row: Insight) -> Found:
    """A stored insight as the analyst takes it."""
    return Found(row.key, row.title, row.body, row.level, row.evidence)  # type: ignore[arg-type]
