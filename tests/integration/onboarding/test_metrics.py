"""Changes become rows of ISO weeks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.onboarding.metrics import Record, WeekMetrics, iso_week, weekly

MONDAY = datetime(2026, 2, 23, tzinfo=UTC)
RECORD = Record("ada", MONDAY, 10, 5, 2, "feature", ai_assisted=False, merge=False)


def only(*records: Record) -> WeekMetrics:
    (week,) = weekly(records)
    return week


@pytest.mark.parametrize(
    ("instant", "week"),
    [
        (datetime(2020, 12, 27, 23, 59, 59, tzinfo=UTC), (2020, 52)),
        (datetime(2020, 12, 28, tzinfo=UTC), (2020, 53)),
        (datetime(2021, 1, 3, 23, 59, 59, tzinfo=UTC), (2020, 53)),
        (datetime(2021, 1, 4, tzinfo=UTC), (2021, 1)),
        (datetime(2024, 12, 30, tzinfo=UTC), (2025, 1)),
        (datetime(2026, 12, 31, tzinfo=UTC), (2026, 53)),
        (datetime(2021, 1, 4, 0, 30, tzinfo=timezone(timedelta(hours=1))), (2020, 53)),
        (datetime(2021, 1, 3, 23, 30, tzinfo=timezone(timedelta(hours=-1))), (2021, 1)),
    ],
)
def test_an_instant_is_in_the_iso_week_that_it_has_in_utc(instant: datetime, week: tuple[int, int]) -> None:
    assert iso_week(instant) == week


def test_the_weeks_around_new_year_follow_each_other() -> None:
    weeks = weekly(
        replace(RECORD, committed_at=datetime(2020, 12, 20, tzinfo=UTC) + timedelta(days=7 * n))
        for n in range(4)
    )
    assert [(week.iso_year, week.iso_week) for week in weeks] == [
        (2020, 51),
        (2020, 52),
        (2020, 53),
        (2021, 1),
    ]
    assert [week.monday for week in weeks][-2:] == [date(2020, 12, 28), date(2021, 1, 4)]


def test_no_records_make_no_weeks() -> None:
    assert weekly([]) == []


def test_a_week_without_changes_between_two_with_is_a_row_of_zeros() -> None:
    _, empty, _ = weekly([RECORD, replace(RECORD, committed_at=MONDAY + timedelta(weeks=2))])
    assert empty == WeekMetrics(2026, 10, 0, 0, 0, 0, 0, 0, 0, 0.0, {}, {})
    assert (empty.people, empty.ai_share) == (0, 0.0)


def test_a_week_counts_people_kinds_reviews_and_assisted_changes() -> None:
    week = only(
        RECORD,
        replace(RECORD, author="bob", kind="fix", ai_assisted=True, reviews=2),
        replace(RECORD, kind="fix", reviews=1),
        replace(RECORD, kind="docs"),
    )
    assert (week.changes, week.people, week.reviews) == (4, 2, 3)
    assert list(week.kinds.items()) == [("fix", 2), ("docs", 1), ("feature", 1)]
    assert list(week.authors.items()) == [("ada", 3), ("bob", 1)]
    assert (week.ai_assisted, week.ai_share) == (1, 0.25)


def test_the_lines_of_a_merge_are_counted_with_its_commits_only() -> None:
    week = only(RECORD, replace(RECORD, additions=100, files=9), replace(RECORD, additions=110, merge=True))
    assert (week.changes, week.merges) == (3, 1)
    assert (week.additions, week.deletions, week.files) == (110, 10, 11)
    assert week.median_size == (15 + 105) / 2


def test_a_source_of_nothing_but_merges_has_their_lines_counted() -> None:
    week = only(replace(RECORD, merge=True), replace(RECORD, additions=20, merge=True))
    assert (week.merges, week.additions, week.median_size) == (2, 30, 20.0)


def test_a_week_of_merges_among_weeks_of_commits_has_no_lines_of_its_own() -> None:
    _, merges = weekly([RECORD, replace(RECORD, committed_at=MONDAY + timedelta(weeks=1), merge=True)])
    assert (merges.changes, merges.additions, merges.median_size) == (1, 0, 0.0)


records = st.builds(
    Record,
    author=st.sampled_from("abc"),
    committed_at=st.datetimes(
        MONDAY.replace(year=2019, tzinfo=None), MONDAY.replace(tzinfo=None), timezones=st.just(UTC)
    ),
    additions=st.integers(0, 1000),
    deletions=st.integers(0, 1000),
    files=st.integers(0, 50),
    kind=st.sampled_from(["fix", "docs"]),
    ai_assisted=st.booleans(),
    merge=st.booleans(),
)


@given(st.lists(records, max_size=30))
def test_every_change_is_in_exactly_one_week_whatever_their_order(some: list[Record]) -> None:
    weeks = weekly(some)
    assert weeks == weekly(some[::-1])
    assert sum(week.changes for week in weeks) == len(some)
    assert sum(week.merges for week in weeks) == sum(one.merge for one in some)
    assert all(
        sum(week.kinds.values()) == sum(week.authors.values()) == week.changes >= week.ai_assisted
        for week in weeks
    )
    mondays = [week.monday for week in weeks]
    assert all(late - early == timedelta(weeks=1) for early, late in pairwise(mondays))
    assert {(week.iso_year, week.iso_week) for week in weeks if week.changes} == {
        iso_week(one.committed_at) for one in some
    }
