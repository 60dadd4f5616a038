"""The onboarding of a team, in two phases. No Django: it can be proved and drawn by itself.

Phase 1 reads the last 31 days, until there is a dashboard to show. Phase 2 reads the two months before, in
the background. What a state means to the rest of the application is said here, once:

* the tag ``dashboard``: the team sees its dashboard;
* the tag ``running``: work is going on, or about to;
* the phase: which of the two it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

from statemachine import Enqueue, State, StateMachine
from statemachine.logic import Property, eventually, leads_to

from .ports import PHASE_1, PHASE_2

__all__ = ["onboarding"]

FIRST, SECOND = "Phase 1", "Phase 2"
A_PERSON = "a person"


def _task(name: str, *, days: tuple[int, int] | None = None, max_runtime: timedelta | None = None) -> Enqueue:
    window = {} if days is None else {"first_day": days[0], "last_day": days[1]}
    return Enqueue(f"onboarding.{name}", kwargs=window, max_runtime=max_runtime or timedelta(minutes=30))


def failed_in(state: str) -> Callable[[Any], bool]:
    """A guard: the open entry came from that state."""

    def guard(event: Any) -> bool:
        return bool(event.model.failed_in == state)

    guard.__name__ = f"failed_in_{state}"
    return guard


_METRICS = _task("aggregate_weekly_metrics")
_INSIGHTS = [_task("compute_insights"), _task("generate_llm_insights")]

STATES = [
    State("not_started", label="Not started", waits_for="the team", phase=FIRST),
    State(
        "syncing_members",
        label="Syncing members",
        on_enter=_task("sync_members"),
        phase=FIRST,
        tags=["running"],
        stamps="onboarding_pipeline_started_at",
    ),
    State(
        "syncing",
        label="Syncing",
        on_enter=_task("sync_history", days=PHASE_1, max_runtime=timedelta(hours=2)),
        phase=FIRST,
        tags=["running"],
    ),
    State(
        "llm_processing",
        label="Analysing",
        on_enter=_task("analyse_changes", days=PHASE_1, max_runtime=timedelta(hours=2)),
        phase=FIRST,
        tags=["running"],
    ),
    State("computing_metrics", label="Computing metrics", on_enter=_METRICS, phase=FIRST, tags=["running"]),
    State(
        "computing_insights", label="Computing insights", on_enter=_INSIGHTS, phase=FIRST, tags=["running"]
    ),
    State(
        "phase1_complete",
        label="Dashboard ready",
        on_enter=_task("start_phase2"),
        phase=FIRST,
        tags=["dashboard", "running"],
    ),
    State(
        "background_syncing",
        label="Background: syncing",
        on_enter=_task("sync_history", days=PHASE_2, max_runtime=timedelta(hours=4)),
        phase=SECOND,
        tags=["dashboard", "running"],
    ),
    State(
        "background_llm",
        label="Background: analysing",
        on_enter=[
            _task("analyse_changes", days=PHASE_2, max_runtime=timedelta(hours=4)),
            _METRICS,
            *_INSIGHTS,
        ],
        phase=SECOND,
        tags=["dashboard", "running"],
    ),
    State(
        "complete",
        label="Complete",
        final=True,
        tags=["dashboard"],
        stamps="onboarding_pipeline_completed_at",
    ),
    # Phase 1 has nothing to show yet, so it fails visibly; phase 2 keeps the dashboard and waits beside it.
    State("failed", label="Failed", waits_for=A_PERSON),
    State("background_failed", label="Background: failed", waits_for=A_PERSON, tags=["dashboard"]),
]

IN_ORDER = [state.name for state in STATES if state.name not in ("failed", "background_failed")]
BEFORE_DASHBOARD = [state.name for state in STATES if state.steps and "dashboard" not in state.tags]
WITH_DASHBOARD = [state.name for state in STATES if state.steps and "dashboard" in state.tags]

_keeping_the_error = {"before": "keep_error", "writes": "onboarding_pipeline_error"}
_clearing_the_error = {"before": "clear_error", "writes": "onboarding_pipeline_error"}


def _retry(failed: str, working: str) -> dict[str, Any]:
    guard = failed_in(working)
    return {"trigger": "retry", "source": failed, "dest": working, "conditions": guard, **_clearing_the_error}


TRANSITIONS: list[dict[str, Any]] = [
    {"trigger": "start", "source": "not_started", "dest": "syncing_members"},
    *({"trigger": "advance", "source": a, "dest": b} for a, b in pairwise(IN_ORDER[1:])),
    {"trigger": "fail", "source": BEFORE_DASHBOARD, "dest": "failed", **_keeping_the_error},
    {"trigger": "fail", "source": WITH_DASHBOARD, "dest": "background_failed", **_keeping_the_error},
    *(_retry("failed", working) for working in BEFORE_DASHBOARD),
    *(_retry("background_failed", working) for working in WITH_DASHBOARD),
    {"trigger": "restart", "source": "failed", "dest": "syncing_members", **_clearing_the_error},
    {
        "trigger": "restart",
        "source": "background_failed",
        "dest": "background_syncing",
        **_clearing_the_error,
    },
]

PROPERTIES = [
    Property("AG(dashboard -> AG dashboard)", name="the-dashboard-stays"),
    Property('AG(phase:"Phase 2" | background_failed -> dashboard)', name="phase-2-has-a-dashboard"),
    leads_to("running", "~running", name="work-comes-to-an-end"),
    leads_to("failed", "dashboard", name="a-retried-team-gets-its-dashboard"),
    eventually("complete", name="onboarding-is-completed"),
]

onboarding = StateMachine(
    name="onboarding",
    states=STATES,
    transitions=TRANSITIONS,
    initial="not_started",
    goal="complete",
    keeps=["dashboard"],
    properties=PROPERTIES,
)
