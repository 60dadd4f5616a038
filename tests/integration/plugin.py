"""Fixtures of the integration's tests."""

import uuid

import pytest
from celery import Celery


def pytest_configure(config):
    """Send what no test listens to nowhere: the usual broker may be there, and somebody's."""
    app = Celery("tests", broker="memory://", set_as_current=False)
    app.conf.update(
        task_default_queue="unheard",
        imports=["tests.papers.tasks", "tests.oddities.tasks", "integration.onboarding.tasks"],
    )
    app.set_default()


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


class Mailbox:
    """A broker that a test holds in its hand: it keeps messages, or is away."""

    def __init__(self):
        self.messages, self.away = [], False

    def publish(self, message):
        if self.away:
            raise ConnectionError("the broker is away")
        self.messages.append(message)

    @property
    def tasks(self):
        return [message.task for message in self.messages]


@pytest.fixture
def mailbox():
    """What carries the messages of this test."""
    from integration.dispatch import set_publisher

    box = Mailbox()
    before = set_publisher(box)
    yield box
    set_publisher(before)


@pytest.fixture
def queue():
    """The name of a queue that nobody else uses."""
    return f"onward-{uuid.uuid4().hex[:8]}"
