"""A team's changes, week by week. Pure functions of plain records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median

__all__ = ["Record", "WeekMetrics", "iso_week", "weekly"]


@dataclass(frozen=True, slots=True)
class Record:
    """What the metrics need of one change.

    Attributes:
        author: Email; who the person is.
        committed_at: Aware.
        kind: Any word; the analyst's.
    """

    author: str
    committed_at: datetime
    additions: int
    deletions: int
    files: int
    kind: str
    ai_assisted: bool
    merge: bool
    reviews: int = 0

    @property
    def size(self) -> int:
        return self.additions + self.deletions


@dataclass(frozen=True, slots=True)
class WeekMetrics:
    """One ISO week, Monday 00:00 to Sunday 24:00 UTC.

    Lines and files are counted once: those of a merge are those of its commits, and so left out. Only when
    the whole input is merges, as from a source of pull requests, are theirs counted.

    Attributes:
        iso_year: Differs from the calendar's year around New Year.
        changes: Merges included.
        median_size: Added and deleted lines of the change in the middle; 0 when nothing was counted.
        kinds: Changes by kind, the most frequent first.
        authors: Changes by email, the most active first.
    """

    iso_year: int
    iso_week: int
    changes: int
    merges: int
    additions: int
    deletions: int
    files: int
    reviews: int
    ai_assisted: int
    median_size: float
    kinds: Mapping[str, int]
    authors: Mapping[str, int]

    @property
    def monday(self) -> date:
        return date.fromisocalendar(self.iso_year, self.iso_week, 1)

    @property
    def people(self) -> int:
        return len(self.authors)

    @property
    def ai_share(self) -> float:
        """0 to 1; 0 in a week without changes."""
        return self.ai_assisted / self.changes if self.changes else 0.0


def iso_week(instant: datetime) -> tuple[int, int]:
    """ISO year and week, by the clock of UTC."""
    year, week, _ = instant.astimezone(UTC).isocalendar()
    return year, week


def weekly(records: Iterable[Record]) -> list[WeekMetrics]:
    """Every week from the first change to the last, in order, also those without changes."""
    by_week: dict[date, list[Record]] = {}
    for record in records:
        by_week.setdefault(_monday(record.committed_at), []).append(record)
    only_merges = all(record.merge for week in by_week.values() for record in week)
    return [_week(monday, by_week.get(monday, []), only_merges) for monday in _mondays(by_week)]


def _monday(instant: datetime) -> date:
    return date.fromisocalendar(*iso_week(instant), 1)


def _mondays(known: Iterable[date]) -> list[date]:
    first, last = min(known, default=None), max(known, default=None)
    if first is None or last is None:
        return []
    return [first + timedelta(weeks=n) for n in range((last - first).days // 7 + 1)]


def _week(monday: date, records: Sequence[Record], only_merges: bool) -> WeekMetrics:
    sized = [record for record in records if only_merges or not record.merge]
    year, week, _ = monday.isocalendar()
    return WeekMetrics(
        iso_year=year,
        iso_week=week,
        changes=len(records),
        merges=sum(record.merge for record in records),
        additions=sum(record.additions for record in sized),
        deletions=sum(record.deletions for record in sized),
        files=sum(record.files for record in sized),
        reviews=sum(record.reviews for record in records),
        ai_assisted=sum(record.ai_assisted for record in records),
        median_size=float(median(record.size for record in sized)) if sized else 0.0,
        kinds=_ranked(record.kind for record in records),
        authors=_ranked(record.author for record in records),
    )


def _ranked(words: Iterable[str]) -> dict[str, int]:
    """The most frequent first; the alphabet decides between equals, so that equal input gives equal rows."""
    return dict(sorted(Counter(words).items(), key=lambda item: (-item[1], item[0])))
