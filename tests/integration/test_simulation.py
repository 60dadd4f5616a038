"""Everything that can happen to papers, in any order and at any moment, hundreds of times.

The runs are the same each time. More and others: ``ONWARD_RUNS=20000 ONWARD_SEED=7 pytest …``.
A seed that is no number, as ``random``, draws one; a failure prints it.
"""

import os
import random

import pytest
from django.db import connection

from tests.integration.simulation.world import simulate, simulated

PARTS = 5
# Where statements switch, a run has more of them.
USUAL = {"sqlite": 500, "postgresql": 60, "mysql": 60}
RUNS = int(os.environ.get("ONWARD_RUNS", USUAL[connection.vendor]))
SEED = os.environ.get("ONWARD_SEED", "0")


@pytest.mark.django_db(transaction=True)
@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_and_nothing_is_done_twice(part, settings, tally):
    seed = int(SEED) if SEED.isdecimal() else random.SystemRandom().randrange(2**32)
    print(f"ONWARD_SEED={seed}")
    with simulated(settings) as world:
        simulate(world, runs=RUNS // PARTS, seed=seed * PARTS + part)
    tally("simulation runs", RUNS // PARTS)
