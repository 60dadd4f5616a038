"""Real Celery workers in processes of their own, on PostgreSQL, for the tests that tell them what to do."""

import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

from django.db import connection

from integration import dispatch
from integration.entries import Entry
from tests import services
from tests.integration.application import application
from tests.papers.models import Paper

ROOT = Path(__file__).parents[2]


class Worker:
    """A Celery worker in processes of its own."""

    def __init__(self, pool, environment, app="tests.celery_app"):
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "--loglevel=WARNING"]
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

    def stop(self, *signals):
        """Tell the worker itself to stop, and wait until it has; its exit code."""
        for number in signals:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


@contextmanager
def running(pool, environment, **options):
    worker = Worker(pool, environment, **options)
    try:
        yield worker
    finally:
        said = worker.kill()
        if sys.exc_info()[0] is not None:
            print(said)


def wait_until(condition, *, limit=60, worker=None):
    """Wait for what a worker does; no longer than it lives."""
    until = time.monotonic() + limit
    while not condition():
        assert worker is None or worker.process.poll() is None, "the worker has ended"
        assert time.monotonic() < until, list(Paper.objects.values_list("status", flat=True))
        time.sleep(0.05)


def stuck():
    """The entries whose first attempt said that it is in the middle of its stage."""
    return Entry.objects.filter(checkpoint__stuck__gt=0)


def environment_of(url, queue, **values):
    """The environment of a worker on this test's database and queue."""
    database = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    return {**os.environ, "DATABASE_URL": database, "BROKER_URL": url, "QUEUE": queue, **values}


@contextmanager
def sending(url, queue):
    """Let this process send to a queue of the broker, which is deleted afterwards."""
    options = services.transport_options(url, queue)
    with application(url, task_default_queue=queue, broker_transport_options=options) as app:
        try:
            yield dispatch.publisher()
        finally:
            _delete(app, url, queue)


def _delete(app, url, queue):
    with app.connection_for_write() as broker:
        declared = app.amqp.queues[queue](broker.default_channel)
        declared.delete()
        declared.exchange.delete()
    if url.startswith("redis"):  # what a killed worker had taken, and what queues were bound to
        from redis import Redis

        with Redis.from_url(url) as client:
            client.delete(*client.keys(f"{queue}:*"))
