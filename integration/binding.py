"""`RowBinding`: a machine on a column. What fires a row writes it, and its entry, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import models, router, transaction

from integration import protocol
from integration.dispatch import Message, ring
from integration.entries import DatabaseNow, Entry
from integration.protocol import Cause, Disagreement, Subject, Superseded, Token
from integration.signals import entered, transitioned
from statemachine import Enqueue, LeaseLost, StaleState, State, StateMachine, StateValue, TransitionNotAllowed
from statemachine.binding import Binding
from statemachine.engine import EventData, state_value

__all__ = ["RowBinding", "bindings", "holding", "message_of", "registered"]

bindings: dict[tuple[str, str], RowBinding] = {}
"""Every bound field, by the label of the model that owns the column, and the field's name."""

_held: ContextVar[Mapping[tuple[str, str, str], Token]] = ContextVar("statemachine_held", default={})


def registered(entry: Entry) -> RowBinding | None:
    """The binding that an entry belongs to; None when this code does not know it, or its state."""
    binding = bindings.get((entry.model, entry.field))
    return binding if binding is not None and entry.state in binding.states else None


@contextmanager
def holding(subject: Subject, token: Token) -> Iterator[None]:
    """Let this context, and what copies it, fire the triggers that belong to the token's holder."""
    key = tuple(subject.key.values())
    reset = _held.set({**_held.get(), key: token})  # type: ignore[dict-item]
    try:
        yield
    finally:
        _held.reset(reset)


def message_of(entry: Entry, using: str) -> Message:
    """The message that rings an entry: to its task, or for a timer to the library's own."""
    binding = registered(entry)
    steps = binding.states[entry.state].steps if binding else ()
    step = next((step for step in steps if step.task == entry.task), None)
    return Message(
        entry=entry.pk,
        using=using,
        task=entry.task or "statemachine.timer",
        queue=step.queue if step else None,
        priority=step.priority if step else None,
    )


class RowBinding(Binding):
    """A machine on a `StateField`. Every transition is one transaction on the row's database."""

    cls: type[models.Model]
    lock = False

    @property
    def states(self) -> Mapping[str, StateValue]:
        return self.machine.graph.by_name

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

    def subject(self, row: models.Model) -> Subject:
        using = row._state.db or router.db_for_write(type(row), instance=row)
        pk = getattr(row, self.owner._meta.pk.attname)
        return Subject(owner=self.owner, pk=pk, field=self.attribute, using=using)

    def token(self, row: models.Model) -> Token | None:
        """The token under which this row is fired: its own, lent by a stage, or that of the context."""
        key = tuple(self.subject(row).key.values())
        lent = row.__dict__.get("_statemachine_tokens", {})
        return lent.get(key) or _held.get().get(key)  # type: ignore[arg-type]

    def lend(self, row: models.Model, token: Token) -> None:
        """Mark a row as the stage's own, in whatever thread it is fired."""
        key = tuple(self.subject(row).key.values())
        row.__dict__.setdefault("_statemachine_tokens", {})[key] = token

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
        row = event.model
        self._check_stored(row, event.event.name)
        if event.event.name != "to_state" and not self.allows(row, event.event.name):
            raise self._held_by_stage(row, event.event.name)
        subject, before = self.subject(row), dict(row.__dict__)
        try:
            with transaction.atomic(using=subject.using):
                if self.lock:
                    queryset = self.owner._base_manager.using(subject.using).select_for_update()
                    row.refresh_from_db(using=subject.using, from_queryset=queryset)
                yield
                self._announce(event, subject)
        except Disagreement:
            self._restore(row, before)
            protocol.adopt(subject, self.states)
            raise self._stale(event, before) from None
        except Superseded:
            self._restore(row, before)
            raise self._stale(event, before) from None
        except BaseException:
            self._restore(row, before)
            raise

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
        """Put back what a transition writes; what callbacks changed besides is the caller's."""
        for name in self._written:
            if name in before:
                row.__dict__[name] = before[name]
            else:
                row.__dict__.pop(name, None)
        row.__dict__.pop("_statemachine_entered", None)

    @property
    def _written(self) -> set[str]:
        graph = self.machine.graph
        names = {name for edge in graph.edges for name in edge.writes}
        names |= {state.stamps for state in graph.states if state.stamps}
        fields = [self.cls._meta.get_field(name).attname for name in names]
        return {self.attribute, self.epoch, *fields}

    def _stale(self, event: EventData, before: Mapping[str, Any]) -> StaleState | LeaseLost:
        row, epoch = event.model, before.get(self.epoch)
        state, token = str(before.get(self.attribute)), self.token(row)
        if token is not None and event.event.name != "to_state":
            name = self.describe(row)
            return LeaseLost.superseded(name, state=state, entry=token.entry, attempt=token.attempt)
        return StaleState.moved(self.describe(row), event.event.name, expected=state, epoch=epoch)

    # What the engine calls

    def write(self, event: EventData, dest: State) -> None:
        row, subject = event.model, self.subject(event.model)
        jump, state = event.event.name == "to_state", state_value(dest)
        source, epoch = self.read(row), getattr(row, self.epoch)
        written = self._values(row, event.transition, state)
        entry = protocol.move(
            subject,
            source=source,
            epoch=epoch,
            dest=state,
            cause=self._cause(event, source),
            values=written,
            token=None if jump else self.token(row),
            anyhow=jump,
        )
        row.__dict__.update({self.attribute: dest.name, self.epoch: epoch + 1})
        row.__dict__["_statemachine_entered"] = entry
        if state.stamps:
            row.__dict__.pop(state.stamps, None)  # the database's instant is read when it is asked for

    def _values(self, row: models.Model, transition: Any, dest: StateValue) -> dict[str, Any]:
        written = {name: getattr(row, name) for name in getattr(transition, "writes", ())}
        return {**written, dest.stamps: DatabaseNow()} if dest.stamps else written

    def _cause(self, event: EventData, source: str) -> Cause:
        by, reason = event.kwargs.get("by"), event.kwargs.get("reason") or event.kwargs.get("error")
        return Cause(trigger=event.event.name, source=source, by=str(by or ""), reason=str(reason or ""))

    def enqueue(self, row: Any, enqueue: Enqueue) -> None:
        """Ring the entry that was just opened, after the commit. A later step is rung when its turn comes."""
        entry = row.__dict__.get("_statemachine_entered")
        if entry is not None and entry.task == enqueue.task:
            ring(message_of(entry, self.subject(row).using))

    def _announce(self, event: EventData, subject: Subject) -> None:
        entry = event.model.__dict__.pop("_statemachine_entered", None)
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


def bound(machine: StateMachine, cls: type[models.Model], attribute: str) -> RowBinding:
    """The binding of a machine on a column."""
    binding = next(b for b in machine.bindings if b.cls is cls and b.attribute == attribute)
    assert isinstance(binding, RowBinding)
    return binding
