"""Whether a worker would have what the graphs send it: by its configuration, without asking a broker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.core import checks

from integration.body import bodies
from integration.conf import conf
from integration.dispatch import publisher
from integration.fields import StateField
from integration.workers import KnowsWorkers, Workers
from statemachine import Enqueue, StateValue

__all__ = ["look"]

Messages = Iterator[checks.CheckMessage]

_LONG = timedelta(days=1)
"""The longest runtime that is not questioned."""


def look(fields: Sequence[StateField]) -> Messages:
    """What the fields need of the workers. Nothing is asked for fields that send nothing."""
    sending = [field for field in fields if any(state.works or state.after for state in field.machine.graph)]
    carrier = publisher()
    if not sending or not isinstance(carrier, KnowsWorkers):
        return
    try:
        workers = carrier.workers()
    except Exception as error:  # what the modules of a project raise when they are imported
        yield _unimportable(error)
        return
    if workers is None:
        yield _unconfigured()
        return
    yield from _sweeping(workers)
    for field in sending:
        yield from _field(field, workers)


def _unimportable(error: Exception) -> checks.CheckMessage:
    return checks.Warning(
        f"What a worker imports cannot be imported here: {type(error).__name__}: {error}",
        hint="If a worker has what is missing, run the checks there; otherwise it would not start.",
        id="statemachine.W007",
    )


def _unconfigured() -> checks.CheckMessage:
    return checks.Warning(
        "No Celery application is configured in this process, so messages go to Celery's default broker.",
        hint="Import the application in the project's __init__.py: from mysite.celery import app.",
        id="statemachine.W008",
    )


def _sweeping(workers: Workers) -> Messages:
    if not conf().sweep and workers.sweeping is False:
        yield checks.Warning(
            "STATEMACHINE_SWEEP is off, and beat has no schedule for the task statemachine.sweep: "
            "a message that is lost is never sent again.",
            hint="Schedule it, or leave STATEMACHINE_SWEEP on. Silence this where "
            "manage.py statemachine recover runs by other means.",
            id="statemachine.W013",
        )


def _field(field: StateField, workers: Workers) -> Messages:
    for state in field.machine.graph:
        for step in state.steps:
            yield from _task(field, state, step, workers)
            yield from _times(field, state, step, workers)
            if step.queue and workers.queues is not None and step.queue not in workers.queues:
                yield checks.Warning(
                    f"{state.name!r} sends {step.task!r} to the queue {step.queue!r}, which is not declared, "
                    "and task_create_missing_queues is off: it cannot be sent.",
                    hint=f"Declare the queue in task_queues. Declared are: {_listed(workers.queues)}.",
                    obj=field,
                    id="statemachine.W009",
                )


def _task(field: StateField, state: StateValue, step: Enqueue, workers: Workers) -> Messages:
    if step.task not in workers.tasks:
        yield checks.Warning(
            f"{state.name!r} runs {step.task!r}, which no worker of this configuration registers: "
            "its rows would wait for ever.",
            hint=f'Declare @stage_task("{step.task}") in a module that workers import, such as tasks.py of '
            "an installed application.",
            obj=field,
            id="statemachine.W006",
        )
    elif step.task not in bodies:
        yield checks.Error(
            f"{state.name!r} runs {step.task!r}, a plain Celery task: it would be called with the id of "
            "an entry, again and again, and never finish its stage.",
            hint=f'Declare it with @stage_task("{step.task}") of integration.tasks.',
            obj=field,
            id="statemachine.E005",
        )


def _times(field: StateField, state: StateValue, step: Enqueue, workers: Workers) -> Messages:
    if step.max_runtime > _LONG and workers.tasks.get(step.task) is None:
        yield checks.Warning(
            f"{state.name!r} lets {step.task!r} run for {step.max_runtime}: a body that hangs keeps its row "
            "for so long.",
            hint="Give it a shorter max_runtime, or a time_limit that ends it.",
            obj=field,
            id="statemachine.W010",
        )
    lease = step.lease or conf().lease
    if lease > step.max_runtime:
        yield checks.Warning(
            f"{state.name!r} claims {step.task!r} for {lease} at once, longer than its max_runtime of "
            f"{step.max_runtime}: when its worker dies, the row waits for so long.",
            hint="Give it a lease of a minute or so: while the body works it is extended.",
            obj=field,
            id="statemachine.W011",
        )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "none"
