"""What the weekly metrics say, in words. Pure functions: the same weeks give the same sentences.

A trend compares the later half of the whole weeks with the earlier half; with an odd number the middle week
is in neither. Weeks that the window cuts are left out of trends, or every trend would end with a fall.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from statistics import mean

from .metrics import WeekMetrics
from .ports import Evidence, Insight, Level, Window

__all__ = ["find_insights", "whole_weeks"]

# Less than this is noise, not a trend.
STEADY = 0.10
STEADY_POINTS = 0.05

MANY_FIXES = 0.40
LARGE_CHANGE = 400

NO_CHANGES = Insight(
    "no_changes",
    "No changes",
    "There are no changes in this period, so there is nothing to compare.",
    evidence={"changes": 0},
)


def find_insights(
    weeks: Sequence[WeekMetrics], *, window: Window | None = None, names: Mapping[str, str] | None = None
) -> list[Insight]:
    """At most one insight per key, always in the same order; with no changes the one that says so.

    Args:
        weeks: In order, without gaps, as `weekly` gives them.
        window: What the weeks were read from. Without it every week counts as whole.
        names: What to call people, by email; who is not in it is called by the email.
    """
    if not any(week.changes for week in weeks):
        return [NO_CHANGES]
    whole = whole_weeks(weeks, window) if window else list(weeks)
    return [*_trends(whole), *_totals(weeks, names or {})]


def whole_weeks(weeks: Sequence[WeekMetrics], window: Window) -> list[WeekMetrics]:
    """Those that the window covers from Monday to Sunday."""
    return [week for week in weeks if window.start <= _begin(week) and _begin(week, weeks=1) <= window.end]


def _begin(week: WeekMetrics, weeks: int = 0) -> datetime:
    return datetime.combine(week.monday + timedelta(weeks=weeks), time(), UTC)


def _trends(weeks: Sequence[WeekMetrics]) -> Iterator[Insight]:
    half = len(weeks) // 2
    if not half or not any(week.changes for week in weeks):
        return
    before, after = weeks[:half], weeks[-half:]
    yield _activity(before, after)
    yield from _size_trend(before, after)
    yield from _ai_trend(before, after)


def _totals(weeks: Sequence[WeekMetrics], names: Mapping[str, str]) -> Iterator[Insight]:
    yield _busiest(weeks)
    yield _knowledge(weeks, names)
    yield _ai_share(weeks)
    yield _fixes(weeks)


def _activity(before: Sequence[WeekMetrics], after: Sequence[WeekMetrics]) -> Insight:
    old, new = (mean(week.changes for week in half) for half in (before, after))
    change = (new - old) / old if old else None
    title, words, level = _direction(old, change)
    made = f"{_number(new)} {_noun(new, 'change')}" if new else "no changes"
    body = f"In the last {_span(len(after))} the team made {made} a week, {words}."
    return Insight("activity_trend", title, body, level, {"before": old, "after": new, "change": change})


def _direction(old: float, change: float | None) -> tuple[str, str, Level]:
    if change is None:
        return "Activity has started", "after none before", "good"
    if abs(change) < STEADY:
        return "Activity is steady", f"about as many as before ({_number(old)})", "info"
    if change > 0:
        return "Activity is rising", f"{_percent(change)} more than before ({_number(old)})", "good"
    return "Activity is falling", f"{_percent(-change)} fewer than before ({_number(old)})", "warning"


def _size_trend(before: Sequence[WeekMetrics], after: Sequence[WeekMetrics]) -> Iterator[Insight]:
    old, new = _typical_size(before), _typical_size(after)
    if not old or new is None:
        return
    change = (new - old) / old
    title, level = _growth(change, new)
    size = f"{_number(new)} {_noun(new, 'line')}"
    body = (
        f"In the last {_span(len(after))} a typical change had {size}, compared with {_number(old)} before."
    )
    yield Insight("size_trend", title, body, level, {"before": old, "after": new, "change": change})


def _growth(change: float, size: float) -> tuple[str, Level]:
    if abs(change) < STEADY:
        return "Changes keep their size", "info"
    if change < 0:
        return "Changes are getting smaller", "good"
    return "Changes are getting larger", "warning" if size > LARGE_CHANGE else "info"


def _typical_size(weeks: Sequence[WeekMetrics]) -> float | None:
    """The mean of the weeks' medians; None when no week has changes."""
    sizes = [week.median_size for week in weeks if week.changes]
    return mean(sizes) if sizes else None


def _ai_trend(before: Sequence[WeekMetrics], after: Sequence[WeekMetrics]) -> Iterator[Insight]:
    old, new = _share_of_ai(before), _share_of_ai(after)
    if old is None or new is None or not (old or new):
        return
    points = new - old
    direction = "rising" if points > 0 else "falling"
    body = (
        f"In the last {_span(len(after))} {_percent(new)} of changes say that an AI tool helped, "
        f"compared with {_percent(old)} before."
    )
    title = f"AI assistance is {'steady' if abs(points) < STEADY_POINTS else direction}"
    yield Insight("ai_trend", title, body, "info", {"before": old, "after": new, "points": points})


def _share_of_ai(weeks: Sequence[WeekMetrics]) -> float | None:
    changes = sum(week.changes for week in weeks)
    return sum(week.ai_assisted for week in weeks) / changes if changes else None


def _busiest(weeks: Sequence[WeekMetrics]) -> Insight:
    # Of equally busy weeks the latest is the one that people remember.
    best = max(weeks, key=lambda week: (week.changes, week.monday))
    body = (
        f"The week of {best.monday:%B} {best.monday.day}, {best.monday.year} was the busiest, with "
        f"{_count(best.changes, 'change')} by {_count(best.people, 'person', 'people')}."
    )
    evidence: Evidence = {"monday": best.monday.isoformat(), "changes": best.changes, "people": best.people}
    return Insight("busiest_week", "Busiest week", body, "info", evidence)


def _knowledge(weeks: Sequence[WeekMetrics], names: Mapping[str, str]) -> Insight:
    ranked = _by_changes(weeks)
    (top, most), total = ranked[0], sum(count for _, count in ranked)
    factor = _bus_factor([count for _, count in ranked])
    alone = factor == 1
    who = names.get(top) or top or "Somebody without an address"
    evidence: Evidence = {
        "bus_factor": factor,
        "people": len(ranked),
        "top": top,
        "top_share": most / total,
        "changes": total,
    }
    return Insight(
        "bus_factor",
        "One person carries half of the work or more" if alone else f"{factor} people carry half of the work",
        f"{who} made {_part(most, total)}. {_carried_by(factor, len(ranked))}",
        "warning" if alone else "info",
        evidence,
    )


def _by_changes(weeks: Sequence[WeekMetrics]) -> list[tuple[str, int]]:
    made = Counter[str]()
    for week in weeks:
        made.update(week.authors)
    return sorted(made.items(), key=lambda item: (-item[1], item[0]))


def _bus_factor(counts: Sequence[int]) -> int:
    """How few people made at least half of the changes; counts from the largest down."""
    sofar = 0
    for people, count in enumerate(counts, 1):
        sofar += count
        if 2 * sofar >= sum(counts):
            return people
    return 0


def _part(count: int, total: int) -> str:
    if count == total:
        return f"all {total} changes" if total > 1 else "the only change"
    return _of(count, total)


def _carried_by(factor: int, people: int) -> str:
    if people == 1:
        return "Nobody else made any."
    verb = "is" if factor == 1 else "are"
    return f"{factor:,} of {_count(people, 'person', 'people')} {verb} behind at least half of the changes."


def _ai_share(weeks: Sequence[WeekMetrics]) -> Insight:
    total = sum(week.changes for week in weeks)
    ai = sum(week.ai_assisted for week in weeks)
    verb = "says" if ai == 1 else "say"
    body = (
        f"{_of(ai, total)} {verb} that an AI tool helped." if ai else "No change says that an AI tool helped."
    )
    evidence: Evidence = {"ai_assisted": ai, "changes": total, "share": ai / total}
    return Insight("ai_share", "AI assistance", body, "info", evidence)


def _fixes(weeks: Sequence[WeekMetrics]) -> Insight:
    total = sum(week.changes for week in weeks)
    fixes = sum(week.kinds.get("fix", 0) for week in weeks)
    many = fixes / total >= MANY_FIXES
    verb = "is a fix" if fixes == 1 else "are fixes"
    body = f"{_of(fixes, total)} {verb}." if fixes else "No change is a fix."
    title = "Much of the work is fixing" if many else "Share of fixes"
    evidence: Evidence = {"fixes": fixes, "changes": total, "share": fixes / total}
    return Insight("fix_share", title, body, "warning" if many else "info", evidence)


def _of(count: int, total: int) -> str:
    return f"{count:,} of {_count(total, 'change')} ({_percent(count / total)})"


def _span(weeks: int) -> str:
    return "whole week" if weeks == 1 else f"{weeks} whole weeks"


def _count(count: int, one: str, many: str = "") -> str:
    return f"{_number(count)} {_noun(count, one, many)}"


def _noun(count: float, one: str, many: str = "") -> str:
    return one if _number(count) == "1" else many or one + "s"


def _number(value: float) -> str:
    """One decimal where there is one, none for whole numbers: 3, 2.5, 1,204."""
    return f"{round(value, 1):,.1f}".removesuffix(".0")


def _percent(share: float) -> str:
    """Never 0 % for something, nor 100 % for less than all."""
    if 0 < share < 0.01:
        return "less than 1%"
    if 0.99 < share < 1:
        return "more than 99%"
    return f"{share:,.0%}"
