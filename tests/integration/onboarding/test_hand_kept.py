"""The lists of ``docs/examples/hand-kept-onboarding.md``: each of their mistakes is impossible, or is found.

What goes wrong while a hand-written pipeline runs, whatever its lists say, is in ``test_hand_written``.
"""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError

from integration import recovery
from integration.entries import Entry
from integration.protocol import later
from statemachine import DeclarationError, StateMachine
from tests.examples import code_of
from tests.oddities.models import HandKept

kept = code_of("hand-kept-onboarding.md")

TEN = [*kept.DISPATCH]
BACKGROUND = [state for state in TEN if state.startswith("background")]
WORKING = [*kept.FIRST, *kept.SECOND]


def found(machine):
    """Each finding, as the property and the state that it is about."""
    return [(finding.property, finding.state) for finding in machine.verify().findings]


def story(path):
    return [(edge.source, edge.trigger, edge.dest) for edge in path.edges]


# What the lists are


def test_ten_states_work_and_every_other_list_forgets_one_that_is_new():
    new = {"syncing_copilot", "background_metrics", "background_insights"}
    assert len(TEN) == 10
    forgotten = [
        *({*TEN} - {*listed} for listed in (kept.CHOICES, kept.IN_PROGRESS, kept.RECOVERABLE)),
        {*BACKGROUND} - {*kept.DASHBOARD},
    ]
    assert all(forgotten)
    assert set.union(*forgotten) == new


def test_the_declaration_is_proved():
    assert found(kept.onboarding) == []
    assert {state.name for state in kept.onboarding.graph if state.works} == {*TEN, "phase1_complete"}


# What is impossible


@pytest.mark.parametrize("state", TEN)
def test_the_choices_cannot_forget_a_state(state):
    field = HandKept._meta.get_field("status")
    field.clean(state, None)
    with pytest.raises(ValidationError):
        field.clean("nowhere", None)


@pytest.mark.parametrize("state", TEN)
def test_an_edge_cannot_lead_to_a_state_that_is_not_declared(state):
    states = [declared for declared in kept.onboarding.graph.by_name if declared != state]
    edges = [[edge.trigger, edge.source, edge.dest] for edge in kept.onboarding.graph.edges]
    with pytest.raises(DeclarationError, match=f"names the state '{state}', which is not declared"):
        StateMachine(name="forgetful", states=states, transitions=edges, initial="not_started")


@pytest.mark.parametrize("state", [*kept.onboarding.graph.by_name])
def test_what_is_in_progress_is_what_has_a_task(state):
    row = HandKept(status=state)
    assert [step.task for step in row.state.steps] == [
        f"kept.{kept.TASKS[name]}" for name in (state,) if name in kept.TASKS
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("state", TEN)
def test_the_recovery_cannot_forget_a_state(state, mailbox):
    mailbox.away = True
    row = HandKept.objects.create(status=state)
    Entry.objects.update(ready_at=later(None, -timedelta(hours=1)), due_at=later(None, -timedelta(hours=1)))
    mailbox.away = False
    assert recovery.sweep().rung == 1
    assert mailbox.tasks == [f"kept.{kept.DISPATCH[state]}"]
    assert row.entries.open().get().state == state


# What is found


@pytest.mark.parametrize("state", TEN)
def test_a_state_that_the_dispatcher_forgets_waits_for_nobody(state):
    assert found(kept.pipeline(no_task=state)) == [("names-who-moves-it", state)]


@pytest.mark.parametrize("state", BACKGROUND)
def test_a_state_that_forgets_the_dashboard_loses_what_is_to_be_kept(state):
    (finding,) = kept.pipeline(no_dashboard=state).verify().findings
    assert (finding.property, finding.level) == ("tag-is-kept", "error")
    assert finding.path.end == state
    assert story(finding.path)[-1][1:] == ("advance", state)


@pytest.mark.parametrize("state", WORKING)
def test_a_state_that_is_not_led_on_from_is_found_with_all_that_it_cuts_off(state):
    findings = found(kept.pipeline(no_way_on=state))
    assert ("finished-stage-moves-on", state) in findings
    cut_off = [*WORKING, "complete"][WORKING.index(state) + 1 :]
    reached_no_more = {name for rule, name in findings if rule == "reachable"}
    assert reached_no_more <= {*cut_off, "background_failed"}
    assert cut_off[0] in reached_no_more or state == "phase1_complete"


def test_a_phase_2_that_fails_back_to_where_it_is_started_is_a_hot_loop():
    (loop,) = kept.pipeline(kept.after_failure).verify().against("no-hot-loop")
    assert (loop.state, loop.level) == ("phase1_complete", "error")
    round_and_round = story(loop.path)[loop.path.loop :]
    assert round_and_round == [
        ("phase1_complete", "advance", "background_syncing"),
        ("background_syncing", "fail", "phase1_complete"),
    ]


def test_the_handler_of_failures_has_one_more_mistake_that_nobody_had_noticed():
    findings = found(kept.pipeline(kept.after_failure))
    assert findings == [("no-hot-loop", "phase1_complete"), ("tag-is-kept", "phase1_complete")]


def test_a_person_between_two_rounds_makes_them_no_hot_loop():
    edges = {(edge.source, edge.dest) for edge in kept.onboarding.graph.edges}
    assert {("background_syncing", "background_failed"), ("background_failed", "background_syncing")} <= edges
    assert kept.onboarding.verify().against("no-hot-loop") == ()
