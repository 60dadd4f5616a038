"""A row of a user's pipeline, everybody who works on it, and what they go through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from copy import copy
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import models

from integration import recovery
from integration.audit import audit
from integration.binding import bindings
from integration.dispatch import Message, circuit, set_publisher
from integration.entries import DatabaseNow, Entry, EntryQuerySet
from integration.invariants import Where
from integration.protocol import Subject, later
from integration.stage import Outcome, run
from integration.testing.attempts import watching
from integration.testing.commits import Commits
from integration.testing.judge import Judge
from integration.testing.story import hinted, printed
from integration.testing.trouble import Broken, Job, Killed, TaskError, Trouble, first_line, quiet
from statemachine import StateMachineError

if TYPE_CHECKING:
    from integration.testing.pipeline import Pipeline

__all__ = ["World"]

_AGO = timedelta(days=1)
_OWN = "statemachine_entry"
_KEPT = (list, set, Judge)


class World:
    """One row, its messages, and the story of what happened to it.

    Everything that is done goes through `do`: somebody does it, perhaps meets a trouble, and afterwards the
    row's history is judged.

    Attributes:
        messages: What waits to be delivered.
        past: What was delivered already, and may come again.
        away: Whether the broker refuses messages.
        strayed: Whether another program wrote the status, so that something is to be adopted.
        story: What happened, a line each.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline, self.binding = pipeline, pipeline.binding
        self.commits = Commits(pipeline.using, self)
        self.messages: list[Message] = []
        self.past: list[Message] = []
        self.story: list[str] = []
        self.started: set[tuple[int, int]] = set()
        self._judge = Judge(self.binding)
        self.wrongs: list[str] = []
        self.away = self.strayed = self.broken = False
        self.task_fails = False
        self.pk: Any = None
        self._outside: object = None
        self._jobs: list[Job] = []
        # What a body holds is in its context: nobody else's work may begin in there.
        self._context = copy_context()

    # How it begins and ends

    @contextmanager
    def opened(self) -> Iterator[World]:
        """Make the row, and undo everything at the end of the block; an error is told with its story."""
        with ExitStack() as stack:
            stack.enter_context(self.commits.imitated())
            stack.callback(set_publisher, set_publisher(self))
            stack.enter_context(watching(self))
            stack.enter_context(quiet())
            stack.enter_context(self.telling())
            self._begin()
            yield self

    def _begin(self) -> None:
        def create() -> None:
            self.pk = self.pipeline.make()

        self.do("somebody creates the row", create)
        self.tell(f"{self.binding.owner.__name__} {self.pk} is in {self.where().status!r}")

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Add the story to what is raised, once."""
        try:
            yield
        except Exception as error:
            if not self.broken:
                self.broken = True
                error.add_note(f"\nThe story:\n{printed(self.story)}")
            raise

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Let nothing of the block have happened."""
        kept = {name: copy(value) for name, value in vars(self).items() if isinstance(value, _KEPT)}
        with self.commits.undone():
            yield
        self.commits.forget()
        vars(self).update(kept)

    # What is there

    @property
    def subject(self) -> Subject:
        _, field = self.binding.label
        return Subject(owner=self.binding.owner, pk=self.pk, field=field, using=self.pipeline.using)

    @property
    def entries(self) -> EntryQuerySet:
        return self.subject.entries.order_by("epoch", "step")

    def row(self) -> Any:
        """The row, read anew.

        Raises:
            Broken: It is gone.
        """
        row = models.QuerySet(self.pipeline.model, using=self.pipeline.using).filter(pk=self.pk).first()
        if row is None:
            raise Broken("The row is gone: something deleted it.")
        return row

    def where(self) -> Where:
        row = self.row()
        return Where(self.binding.today(self.binding.read(row)), getattr(row, self.binding.epoch))

    def pending(self) -> Entry | None:
        return self.entries.open().first()

    # Who does something

    def do(self, who: str, act: Callable[[], object], **about: Any) -> Job:
        """Let somebody do something, and judge what the tables say then; what is refused is told.

        Args:
            about: What else is known of the `Job`.
        """
        job = Job(who, **about)
        self.tell(who)
        self._jobs.append(job)
        try:
            self._context.copy().run(act)
        except Killed:
            self.commits.forget()
        except StateMachineError as error:
            self.tell(f"  is refused: {first_line(error)}")
        finally:
            self._jobs.pop()
        if job.seen is not None and job.seen != self._as_it_is(job):
            self.wrong(f"It had been overtaken, and still changed something: {who}.")
        if not self._jobs:
            self.judge()
        return job

    def _as_it_is(self, job: Job) -> object:
        """What somebody who was overtaken must leave as it is."""
        return self.where(), list(Entry.objects.using(self.pipeline.using).filter(pk=job.entry or 0).values())

    @property
    def at_work(self) -> Job | None:
        """Who does something right now; others who sleep meanwhile are not meant."""
        return self._jobs[-1] if self._jobs else None

    def tell(self, line: str) -> None:
        self.story.append("  " * max(0, len(self._jobs) - 1) + line)

    def say(self, line: str) -> None:
        """Tell it of who is at work."""
        self.tell(f"  {line}")

    def wrong(self, what: str) -> None:
        """Keep what must not be, until whoever does it has ended: it may be swallowed where it happens."""
        self.wrongs.append(what)
        self.say(f"WRONG: {what}")

    def deliver(self, message: Message, **about: Any) -> Job:
        """Let a worker answer a message."""
        task = "" if message.task == "statemachine.timer" else message.task

        def answer() -> None:
            outcome = run(message.entry, using=message.using, task=task, heartbeat=False)
            self.say(f"the message is {outcome.value}{self._error(message)}")
            if task and outcome is Outcome.PARKED:
                self.wrong(
                    f"A failed stage could not be given up, and waits for a person{self._error(message)}."
                )

        who = f"a worker takes the message for {message.task}, entry {message.entry}"
        return self.do(who, answer, entry=message.entry, **about)

    def _error(self, message: Message) -> str:
        entry = Entry.objects.using(message.using).filter(pk=message.entry).first()
        return f": {entry.error}" if entry is not None and entry.open and entry.error else ""

    def sweep(self, *, trouble: Trouble | None = None) -> None:
        """Let leases, backoffs and waits be over, and let a sweep ring what is overdue then."""
        self.elapse()
        sweep = partial(recovery.sweep, using=self.pipeline.using)
        with self._alone(self._pending()):
            self.do("a sweep rings what is overdue", sweep, trouble=trouble)

    def scan(self) -> None:
        scan = partial(recovery.scan_all, using=self.pipeline.using, everything=True)
        with self._alone([self.binding.label]):
            self.do("a scan looks for rows to adopt", scan)

    def _pending(self) -> list[tuple[str, str]]:
        """The pipelines that have something pending: a stage may wait for rows of another, which it made."""
        due = Entry.objects.using(self.pipeline.using).overdue().order_by()
        return list(due.values_list("model", "field").distinct())

    @contextmanager
    def _alone(self, labels: Iterable[tuple[str, str]]) -> Iterator[None]:
        """Look at no other pipelines: a project may have many, and most of the time would be theirs."""
        others = {label: other for label, other in bindings.items() if label not in labels}
        for label in others:
            del bindings[label]
        try:
            yield
        finally:
            bindings.update(others)

    def elapse(self, *, timers: bool = False) -> None:
        """Let time pass, until every lease, backoff and wait is over; and every timer, if it is said."""
        circuit.reset()
        entries = Entry.objects.using(self.pipeline.using).open().filter(due_at__isnull=False)
        then = later(None, -_AGO)
        with self._unwatched():
            (entries if timers else entries.exclude(task="")).update(ready_at=then, due_at=then)

    @contextmanager
    def _unwatched(self) -> Iterator[None]:
        """Do what nobody in the story does."""
        self._jobs.append(Job("time"))
        try:
            yield
        finally:
            self._jobs.pop()

    def fire(self, trigger: str, *, trouble: Trouble | None = None) -> Job:
        """Let a person fire a trigger, as the user says that a person does."""
        drive = self.pipeline.drive.get(trigger, {})

        def act() -> None:
            with hinted(
                "" if drive else f"If a person brings something along: drive={{{trigger!r}: {{…}}}}."
            ):
                moved = self._drive(self.row(), trigger, drive)
            self.say(
                f"it is in {self.where().status!r} now" if moved else "it is refused: no guard let it pass"
            )

        again = None if callable(drive) else act
        return self.do(f"a person fires {trigger!r}", act, trouble=trouble, again=again)

    def _drive(self, row: Any, trigger: str, drive: Mapping[str, Any] | Callable[[Any], object]) -> bool:
        if not callable(drive):
            return self.binding.machine.fire(row, trigger, **drive)
        before = self.where()
        drive(row)
        return self.where() != before

    def jump(self, state: str, *, reason: str = "an operator", trouble: Trouble | None = None) -> None:
        """Let an operator put the row into a state."""
        act = lambda: self.binding.machine.to_state(self.row(), state, reason=reason)  # noqa: E731
        self.do(f"an operator moves it to {state!r}", act, trouble=trouble, again=act)

    def stray(self, state: str) -> None:
        """Let another program write the status."""
        self.strayed = True
        write = lambda: self.subject.rows.update(**{self.subject.field: state})  # noqa: E731
        self.do(f"another program writes {state!r} into its status", write)

    # What the broker does

    def publish(self, message: Message) -> None:
        self.check_alive()
        self.come_to("is about to send a message", busy=True)
        if self.commits.open:
            self.wrong(f"A message for entry {message.entry} is sent before the transaction is committed.")
        if self.away:
            self.say(f"the message for {message.task} is not sent: the broker is away")
            raise ConnectionError("the broker is away")
        self.messages.append(message)
        self.come_to("has sent a message", busy=True)

    # What happens to who is at work

    def check_alive(self) -> None:
        if self.at_work is not None and self.at_work.dead:
            raise Killed

    def come_to(self, point: str, *, busy: bool = False) -> None:
        """Count a point, and let the trouble happen if this is where."""
        job = self.at_work
        if job is None:
            return
        job.points += 1
        if job.doomed and job.in_body:
            self._die(job, point)
        if job.trouble is None or job.met or job.points <= job.trouble.at:
            return
        if job.trouble.kind == "crash":
            self._die(job, point)
        if not busy and job.in_body >= (job.trouble.kind == "error"):
            job.met = True
            self._suffer(job, point)

    def _die(self, job: Job, point: str) -> None:
        job.met = job.dead = True
        self.say(f"dies when it {point}")
        raise Killed

    def _suffer(self, job: Job, point: str) -> None:
        assert job.trouble is not None
        if job.trouble.kind == "error":
            self.say(f"its body raises an error when it {point}")
            raise TaskError("an error of this test")
        self.say(f"falls asleep when it {point}, and time passes")
        before = self.where() if self.pk is not None else None
        self._meanwhile(job, twice=job.trouble.twice)
        self.say("wakes up, and goes on")
        if self._is_overtaken(job, before):
            job.seen = self._as_it_is(job)

    def _meanwhile(self, job: Job, *, twice: bool) -> None:
        """Let others do what a sleeper is taken to have left, or what it was about to do."""
        self.sweep()
        if job.again is not None:
            self.do("meanwhile somebody else does the same", job.again)
        for message in [message for message in self.messages if message.entry == job.entry]:
            self.answer(message, doomed=twice)

    def _is_overtaken(self, job: Job, before: Where | None) -> bool:
        """Whether others took the place of a sleeper, so that nothing that it does from now on may count."""
        if self.strayed or (job.entry is None and job.again is None):
            return False
        if job.entry is None:
            return self.where() != before
        taken = Entry.objects.using(self.pipeline.using).get(pk=job.entry)
        return bool(job.attempt) and (taken.attempt != job.attempt or not taken.open)

    def answer(self, message: Message, **about: Any) -> Job:
        """Deliver a message that waits."""
        self.messages.remove(message)
        self.past.append(message)
        return self.deliver(message, **about)

    def begun(self) -> None:
        self._outside = self.pipeline.outside()

    def ended(self) -> None:
        if self.pipeline.outside() != self._outside:
            self._outside = self.pipeline.outside()
            self.wrong(
                "Something was done outside the database in a transaction, before it was committed: "
                "had it been rolled back, that would stay done. Do it in transaction.on_commit()."
            )

    def committed(self, tables: frozenset[str]) -> None:
        job = self.at_work
        own = {_OWN, self.binding.owner._meta.db_table}
        if job is None or not job.in_body:
            return
        if told := ", ".join(sorted(tables - {_OWN})):
            self.say(f"commits what it wrote to {told}")
        if job.lost and tables - own:
            self.wrong(
                "The body was told that its lease is lost, and went on to write: let LeaseLost end it."
            )

    # What must hold

    def judge(self) -> None:
        """Check what the tables say, now that nobody is in the middle of anything.

        Raises:
            Broken: They say what they must not.
        """
        history = [] if self.pk is None else list(self.entries.annotate(now=DatabaseNow()))
        found = self._judge.wrongs(history, self.where(), strayed=self.strayed) if history else ()
        if wrongs := [*self.wrongs, *found]:
            raise Broken("\n".join(wrongs))

    def audit(self) -> None:
        """Check the whole pipeline, as ``manage.py statemachine audit`` does.

        Raises:
            Broken: It finds a violation.
        """
        found = audit(using=self.pipeline.using, fields=[self.pipeline.field])
        if violations := [str(violation) for violation in found if violation.level == "violation"]:
            raise Broken("\n".join(violations))
