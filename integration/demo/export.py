"""What an onboarding found, as plain values: for ``--json``, and to compare two runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from integration.demo.run import Look
from integration.onboarding import store
from integration.onboarding.models import Snapshot, Team
from integration.onboarding.ports import PHASE_1, PHASE_2

__all__ = ["counts", "document", "found", "snapshot", "write"]

CHANGE = [
    "sha",
    "merge",
    "author_email",
    "committed_at",
    "additions",
    "deletions",
    "files",
    "kind",
    "ai_assisted",
]
WEEK = [
    *("iso_year", "iso_week", "changes", "merges", "people", "additions", "deletions", "files", "reviews"),
    *("ai_assisted", "median_size", "kinds", "authors"),
]
ENTRY = [
    *("id", "epoch", "step", "trigger", "source", "state", "task", "attempt", "strikes", "worker"),
    *("entered_at", "left_at", "error", "reason"),
]
TEAM = ["id", "name", "source", "analyst"]
PIPELINE = ["status", "error", "started_at", "completed_at"]


def snapshot(team: Team) -> Snapshot | None:
    """What the stages know of the team as a whole; None when no stage got as far."""
    return Snapshot.objects.filter(team=team).first()


def counts(team: Team) -> dict[str, Any]:
    """How many people, and how many changes and merges in each phase's window."""
    windows = {"phase_1": PHASE_1, "phase_2": PHASE_2}
    members = team.members.count()
    seen = snapshot(team)
    return {
        "people": members,
        "changes": {name: _window(team, seen, days) for name, days in windows.items()},
    }


def _window(team: Team, seen: Snapshot | None, days: tuple[int, int]) -> dict[str, int]:
    if seen is None:
        return {"changes": 0, "merges": 0}
    changes = store.in_window(team, seen.window(*days))
    return {"changes": changes.count(), "merges": changes.filter(merge=True).count()}


def found(team: Team) -> dict[str, Any]:
    """Everything but the team itself, whose keys and instants differ from run to run."""
    people = team.members.order_by("-commits", "email")
    changes = team.changes.order_by("committed_at", "sha")
    seen = snapshot(team)
    return {
        "newest_change_at": seen.newest_change_at if seen is not None else None,
        "counts": counts(team),
        "people": list(people.values("name", "email", "commits")),
        "changes": list(changes.values(*CHANGE)),
        "weeks": list(team.weeks.values(*WEEK)),
        "insights": list(team.insights.values("key", "title", "body", "level", "evidence")),
        "summary": seen.summary if seen is not None else "",
    }


def document(seen: Look) -> dict[str, Any]:
    """The team, what was found, and how it went."""
    about = {name: getattr(seen.team, name) for name in TEAM}
    about |= {name: getattr(seen.team, f"onboarding_pipeline_{name}") for name in PIPELINE}
    entries = [{name: getattr(entry, name) for name in ENTRY} for entry in seen.entries]
    return {"teams": [about], **found(seen.team), "entries": entries}


def write(path: Path, values: Mapping[str, Any]) -> None:
    text = json.dumps(values, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2)
    path.write_text(f"{text}\n", encoding="utf-8")
