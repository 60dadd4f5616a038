"""Weekly metrics become sentences with the right numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.onboarding.insights import find_insights, whole_weeks
from integration.onboarding.metrics import WeekMetrics
from integration.onboarding.ports import Insight, Window


def week(
    number: int, changes: int = 0, *, ai: int = 0, size: float = 10.0, fixes: int = 0, **authors: int
) -> WeekMetrics:
    """A week of 2026; the changes are Ada's unless it is said whose they are."""
    return WeekMetrics(
        iso_year=2026,
        iso_week=number,
        changes=sum(authors.values()) or changes,
        merges=0,
        additions=0,
        deletions=0,
        files=0,
        reviews=0,
        ai_assisted=ai,
        median_size=size if changes or authors else 0.0,
        kinds={"fix": fixes} if fixes else {},
        authors=authors or ({"ada": changes} if changes else {}),
    )


def weeks(*changes: int) -> list[WeekMetrics]:
    return [week(number, count) for number, count in enumerate(changes, 1)]


def found(key: str, some: Sequence[WeekMetrics], **options: dict[str, str]) -> Insight:
    return next(one for one in find_insights(some, names=options.get("names")) if one.key == key)


def keys(some: Sequence[WeekMetrics], window: Window | None = None) -> list[str]:
    return [insight.key for insight in find_insights(some, window=window)]


# None, one, many


@pytest.mark.parametrize("some", [[], weeks(0), weeks(0, 0, 0)])
def test_without_changes_there_is_one_insight_that_says_so(some: list[WeekMetrics]) -> None:
    assert keys(some) == ["no_changes"]


def test_one_week_has_totals_and_no_trends() -> None:
    assert keys(weeks(5)) == ["busiest_week", "bus_factor", "ai_share", "fix_share"]


def test_two_weeks_have_trends_too() -> None:
    some = [week(1, 2, ai=1), week(2, 4, ai=1)]
    assert keys(some) == [
        "activity_trend", "size_trend", "ai_trend", "busiest_week", "bus_factor", "ai_share", "fix_share"
    ]  # fmt: skip


# Activity


@pytest.mark.parametrize(
    ("changes", "title", "body", "level"),
    [
        (
            (10, 20),
            "Activity is rising",
            "whole week the team made 20 changes a week, 100% more than before (10).",
            "good",
        ),
        (
            (4, 1),
            "Activity is falling",
            "whole week the team made 1 change a week, 75% fewer than before (4).",
            "warning",
        ),
        (
            (4, 0),
            "Activity is falling",
            "whole week the team made no changes a week, 100% fewer than before (4).",
            "warning",
        ),
        (
            (0, 3),
            "Activity has started",
            "whole week the team made 3 changes a week, after none before.",
            "good",
        ),
        (
            (10, 10, 10, 11),
            "Activity is steady",
            "2 whole weeks the team made 10.5 changes a week, about as many as before (10).",
            "info",
        ),
        (
            (10, 99, 20),
            "Activity is rising",
            "whole week the team made 20 changes a week, 100% more than before (10).",
            "good",
        ),
    ],
)
def test_the_trend_of_activity_compares_the_halves(
    changes: tuple[int, ...], title: str, body: str, level: str
) -> None:
    insight = found("activity_trend", weeks(*changes))
    assert (insight.title, insight.body, insight.level) == (title, f"In the last {body}", level)


def test_weeks_that_the_window_cuts_are_in_no_trend() -> None:
    newest = datetime(2026, 3, 4, 12, tzinfo=UTC)
    some = weeks(*(10 for _ in range(9)), 1)
    whole = whole_weeks(some, Window.phase_1(newest))
    assert [one.iso_week for one in whole] == [6, 7, 8, 9]
    steady = next(
        one for one in find_insights(some, window=Window.phase_1(newest)) if one.key == "activity_trend"
    )
    assert steady.title == "Activity is steady"
    assert found("activity_trend", some).evidence["after"] == 8.2


def test_a_week_that_the_window_covers_to_the_second_is_whole() -> None:
    end = datetime(2026, 1, 12, tzinfo=UTC)
    assert len(whole_weeks(weeks(1, 1), Window(end, 0, 6))) == 1
    assert whole_weeks(weeks(1, 1), Window(end - timedelta(seconds=1), 0, 6)) == []


# Size


@pytest.mark.parametrize(
    ("before", "after", "title", "level"),
    [
        (100, 105, "Changes keep their size", "info"),
        (100, 200, "Changes are getting larger", "info"),
        (300, 600, "Changes are getting larger", "warning"),
        (100, 50, "Changes are getting smaller", "good"),
    ],
)
def test_the_trend_of_sizes_warns_of_large_changes(
    before: float, after: float, title: str, level: str
) -> None:
    insight = found("size_trend", [week(1, 2, size=before), week(2, 2, size=after)])
    assert (insight.title, insight.level) == (title, level)
    assert insight.body == (
        f"In the last whole week a typical change had {after} lines, compared with {before} before."
    )


def test_one_line_is_a_line() -> None:
    insight = found("size_trend", [week(1, 2, size=2), week(2, 2, size=1)])
    assert insight.body == "In the last whole week a typical change had 1 line, compared with 2 before."


def test_there_is_no_trend_of_sizes_without_sizes_to_compare() -> None:
    assert "size_trend" not in keys([week(1, 2, size=0), week(2, 2, size=9)])
    assert "size_trend" not in keys([week(1, 2), week(2)])


# AI


def test_the_trend_of_assistance_weighs_weeks_by_their_changes() -> None:
    some = [week(1, 1, ai=1), week(2, 99), week(3, 10, ai=5), week(4, 10, ai=5)]
    insight = found("ai_trend", some)
    assert insight.title == "AI assistance is rising"
    assert insight.body == (
        "In the last 2 whole weeks 50% of changes say that an AI tool helped, compared with 1% before."
    )


def test_assistance_that_falls_or_stays_is_said_so() -> None:
    assert found("ai_trend", [week(1, 10, ai=9), week(2, 10, ai=1)]).title == "AI assistance is falling"
    assert found("ai_trend", [week(1, 100, ai=9), week(2, 100, ai=10)]).title == "AI assistance is steady"


def test_where_no_change_names_a_tool_there_is_no_trend_of_assistance() -> None:
    assert "ai_trend" not in keys(weeks(3, 4))


@pytest.mark.parametrize(
    ("changes", "ai", "body"),
    [
        (3, 0, "No change says that an AI tool helped."),
        (3, 1, "1 of 3 changes (33%) says that an AI tool helped."),
        (1, 1, "1 of 1 change (100%) says that an AI tool helped."),
        (4, 2, "2 of 4 changes (50%) say that an AI tool helped."),
        (1500, 1, "1 of 1,500 changes (less than 1%) says that an AI tool helped."),
        (1500, 1499, "1,499 of 1,500 changes (more than 99%) say that an AI tool helped."),
    ],
)
def test_the_share_of_assistance_is_in_good_grammar(changes: int, ai: int, body: str) -> None:
    assert found("ai_share", [week(1, changes, ai=ai)]).body == body


# Weeks and people


@pytest.mark.parametrize(
    ("some", "body"),
    [
        ([week(1, ada=1)], "December 29, 2025 was the busiest, with 1 change by 1 person."),
        (
            [week(2, 3), week(3, ada=4, bob=1), week(4, 2)],
            "January 12, 2026 was the busiest, with 5 changes by 2 people.",
        ),
        ([week(2, 3), week(3, 3)], "January 12, 2026 was the busiest, with 3 changes by 1 person."),
    ],
)
def test_the_busiest_week_is_the_latest_of_those_with_the_most_changes(
    some: list[WeekMetrics], body: str
) -> None:
    assert found("busiest_week", some).body == f"The week of {body}"


@pytest.mark.parametrize(
    ("authors", "factor", "body"),
    [
        ({"ada": 1}, 1, "ada made the only change. Nobody else made any."),
        ({"ada": 5}, 1, "ada made all 5 changes. Nobody else made any."),
        (
            {"ada": 5, "bob": 5},
            1,
            "ada made 5 of 10 changes (50%). 1 of 2 people is behind at least half of the changes.",
        ),
        (
            {"ada": 4, "bob": 3, "eve": 3},
            2,
            "ada made 4 of 10 changes (40%). 2 of 3 people are behind at least half of the changes.",
        ),
    ],
)
def test_the_bus_factor_is_how_few_people_made_half_of_the_changes(
    authors: dict[str, int], factor: int, body: str
) -> None:
    insight = found("bus_factor", [week(1, **authors)])
    assert insight.evidence["bus_factor"] == factor
    assert insight.body == body
    assert insight.level == ("warning" if factor == 1 else "info")


def test_people_are_called_by_their_names_where_these_are_known() -> None:
    insight = found("bus_factor", weeks(5), names={"ada": "Ada Lovelace"})
    assert insight.body.startswith("Ada Lovelace made all 5 changes.")
    assert insight.evidence["top"] == "ada"


def test_changes_of_one_person_in_several_weeks_are_added_up() -> None:
    insight = found("bus_factor", [week(1, ada=2, bob=3), week(2, ada=2)])
    assert insight.body.startswith("ada made 4 of 7 changes (57%).")


# Fixes


@pytest.mark.parametrize(
    ("fixes", "body", "level"),
    [
        (0, "No change is a fix.", "info"),
        (1, "1 of 5 changes (20%) is a fix.", "info"),
        (2, "2 of 5 changes (40%) are fixes.", "warning"),
    ],
)
def test_many_fixes_are_a_warning(fixes: int, body: str, level: str) -> None:
    insight = found("fix_share", [week(1, 5, fixes=fixes)])
    assert (insight.body, insight.level) == (body, level)


some_weeks = st.lists(
    st.dictionaries(st.sampled_from(["ada", "bob", "eve"]), st.integers(1, 2000), max_size=3), max_size=14
)


@given(some_weeks, st.integers(0, 3000), st.floats(0, 10_000))
def test_any_weeks_give_sentences_with_numbers_that_serialise(
    authors: list[dict[str, int]], ai: int, size: float
) -> None:
    some = [
        week(number, ai=min(ai, sum(who.values())), size=size, **who) for number, who in enumerate(authors, 1)
    ]
    insights = find_insights(some)
    assert len({insight.key for insight in insights}) == len(insights) >= 1
    for insight in insights:
        assert insight.body.endswith(".")
        assert not re.search(r"nan|inf|None|(?<![.,\d])1 (?:changes|people|lines|weeks)\b|  ", insight.body)
        assert json.loads(json.dumps(dict(insight.evidence), allow_nan=False)) == insight.evidence
