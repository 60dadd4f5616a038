"""The Celery application, and the worker that runs beside the display. Nothing else in the demo knows Celery.

``celery -A integration.demo worker`` finds the application here.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any

from celery import Celery, signals
from celery.worker import WorkController, state
from kombu.exceptions import OperationalError

__all__ = ["Worker", "app", "delete_queue", "reach_broker"]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "integration.demo.settings")

app = Celery("onward-demo")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()  # also the worker's thread publishes through it


class _Controller(WorkController):
    """A worker without a process of its own: no signal handlers, no logging, no banner."""

    def on_consumer_ready(self, consumer: Any) -> None:
        signals.worker_ready.send(sender=consumer)


class Worker:
    """An ordinary worker in a thread, one task at a time."""

    def __init__(self) -> None:
        self._controller: Any = None
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Finish the task at hand and stop. Whether it did within so many seconds; else it is left behind."""
        state.should_stop = 0  # type: ignore[assignment]
        # An idle worker looks up every two seconds or for a message, and once more before it stops.
        for _ in range(2):
            app.send_task("statemachine.sweep", kwargs={"limit": 0})
        self._thread.join(timeout)
        return not self.alive

    def _run(self) -> None:
        quiet: dict[str, Any] = {"without_heartbeat": True, "without_mingle": True, "without_gossip": True}
        try:
            _Controller(app=app, pool="solo", concurrency=1, **quiet).start()
        finally:
            signals.worker_shutting_down.send(sender="demo", sig="", how="warm", exitcode=0)
            state.should_stop = None


def reach_broker() -> None:
    """Find out at once whether there is a broker.

    Raises:
        ConnectionError: It does not answer, or does not let us in.
    """
    with app.connection_for_write(connect_timeout=2) as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=3)
        except _errors(connection) as error:
            raise ConnectionError(f"no broker at {connection.as_uri()}: {error}") from error


def delete_queue(name: str) -> None:
    """Delete a queue and its exchange, with what is in it; a broker that is away keeps them."""
    with app.connection_for_write(connect_timeout=2) as connection, suppress(*_errors(connection)):
        connection.ensure_connection(max_retries=1, timeout=3)
        queue: Any = app.amqp.queues[name](connection.default_channel)
        queue.declare()  # some transports know only what they were told of in this process
        queue.delete()
        queue.exchange.delete()


def _errors(connection: Any) -> tuple[type[Exception], ...]:
    return (OperationalError, *connection.connection_errors, *connection.channel_errors)
