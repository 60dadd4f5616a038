"""A real worker, in a thread of the test's process, on a broker in memory."""

import threading
from datetime import timedelta

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from integration import tasks
from integration.dispatch import set_publisher
from integration.signals import entered
from integration.tasks import CeleryPublisher, Sweeper
from tests.integration.rows import agree, trail, where
from tests.papers import tasks as papers_tasks  # noqa: F401  (the worker must know them as it starts)
from tests.papers.models import Paper, Remark

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def app():
    before = tasks.current_app._get_current_object()
    app = Celery("tests", broker="memory://", set_as_current=False)
    app.conf.update(broker_transport_options={"polling_interval": 0.01}, worker_hijack_root_logger=False)
    app.set_current()
    app.set_default()
    app.finalize()
    own = CeleryPublisher()
    publisher = set_publisher(own)
    yield app
    set_publisher(publisher)
    own.close()
    before.set_current()
    before.set_default()


@pytest.fixture(scope="module")
def worker(app, django_db_setup, django_db_blocker):
    # Celery's fixup runs Django's checks as the worker starts, and some of them ask the database.
    with (
        django_db_blocker.unblock(),
        start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20),
    ):
        yield app


@pytest.fixture
def sweeper(settings):
    settings.STATEMACHINE_SWEEP_EVERY = timedelta(milliseconds=20)
    settings.STATEMACHINE_GRACE = timedelta(milliseconds=20)
    sweeper = Sweeper()
    sweeper.start()
    yield sweeper
    sweeper.stop()


class Arrival:
    """Tells when so many rows have entered a state."""

    def __init__(self, state):
        self.state, self.count, self.happened = state, 0, threading.Condition()
        entered.connect(self.tell, sender=Paper)

    def tell(self, state, **told):
        if state == self.state:
            with self.happened:
                self.count += 1
                self.happened.notify_all()

    def wait(self, count=1):
        with self.happened:
            arrived = self.happened.wait_for(lambda: self.count >= count, timeout=20)
        entered.disconnect(self.tell, sender=Paper)
        assert arrived, list(Paper.objects.values_list("status", flat=True))


def write(stage):
    with stage.finish():
        Remark.objects.create(paper_id=stage.row.pk, text=f"{stage._entry.task} of {stage.row.pk}")


STRAIGHT = [
    "created draft",
    "submit checking",
    "advance scoring",
    "step scoring",
    "advance published",
]


@pytest.mark.usefixtures("worker")
def test_a_pipeline_runs_to_its_end(bodies):
    bodies.update(dict.fromkeys(("papers.check", "papers.score", "papers.explain"), write))
    published = Arrival("published")
    papers = [Paper.objects.create() for _ in range(5)]
    for paper in papers:
        paper.submit()
    published.wait(5)
    for paper in papers:
        assert trail(paper) == STRAIGHT
        assert agree(paper)
    assert Remark.objects.count() == 15


@pytest.mark.usefixtures("worker", "sweeper")
def test_a_lost_message_is_recovered_by_the_sweep(bodies, mailbox):
    """The first message is lost on its way; what the sweep sends arrives."""
    published = Arrival("published")
    paper = Paper.objects.create()
    lost = set_publisher(mailbox)
    try:
        set_publisher(Losing(1))
        paper.submit()
        published.wait()
    finally:
        set_publisher(lost)
    assert trail(paper) == STRAIGHT


class Losing:
    """Celery's publisher, on a broker that loses the first messages."""

    def __init__(self, count):
        self.count, self.publisher = count, CeleryPublisher()

    def publish(self, message):
        if self.count:
            self.count -= 1
            return
        self.publisher.publish(message)


@pytest.mark.usefixtures("worker", "sweeper")
def test_a_failed_attempt_is_made_again_after_its_backoff(bodies, settings):
    settings.STATEMACHINE_BACKOFF = timedelta(milliseconds=20)
    bodies["papers.check"] = lambda stage: stage.attempt < 3 and 1 / 0
    published = Arrival("published")
    paper = Paper.objects.create()
    paper.submit()
    published.wait()
    assert trail(paper) == STRAIGHT
    entry = paper.entries.get(state="checking")
    assert (entry.attempt, entry.strikes) == (3, 3)


@pytest.mark.usefixtures("worker", "sweeper")
def test_poison_is_given_up_and_its_error_kept(bodies, settings):
    settings.STATEMACHINE_BACKOFF = timedelta(milliseconds=20)
    bodies["papers.check"] = lambda stage: 1 / 0
    rejected = Arrival("rejected")
    paper = Paper.objects.create()
    paper.submit()
    rejected.wait()
    assert where(paper) == ("rejected", 2)
    assert Paper.objects.get().error == "ZeroDivisionError: division by zero"


@pytest.mark.usefixtures("worker")
def test_a_message_that_arrives_twice_is_answered_once(bodies, runs):
    published = Arrival("published")
    twice = set_publisher(Doubling())
    try:
        paper = Paper.objects.create()
        paper.submit()
        published.wait()
    finally:
        set_publisher(twice)
    assert trail(paper) == STRAIGHT
    assert len(runs) == 3


class Doubling(CeleryPublisher):
    def publish(self, message):
        super().publish(message)
        super().publish(message)
