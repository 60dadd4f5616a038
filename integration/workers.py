"""What a worker has that is started with the configuration of this process: for checks, without a broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

__all__ = ["KnowsWorkers", "Workers", "is_configured", "workers_of"]


@dataclass(frozen=True, kw_only=True)
class Workers:
    """What a worker has.

    Attributes:
        tasks: The names of the tasks that it registers, each with the time limit of a body, if there is one.
        queues: The queues that can be sent to; None where one is made when it is needed.
        sweeping: Whether the sweep is scheduled beside the workers; None where that cannot be told.
    """

    tasks: Mapping[str, timedelta | None]
    queues: frozenset[str] | None = None
    sweeping: bool | None = None


@runtime_checkable
class KnowsWorkers(Protocol):
    """A publisher that can tell what its messages will find; the system checks ask it."""

    def workers(self) -> Workers | None:
        """What a worker has; None where nothing is configured. Imports what a worker imports, or raises."""
        ...


def is_configured(app: Any) -> bool:
    """Whether it is an application of the project, not the one that Celery makes up where there is none."""
    app.conf.broker_url  # noqa: B018  (reading loads the configuration; only then is it known)
    return bool(app.main != "default" or app.set_as_current or app.loader.configured)


def workers_of(app: Any) -> Workers:
    """What a worker of a Celery application has, whose modules are imported.

    Tasks of modules that this process imported besides count as well.
    """
    return Workers(
        tasks={name: _time_limit(task, app.conf) for name, task in app.tasks.items()},
        queues=None if app.conf.task_create_missing_queues else frozenset(app.amqp.queues),
        sweeping=_is_scheduled(app, "statemachine.sweep"),
    )


def _time_limit(task: Any, conf: Any) -> timedelta | None:
    # Before Celery 5.7 a task knows only what was configured when it was made; its worker knows the rest.
    soft, hard = task.soft_time_limit or conf.task_soft_time_limit, task.time_limit or conf.task_time_limit
    limits = [limit for limit in (soft, hard) if limit]
    return timedelta(seconds=min(limits)) if limits else None


def _is_scheduled(app: Any, task: str) -> bool | None:
    """Whether beat sends a task; None where its schedule is kept elsewhere, as in a database."""
    if any(entry["task"] == task for entry in app.conf.beat_schedule.values()):
        return True
    return False if app.conf.beat_scheduler == "celery.beat:PersistentScheduler" else None
