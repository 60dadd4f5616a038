"""The real team, its real entries, any order of events: `complete` is always still to be reached."""

import itertools

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from integration import recovery
from integration.onboarding.machine import onboarding
from integration.onboarding.models import Team
from integration.tasks import PermanentFailure
from tests.integration.onboarding.mailbox import bodies, mailbox

TASKS = sorted({step.task for state in onboarding.graph for step in state.steps})
STATES = [state.name for state in onboarding.graph]


def finish(stage):
    with stage.finish():
        pass


def give_up(stage):
    raise PermanentFailure("the repository is gone")


def stumble(stage):
    raise ConnectionError("the line is bad")


class Stopped(SystemExit):
    """The worker was told to stop."""


def vanish(stage):
    raise Stopped


events = st.one_of(
    st.sampled_from(["start", "retry", "restart", "lose", "double", "sweep"]),
    st.tuples(st.just("deliver"), st.sampled_from([finish, finish, give_up, stumble, vanish])),
    st.tuples(st.just("to_state"), st.sampled_from(STATES)),
    st.tuples(st.just("raw"), st.sampled_from(STATES)),
)


@pytest.mark.slow
class Walk(TestCase):
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(events, max_size=25))
    def test_complete_is_reached_from_wherever_a_walk_ends(self, walk):
        with mailbox() as box:
            team = Team.objects.create(name="Walk", source="nowhere")
            for event in walk:
                self.happen(box, team.pk, event)
            note(f"the walk ended in {Team.objects.get(pk=team.pk).onboarding_pipeline_status}")
            self.finish(box, team.pk)
        team.refresh_from_db()
        assert team.onboarding_pipeline_status == "complete"
        self.check_history(team)

    def happen(self, box, pk, event):
        team = Team.objects.get(pk=pk)
        match event:
            case ("deliver", body):
                self.deliver(box, body)
            case ("to_state", state):
                team.update_pipeline_status(state, reason="the walk")
            case ("raw", state):
                # A plain query set, as another program would: nothing of the library sees it.
                raw_update(pk, state)
            case "lose":
                del box.commit()[:]
            case "double":
                box.messages += box.commit()[:1]
            case "sweep":
                overdue()
                recovery.sweep()
                recovery.scan()
            case trigger if getattr(team, f"may_{trigger}")():
                stale = not agrees(team)
                try:
                    getattr(team, trigger)()
                except Exception:
                    assert stale, "only a row that was moved behind the library's back may refuse"

    def deliver(self, box, body):
        if not box.commit():
            return
        with bodies(**{task.removeprefix("onboarding."): body for task in TASKS}):
            try:
                box.deliver()
            except Stopped:
                assert body is vanish

    def finish(self, box, pk):
        """Faults off: a person moves what waits for a person, and workers work."""
        with bodies(**{task.removeprefix("onboarding."): finish for task in TASKS}):
            for _ in range(len(STATES)):
                overdue()
                recovery.sweep()
                recovery.scan(everything=True)
                box.deliver_all()
                team = Team.objects.get(pk=pk)
                if team.onboarding_pipeline_status == "complete":
                    return
                for trigger in ("start", "retry", "restart"):
                    if (
                        trigger in onboarding.triggers_from(team.onboarding_pipeline_status)
                        and getattr(team, trigger)()
                    ):
                        break

    def check_history(self, team):
        entries = list(team.entries.order_by("epoch", "step"))
        edges = {(e.source, e.trigger, e.dest) for e in onboarding.graph.edges}
        assert sum(entry.open is True for entry in entries) == 1
        for before, after in itertools.pairwise(entries):
            assert after.epoch > before.epoch or (after.epoch, after.step) == (before.epoch, before.step + 1)
            if after.trigger not in ("to_state", "adopted", "step"):
                assert (after.source, after.trigger, after.state) in edges
                assert after.epoch == before.epoch + 1


def raw_update(pk, state):
    from django.db.models import QuerySet

    QuerySet(Team).filter(pk=pk).update(onboarding_pipeline_status=state)


def agrees(team):
    entry = team.entries.open().first()
    return entry is not None and (entry.state, entry.epoch) == (
        team.onboarding_pipeline_status,
        team.onboarding_pipeline_status_epoch,
    )


def overdue():
    """Let every grace, lease and backoff be over."""
    from datetime import UTC, datetime

    from integration.entries import Entry

    past = datetime(2020, 1, 1, tzinfo=UTC)
    Entry.objects.open().filter(due_at__isnull=False).update(due_at=past, ready_at=past)


@pytest.mark.django_db
@pytest.mark.parametrize("state", STATES)
def test_complete_is_reached_from_every_state_by_the_real_stages(state, team):
    with mailbox() as box:
        team.start()
        box.deliver()  # the members, and the instant that days are counted from
        team.refresh_from_db()
        team.update_pipeline_status(state, reason="start here")
        for _ in range(4):
            box.deliver_all()
            team.refresh_from_db()
            if team.onboarding_pipeline_status == "complete":
                break
            move = next(t for t in ("start", "retry", "restart") if getattr(team, f"may_{t}")())
            getattr(team, move)()
    assert team.onboarding_pipeline_status == "complete"
