"""Celery: `stage_task`, the messages, the sweep in every worker. No other module of the package knows it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Celery, current_app, shared_task, signals
from celery.exceptions import Ignore, Reject, Retry
from django.db import connections
from kombu import Connection
from kombu.pools import producers

from integration import recovery, stage
from integration.conf import conf
from integration.dispatch import Message, set_publisher
from integration.stage import Body, Inline, PermanentFailure, Stage, Verdict, bodies, verdict

__all__ = ["CeleryPublisher", "PermanentFailure", "Stage", "Sweeper", "stage_task", "sweep", "timer"]

logger = logging.getLogger("statemachine")


def judge(error: BaseException, *, strikes: int, max_attempts: int) -> Verdict:
    """Decide what becomes of an attempt that raised, Celery's own exceptions included. Touches nothing."""
    if isinstance(error, Retry | Reject | Ignore):
        return Verdict.RELEASE
    return verdict(error, strikes=strikes, max_attempts=max_attempts)


def stage_task(name: str, **options: Any) -> Callable[[Body], Any]:
    """Declare the body of a stage's task.

    The function receives a `Stage`. When it returns, the stage is finished for it, unless it moved its
    row itself; when it raises, it is tried again after a backoff, and given up in the end.

    Args:
        name: What `Enqueue` calls it.
        options: Passed to Celery's ``shared_task``.
    """

    def declare(body: Body) -> Any:
        bodies[name] = body

        def answer(entry: int | None = None, using: str = "default") -> str:
            if not isinstance(entry, int):
                raise TypeError(
                    f"{name} is a stage task: it takes the id of an entry, not {entry!r}. "
                    "Fire the trigger that enters its state instead of calling it."
                )
            return stage.run(entry, using=using, task=name, judge=judge).value

        answer.__name__, answer.__doc__, answer.__module__ = body.__name__, body.__doc__, body.__module__
        return shared_task(**{"name": name, "ignore_result": True, **options})(answer)

    return declare


@shared_task(name="statemachine.timer", ignore_result=True)
def timer(entry: int, using: str = "default") -> str:
    """Fire the trigger of a waiting state whose time has come."""
    return stage.run(entry, using=using, judge=judge).value


@shared_task(name="statemachine.sweep", ignore_result=True)
def sweep(limit: int = 500) -> None:
    """Ring overdue entries and adopt rows, on every database: for beat, where workers do not sweep."""
    for using in recovery.aliases():
        recovery.sweep(using=using, limit=limit)
        recovery.scan(using=using, limit=limit)


class CeleryPublisher:
    """Sends messages through the current app, on a connection of its own that gives up in time."""

    def __init__(self) -> None:
        self._connections: dict[tuple[int, int], Connection] = {}
        self._inline = Inline()

    def publish(self, message: Message) -> None:
        app: Celery = current_app._get_current_object()
        if app.conf.task_always_eager:
            self._inline.publish(message)
            return
        timeout = conf().publish_timeout.total_seconds()
        with producers[self._connection(app, timeout)].acquire(block=True, timeout=timeout) as producer:
            self._send(app, message, producer)

    def _send(self, app: Celery, message: Message, producer: Any) -> None:
        options = {"queue": message.queue, "priority": message.priority}
        given = {name: value for name, value in options.items() if value is not None}
        send = app.tasks[message.task].apply_async if message.task in app.tasks else None
        arguments = {"args": (message.entry,), "producer": producer, "retry": False, **given}
        if message.using != "default":
            arguments["kwargs"] = {"using": message.using}
        if send is not None:
            send(**arguments)
        else:
            app.send_task(message.task, ignore_result=True, **arguments)

    def _connection(self, app: Celery, timeout: float) -> Connection:
        """One connection for each app and process: a child must not write on its parent's socket."""
        key = (os.getpid(), id(app))
        if key not in self._connections:
            connection = app.connection_for_write(connect_timeout=timeout, heartbeat=0)
            connection.transport_options = {**connection.transport_options, **_timeouts(connection, timeout)}
            self._connections[key] = connection
        return self._connections[key]


def _timeouts(connection: Connection, timeout: float) -> dict[str, Any]:
    """What makes each transport give up: a socket that accepts and never answers blocks for ever otherwise."""
    transport = connection.transport_cls
    if "redis" in str(transport):
        once = {"max_retries": 0, "retry_on_timeout": False}
        return {"socket_timeout": timeout, "socket_connect_timeout": timeout, **once}
    if str(transport) in ("amqp", "amqps", "pyamqp"):
        return {"read_timeout": timeout, "write_timeout": timeout, "max_retries": 0}
    return {}


class Sweeper:
    """Sweeps in a thread of the worker until it is stopped."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="statemachine-sweep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop, after the sweep that is under way."""
        self._stopped.set()
        self._thread.join(timeout=10)

    def _loop(self) -> None:
        scanned = float("-inf")
        while not self._stopped.wait(conf().sweep_every.total_seconds()):
            due = time.monotonic() - scanned >= conf().adopt_every.total_seconds()
            if self._pass(scan=due) and due:
                scanned = time.monotonic()

    def _pass(self, *, scan: bool) -> bool:
        try:
            for using in recovery.aliases():
                recovery.sweep(using=using)
                if scan:
                    recovery.scan(using=using)
        except Exception as error:  # a database that is away comes back; the thread must be there then
            logger.warning("The sweep failed, and will be tried again: %s", error)
            return False
        finally:
            connections.close_all()
        return True


_sweeper: Sweeper | None = None


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def start_sweeping(**kwargs: Any) -> None:
    global _sweeper
    if conf().sweep and _sweeper is None:
        _sweeper = Sweeper()
        _sweeper.start()


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def stop_sweeping(**kwargs: Any) -> None:
    global _sweeper
    if _sweeper is not None:
        _sweeper.stop()
        _sweeper = None


set_publisher(CeleryPublisher())
