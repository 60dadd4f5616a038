"""The real team and its real stages: `complete` is reached, and an interruption makes no difference."""

import unittest

import pytest

from integration.onboarding.machine import onboarding
from integration.onboarding.models import Team
from integration.testing import pipeline_test
from tests.integration.onboarding.mailbox import mailbox

STATES = [state.name for state in onboarding.graph]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("test", ["from_every_state", "interrupted"])
def test_the_real_stages_pass_the_pipeline_test(test, grown_repository):
    tried = pipeline_test(
        Team,
        "onboarding_pipeline_status",
        create=lambda: Team.objects.create(name="Grown", source=str(grown_repository.path)),
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
        team.update_pipeline_status(state, reason="start here")
        for _ in range(4):
            box.deliver_all()
            team.refresh_from_db()
            if team.onboarding_pipeline_status == "complete":
                break
            move = next(t for t in ("start", "retry", "restart") if getattr(team, f"may_{t}")())
            getattr(team, move)()
    assert team.onboarding_pipeline_status == "complete"
