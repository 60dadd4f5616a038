"""transitions' state, condition, edge and event, put right for rows.

transitions' engine runs every edge; what differs is listed in ``docs/reference/deviations.md``:
a guard passes when it is truthy, an exception undoes the transition in memory too, the state is
written through the binding, and an enum whose values are strings is known by its values.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

from transitions import core as upstream
from transitions.core import EventData

from statemachine.enqueue import Enqueue, former_names
from statemachine.errors import DeclarationError, TransitionNotAllowed
from statemachine.graph import Edge, StateValue

if TYPE_CHECKING:
    from statemachine.machine import StateMachine

__all__ = [
    "Callback",
    "Condition",
    "Event",
    "EventData",
    "OwnMethod",
    "State",
    "Transition",
    "check_callbacks",
    "state_key",
    "state_value",
]

Callback = str | Callable[..., Any]
Callbacks = Callback | list[Any] | tuple[Any, ...] | None


def state_key(state: Any) -> Any:
    """What a state is registered and stored under: a string enum's value, else a member's name."""
    if isinstance(state, upstream.State):
        return state.name
    if isinstance(state, Enum):
        return state.value if isinstance(state.value, str) else state.name
    return state


class OwnMethod(str):
    """Stands among a state's callbacks for the row's own ``on_enter_<state>``, where its class has one.

    The state may be shared: which class has the method is asked when the state is entered.
    """


def check_callbacks(where: str, callbacks: Iterable[Any], *, tasks: bool = False) -> None:
    """Refuse what can never be called: what a name stands for is known when a class is bound.

    Raises:
        DeclarationError: A callback is neither a name nor callable, is asynchronous, or is an `Enqueue`
            anywhere but in ``on_enter``.
    """
    for callback in callbacks:
        if isinstance(callback, Enqueue) and not tasks:
            raise DeclarationError(
                f"{where} has the task {callback.task!r}: only entering a state enqueues a task.",
                hint=f"Declare a state that has on_enter={callback!s}.",
            )
        if not (callable(callback) or (isinstance(callback, str) and callback)):
            raise DeclarationError(
                f"{where} has the callback {callback!r}, which cannot be called.",
                hint="Give a function, the name of a method, or the dotted path of a function.",
            )
        check_synchronous(where, callback)


def check_synchronous(where: str, function: Any) -> None:
    """Refuse a coroutine function: nobody would await it, and as a guard it would always pass."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        raise DeclarationError(
            f"{where} has the asynchronous callback {_name(function)!r}, which nobody would await.",
            hint="Write it as a plain function; slow work belongs into the task of a state.",
        )


def _name(callback: Any) -> str:
    """What a callback is called: the same in every process."""
    if isinstance(callback, str):
        return callback
    if isinstance(callback, partial):
        return _name(callback.func)
    return str(getattr(callback, "__name__", type(callback).__name__))


class State(upstream.State):
    """A state, and everything that is said about it: once, here.

    Args:
        name: What the status column holds, or an enum member.
        label: What a person reads, possibly a lazy translation; the member's own, or the name, by default.
        tags: Free words to ask about: ``"dashboard" in team.state.tags``.
        phase: The part of the pipeline that it belongs to; drawn as a cluster.
        final: A run may end here.
        waits_for: Who moves a row out of here, where no task does.
        after: A durable timer of a waiting state: ``(timedelta, trigger)``.
        done: The trigger of a stage that finished.
        failed: The trigger of a stage that was given up.
        stamps: The column that receives the instant of entry.
        formerly: What it was called before, one or several names: rows that still say so are in this state.

    Raises:
        DeclarationError: A step's task appears twice, a timer is malformed or beside a task, a callback
            cannot be called, or a former name is none.
    """

    tags: Iterable[str] = ()

    def __init__(
        self,
        name: str | Enum,
        on_enter: Callbacks = None,
        on_exit: Callbacks = None,
        ignore_invalid_triggers: bool | None = None,
        final: bool = False,
        *,
        label: str = "",
        tags: str | Iterable[str] | None = None,
        phase: str | None = None,
        waits_for: str = "",
        after: tuple[timedelta, str] | None = None,
        done: str = "advance",
        failed: str = "fail",
        stamps: str | None = None,
        formerly: str | Enum | Iterable[str | Enum] = (),
        **features: Any,
    ) -> None:
        super().__init__(
            name,
            on_enter=on_enter,  # type: ignore[arg-type]
            on_exit=on_exit,  # type: ignore[arg-type]
            ignore_invalid_triggers=ignore_invalid_triggers,  # type: ignore[arg-type]
            final=final,
            **features,
        )
        # A copy: callbacks can be added, and the caller's list is the caller's.
        self.on_enter, self.on_exit = list(self.on_enter), list(self.on_exit)
        self.label = self._label(label)
        if tags is not None:  # otherwise a feature of transitions may have set them
            self.tags = (tags,) if isinstance(tags, str) else tuple(tags)
        self.phase, self.waits_for, self.stamps = phase, waits_for, stamps or ""
        self.after, self.done, self.failed = after, done, failed
        self.formerly = formerly_of(f"State {self.name!r}", self.name, formerly)
        self._check()

    def _label(self, given: str) -> str:
        # A lazy translation is no str, and even asking for its truth translates it: too early, at import.
        if not isinstance(given, str) or given:
            return given
        return getattr(self._name, "label", self.name)

    def _check(self) -> None:
        check_callbacks(f"on_enter of state {self.name!r}", self.on_enter, tasks=True)
        check_callbacks(f"on_exit of state {self.name!r}", self.on_exit)
        tasks = [name for step in steps_of(self) for name in step.names]
        if len(tasks) != len(set(tasks)):
            raise DeclarationError(
                f"State {self.name!r} enqueues a task twice: {', '.join(tasks)}.",
                hint="A step is identified by its task: give each step a task of its own.",
            )
        if self.after is None:
            return
        if not _is_timer(self.after):
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
        return self._name if self.name != getattr(self._name, "value", self.name) else self.name

    @property
    def steps(self) -> tuple[Enqueue, ...]:
        """The tasks of the stage, in order."""
        return steps_of(self)

    def add_callback(self, trigger: str, func: Any) -> None:
        """Add a callback; the tasks of a state are declared with it, so that its graph can be proved."""
        check_callbacks(f"on_{trigger} of state {self.name!r}", [func])
        super().add_callback(trigger, func)


def formerly_of(what: str, name: str, given: Any) -> tuple[str, ...]:
    """The former names of a state, which may be members of an enum."""
    several = isinstance(given, Iterable) and not isinstance(given, str | Enum)
    return former_names(what, name, [state_key(state) for state in given] if several else state_key(given))


def _is_timer(after: Any) -> bool:
    if not (isinstance(after, tuple) and len(after) == 2):
        return False
    delay, trigger = after
    return isinstance(delay, timedelta) and delay > timedelta() and isinstance(trigger, str) and bool(trigger)


def steps_of(state: upstream.State) -> tuple[Enqueue, ...]:
    return tuple(callback for callback in state.on_enter if isinstance(callback, Enqueue))


def state_value(state: upstream.State) -> StateValue:
    """The frozen value of a state, transitions' own included."""
    tags = tuple(getattr(state, "tags", ()))
    if not isinstance(state, State):
        return StateValue(name=state.name, label=state.name, final=state.final, tags=tags)
    return StateValue(
        name=state.name,
        label=state.label,
        tags=tags,
        phase=state.phase,
        final=state.final,
        waits_for=state.waits_for,
        after=state.after,
        done=state.done,
        failed=state.failed,
        stamps=state.stamps,
        steps=state.steps,
        formerly=state.formerly,
    )


class Condition(upstream.Condition):
    """A guard; it passes when it is truthy, or when it is falsy under ``unless``."""

    def check(self, event_data: EventData) -> bool:
        predicate = event_data.machine.resolve_callable(self.func, event_data)
        if event_data.machine.send_event:
            return bool(predicate(event_data)) is self.target
        return bool(predicate(*event_data.args, **event_data.kwargs)) is self.target

    def __str__(self) -> str:
        return _name(self.func) if self.target else f"not {_name(self.func)}"


class Transition(upstream.Transition):
    """An edge.

    Args:
        writes: Columns that are written together with the status, in the same statement.
    """

    condition_cls = Condition

    wildcard = False
    """Whether it was declared for every state at once."""

    def __init__(self, *args: Any, writes: str | Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Copies: callbacks can be added, and the lists are the caller's, or those of other edges.
        self.prepare, self.before, self.after = list(self.prepare), list(self.before), list(self.after)
        self.writes = (writes,) if isinstance(writes, str) else tuple(writes)
        guards = [condition.func for condition in self.conditions]
        where = f"an edge from {self.source!r} to {self.dest!r}"
        check_callbacks(where, [*self.prepare, *guards, *self.before, *self.after])

    def add_callback(self, trigger: str, func: Any) -> None:
        check_callbacks(f"an edge from {self.source!r} to {self.dest!r}", [func])
        super().add_callback(trigger, func)

    def _change_state(self, event_data: EventData) -> None:
        machine: Any = event_data.machine
        if self.source in machine.states:  # to_state() also leaves a state that nobody knows
            machine.states[self.source].exit(event_data)
        dest = machine.get_state(self.dest)
        machine.binding_of(event_data.model).write(event_data, dest)
        event_data.state = dest
        dest.enter(event_data)
        if dest.final:
            machine.callbacks(machine.on_final, event_data)

    def edge(self, trigger: str) -> Edge:
        """The frozen value of this edge."""
        return Edge(
            trigger=trigger,
            source=self.source,
            dest=self.source if self.dest is None else self.dest,
            guards=tuple(str(condition) for condition in self.conditions),
            internal=self.dest is None,
            writes=self.writes,
            wildcard=self.wildcard,
        )


class Event(upstream.Event):
    """A trigger. An exception leaves the row as it was, also one that ``on_exception`` took.

    transitions lets ``on_exception`` take ``SystemExit`` and its like, and drops what ``finalize_event``
    raises. Here the former always passes, and the latter passes unless another error is on its way.
    """

    machine: StateMachine

    def _trigger(self, event_data: EventData) -> bool:
        taken = False
        try:
            with self.machine.firing(event_data):
                self._check_known(event_data.model)
                if self.machine.binding_of(event_data.model).take_step(event_data):
                    return True
                result = self._fire(event_data)
                if event_data.error is not None:
                    taken = True
                    raise event_data.error
                return result
        except Exception as error:
            if taken and error is event_data.error:
                return False
            raise

    def _fire(self, event_data: EventData) -> bool:
        try:
            result = super()._trigger(event_data)
        except Exception:
            dropped = event_data.__dict__.get("finalize_error")
            if dropped is not None and not isinstance(dropped, Exception):
                raise dropped from event_data.error
            raise
        if "finalize_error" in event_data.__dict__:
            raise event_data.__dict__["finalize_error"]
        return result

    def _check_known(self, row: Any) -> None:
        binding = self.machine.binding_of(row)
        name = binding.read(row)
        if name not in self.machine.states:
            raise TransitionNotAllowed(
                f"{binding.describe(row)} is in {name!r}, which is no state of "
                f"{self.machine.label or 'this machine'}, so {self.name!r} was not applied.",
                hint="Declare it, or move the row by hand: machine.to_state(row, state, reason=…).",
                row=binding.describe(row),
                trigger=self.name,
                state=str(name),
            )

    def _is_valid_source(self, state: upstream.State) -> bool:
        # Where transitions would raise, _process does: it knows the row.
        return super()._is_valid_source(state) if self.machine.ignores(state) else True

    def _process(self, event_data: EventData) -> None:  # type: ignore[override]
        state, row = event_data.state.name, event_data.model
        if state not in self.transitions:
            binding = self.machine.binding_of(row)
            raise TransitionNotAllowed(
                f"Can't trigger event {self.name!r} on {binding.describe(row)}: no edge leaves {state!r}.",
                hint=f"Triggers from here: {', '.join(self.machine.get_triggers(state)) or 'none'}.",
                row=binding.describe(row),
                trigger=self.name,
                state=state,
            )
        super()._process(event_data)
