"""One row, driven through its real stages: to its end, into an error, and past a message that comes twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import models
from django.utils.module_loading import autodiscover_modules

from integration.binding import RowBinding, bindings, message_of
from integration.dispatch import Message, publish, set_publisher
from integration.entries import Entry
from integration.fields import StateField, state_fields
from integration.protocol import Subject
from integration.stage import Body, Outcome, Stage, bodies, run
from integration.testing.running import commit_callbacks
from statemachine import Edge, Path, StateMachine, StateValue

__all__ = ["Failures", "Redeliveries", "Stuck", "fail_at", "redeliver_at", "run_to_completion"]


class Stuck(AssertionError):
    """The row does not come to an end by itself; the message says where, and why."""


def run_to_completion(
    row: models.Model, *, field: str | None = None, timers: bool = False, limit: int = 100
) -> Path:
    """Run what is pending for a row, and what follows, until it is at an end or waits for somebody.

    Backoffs and waits count as elapsed, and so do the timers of states that wait for nobody else. The row
    is read again. What was dispatched for other rows meanwhile is sent when this one has come to its end.

    Args:
        row: A stored row.
        field: Its `StateField`, where it has several.
        timers: Whether timers ring where somebody is waited for, too.
        limit: How many messages are delivered at most.

    Returns:
        The way that it went, from where it was. A jump is an edge of its own: ``to_state``, ``adopted``.

    Raises:
        Stuck: It is parked, no body of its task is registered, nobody answers, or the limit is used up.
        ValueError: The row is not stored, or has no such field.
    """
    binding = _field(row, field).binding
    if row.pk is None or row._state.adding:
        raise ValueError(f"This {type(row).__name__} is not stored: call save() first.")
    with _kept_messages(binding.subject(row).using):
        drive = _Drive(binding, binding.subject(row), limit)
        path = drive.run(timers=timers)
    row.refresh_from_db()
    return path


def _field(row: models.Model, name: str | None) -> StateField:
    fields = [field for field in state_fields(type(row)) if name in (None, field.name)]
    if len(fields) != 1:
        names = ", ".join(field.name for field in state_fields(type(row)))
        raise ValueError(f"{type(row).__name__} has the state fields {names or 'none'}: pass field=…")
    return fields[0]


class _Keeping:
    """Keeps messages, which the drive does not need: it reads what is pending from the table."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def publish(self, message: Message) -> None:
        self.messages.append(message)


@contextmanager
def _kept_messages(using: str) -> Iterator[None]:
    keeping = _Keeping()
    before = set_publisher(keeping)
    try:
        commit_callbacks(using)
        yield
    finally:
        set_publisher(before)
        for message in keeping.messages:
            if Entry.objects.using(message.using).open().filter(pk=message.entry).exists():
                publish(message)


class _Drive:
    """Answers the open entry of one row again and again."""

    def __init__(self, binding: RowBinding, subject: Subject, limit: int) -> None:
        self._binding, self._subject, self._limit = binding, subject, limit
        self._first = self._entry()

    def run(self, *, timers: bool) -> Path:
        entry = self._first
        for _ in range(self._limit):
            if not self._is_pending(entry, timers):
                return self._path()
            self._answer(entry)
            entry = self._entry()
        raise self._stuck(entry, f"{self._limit} messages were delivered, and it still moves on")

    def _entry(self) -> Entry:
        """The open entry; one that a raw update left behind is adopted first."""
        if self._subject.rows.first() is None:
            raise Stuck(f"{self._subject} is gone.")
        self._binding.adopt(self._subject)
        entry = self._subject.entries.open().first()
        if entry is None or entry.state not in self._binding.states:
            raise Stuck(f"{self._subject} is in a state that this code does not know.")
        return entry

    def _is_pending(self, entry: Entry, timers: bool) -> bool:
        state = self._binding.states[entry.state]
        if entry.due_at is None and entry.error and (state.works or state.after):
            raise self._stuck(entry, "it is parked")
        if state.works:
            return True
        ends = state.final or state.name in self._binding.machine.graph.goals
        return entry.due_at is not None and not ends and (timers or not state.waits_for)

    def _answer(self, entry: Entry) -> None:
        message = message_of(entry, self._subject.using)
        task = message.task if entry.task else ""
        outcome = run(entry.pk, using=message.using, task=task, heartbeat=False, elapsed=True)
        commit_callbacks(message.using)
        if outcome is Outcome.DROPPED and entry.task and message.task not in bodies:
            why = f"no body of {message.task!r} is registered: import the module that declares it"
            raise self._stuck(entry, why)
        if outcome is Outcome.DROPPED:
            raise self._stuck(entry, "its message was dropped")

    def _stuck(self, entry: Entry, why: str) -> Stuck:
        attempts = f" after attempt {entry.attempt}" if entry.attempt else ""
        error = f"\nIts error: {entry.error}" if entry.error else ""
        return Stuck(
            f"{self._subject} is stuck in {entry.state!r}{attempts}: {why}.{error}\nIts way:\n{self._path()}"
        )

    def _path(self) -> Path:
        names, first = self._binding.states, self._first
        path = Path(names[first.state].name)
        for entry in self._subject.entries.filter(epoch__gt=first.epoch, step=0).order_by("epoch"):
            path = path.then(self._edge(path.end, entry.trigger, names[entry.state]))
        return path

    def _edge(self, source: str, trigger: str, dest: StateValue) -> Edge:
        leaving = self._binding.machine.graph.open[source]
        taken = (edge for edge in leaving if (edge.trigger, edge.dest) == (trigger, dest.name))
        return next(taken, Edge(trigger=trigger, source=source, dest=dest.name))


@dataclass
class Failures:
    """What `fail_at` did.

    Attributes:
        raised: How often a body was made to fail.
    """

    raised: int = 0


@contextmanager
def fail_at(
    state: str,
    *,
    times: int | None = 1,
    error: BaseException | type[BaseException] | None = None,
    machine: StateMachine | None = None,
) -> Iterator[Failures]:
    """Make the next attempts at a state's stage fail, while the context lasts; its body is not run then.

    Args:
        state: The state, in every pipeline that has one of that name and that works.
        times: How many attempts fail; None for all of them, so that the stage is given up.
        error: What is raised; a `PermanentFailure` is given up at once.
        machine: The one pipeline that is meant.

    Raises:
        ValueError: No such state has a task, or nothing declares the body of its task.
        AssertionError: No attempt was made to fail, so that the test showed nothing.
    """
    what = error if error is not None else RuntimeError(f"made to fail by fail_at({state!r})")
    raised = what() if isinstance(what, type) else what
    done = Failures()

    def failing(body: Body, stage: Stage) -> object:
        if times is not None and done.raised >= times:
            return body(stage)
        done.raised += 1
        raise raised.with_traceback(None)  # or each attempt would tell of all before it

    with _bodies_of(state, machine, failing):
        yield done
    if not done.raised:
        raise AssertionError(f"fail_at({state!r}): no stage of {state!r} was run, so nothing failed.")


@dataclass
class Redeliveries:
    """What `redeliver_at` did.

    Attributes:
        outcomes: What became of each message that was delivered again.
    """

    outcomes: list[Outcome] = field(default_factory=list)


@contextmanager
def redeliver_at(state: str, *, machine: StateMachine | None = None) -> Iterator[Redeliveries]:
    """Deliver each message of a state's stage again: while its body runs, and late, when the context ends.

    Args:
        state: The state, in every pipeline that has one of that name and that works.
        machine: The one pipeline that is meant.

    Raises:
        ValueError: No such state has a task, or nothing declares the body of its task.
        AssertionError: The second delivery did something; or no stage of the state was finished, so that the
            test showed nothing.
    """
    done, seen = Redeliveries(), dict[tuple[int, str], str]()
    wrong: list[str] = []  # told at the end: in a body it would be one more failed attempt
    again = False

    def delivering(body: Body, stage: Stage) -> object:
        if again:
            wrong.append("ran the body once more")
            return None
        key = stage._entry.pk, stage._subject.using
        seen[key] = stage._entry.task
        result = body(stage)
        deliver(*key)
        return result

    def deliver(pk: int, using: str) -> None:
        nonlocal again
        before, again = _everything(pk, using), True
        try:
            done.outcomes.append(run(pk, using=using, task=seen[pk, using], heartbeat=False))
        finally:
            again = False
        if done.outcomes[-1] is not Outcome.DROPPED:
            wrong.append(f"was {done.outcomes[-1].value}, not dropped")
        if _everything(pk, using) != before:
            wrong.append("wrote to the row's entries")

    with _bodies_of(state, machine, delivering):
        yield done
        late = [key for key in seen if not Entry.objects.using(key[1]).open().filter(pk=key[0]).exists()]
        for key in late:
            deliver(*key)
    if wrong:
        raise AssertionError(f"redeliver_at({state!r}): the second delivery {'; it '.join(wrong)}.")
    if not late:
        raise AssertionError(f"redeliver_at({state!r}): no stage of {state!r} was finished.")


def _everything(pk: int, using: str) -> list[Any]:
    """The history of the entry's row."""
    entries = Entry.objects.using(using)
    entry = entries.get(pk=pk)
    same = entries.filter(model=entry.model, field=entry.field, object=entry.object)
    return list(same.order_by("pk").values())


@contextmanager
def _bodies_of(
    state: str, machine: StateMachine | None, instead: Callable[[Body, Stage], object]
) -> Iterator[None]:
    """Do something instead of the bodies of a state; those that other states share run there as ever."""
    meant = [found for found in bindings.values() if machine in (None, found.machine)]
    tasks = {step.task for found in meant if state in found.states for step in found.states[state].steps}
    before = {task: _declared(task, state) for task in sorted(tasks)}
    if not before:
        raise ValueError(f"No state {state!r} with a task is declared: name one that works.")
    bodies.update({task: _replaced(body, state, meant, instead) for task, body in before.items()})
    try:
        yield
    finally:
        bodies.update(before)


def _replaced(
    body: Body, state: str, meant: list[RowBinding], instead: Callable[[Body, Stage], object]
) -> Body:
    def replaced(stage: Stage) -> object:
        at = stage._binding.states[stage._entry.state]
        here = stage._binding in meant and state in at.names
        return instead(body, stage) if here else body(stage)

    return replaced


def _declared(task: str, state: str) -> Body:
    if task not in bodies:
        autodiscover_modules("tasks")
    if task not in bodies:
        raise ValueError(f"Nothing declares the body of {task!r}, the task of {state!r}: import its module.")
    return bodies[task]
