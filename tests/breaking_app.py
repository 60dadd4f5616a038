"""The application of `celery_app`, whose first stage breaks as its paper's title says.

What is broken "always" breaks at every attempt, all else at the first one only.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from datetime import timedelta

from billiard.exceptions import WorkerLostError
from celery.exceptions import Ignore, Reject, Retry
from django.conf import settings

from tests import celery_app
from tests.papers import tasks

app = celery_app.app
settings.STATEMACHINE_LEASE = timedelta(seconds=3)
tasks.check.soft_time_limit, tasks.check.time_limit = 3, 6


def raising(error):
    def act(stage):
        raise error

    return act


def fail_for_good(stage):
    from integration.tasks import PermanentFailure

    raise PermanentFailure("never")


def hang(stage):
    threading.Event().wait(120)


def hang_whatever_is_said(stage):
    while True:
        with suppress(Exception):
            threading.Event().wait(120)


def wait_for_the_signal(stage):
    """Say that the body is in the middle, and go on when the row's title says so."""
    stage.checkpoint = {"stuck": os.getpid()}
    while type(stage.row).objects.get(pk=stage.row.pk).title != "go on":
        threading.Event().wait(0.05)


WAYS = {
    "well": lambda stage: None,
    "Retry": raising(Retry("not yet")),
    "Ignore": raising(Ignore("not me")),
    "Reject": raising(Reject("not here")),
    "SoftTimeLimitExceeded": hang,
    "a hard time limit": hang_whatever_is_said,
    "a hard time limit always": hang_whatever_is_said,
    "WorkerLostError": raising(WorkerLostError("a child of its own")),
    "a killed process": lambda stage: os.kill(os.getpid(), signal.SIGKILL),
    "SystemExit": lambda stage: sys.exit(3),
    "MemoryError": raising(MemoryError("no more")),
    "PermanentFailure": fail_for_good,
    "MemoryError always": raising(MemoryError("no more")),
    "a killed process always": lambda stage: os.kill(os.getpid(), signal.SIGKILL),
    "in the middle": wait_for_the_signal,
}


def body(stage):
    way = stage.row.title
    if stage.attempt == 1 or way.endswith("always"):
        WAYS[way](stage)
    celery_app.body(stage)


tasks.bodies["papers.check"] = body
