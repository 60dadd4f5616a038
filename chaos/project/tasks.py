"""The bodies: a moment of work each, and what some of them do to their workers."""

import os
import random
import signal
import sys
import time
from contextlib import suppress
from datetime import timedelta
from functools import wraps

from django.db import Error

from chaos.project.models import Effect, Refusal, Start
from integration.conf import conf
from integration.tasks import PermanentFailure, stage_task
from statemachine import LeaseLost


def body(name):
    """Declare a body that tells when it starts and when it is refused."""

    def declare(work):
        @wraps(work)
        def told(stage):
            tale = {"pipeline": stage.row.pk, "key": stage.idempotency_key, "attempt": stage.attempt}
            Start.objects.create(pid=os.getpid(), **tale)
            try:
                work(stage)
            except LeaseLost:
                refused(tale)
                raise

        return stage_task(name)(told)

    return declare


def refused(tale):
    with suppress(Error):  # it is only a figure, and the storm may have taken the connection
        Refusal.objects.create(**tale)


def finish(stage):
    with stage.finish():
        Effect.objects.create(pipeline=stage.row.pk, key=stage.idempotency_key)


def labour(stage, pages=3):
    """Work with checkpoints: a later attempt goes on where an earlier one stopped."""
    for page in range((stage.checkpoint or {}).get("pages", 0), pages):
        time.sleep(random.uniform(0, 0.06))
        stage.checkpoint = {"pages": page + 1}
        stage.progress(page + 1, pages)


@body("chaos.fetch")
def fetch(stage):
    labour(stage)
    finish(stage)


@body("chaos.parse")
def parse(stage):
    time.sleep(random.uniform(0, 0.1))
    finish(stage)


@body("chaos.index")
def index(stage):
    labour(stage, pages=2)
    finish(stage)


@body("chaos.brood")
def brood(stage):
    """Outlive the lease now and then: a successor begins meanwhile, and this one is refused."""
    outlives = stage.attempt == 1 and random.random() < 0.4
    time.sleep(2.5 * conf().lease.total_seconds() if outlives else random.uniform(0, 0.05))
    finish(stage)


@body("chaos.poll")
def poll(stage):
    """Give the work back, and look again later."""
    if not stage.checkpoint:
        stage.checkpoint = {"asked": True}
        stage.wait(timedelta(milliseconds=300))
    finish(stage)


@body("chaos.race")
def race(stage):
    if stage.row.races < stage.row.to_race:
        raise PermanentFailure("the race was lost")
    if stage.attempt == 1 and random.random() < 0.2:
        raise ValueError("it stumbled")
    finish(stage)


@body("chaos.store")
def store(stage):
    """Return without a finish of its own: the edge notes the effect."""
    time.sleep(random.uniform(0, 0.1))


@body("chaos.taste")
def taste(stage):
    """Fail whenever it is tried, each in its way."""
    if stage.row.poison == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if stage.row.poison == "exits":
        sys.exit(3)
    raise ValueError("poison")
