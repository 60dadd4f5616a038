"""transitions' state, condition, edge and event, put right for rows.

transitions' engine runs every edge; what differs is listed in ``docs/reference/deviations.md``:
a guard passes when it is truthy, an exception undoes the transition in memory too, the state is
written through the binding, and an enum whose values are strings is known by its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from enum import Enum
from typing import Any

from transitions import MachineError
from transitions import core as upstream
from transitions.core import EventData

from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError, TransitionNotAllowed
from statemachine.graph import Edge, StateValue

__all__ = ["Callback", "Condition", "Event", "EventData", "ModelMethod", "State", "Transition", "state_key"]

Callback = str | Callable[..., Any]


def state_key(state: Any) -> Any:
    """What a state is registered and stored under: a string enum's value, else a member's name."""
    if isinstance(state, upstream.State):
        return state.name
    if isinstance(state, Enum):
        return state.value if isinstance(state.value, str) else state.name
    return state


class ModelMethod(str):
    """The name of an ``on_enter_<state>`` method that was found on a class; others need not have it."""


class State(upstream.State):
    """A state, and everything that is said about it: once, here.

    Args:
        name: What the status column holds, or an enum member.
        label: What a person reads; the name, made readable, by default.
        tags: Free words to ask about: ``"dashboard" in team.state.tags``.
        phase: The part of the pipeline that it belongs to; drawn as a cluster.
        final: A run may end here.
        waits_for: Who moves a row out of here, where no task does.
        after: A durable timer of a waiting state: ``(timedelta, trigger)``.
        done: The trigger of a stage that finished.
        failed: The trigger of a stage that was given up.
        stamps: The column that receives the instant of entry.

    Raises:
        DeclarationError: A step's task appears twice, or a timer is malformed or beside a task.
    """

    tags: Iterable[str] = ()
    label = phase = waits_for = stamps = ""
    after = None
    done, failed = "advance", "fail"

    def __init__(
        self,
        name: str | Enum,
        on_enter: Callback | Iterable[Callback] | None = None,
        on_exit: Callback | Iterable[Callback] | None = None,
        ignore_invalid_triggers: bool | None = None,
        final: bool = False,
        *,
        label: str = "",
        tags: Iterable[str] | None = None,
        phase: str | None = None,
        waits_for: str = "",
        after: tuple[timedelta, str] | None = None,
        done: str = "advance",
        failed: str = "fail",
        stamps: str = "",
        **features: Any,
    ) -> None:
        super().__init__(
            name,  # type: ignore[arg-type]
            on_enter=on_enter,  # type: ignore[arg-type]
            on_exit=on_exit,  # type: ignore[arg-type]
            ignore_invalid_triggers=ignore_invalid_triggers,  # type: ignore[arg-type]
            final=final,
            **features,
        )
        # A copy: callbacks that are found on a model are added, and the caller's list is the caller's.
        self.on_enter, self.on_exit = list(self.on_enter), list(self.on_exit)
        self.label = str(label or getattr(name, "label", "") or self.name)
        if tags is not None:
            self.tags = tuple(tags)
        self.phase = phase  # type: ignore[assignment]
        self.waits_for, self.after, self.stamps = waits_for, after, stamps  # type: ignore[assignment]
        self.done, self.failed = done, failed
        self._check()

    def _check(self) -> None:
        tasks = [step.task for step in self.steps]
        if len(tasks) != len(set(tasks)):
            raise DeclarationError(
                f"State {self.name!r} enqueues a task twice: {', '.join(tasks)}.",
                hint="A step is identified by its task: give each step a task of its own.",
            )
        if self.after is None:
            return
        if not (isinstance(self.after, tuple) and len(self.after) == 2 and isinstance(self.after[0], timedelta)):
            raise DeclarationError(
                f"State {self.name!r} has after={self.after!r}.",
                hint='Write after=(timedelta(days=30), "trigger").',
            )
        if tasks:
            raise DeclarationError(
                f"State {self.name!r} has a timer and a task.",
                hint="A timer belongs to a state that waits; a task has max_runtime and max_attempts.",
            )

    @property
    def name(self) -> str:
        return state_key(self._name)  # type: ignore[no-any-return]

    @property
    def value(self) -> Any:
        """What is assigned to the attribute: a string, or the member of an enum whose values are none."""
        return state_key(self._name) if isinstance(self._name, str | Enum) and self._stored else self._name

    @property
    def _stored(self) -> bool:
        return not isinstance(self._name, Enum) or isinstance(self._name.value, str)

    @property
    def steps(self) -> tuple[Enqueue, ...]:
        """The tasks of the stage, in order."""
        return steps_of(self)


def steps_of(state: upstream.State) -> tuple[Enqueue, ...]:
    return tuple(callback for callback in state.on_enter if isinstance(callback, Enqueue))


def state_value(state: upstream.State) -> StateValue:
    """The frozen value of a state, transitions' own included."""
    declared = {
        name: getattr(state, name)
        for name in ("label", "phase", "waits_for", "after", "done", "failed", "stamps")
        if isinstance(state, State)
    }
    tags = tuple(getattr(state, "tags", ()))
    return StateValue(
        name=state.name, final=state.final, steps=steps_of(state), **{**declared, "tags": tags}
    )


class Condition(upstream.Condition):
    """A guard; it passes when it is truthy, or when it is falsy under ``unless``."""

    def check(self, event_data: EventData) -> bool:
        predicate = event_data.machine.resolve_callable(self.func, event_data)
        if event_data.machine.send_event:
            return bool(predicate(event_data)) is self.target
        return bool(predicate(*event_data.args, **event_data.kwargs)) is self.target

    def __str__(self) -> str:
        name = self.func if isinstance(self.func, str) else getattr(self.func, "__name__", repr(self.func))
        return name if self.target else f"not {name}"


class Transition(upstream.Transition):
    """An edge.

    Args:
        writes: Columns that are written together with the status, in the same statement.
    """

    condition_cls = Condition

    def __init__(self, *args: Any, writes: str | Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.writes = (writes,) if isinstance(writes, str) else tuple(writes)

    def _change_state(self, event_data: EventData) -> None:
        machine = event_data.machine
        if self.source in machine.states:  # to_state() also leaves a state that nobody knows
            machine.states[self.source].exit(event_data)
        dest = machine.get_state(self.dest)
        machine.binding_of(event_data.model).write(event_data, dest)
        event_data.state = dest
        dest.enter(event_data)
        if dest.final:
            machine.callbacks(machine.on_final, event_data)

    def edge(self, trigger: str) -> Edge:
        return Edge(
            trigger=trigger,
            source=self.source,
            dest=self.source if self.dest is None else self.dest,
            guards=tuple(str(condition) for condition in self.conditions),
            internal=self.dest is None,
            writes=getattr(self, "writes", ()),
        )


class Event(upstream.Event):
    """A trigger. An exception leaves the row as it was, also one that ``on_exception`` was shown."""

    def _trigger(self, event_data: EventData) -> bool:
        machine = event_data.machine
        try:
            with machine.firing(event_data):
                result = super()._trigger(event_data)
                if event_data.error is not None:
                    raise event_data.error
                return result
        except Exception as error:
            if error is event_data.error and machine.on_exception:
                return False
            raise

    def _is_valid_source(self, state: upstream.State) -> bool:
        try:
            return super()._is_valid_source(state)
        except MachineError:
            pass
        triggers = self.machine.get_triggers(state.name)
        raise TransitionNotAllowed(
            f"Can't trigger event {self.name} from state {state.name}.",
            hint=f"Triggers from here: {', '.join(triggers) or 'none'}.",
            trigger=self.name,
            state=state.name,
        )
