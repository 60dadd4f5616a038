"""A Celery application as a project has one, for workers in processes of their own.

The bodies write one remark for each stage, together with its end. The first of all attempts at the stage
that STUCK_IN names says which process it is in, and then does nothing until it is killed.
"""

import os
import threading
from datetime import timedelta

import django
from celery import Celery
from django.conf import settings

from tests.services import transport_options

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

broker, queue = os.environ.get("BROKER_URL", "memory://"), os.environ.get("QUEUE", "celery")
app = Celery("tests", broker=broker)
app.conf.update(
    broker_transport_options=transport_options(broker, queue),
    broker_connection_retry_on_startup=True,
    task_acks_late=os.environ.get("ACKS_LATE") == "1",
    task_default_queue=queue,
    worker_prefetch_multiplier=1,
    imports=["tests.papers.tasks"],
)
settings.STATEMACHINE_LEASE = timedelta(seconds=2)
settings.STATEMACHINE_SWEEP_EVERY = settings.STATEMACHINE_ADOPT_EVERY = timedelta(milliseconds=300)
django.setup()


def body(stage):
    from integration.entries import Entry
    from tests.papers.models import Remark

    task = stage._entry.task
    if task == os.environ.get("STUCK_IN") and not Entry.objects.filter(checkpoint__stuck__gt=0).exists():
        stage.checkpoint = {"stuck": os.getpid()}
        threading.Event().wait(120)
    with stage.finish():
        Remark.objects.create(paper_id=stage.row.pk, text=f"{task} of {stage.row.pk}")


def declare():
    from tests.papers import tasks

    for task in ("papers.check", "papers.score", "papers.explain"):
        tasks.bodies[task] = body


declare()
