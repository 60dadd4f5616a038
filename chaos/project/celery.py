"""The Celery application; and a publisher that fails at a third of first dispatches."""

import os
import random
import threading
from pathlib import Path

from celery import Celery, signals

from integration.dispatch import Message, Publisher

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chaos.project.settings")

app = Celery("chaos")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()


@signals.worker_ready.connect
def say_ready(**kwargs):
    Path(os.environ["CHAOS_READY"]).write_text(str(os.getpid()))


class Unreliable:
    """Fails at some of the messages that follow a commit; what a sweep rings is left alone.

    Most failures are of one message, which cannot be sent; some look like a broker that is away, and open the
    circuit.
    """

    def __init__(self, publisher: Publisher, *, failing: float) -> None:
        self._publisher, self._failing = publisher, failing

    def publish(self, message: Message) -> None:
        if not self._sweeps() and random.random() < self._failing:
            raise random.choice([ValueError] * 9 + [ConnectionError])("the storm took it")
        self._publisher.publish(message)

    def _sweeps(self) -> bool:
        return "CHAOS_SWEEPS" in os.environ or threading.current_thread().name == "statemachine-sweep"
