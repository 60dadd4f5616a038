"""A real worker, in a thread of the test's process, on a broker in memory."""

import logging
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from celery.contrib.testing.worker import start_worker

from integration.dispatch import set_publisher
from integration.signals import entered
from integration.tasks import CeleryPublisher, Sweeper
from tests.integration.application import application
from tests.integration.rows import agree, elapse, paper_in, pending, raw, trail, where
from tests.oddities import tasks as letters_tasks
from tests.oddities.models import Letter
from tests.papers import tasks as papers_tasks  # noqa: F401  (the worker must know them as it starts)
from tests.papers.models import Paper, Remark

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def app():
    given = {"broker_transport_options": {"polling_interval": 0.01}, "worker_hijack_root_logger": False}
    with application(**given) as app:
        yield app


@contextmanager
def unchanged_logging():
    """A worker sets the level of the root logger; the tests after it want the one that was."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


@pytest.fixture(scope="module")
def worker(app, django_db_setup, django_db_blocker):
    # Celery's fixup runs Django's checks as the worker starts, and some of them ask the database.
    with (
        unchanged_logging(),
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

    def __init__(self, state, sender=Paper):
        self.state, self.count, self.happened, self.sender = state, 0, threading.Condition(), sender
        entered.connect(self.tell, sender=sender)

    def tell(self, state, **told):
        if state == self.state:
            with self.happened:
                self.count += 1
                self.happened.notify_all()

    def wait(self, count=1):
        with self.happened:
            arrived = self.happened.wait_for(lambda: self.count >= count, timeout=20)
        entered.disconnect(self.tell, sender=self.sender)
        assert arrived, list(self.sender.objects.values_list("status", flat=True))


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


# Messages of other code


class Log(logging.Handler):
    """Tells when something was logged."""

    def __init__(self, words):
        super().__init__()
        self.words, self.text, self.happened = words, "", threading.Event()
        self.logger = logging.getLogger("statemachine")
        self.logger.addHandler(self)
        self.logger.setLevel(logging.WARNING)  # the worker of the tests lets errors alone pass

    def emit(self, record):
        if self.words in record.getMessage():
            self.text = record.getMessage()
            self.happened.set()

    def wait(self):
        happened = self.happened.wait(timeout=20)
        self.logger.removeHandler(self)
        self.logger.setLevel(logging.NOTSET)
        assert happened


@pytest.mark.usefixtures("worker")
def test_a_message_to_a_former_name_of_a_task_is_answered(app, mailbox):
    letters_tasks.runs.clear()
    delivered = Arrival("delivered", sender=Letter)
    letter = Letter.objects.create()
    letter.post()
    letter.entries.filter(open=True).update(state="sort", task="oddities.order")
    raw(letter, status="sort")
    app.send_task("oddities.order", args=(pending(letter).pk,))
    own = set_publisher(CeleryPublisher())
    delivered.wait()
    set_publisher(own).close()
    assert letters_tasks.runs == [("oddities.sort", letter.pk), ("oddities.stamp", letter.pk)]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("version", [2, "1", None])
@pytest.mark.parametrize("task", ["papers.check", "statemachine.timer"])
def test_a_message_of_newer_code_is_left_to_it(app, mailbox, runs, version, task):
    paper = paper_in("checking" if task == "papers.check" else "rejected")
    elapse(paper)
    before = pending(paper)
    log = Log("by newer code")
    app.send_task(task, args=({"entry": before.pk},), headers={"statemachine_version": version})
    log.wait()
    assert f"with message version {version!r}; this code reads version 1. It is left alone" in log.text
    after = pending(paper)
    assert (after.pk, after.attempt, after.due_at) == (before.pk, 0, before.due_at)
    assert not runs


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("headers", [None, {"statemachine_version": 1}, {"statemachine_version": 0}])
def test_a_message_of_older_code_is_answered(app, mailbox, bodies, headers):
    scoring = Arrival("scoring")
    paper = paper_in("checking")
    app.send_task("papers.check", args=(pending(paper).pk,), headers=headers)
    scoring.wait()
    assert where(paper) == ("scoring", 2)
