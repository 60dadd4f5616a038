"""The real team and its real stages: `complete` is reached, and an interruption makes no difference."""

import unittest

import pytest

from integration.onboarding.adapters import source_for
from integration.onboarding.machine import onboarding
from integration.onboarding.models import Snapshot, Team
from integration.testing import pipeline_test
from tests.integration.onboarding.mailbox import mailbox

STATES = [state.name for state in onboarding.graph]


def synced(repository):
    """A team that was synced once: put into the second phase by hand, no other would ever leave it."""
    team = Team.objects.create(name="Grown", source=str(repository.path))
    Snapshot.objects.create(team=team, newest_change_at=source_for(team.source).newest())
    return team


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("test", ["from_every_state", "interrupted"])
def test_the_real_stages_pass_the_pipeline_test(test, grown_repository):
    tried = pipeline_test(
        Team,
        "onboarding_pipeline_status",
        create=lambda: synced(grown_repository),
        faults=["crash"],
    )
    name = next(n for n in unittest.defaultTestLoader.getTestCaseNames(tried) if test in n)
    result = unittest.TestResult()
    unittest.TestSuite([tried(name)]).run(result)
    assert [text for _, text in [*result.failures, *result.errors]] == []


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
