"""`RowBinding`: a machine on a column. What fires a row writes it, and its entry, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import connections, models, router, transaction

from integration import protocol
from integration.dispatch import Message, ring
from integration.entries import DatabaseNow, Entry
from integration.protocol import Cause, Disagreement, Subject, Superseded, Token
from integration.signals import entered, transitioned
from statemachine import (
    DeclarationError,
    Enqueue,
    LeaseLost,
    StaleState,
    State,
    StateValue,
    TransitionNotAllowed,
)
from statemachine.binding import Binding
from statemachine.engine import EventData, state_value

__all__ = ["RowBinding", "bindings", "holding", "message_of", "registered"]

logger = logging.getLogger("statemachine")

bindings: dict[tuple[str, str], RowBinding] = {}
"""Every bound field, by the label of the model that owns the column, and the field's name."""

Address = tuple[str, str, str, str]

_held: ContextVar[Mapping[Address, Token]] = ContextVar("statemachine_held", default=MappingProxyType({}))


def registered(entry: Entry) -> RowBinding | None:
    """The binding that an entry belongs to; None when this code does not know it, or its state."""
    binding = bindings.get((entry.model, entry.field))
    return binding if binding is not None and entry.state in binding.states else None


def _address(subject: Subject) -> Address:
    """What a token belongs to: the same key on another database is another row."""
    return (subject.using, subject.key["model"], subject.field, subject.object)


@contextmanager
def holding(subject: Subject, token: Token) -> Iterator[None]:
    """Let this context, and what copies it, fire the triggers that belong to the token's holder."""
    reset = _held.set({**_held.get(), _address(subject): token})
    try:
        yield
    finally:
        _held.reset(reset)


def message_of(entry: Entry, using: str) -> Message:
    """The message that rings an entry: to its task, by today's name, or for a timer to the library's own."""
    binding = registered(entry)
    step = binding.states[entry.state].step(entry.task) if binding else None
    return Message(
        entry=entry.pk,
        using=using,
        task=step.task if step else entry.task or "statemachine.timer",
        queue=step.queue if step else None,
        priority=step.priority if step else None,
    )


class RowBinding(Binding):
    """A machine on a `StateField`. Every transition is one transaction on the row's database."""

    cls: type[models.Model]
    lock = False

    @property
    def states(self) -> Mapping[str, StateValue]:
        """The states by every name that a row or an entry may hold, former ones included."""
        return self.machine.graph.named

    @property
    def owner(self) -> type[models.Model]:
        """The model whose table has the column: a parent, where the child inherits it."""
        return self.cls._meta.get_field(self.attribute).model

    @property
    def epoch(self) -> str:
        return f"{self.attribute}_epoch"

    @property
    def label(self) -> tuple[str, str]:
        return self.owner._meta.label_lower, self.attribute

    def register(self) -> None:
        bindings[self.label] = self

    def plan(self) -> dict[str, Any]:
        self._check_columns()
        self._check_triggers()
        return super().plan()

    def _check_columns(self) -> None:
        """Refuse columns of another table: one statement that writes them all is what fences a row."""
        local = {field.name for field in self.owner._meta.local_concrete_fields}
        local |= {field.attname for field in self.owner._meta.local_concrete_fields}
        for where, name in self._columns():
            if name not in local:
                raise DeclarationError(
                    f"{where} names {name!r}, which is no column of {self.owner.__name__}'s own table.",
                    hint=f"Add the field to {self.owner.__name__}: it is written together with the status.",
                )

    def _check_triggers(self) -> None:
        """Refuse what an entry says where no trigger was fired: its history could not be told apart."""
        for edge in self.machine.graph.edges:
            if edge.trigger in ("adopted", "created", "step"):
                raise DeclarationError(
                    f"The trigger {edge.trigger!r} of {edge} is what entries say where none was fired.",
                    hint="Give it another name.",
                )

    @property
    def stamps(self) -> set[str]:
        """The columns that receive instants of entry."""
        return {state.stamps for state in self.states.values() if state.stamps}

    def _columns(self) -> Iterator[tuple[str, str]]:
        """The columns that transitions write besides the status, with where they are declared."""
        for state in self.machine.graph.states:
            if state.stamps:
                yield f"stamps of state {state.name!r}", state.stamps
        for edge in self.machine.graph.edges:
            yield from ((f"writes of {edge}", name) for name in edge.writes)

    def subject(self, row: models.Model, *, using: str | None = None) -> Subject:
        """The row, on the database that it is written to: not the replica that it may have been read from."""
        using = using or router.db_for_write(type(row), instance=row)
        pk = getattr(row, self.owner._meta.pk.attname)
        return Subject(owner=self.owner, pk=pk, field=self.attribute, using=using)

    def token(self, row: models.Model) -> Token | None:
        """The token under which this row is fired: its own, lent by a stage, or that of the context."""
        address = _address(self.subject(row))
        lent: dict[Address, Token] = row.__dict__.get("_statemachine_tokens", {})
        return lent.get(address) or _held.get().get(address)

    def lend(self, row: models.Model, token: Token) -> None:
        """Mark a row as the stage's own, in whatever thread it is fired."""
        row.__dict__.setdefault("_statemachine_tokens", {})[_address(self.subject(row))] = token

    def describe(self, row: Any) -> str:
        return f"{type(row).__name__} {row.pk}"

    # What surrounds a fire

    def allows(self, row: Any, trigger: str) -> bool:
        state = self.states.get(self.read(row))
        if state is None or not state.works or trigger not in (state.done, state.failed):
            return True
        return self.token(row) is not None

    @contextmanager
    def firing(self, event: EventData) -> Iterator[None]:
        row: Any = event.model
        self._check_stored(row, event.event.name)
        self._load(event)
        subject, before = self.subject(row), dict(row.__dict__)
        try:
            with transaction.atomic(using=subject.using):
                if self.lock:
                    self._read_locked(event, subject)
                self._check_holder(row, event.event.name)
                yield
                self._announce(event, subject)
        except BaseException as error:
            self._restore(row, before)
            if isinstance(error.__cause__, Disagreement):
                self.adopt(subject)
            raise

    def _load(self, event: EventData) -> None:
        """Read a deferred status and its epoch, both at once.

        Raises:
            StaleState: The status was loaded without its epoch, and is another by now.
        """
        row: Any = event.model
        if {self.attribute, self.epoch} <= row.__dict__.keys():
            return
        stale, seen = self._stale(event), self.today(row.__dict__.get(self.attribute))
        row.refresh_from_db(fields=[self.attribute, self.epoch])
        if seen is not None and seen != self.read(row):
            raise stale

    def _read_locked(self, event: EventData, subject: Subject) -> None:
        row: Any = event.model
        weak = connections[subject.using].features.has_select_for_no_key_update
        rows: Any = models.QuerySet(type(row)).select_for_update(no_key=weak)
        try:
            row.refresh_from_db(using=subject.using, from_queryset=rows)
        except ObjectDoesNotExist as error:
            raise self._stale(event) from error

    def _check_holder(self, row: models.Model, trigger: str) -> None:
        if trigger != "to_state" and not self.allows(row, trigger):
            raise self._held_by_stage(row, trigger)

    def adopt(self, subject: Subject) -> bool:
        """Repair a row and an entry that disagree, and ring the right one. Whether there was one to open."""
        entry = protocol.adopt(subject, self.states)
        if entry is None:
            return False
        logger.warning("Adopted %s: its row and its open entry disagreed, or its timer was not armed.", entry)
        if entry.task:
            ring(message_of(entry, subject.using))
        return True

    def _check_stored(self, row: models.Model, trigger: str) -> None:
        if row._state.adding or row.pk is None:
            raise TransitionNotAllowed(
                f"This {type(row).__name__} is not stored yet, so {trigger!r} has no row to move.",
                hint="Call save() first.",
                row=self.describe(row),
                trigger=trigger,
                state=str(self.read(row)),
            )

    def _held_by_stage(self, row: models.Model, trigger: str) -> TransitionNotAllowed:
        state = self.read(row)
        return TransitionNotAllowed(
            f"{self.describe(row)} is in {state!r}, whose task alone fires {trigger!r}: fired from outside "
            "it would skip the stage.",
            hint="Wait for the task, or move the row by hand: machine.to_state(row, state, reason=…).",
            row=self.describe(row),
            trigger=trigger,
            state=state,
        )

    def _restore(self, row: models.Model, before: dict[str, Any]) -> None:
        """Put back what transitions write; what callbacks changed besides is the caller's.

        Those of the row's other fields as well: what a callback fired on them was undone with this.
        """
        beside = [binding for binding in bindings.values() if isinstance(row, binding.cls)]
        for name in {name for binding in (self, *beside) for name in binding._written}:
            if name in before:
                row.__dict__[name] = before[name]
            else:
                row.__dict__.pop(name, None)
        row.__dict__.pop("_statemachine_entered", None)

    @property
    def _written(self) -> set[str]:
        return {self.attribute, self.epoch, *(self._attname(name) for _, name in self._columns())}

    def _attname(self, column: str) -> str:
        return self._field(column).attname  # type: ignore[no-any-return]

    def _field(self, column: str) -> Any:
        return self.owner._meta.get_field(column)

    def _stale(self, event: EventData) -> StaleState | LeaseLost:
        row: Any = event.model
        epoch = row.__dict__.get(self.epoch)
        state, token = str(row.__dict__.get(self.attribute)), self.token(row)
        if token is not None and event.event.name != "to_state":
            name = self.describe(row)
            return LeaseLost.superseded(name, state=state, entry=token.entry, attempt=token.attempt)
        return StaleState.moved(self.describe(row), event.event.name, expected=state, epoch=epoch)

    # What the engine calls

    def take_step(self, event: EventData) -> bool:
        """Open the next step when a stage's holder says that it is done, and there is one."""
        row: Any = event.model
        token, state = self.token(row), self.states.get(self.read(row))
        if token is None or state is None or event.event.name != state.done or len(state.steps) < 2:
            return False
        subject, epoch = self.subject(row), getattr(row, self.epoch)
        held = subject.entry_at(state.names, epoch).filter(pk=token.entry).first()
        following = state.step_after(held.task) if held else None
        if held is None or following is None:
            return False
        try:
            entry = protocol.next_step(
                subject, token, state=state, enqueue=following, step=held.step + 1, epoch=epoch
            )
        except Superseded as error:
            raise self._stale(event) from error
        ring(message_of(entry, subject.using))
        return True

    def write(self, event: EventData, dest: State) -> None:
        row: Any = event.model
        subject = self.subject(row)
        jump, state = event.event.name == "to_state", state_value(dest)
        source, epoch = self.read(row), getattr(row, self.epoch)
        written = self._values(row, event.transition, state)
        try:
            entry = protocol.move(
                subject,
                source=self._names(source),
                epoch=epoch,
                dest=state,
                cause=self._cause(event, source),
                values=written,
                token=None if jump else self.token(row),
                anyhow=jump,
            )
        except Superseded as error:
            raise self._stale(event) from error
        row.__dict__.update({self.attribute: dest.name, self.epoch: entry.epoch})
        row.__dict__.setdefault("_statemachine_entered", {})[self.attribute] = entry
        if state.stamps:
            # The database's instant is read when it is asked for.
            row.__dict__.pop(self._attname(state.stamps), None)

    def _names(self, state: str) -> tuple[str, ...]:
        """What may be stored for a state, which may be one that nobody knows."""
        return self.states[state].names if state in self.states else (state,)

    def _values(self, row: models.Model, transition: Any, dest: StateValue) -> dict[str, Any]:
        fields = [self._field(name) for name in getattr(transition, "writes", ())]
        written = {field.attname: field.pre_save(row, add=False) for field in fields}
        return {**written, dest.stamps: DatabaseNow()} if dest.stamps else written

    def _cause(self, event: EventData, source: str) -> Cause:
        by, reason = event.kwargs.get("by"), event.kwargs.get("reason") or event.kwargs.get("error")
        return Cause(trigger=event.event.name, source=source, by=str(by or ""), reason=str(reason or ""))

    def enqueue(self, row: Any, enqueue: Enqueue) -> None:
        """Ring the entry that was just opened, after the commit. A later step is rung when its turn comes."""
        entry = row.__dict__.get("_statemachine_entered", {}).get(self.attribute)
        if entry is not None and entry.task == enqueue.task:
            ring(message_of(entry, self.subject(row).using))

    def _announce(self, event: EventData, subject: Subject) -> None:
        entry = event.model.__dict__.get("_statemachine_entered", {}).pop(self.attribute, None)
        if entry is None:
            return
        told = {
            "row": event.model,
            "field": self.attribute,
            "trigger": entry.trigger,
            "source": entry.source,
            "state": entry.state,
            "entry": entry.pk,
        }
        transitioned.send(type(event.model), **told)

        def after_commit() -> None:
            entered.send_robust(type(event.model), **told)

        if entered.has_listeners(type(event.model)):
            transaction.on_commit(after_commit, using=subject.using)
