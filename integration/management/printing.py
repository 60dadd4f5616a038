"""How the command says what it found: tables and lines for people, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from integration.audit import Violation
from integration.recovery import Sweep
from integration.status import Health, Standing, age

__all__ = ["COLUMNS", "cells", "counted", "findings_in_lines", "in_json", "swept", "table", "told"]

COLUMNS = ("model", "field", "state", "rows", "overdue", "unanswered", "parked", "oldest", "longest")
_SHOWN = 20


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def cells(standing: Standing, now: datetime) -> tuple[str, ...]:
    """A line of the table; ages are told by the database's clock."""
    numbers = (standing.rows, standing.overdue, standing.unanswered, standing.parked)
    names = (standing.model, standing.field, standing.state)
    longest = age(standing.longest, now) if standing.longest else "-"
    return (*names, *map(str, numbers), age(standing.oldest, now), longest)


def told(done: Sweep) -> str:
    told = f"{done.rung} rung, {done.adopted} adopted"
    return f"{told}, {done.unsent} could not be sent" if done.unsent else told


def swept(health: Health) -> str:
    """When a worker swept last."""
    if health.swept is None:
        return "No worker has swept here yet."
    return f"A worker swept {age(health.swept, health.now)} ago."


def findings_in_lines(findings: Iterable[Violation]) -> Iterator[str]:
    """Violations in full, of notices the first ones; each hint once."""
    hints: set[str] = set()
    notices: Counter[str] = Counter()
    for finding in findings:
        notices[finding.invariant] += finding.level == "notice"
        if finding.level == "notice" and notices[finding.invariant] > _SHOWN:
            continue
        yield f"{finding.level}: {finding}"
        if finding.hint and finding.hint not in hints:
            hints.add(finding.hint)
            yield f"  Hint: {finding.hint}"
    for invariant, number in notices.items():
        if number > _SHOWN:
            yield f"notice: {invariant}: {number - _SHOWN} more"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: ``1 row``, ``2 rows``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def in_json(value: Any) -> str:
    """A document that programs read: instants in ISO 8601, durations in seconds."""
    return json.dumps(value, default=_plain, indent=2, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return asdict(value)
