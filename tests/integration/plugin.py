"""Fixtures of the integration's tests."""

import pytest


@pytest.fixture
def bodies():
    """What the papers' tasks do, by name; and what ran, in order."""
    from tests.papers import tasks

    tasks.bodies.clear()
    tasks.runs.clear()
    yield tasks.bodies
    tasks.bodies.clear()


@pytest.fixture
def runs(bodies):
    from tests.papers import tasks

    return tasks.runs
