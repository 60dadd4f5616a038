"""Real workers, killed in the middle of a stage; and what else only holds on a server.

These tests need PostgreSQL as their database, so the first of them runs the others, and those of the
protocol, in a process that has it.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pytest
from celery import Celery
from django.db import connection

from integration import tasks
from integration.dispatch import Message, set_publisher
from integration.entries import Entry
from integration.tasks import CeleryPublisher
from tests import services
from tests.integration.rows import agree, trail
from tests.papers.models import Paper, Remark

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent.relative_to(ROOT)
ON_POSTGRESQL = connection.vendor == "postgresql"

pytestmark = pytest.mark.services
inner = pytest.mark.skipif(not ON_POSTGRESQL, reason="run by the tests above, on PostgreSQL")


@pytest.mark.skipif(ON_POSTGRESQL, reason="this is the run on PostgreSQL")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "names",
    [
        ("protocol", "stage", "recovery", "dispatch", "tasks", "worker", "simulation"),
        ("models", "fields", "querysets", "binding", "signals", "checks", "command"),
        ("races",),
        ("services",),
    ],
    ids=" ".join,
)
def test_it_holds_on_postgresql(names):
    environment = {**os.environ, "DATABASE_URL": services.address("postgresql")}
    files = [str(HERE / f"test_{name}.py") for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300", *files]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# Workers that are killed

STRAIGHT = ["created draft", "submit checking", "advance scoring", "step scoring", "advance published"]


class Worker:
    """A Celery worker in processes of its own."""

    def __init__(self, pool, environment):
        command = [sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker", "--loglevel=WARNING"]
        # A name of its own: RabbitMQ keeps a killed worker's exclusive queue until it notices its death.
        name = f"--hostname=test-{uuid.uuid4().hex[:8]}@%h"
        options = [f"--pool={pool}", "--concurrency=1", "--without-gossip", "--without-mingle", name]
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def kill(self):
        """Kill the worker and its children, which have a process group to themselves; what it had said."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.communicate(timeout=20)[0]


@contextmanager
def running(pool, environment):
    worker = Worker(pool, environment)
    try:
        yield worker
    finally:
        said = worker.kill()
        if sys.exc_info()[0] is not None:
            print(said)


def wait_until(condition, *, limit=60):
    until = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < until, list(Paper.objects.values_list("status", flat=True))
        time.sleep(0.05)


def stuck():
    """The entries whose first attempt said that it is in the middle of its stage."""
    return Entry.objects.filter(checkpoint__stuck__gt=0)


def environment_of(url, queue, **values):
    """The environment of a worker on this test's database and queue."""
    database = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    return {**os.environ, "DATABASE_URL": database, "BROKER_URL": url, "QUEUE": queue, **values}


@pytest.fixture
def queue():
    return f"onward-{uuid.uuid4().hex[:8]}"


@contextmanager
def sending(url, queue):
    """Let this process send to a queue of the broker, which is deleted afterwards."""
    before = tasks.current_app._get_current_object()
    app = Celery("tests", broker=url, set_as_current=False)
    app.conf.task_default_queue = queue
    app.conf.broker_transport_options = services.transport_options(url, queue)
    app.set_current()
    app.set_default()
    app.finalize()
    own = CeleryPublisher()
    publisher = set_publisher(own)
    try:
        yield own
    finally:
        set_publisher(publisher)
        own.close()
        before.set_current()
        before.set_default()
        with app.connection_for_write() as broker:
            declared = app.amqp.queues[queue](broker.default_channel)
            declared.delete()
            declared.exchange.delete()
        app.close()
        if url.startswith("redis"):  # what a killed worker had taken, and what queues were bound to
            from redis import Redis

            with Redis.from_url(url) as client:
                client.delete(*client.keys(f"{queue}:*"))


# Three things that may be either way, in four runs in which each pair of them is every way.
RUNS = [
    ("redis", "prefork", True),
    ("redis", "threads", False),
    ("amqp", "prefork", False),
    ("amqp", "threads", True),
]


@inner
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("broker", "pool", "late"), RUNS)
def test_a_pipeline_whose_worker_is_killed_in_a_stage_runs_to_its_end_as_if_nothing_had_been(
    broker, pool, late, queue
):
    url = services.address(broker)
    environment = environment_of(url, queue, ACKS_LATE=str(int(late)), STUCK_IN="papers.score")
    with sending(url, queue):
        with running(pool, environment) as worker:
            papers = [Paper.objects.create() for _ in range(3)]
            for paper in papers:
                paper.submit()
            wait_until(stuck().exists)
            worker.kill()
        assert Paper.objects.exclude(status="published").exists()
        with running(pool, environment):
            wait_until(lambda: not Paper.objects.exclude(status="published").exists())
    for paper in papers:
        assert trail(paper) == STRAIGHT
        assert agree(paper)
    assert Remark.objects.count() == 9
    assert stuck().filter(attempt__gte=2).exists()


@inner
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_told_to_stop_sweeps_until_then_and_leaves_nothing_behind(queue):
    url = services.address("redis")
    environment = environment_of(url, queue)
    Paper.objects.bulk_create([Paper(status="checking")])
    with sending(url, queue), running("prefork", environment) as worker:
        wait_until(lambda: Paper.objects.get().status == "published")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(timeout=20) == 0


@inner
@pytest.mark.django_db(transaction=True)
def test_a_connection_that_rabbitmq_closed_while_it_was_idle_is_replaced(queue, mailbox):
    """Nothing is lost, and nothing blocks: the broken socket is noticed before anything is written on it."""
    url = services.address("amqp")
    with sending(url, queue) as publisher:
        message = Message(entry=1, using="default", task="papers.check")
        publisher.publish(message)
        (idle,) = publisher._idle[os.getpid()].values()
        before = idle[0]
        before.channel.connection.transport.sock.shutdown(socket.SHUT_RDWR)
        begun = time.monotonic()
        publisher.publish(message)
        assert time.monotonic() - begun < 2
        assert idle[0] is not before
        app = tasks.current_app._get_current_object()
        with app.connection_for_read() as broker:
            held = app.amqp.queues[queue](broker.default_channel).queue_declare(passive=True).message_count
    assert held == 2
