"""The shape of the onboarding, asserted once: it is part of the product."""

from integration.onboarding.machine import onboarding
from statemachine.verify import PROPERTIES

HAPPY = [
    "not_started",
    "syncing_members",
    "syncing",
    "llm_processing",
    "computing_metrics",
    "computing_insights",
    "phase1_complete",
    "background_syncing",
    "background_llm",
    "complete",
]


def test_the_happy_path_is_the_designed_one():
    edges = {
        (e.source, e.trigger, e.dest) for e in onboarding.graph.edges if e.trigger in ("start", "advance")
    }
    triggers = ["start", *["advance"] * 8]
    assert edges == set(zip(HAPPY, triggers, HAPPY[1:], strict=False))


def test_phase_1_fails_into_failed_and_phase_2_beside_the_dashboard():
    fails = {e.source: e.dest for e in onboarding.graph.edges if e.trigger == "fail"}
    assert fails == dict.fromkeys(HAPPY[1:6], "failed") | dict.fromkeys(HAPPY[6:9], "background_failed")


def test_restart_starts_over_and_never_takes_the_dashboard_away():
    restarts = {(e.source, e.dest) for e in onboarding.graph.edges if e.trigger == "restart"}
    assert restarts == {("failed", "syncing_members"), ("background_failed", "background_syncing")}
    assert len(onboarding.graph.edges) == 27


def test_retry_leads_back_to_every_state_that_can_fail_and_nowhere_else():
    retries = {(e.source, e.dest, e.guards) for e in onboarding.graph.edges if e.trigger == "retry"}
    phase_1 = {("failed", state, (f"failed_in_{state}",)) for state in HAPPY[1:6]}
    phase_2 = {("background_failed", state, (f"failed_in_{state}",)) for state in HAPPY[6:9]}
    assert retries == phase_1 | phase_2


def test_the_dashboard_stays_visible_whatever_edge_is_taken():
    graph = onboarding.graph
    shown = set(graph.tagged("dashboard"))
    lost = [str(edge) for edge in graph.edges if edge.source in shown and edge.dest not in shown]
    assert shown == {
        "phase1_complete",
        "background_syncing",
        "background_llm",
        "complete",
        "background_failed",
    }
    assert lost == []


def test_every_state_that_works_is_running_and_no_other():
    assert set(onboarding.graph.tagged("running")) == {s.name for s in onboarding.graph if s.works}


def test_the_tasks_of_every_state_are_the_designed_ones():
    steps = {
        state.name: [str(step).removeprefix("onboarding.") for step in state.steps]
        for state in onboarding.graph
        if state.works
    }
    assert steps == {
        "syncing_members": ["sync_members"],
        "syncing": ["sync_history(first_day=0, last_day=30)"],
        "llm_processing": ["analyse_changes(first_day=0, last_day=30)"],
        "computing_metrics": ["aggregate_weekly_metrics"],
        "computing_insights": ["compute_insights", "generate_llm_insights"],
        "phase1_complete": ["start_phase2"],
        "background_syncing": ["sync_history(first_day=31, last_day=90)"],
        "background_llm": [
            "analyse_changes(first_day=31, last_day=90)",
            "aggregate_weekly_metrics",
            "compute_insights",
            "generate_llm_insights",
        ],
    }


def test_the_graph_is_proved_without_a_finding():
    report = onboarding.verify()
    assert report.findings == ()
    assert [name for name, _ in report.checked[len(PROPERTIES) :]] == [
        "the-dashboard-stays",
        "phase-2-has-a-dashboard",
        "work-comes-to-an-end",
        "a-retried-team-gets-its-dashboard",
        "onboarding-is-completed",
    ]
    assert report.ok
