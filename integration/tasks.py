"""Celery: `stage_task`, the messages, the sweep in every worker. No other module of the package knows it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, wraps
from typing import Any
from weakref import WeakKeyDictionary

from celery import current_app, current_task, shared_task, signals
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded
from celery.fixups.django import DjangoFixup
from django.apps import apps
from django.db import connections
from kombu import Connection, Producer
from kombu.exceptions import OperationalError

from integration import protocol, recovery, stage
from integration.binding import bindings
from integration.conf import conf
from integration.dispatch import BrokerDown, Message, circuit, set_publisher
from integration.inline import Inline
from integration.stage import Body, Outcome, PermanentFailure, Stage, bodies
from integration.verdict import Verdict, is_failure, verdict
from integration.workers import Workers, is_configured, workers_of

__all__ = ["CeleryPublisher", "PermanentFailure", "Stage", "Sweeper", "stage_task", "sweep", "timer"]

logger = logging.getLogger("statemachine")

VERSION = 1
"""Of what a message says and means: a header of it. One without is of the first."""

_HEADER = "statemachine_version"


def judge(error: BaseException, *, strikes: int, max_attempts: int) -> Verdict:
    """Decide what becomes of an attempt that raised, Celery's own exceptions included. Touches nothing."""
    if isinstance(error, Retry | Reject | Ignore):
        return Verdict.RELEASE
    if _is_terminating() and not isinstance(error, PermanentFailure):
        return Verdict.RELEASE
    return verdict(error, strikes=strikes, max_attempts=max_attempts)


def _is_terminating() -> bool:
    """Whether this worker is to end at once: what that raises in a body need not be `WorkerTerminate`.

    A solo pool says that it cannot kill a job, in the middle of it.
    """
    from celery.worker import state  # it loads the worker, which a web process does not need

    return getattr(state, "should_terminate", None) not in (None, False)


_command_line = {"time_limit": None}


@signals.celeryd_init.connect
def keep_time_limit(options: Any = None, **kwargs: Any) -> None:
    """Keep what the command line of this worker says: nothing else tells its children."""
    _command_line["time_limit"] = (options or {}).get("time_limit")


def _timed(body: Body) -> Body:
    """Tell a hard time limit from a worker that is told to stop: a process is sent the same signal for both.

    The one is the body's doing and counts; the other is not.
    """

    @wraps(body)
    def timed(stage: Stage) -> object:
        begun = time.monotonic()
        try:
            return body(stage)
        except SystemExit as error:
            limit = _time_limit()
            # The parent's clock began when the task was accepted, a little earlier.
            if limit and not is_failure(error) and time.monotonic() - begun >= limit * 0.9:
                raise TimeLimitExceeded(limit) from error
            raise

    return timed


def _time_limit() -> float | None:
    """The hard time limit of the task that runs here, if any."""
    task = current_app.current_task
    if task is None:
        return None
    given: float | None = (task.request.timelimit or (None, None))[0]
    return given or task.time_limit or _command_line["time_limit"]


def stage_task(name: str, **options: Any) -> Callable[[Body], Any]:
    """Declare the body of a stage's task.

    The function receives a `Stage`. When it returns, the stage is finished for it, unless it moved its
    row itself; when it raises, it is tried again after a backoff, and given up in the end.

    Args:
        name: What `Enqueue` calls it.
        options: Passed to Celery's ``shared_task``.
    """

    def declare(body: Body) -> Any:
        bodies[name], _declared[name] = _timed(body), partial(_task, body, options)
        if apps.models_ready:  # else `answer_former_names` is called when they are
            answer_former_names()
        return _task(body, options, name)

    return declare


_declared: dict[str, Callable[[str], Any]] = {}
"""How to make another Celery task like a stage's, under another name; by the stage task's own."""

_former: set[str] = set()
"""The former names that are answered in this process."""


def _task(body: Body, options: dict[str, Any], name: str) -> Any:
    """The Celery task that answers to a name. The entry says which body is run."""

    def answer(entry: int | None = None, using: str = "default") -> str:
        if _is_of_newer_code(entry):
            return Outcome.DROPPED.value
        if not isinstance(entry, int) or isinstance(entry, bool):
            raise TypeError(
                f"{name} is a stage task: it takes the id of an entry, not {entry!r}. "
                "Fire the trigger that enters its state instead of calling it."
            )
        beats = not current_app.conf.task_always_eager
        return stage.run(entry, using=using, task=name, judge=judge, heartbeat=beats).value

    answer.__name__, answer.__doc__, answer.__module__ = body.__name__, body.__doc__, body.__module__
    return shared_task(**{"name": name, "ignore_result": True, **options})(answer)


def answer_former_names() -> None:
    """Register the former names of the stage tasks of this process: old messages are sent to them.

    Safe to repeat. A name that another step has today is that one's task, and finds the body by the entry.
    """
    steps = [step for binding in bindings.values() for state in binding.machine.graph for step in state.steps]
    today = {step.task for step in steps}
    for step in steps:
        for name in {*step.formerly} - today - _former if step.task in _declared else ():
            _former.add(name)
            _declared[step.task](name)


def _is_of_newer_code(entry: Any) -> bool:
    """Whether a message says more than this code understands. Then its entry waits for code that does."""
    request = getattr(current_task, "request", None)  # none where it is called like a function
    version = (getattr(request, "headers", None) or {}).get(_HEADER, VERSION)
    if isinstance(version, int) and version <= VERSION:
        return False
    logger.warning(
        "Entry %r was rung by newer code, with message version %r; this code reads version %s. "
        "It is left alone, and the sweep rings it again for a worker that runs the newer code.",
        entry,
        version,
        VERSION,
    )
    return True


@shared_task(name="statemachine.timer", ignore_result=True)
def timer(entry: int, using: str = "default") -> str:
    """Fire the trigger of a waiting state whose time has come."""
    if _is_of_newer_code(entry):
        return Outcome.DROPPED.value
    return stage.run(entry, using=using, judge=judge).value


@shared_task(name="statemachine.sweep", ignore_result=True)
def sweep(limit: int = 500) -> None:
    """Ring overdue entries and adopt rows, on every database: for beat, where workers do not sweep."""
    for using in recovery.aliases():
        with _surviving(using):
            recovery.sweep(using=using, limit=limit)
            recovery.scan(using=using, limit=limit)


@contextmanager
def _surviving(using: str) -> Iterator[None]:
    """A database that is away comes back, and must not keep the others waiting until then."""
    try:
        yield
    except Exception as error:
        logger.warning("The sweep failed, and will be tried again: %s: %s", using, error)


class CeleryPublisher:
    """Sends messages through the current app, on connections of its own that give up in time."""

    def __init__(self) -> None:
        # By process: a child must neither write on its parent's sockets nor close them by forgetting them.
        self._idle: dict[int, WeakKeyDictionary[Any, deque[Producer]]] = {}
        self._inline = Inline(keep=False)

    def publish(self, message: Message) -> None:
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        if app.conf.task_always_eager:
            self._inline.publish(message)
            return
        idle = self._idle.setdefault(os.getpid(), WeakKeyDictionary()).setdefault(app, deque())
        producer, used = _take(idle, app)
        while not _sent(message, app, producer, used):
            producer, used = _take(idle, app)
        if len(idle) < 10:
            idle.append(producer)
        else:
            _hang_up(producer)

    def workers(self) -> Workers | None:
        """What a worker of the current app has; None where there is no app of the project."""
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        if not is_configured(app):
            return None
        _import_modules(app)
        return workers_of(app)

    def close(self) -> None:
        """Close the connections that are idle in this process. The next message opens another."""
        for idle in self._idle.pop(os.getpid(), {}).values():
            for producer in idle:
                _hang_up(producer)


def _import_modules(app: Any) -> None:
    """Import as a worker's loader does, but without Celery's receiver that runs the system checks for it."""
    for receiver in signals.import_modules._live_receivers(app):  # type: ignore[attr-defined]
        if not isinstance(getattr(receiver, "__self__", None), DjangoFixup):
            receiver(signal=signals.import_modules, sender=app)
    for module in app.loader.default_modules:
        app.loader.import_task_module(module)


def _take(idle: deque[Producer], app: Any) -> tuple[Producer, bool]:
    """A producer that is idle, or a new one; and whether it was used before."""
    try:
        return idle.pop(), True
    except IndexError:
        return Producer(_connection(app)), False


def _sent(message: Message, app: Any, producer: Producer, used: bool) -> bool:
    """Send. False when the connection turned out to be closed while it was idle: another one may do.

    What fails on a new connection is raised, and what took its time to fail; as `BrokerDown` where no other
    message could be sent either.
    """
    try:
        _send(producer, app, message)
    except Exception as error:  # each transport raises what it likes
        down = _is_down(error, producer.connection)
        _hang_up(producer)
        if used and not _timed_out(error):
            return False
        if down:
            raise BrokerDown(f"{type(error).__name__}: {error}") from error
        raise
    return True


def _send(producer: Producer, app: Any, message: Message) -> None:
    given = {"queue": message.queue, "priority": message.priority}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    kwargs = {} if message.using == "default" else {"using": message.using}
    task = app.tasks.get(message.task)
    send = partial(app.send_task, message.task, ignore_result=True) if task is None else task.apply_async
    headers = {_HEADER: VERSION}
    send(args=(message.entry,), kwargs=kwargs, producer=producer, retry=False, headers=headers, **options)


def _hang_up(producer: Producer) -> None:
    """Close a connection without the farewell, which a broker that is away would not answer."""
    with suppress(Exception):
        if producer.connection is not None:
            producer.connection.collect(conf().publish_timeout.total_seconds())


def _is_down(error: BaseException, connection: Any) -> bool:
    """Whether the broker cannot be reached, and not this message alone cannot be sent."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    if isinstance(root, connection.channel_errors):  # a queue that is declared otherwise; or no login
        return not connection.connected
    kinds = (OSError, OperationalError, *connection.connection_errors)
    return _timed_out(error) or isinstance(root, kinds) or isinstance(error, kinds)


def _timed_out(error: BaseException | None) -> bool:
    """Whether it is a timeout, or was raised because of one: they are wrapped in the library's own errors."""
    while error is not None:
        # py-amqp passes on what a socket with a timeout in the kernel raises: that it would block.
        if isinstance(error, TimeoutError | BlockingIOError) or "Timeout" in type(error).__name__:
            return True
        error = error.__cause__ or error.__context__
    return False


def _connection(app: Any) -> Connection:
    """A connection that gives up: a socket that accepts and never answers blocks for ever otherwise."""
    timeout = conf().publish_timeout.total_seconds()
    connection: Connection = app.connection_for_write(connect_timeout=timeout, heartbeat=0)
    timeouts: dict[str, Any] = {
        "amqp": {"read_timeout": timeout, "write_timeout": timeout},
        "redis": {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry_on_timeout": False},
    }
    given = timeouts.get(connection.transport.driver_type, {})
    connection.transport_options = {**(connection.transport_options or {}), "max_retries": 0, **given}
    return connection


class Sweeper:
    """Sweeps in a thread of the worker until it is stopped.

    Every worker has one, and they take turns: more workers do not mean more sweeps.
    """

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="statemachine-sweep", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop, after the batch that is under way."""
        self._stopped.set()
        self._thread.join(timeout=10)

    def _loop(self) -> None:
        while not self._stopped.wait(conf().sweep_every.total_seconds()):
            try:
                for using in recovery.aliases():
                    with _surviving(using):
                        self._pass(using)
            except Exception as error:  # a database that is away comes back; the thread must be there then
                logger.warning("The sweep failed, and will be tried again: %s", error)
            finally:
                connections.close_all()

    def _pass(self, using: str) -> None:
        self._sweep(using)
        if protocol.turn("scan", every=conf().adopt_every, using=using):
            recovery.scan_all(using=using, batch=_BATCH, stopped=partial(self._interrupted, using))

    def _sweep(self, using: str) -> None:
        """Sweep, if it is this worker's turn; a long one takes further turns, or it would look like none."""
        turn = partial(protocol.turn, "sweep", every=conf().sweep_every, using=using)
        if turn():
            while self._is_full(recovery.sweep(using=using, limit=_BATCH)):
                turn()

    def _interrupted(self, using: str) -> bool:
        """Sweep between two batches of a long scan; whether to leave the rest of it."""
        self._sweep(using)
        return self._stopped.is_set()

    def _is_full(self, done: recovery.Sweep) -> bool:
        """Whether there may be more to ring, and somebody to ring it."""
        return done.rung + done.unsent >= _BATCH and not circuit.is_open and not self._stopped.is_set()


_BATCH = 500


_sweeper: Sweeper | None = None


@signals.worker_ready.connect
def start_sweeping(**kwargs: Any) -> None:
    global _sweeper
    if conf().sweep and _sweeper is None:
        _sweeper = Sweeper()
        _sweeper.start()


# Not `worker_shutting_down`: it is sent by a signal's handler, in which waiting for a thread may never end.
@signals.worker_shutdown.connect
def stop_sweeping(**kwargs: Any) -> None:
    global _sweeper
    if _sweeper is not None:
        _sweeper.stop()
        _sweeper = None


set_publisher(CeleryPublisher())
