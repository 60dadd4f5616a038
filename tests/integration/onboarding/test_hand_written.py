"""The ways in which hand-written pipelines of this kind go wrong; each is a test that this one does not."""

import ast
import inspect
from datetime import UTC, datetime

import pytest

import integration.onboarding
from integration import recovery
from integration.entries import Entry
from integration.onboarding import store
from integration.onboarding.machine import onboarding
from integration.onboarding.models import Team
from integration.stage import Outcome
from integration.tasks import PermanentFailure
from statemachine import StaleState, TransitionNotAllowed
from tests.integration.onboarding.mailbox import bodies, mailbox

pytestmark = pytest.mark.django_db

PAST = datetime(2020, 1, 1, tzinfo=UTC)


def make_overdue():
    Entry.objects.open().filter(due_at__isnull=False).update(due_at=PAST, ready_at=PAST)


def status(team):
    return Team.objects.get(pk=team.pk).onboarding_pipeline_status


def run_until(box, team, state):
    while status(team) != state:
        box.deliver()


def test_no_list_of_states_stands_anywhere_but_in_the_machine():
    """Status lists drift apart: no other module of the app so much as names a state."""
    names = set(onboarding.graph.by_name) - {"failed", "complete"}  # also ordinary words
    for module in ("models", "tasks", "store", "admin"):
        __import__(f"integration.onboarding.{module}")
        source = inspect.getsource(getattr(integration.onboarding, module))
        strings = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}
        assert names & {s for s in strings if isinstance(s, str)} == set(), module


@pytest.mark.parametrize("state", [state.name for state in onboarding.graph])
def test_what_a_team_may_see_and_what_runs_is_what_its_state_declares(state):
    team = Team(onboarding_pipeline_status=state)
    declared = onboarding.graph[state]
    assert team.dashboard_accessible is ("dashboard" in declared.tags)
    assert team.pipeline_in_progress is declared.works
    assert team.background_in_progress is (declared.works and declared.phase == "Phase 2")


def test_the_dashboard_is_never_lost_in_phase_2(team):
    seen = []
    with mailbox() as box:
        team.start()
        run_until(box, team, "phase1_complete")
        while box.commit():
            seen.append(Team.objects.get(pk=team.pk).dashboard_accessible)
            box.deliver()
    assert status(team) == "complete"
    assert len(seen) == 6
    assert all(seen)


def test_a_failing_phase_2_keeps_the_dashboard_and_its_rows(team):
    def fail(stage):
        raise PermanentFailure("the analyst is gone")

    with mailbox() as box:
        team.start()
        run_until(box, team, "background_llm")
        weeks, insights = team.weeks.count(), team.insights.count()
        with bodies(analyse_changes=fail):
            box.deliver_all()
    team = Team.objects.get(pk=team.pk)
    assert team.onboarding_pipeline_status == "background_failed"
    assert team.onboarding_pipeline_error == "the analyst is gone"
    assert team.dashboard_accessible
    assert not team.pipeline_in_progress
    assert (team.weeks.count(), team.insights.count()) == (weeks, insights)
    assert weeks > 0 < insights


def test_a_failing_phase_2_does_not_restart_itself(team):
    attempts = []

    def fail(stage):
        attempts.append(stage.attempt)
        raise PermanentFailure("again")

    with mailbox() as box, bodies(start_phase2=fail):
        team.start()
        box.deliver_all()
        for _ in range(5):
            make_overdue()
            recovery.sweep()
            recovery.scan(everything=True)
            box.deliver_all()
        assert status(team) == "background_failed"
        assert attempts == [1]
        team.refresh_from_db()
        assert team.retry()
        box.deliver_all()
    assert attempts == [1, 1]


def test_recovery_starts_no_second_pipeline_beside_the_first(team):
    runs = []

    def counted(stage):
        runs.append(stage.idempotency_key)
        real_body(stage)

    from integration import stage as stages

    real_body = stages.bodies["onboarding.sync_history"]
    with mailbox() as box, bodies(sync_history=counted):
        team.start()
        run_until(box, team, "syncing")
        for _ in range(5):  # an impatient operator, and two sweeps, while the message is on its way
            make_overdue()
            recovery.sweep()
            recovery.scan(everything=True)
        assert len(box.commit()) > 1
        box.deliver_all()
    assert status(team) == "complete"
    assert len(runs) == len(set(runs)) == 2  # days 0 to 30, and days 31 to 90
    assert team.entries.open().count() == 1


def test_a_long_stage_is_not_stuck_however_old_its_row_is(team):
    """Stuck is judged by the entry's lease, not by when the row was last saved."""
    seen = []

    def work(stage):
        stage.progress(1, 2)
        Team.objects.filter(pk=stage.row.pk).update(name="saved long ago")
        seen.append(recovery.sweep())
        seen.append(Team.objects.overdue().count())

    with mailbox() as box, bodies(sync_members=work):
        team.start()
        box.deliver()
        assert seen == [recovery.Sweep(), 0]
        make_overdue()
        assert Team.objects.overdue().count() == 1


def test_a_late_worker_does_not_move_a_finished_team_backwards(team):
    with mailbox() as box:
        team.start()
        late = box.commit()[0]

        def zombie(stage):
            """Its lease runs out while it works; its successor takes the team to the end."""
            make_overdue()
            recovery.sweep()
            with bodies(sync_members=real):
                box.deliver_all()
            assert status(team) == "complete"
            with stage.finish():
                store.start_over(stage.row, PAST)

        from integration import stage as stages

        real = stages.bodies["onboarding.sync_members"]
        with bodies(sync_members=zombie):
            assert box.hand(late) is Outcome.SUPERSEDED
        assert box.hand(late) is Outcome.DROPPED
        stale = Team.objects.get(pk=team.pk)
        stale.__dict__.update(onboarding_pipeline_status="syncing", onboarding_pipeline_status_epoch=2)
        with pytest.raises(TransitionNotAllowed):
            stale.advance()
        with pytest.raises(StaleState):
            stale.update_pipeline_status("failed", reason="a list that was read an hour ago")
    assert status(team) == "complete"
    assert team.changes.count() > 0


class Stopped(SystemExit):
    """The worker was told to stop."""


def test_a_crash_between_the_two_insight_steps_resumes_at_the_second(team):
    ran = []

    def die(stage):
        ran.append("words")
        raise Stopped

    from integration import stage as stages

    first = stages.bodies["onboarding.compute_insights"]

    def facts(stage):
        ran.append("facts")
        first(stage)

    with mailbox() as box:
        team.start()
        run_until(box, team, "computing_insights")
        with bodies(compute_insights=facts, generate_llm_insights=die):
            box.deliver()
            with pytest.raises(Stopped):
                box.deliver()
        assert status(team) == "computing_insights"
        assert team.entries.open().get().task == "onboarding.generate_llm_insights"
        make_overdue()
        recovery.sweep()
        with bodies(compute_insights=facts):
            run_until(box, team, "phase1_complete")
    assert ran == ["facts", "words"]
    assert Team.objects.get(pk=team.pk).snapshot.summary


def test_a_stale_save_does_not_write_the_status_back(team):
    stale = Team.objects.get(pk=team.pk)
    with mailbox() as box:
        team.start()
        run_until(box, team, "syncing")
        stale.name = "Renamed in a form that was opened before"
        stale.save()
        box.deliver_all()
    team.refresh_from_db()
    assert team.name.startswith("Renamed")
    assert team.onboarding_pipeline_status == "complete"


def test_an_enqueue_that_failed_is_not_forgotten(team):
    with mailbox() as box:
        box.broken = True
        team.start()
        box.commit()
        assert status(team) == "syncing_members"
        assert box.messages == []
        box.broken = False
        make_overdue()
        from integration.dispatch import circuit

        circuit.reset()
        assert recovery.sweep().rung == 1
        box.deliver_all()
    assert status(team) == "complete"
