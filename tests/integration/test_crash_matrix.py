"""Whatever a process dies of, and wherever, nothing is lost and nothing is done twice."""

import pytest

from tests.integration import crash

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("call", crash.CALLS)
def test_a_crash_at_any_point_loses_nothing_and_does_nothing_twice(call, tally):
    tally("crash points", crash.run_matrix([call]))
