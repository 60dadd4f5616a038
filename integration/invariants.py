"""What the entries of a row may say, one invariant after the other. Pure: nothing is read or written here.

Each invariant is a function of one entry and the one before it, and says what is wrong. The history of a row
may begin anywhere, as `prune` leaves it; from there on nothing is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from integration.binding import RowBinding
from integration.conf import conf
from integration.entries import Entry
from statemachine import Enqueue, StateValue

__all__ = ["INVARIANTS", "JUMPS", "Moment", "Violation", "Where", "judge", "stranger"]

JUMPS = ("to_state", "adopted", "created")
"""How a state is entered without an edge: by a person, by the repair of a row, and by an insert."""

Level = Literal["violation", "notice"]


@dataclass(frozen=True, kw_only=True)
class Violation:
    """What the tables show that they should not.

    Attributes:
        invariant: Its name, one of those in the reference.
        msg: The problem.
        hint: What to do about it.
        model: The label of the model.
        field: The name of the status column.
        object: The row's primary key as its entries print it; empty where it is about many rows.
        entry: The id of the entry; None where it is about the row.
        level: ``violation``, or ``notice``: it will be repaired, or belongs to another version of the code.
    """

    invariant: str
    msg: str
    hint: str = ""
    model: str
    field: str
    object: str = ""
    entry: int | None = None
    level: Level = "violation"

    def __str__(self) -> str:
        who = " ".join(filter(None, (f"{self.model}.{self.field}", self.object)))
        entry = f", entry {self.entry}" if self.entry is not None else ""
        return f"{who}{entry}: {self.invariant}: {self.msg}"


@dataclass(frozen=True)
class Where:
    """Where a row is, by its own columns."""

    status: str
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Moment:
    """An entry, what came before it, and what today's declaration says about it.

    Attributes:
        entry: The entry.
        before: The entry before it; None where the history begins.
        opened: Whether an earlier entry is open.
        binding: The pipeline.
        now: The database's clock when the entry was read.
    """

    entry: Entry
    before: Entry | None
    opened: bool
    binding: RowBinding
    now: datetime

    @property
    def state(self) -> StateValue | None:
        """The entry's state; None when this code does not know it."""
        return self.binding.states.get(self.entry.state)

    @property
    def step(self) -> Enqueue | None:
        """What is declared about the entry's task."""
        return self.state.step(self.entry.task) if self.state else None

    @property
    def new_epoch(self) -> bool:
        return self.before is not None and self.entry.epoch != self.before.epoch

    @property
    def stays(self) -> bool:
        """Whether the entry comes from its own state, in which the one before it in its epoch is too."""
        here = [self.entry.source, *([] if self.before is None or self.new_epoch else [self.before.state])]
        return all(_same(self.binding, name, self.entry.state) for name in here)

    @property
    def is_edge(self) -> bool:
        return _is_edge(self.entry)


@dataclass(frozen=True)
class Fault:
    """What an invariant found; who it is about is added later."""

    msg: str
    hint: str
    level: Level = "violation"


_FOREIGN = (
    "No transition writes this. Look for what else writes, restores or deletes rows of statemachine_entry; "
    "prune removes the history before it."
)
_JUMP = "Find out what wrote it, and move the row with manage.py statemachine to-state: it begins anew."
_SCAN = "manage.py statemachine recover --all-rows repairs it, and so does whoever fires the row."
_DEPLOY = "Expected while a deploy is under way; otherwise run the code that declares it, or move the rows."

_SLACK = timedelta(days=1)
"""For a clock that was set back, and for periods that were longer before a deploy."""

Faults = Iterator[Fault]


def open_is_not_left(at: Moment) -> Faults:
    """An entry is open, or says when it was left."""
    if at.entry.open is not True and at.entry.left_at is None:
        yield Fault("it is neither open nor left", _FOREIGN)
    elif at.entry.open is not None and at.entry.left_at is not None:
        yield Fault("it is open, and was left", _JUMP)


def left_is_not_due(at: Moment) -> Faults:
    """Nobody is rung for an entry that was left."""
    if not at.entry.open and at.entry.due_at is not None:
        yield Fault("it was left, and is due", _FOREIGN)


def one_open(at: Moment) -> Faults:
    """At most one entry of a row is open."""
    if at.opened and at.entry.open:
        yield Fault("another entry of the row is open too", _JUMP)


def open_is_last(at: Moment) -> Faults:
    """No entry follows the open one."""
    if at.before is not None and at.before.open and not at.entry.open:
        yield Fault(f"it follows entry {at.before.pk}, which is open", _JUMP)


def epochs_by_one(at: Moment) -> Faults:
    """The epoch is one more at each entry of a state; a jump may raise it further."""
    if at.before is None or not at.new_epoch or at.entry.trigger in JUMPS:
        return
    if at.entry.epoch != at.before.epoch + 1:
        yield Fault(f"epoch {at.entry.epoch} follows epoch {at.before.epoch}", _FOREIGN)


def steps_in_order(at: Moment) -> Faults:
    """The steps of a stage are numbered from 0 on, and each but the first was entered by ``step``."""
    entry, before = at.entry, at.before
    if before is not None and entry.step != (0 if at.new_epoch else before.step + 1):
        yield Fault(f"step {entry.step} follows step {before.step} of epoch {before.epoch}", _FOREIGN)
    elif entry.step and entry.trigger != "step":
        yield Fault(f"step {entry.step} was entered by {entry.trigger!r}, not by 'step'", _FOREIGN)
    elif entry.step and not at.stays:
        yield Fault(f"a step led from {entry.source!r} to {entry.state!r}", _FOREIGN)


def created_is_first(at: Moment) -> Faults:
    """Only the first entry of a row is ``created``; what came before it belongs to another row."""
    if at.entry.trigger != "created":
        return
    if at.entry.source:
        yield Fault(f"it was created, and comes from {at.entry.source!r}", _FOREIGN)
    elif at.before is not None:
        msg = "a row with the same key was there before, and its entries still are"
        yield Fault(msg, "A raw delete leaves them behind; prune removes them.", "notice")


def source_is_where_it_was(at: Moment) -> Faults:
    """An entry comes from the state of the entry before it."""
    entry, before = at.entry, at.before
    if before is None or entry.step or entry.trigger == "created":
        return
    if _same(at.binding, entry.source, before.state) or (entry.trigger == "adopted" and not entry.source):
        return
    msg = f"it comes from {entry.source!r}, and the row was in {before.state!r}"
    if entry.trigger == "to_state":  # which says where the row was, whoever had put it there
        yield Fault(msg, "Something else than a transition had moved the row, raw SQL perhaps.", "notice")
    else:
        yield Fault(msg, _FOREIGN)


def edge_is_declared(at: Moment) -> Faults:
    """An entry took a declared edge, or is a jump that says so."""
    entry, graph = at.entry, at.binding.machine.graph
    source = graph.named.get(entry.source)
    if not at.is_edge or source is None or at.state is None or not _is_trigger(at.binding, entry.trigger):
        return
    edges = [edge for edge in graph.outgoing[source.name] if edge.trigger == entry.trigger]
    if not any(edge.dest == at.state.name and not edge.internal for edge in edges):
        hint = "Nothing fires this today. If an earlier declaration did, prune the history from before."
        yield Fault(f"no edge {entry.trigger!r} leads from {entry.source!r} to {entry.state!r}", hint)


def jump_has_a_reason(at: Moment) -> Faults:
    """A jump says why."""
    if at.entry.trigger == "to_state" and not at.entry.reason.strip():
        yield Fault("a jump gives no reason", _FOREIGN)


def pending_is_armed(at: Moment) -> Faults:
    """An open entry is due in time iff a task or a timer is waited for; a parked one keeps its error."""
    entry, state = at.entry, at.state
    if not entry.open or state is None or (state.works and not entry.task):
        return
    waits = bool(entry.task or state.after)
    if waits and entry.due_at is None and not entry.error:
        what = f"task {entry.task!r}" if entry.task else "its timer"
        if entry.task or (_had_timer(entry) and not entry.attempt):
            yield Fault(f"it waits for {what}, and nobody is rung for it", _JUMP)
        else:
            yield Fault(f"it waits for {what}, which it was entered without", _SCAN, "notice")
    elif not waits and entry.due_at is not None:
        if _had_timer(entry):
            msg = f"it waits for a timer, and {entry.state!r} has none"
            yield Fault(msg, _DEPLOY, "notice")
        else:
            yield Fault("it is due, and waits for no task and no timer", _JUMP)
    elif entry.due_at is not None and entry.due_at - max(entry.ready_at, at.now) > _longest():
        hint = f"Unless STATEMACHINE_MAX_BACKOFF was lowered since, something else wrote it. {_JUMP}"
        yield Fault(f"it can be taken from {entry.ready_at}, and nobody is rung before {entry.due_at}", hint)


def _longest() -> timedelta:
    """How much later than it is ready, or than now, anything can have made an entry due.

    A claim, a wait, a backoff and a timer let it be due when it is ready, whenever that is; its opening after
    a grace, and a sweep that rang it after at most the longest backoff, in whole graces.
    """
    return conf().grace + conf().max_backoff + _SLACK


def strikes_within_bounds(at: Moment) -> Faults:
    """No claim counts twice, and none is counted above ``max_attempts``."""
    entry = at.entry
    if entry.strikes > entry.attempt:
        yield Fault(f"{entry.strikes} strikes were counted at {entry.attempt} claims", _FOREIGN)
    if entry.task and at.step is None:
        return
    most = (at.step.max_attempts if at.step else None) or conf().max_attempts
    if entry.strikes > most:
        msg = f"{entry.strikes} strikes were counted, and {most} are allowed"
        hint = "Unless max_attempts was lowered since, something else wrote the entry."
        yield Fault(msg, hint, "violation" if entry.open else "notice")


_LOOKS: tuple[Callable[[Moment], Faults], ...] = (
    open_is_not_left,
    left_is_not_due,
    one_open,
    open_is_last,
    epochs_by_one,
    steps_in_order,
    created_is_first,
    source_is_where_it_was,
    edge_is_declared,
    jump_has_a_reason,
    pending_is_armed,
    strikes_within_bounds,
)


def _name(look: Callable[..., object]) -> str:
    return look.__name__.replace("_", "-")


INVARIANTS: Mapping[str, str] = {
    **{_name(look): str(look.__doc__) for look in _LOOKS},
    "row-and-entry-agree": "The open entry tells of the row's state and epoch, with a task where it works.",
    "entry-has-a-row": "The row of an open entry is there.",
    "known-here": "This code declares the model, the field, the state, the trigger and the task.",
}
"""What is looked at, by name. The last three only ever give notice."""


def judge(
    binding: RowBinding, history: Iterable[Entry], where: Where | None, *, now: datetime
) -> Iterator[Violation]:
    """Everything that is wrong with one row: its entries in order, and where the row itself is.

    What this code does not know is passed over; see `stranger`.

    Args:
        history: Ordered by epoch and step.
        where: None when there is no such row.
        now: The database's clock when they were read.
    """
    before, opened = None, None
    for entry in history:
        at = Moment(entry=entry, before=before, opened=opened is not None, binding=binding, now=now)
        for look in _LOOKS:
            for fault in look(at):
                yield _violation(_name(look), fault, entry)
        before, opened = entry, entry if entry.open else opened
    if opened is not None or before is not None:
        yield from _judge_row(binding, opened, before, where)


def _judge_row(
    binding: RowBinding, opened: Entry | None, last: Entry | None, where: Where | None
) -> Iterator[Violation]:
    entry = opened or last
    assert entry is not None
    if where is None:
        if opened is not None:
            fault = Fault("its row is gone", "manage.py statemachine recover --all-rows closes it.", "notice")
            yield _violation("entry-has-a-row", fault, opened)
        return
    disagreement = _disagreement(binding, opened, where)
    if disagreement:
        fault = Fault(disagreement, _SCAN, "notice")
        violation = _violation("row-and-entry-agree", fault, entry)
        yield violation if opened is not None else replace(violation, entry=None)


def _disagreement(binding: RowBinding, opened: Entry | None, where: Where) -> str:
    state = binding.states.get(where.status)
    if state is None:
        return ""
    if opened is None:
        return f"the row is in {where.status!r}, epoch {where.epoch}, and has no open entry"
    if opened.epoch != where.epoch or not _same(binding, opened.state, where.status):
        return (
            f"the row is in {where.status!r}, epoch {where.epoch}, and its open entry in {opened.state!r}, "
            f"epoch {opened.epoch}"
        )
    return (
        f"{where.status!r} works, and the open entry has no task" if state.works and not opened.task else ""
    )


def stranger(binding: RowBinding, entry: Entry) -> str:
    """What of an entry this code does not know; empty when it knows all of it."""
    states = binding.states
    for name in (entry.state, entry.source):
        if name and name not in states:
            return f"the state {name!r}"
    if _is_edge(entry) and not _is_trigger(binding, entry.trigger):
        return f"the trigger {entry.trigger!r}"
    state = states.get(entry.state)
    if entry.open and entry.task and (state is None or state.step(entry.task) is None):
        return f"the task {entry.task!r} of {entry.state!r}"
    return ""


def _violation(invariant: str, fault: Fault, entry: Entry) -> Violation:
    return Violation(
        invariant=invariant,
        msg=fault.msg,
        hint=fault.hint,
        level=fault.level,
        model=entry.model,
        field=entry.field,
        object=entry.object,
        entry=entry.pk,
    )


def _same(binding: RowBinding, one: str, other: str) -> bool:
    """Whether two names mean the same state; a state may have had another name before."""
    states = binding.states
    if one in states and other in states:
        return states[one].name == states[other].name
    return one == other


def _is_edge(entry: Entry) -> bool:
    """Whether an entry says that it took an edge, so no jump, and no step of a stage either."""
    return not entry.step and entry.trigger not in JUMPS


def _is_trigger(binding: RowBinding, trigger: str) -> bool:
    return any(edge.trigger == trigger for edge in binding.machine.graph.edges)


def _had_timer(entry: Entry) -> bool:
    """Whether an entry was ready later than it was entered: it had a timer, or else was claimed."""
    return entry.ready_at - entry.entered_at > timedelta(seconds=1)
