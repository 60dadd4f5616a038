"""Real workers, killed in the middle of a stage; and what else only holds on a server.

These tests need PostgreSQL as their database, so the first of them runs the others in a process that has it;
and there, and on MariaDB, the tests of everything that a database can do otherwise.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.db import connection

from integration import tasks
from integration.dispatch import Message
from tests import services
from tests.integration.rows import agree, trail
from tests.integration.workers import ROOT, environment_of, running, sending, stuck, wait_until
from tests.papers.models import Paper, Remark

HERE = Path(__file__).parent.relative_to(ROOT)
ON_POSTGRESQL = connection.vendor == "postgresql"

pytestmark = pytest.mark.services
inner = pytest.mark.skipif(not ON_POSTGRESQL, reason="run by the test above, on PostgreSQL")


EVERYWHERE = [
    ("protocol", "statements", "stage", "recovery", "dispatch", "tasks", "worker"),
    ("models", "fields", "querysets", "binding", "signals", "checks", "command", "admin", "testing"),
    ("timers", "writes", "requests"),
    ("audit", "prune", "status", "deploys", "operations"),
    ("races",),
    ("crash_matrix", "crash_points"),
    ("simulation",),
    ("driving", "pipeline_test::TestPaper", "pipeline_test::TestCommits"),
]
ON_POSTGRESQL_ONLY = [("services",), ("celery_errors",), ("pools",)]
CONTRACT = [
    *((database, names) for names in EVERYWHERE for database in ("mariadb", "postgresql")),
    *(("postgresql", names) for names in ON_POSTGRESQL_ONLY),
]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="this is the run on a server")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("database", "names"), CONTRACT)
def test_it_holds_on_a_server(database, names, tally):
    """One contract for every database: the same tests, in a process that has it."""
    environment = {**os.environ, "DATABASE_URL": services.address(database)}
    parts = (name.partition("::") for name in names)
    files = [f"{HERE / f'test_{file}.py'}{mark}{test}" for file, mark, test in parts]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300", *files]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, figures = done.stdout.partition(" figures ==")
    for number, name in re.findall(r"^ +([\d,]+)  (.+)$", figures, re.MULTILINE):
        tally(f"{name} on {database}", int(number.replace(",", "")))


# Workers that are killed

STRAIGHT = ["created draft", "submit checking", "advance scoring", "step scoring", "advance published"]


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
