"""What ties a machine to a class: where the state is kept, and the methods that the class receives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from statemachine.engine import EventData, ModelMethod, State, state_key
from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError

if TYPE_CHECKING:
    from statemachine.machine import StateMachine

__all__ = ["Binding", "EnqueueFunction"]


class EnqueueFunction(Protocol):
    """What entering a state with a task does. Called once for each `Enqueue`, in order."""

    def __call__(self, row: Any, enqueue: Enqueue, /) -> None: ...


class Binding:
    """A machine on an attribute of a class. The state of a plain object is kept in that attribute.

    Subclasses keep it elsewhere: they override `read`, `write` and `firing`.
    """

    def __init__(
        self,
        machine: StateMachine,
        cls: type,
        attribute: str,
        *,
        methods: str = "",
        enqueue: EnqueueFunction | None = None,
    ) -> None:
        self.machine, self.cls, self.attribute = machine, cls, attribute
        self.methods, self._enqueue = methods, enqueue

    # Where the state is kept

    def read(self, row: Any) -> Any:
        """The state that the row is in, as it is registered: possibly one that nobody knows."""
        return state_key(getattr(row, self.attribute))

    def write(self, event: EventData, dest: State) -> None:
        """Put the row into its new state, at the point where the engine changes it."""
        setattr(event.model, self.attribute, dest.value)

    @contextmanager
    def firing(self, event: EventData) -> Iterator[None]:
        """Surround a whole fire. When it raises, the row is as it was."""
        row, before = event.model, getattr(event.model, self.attribute)
        try:
            yield
        except BaseException:
            setattr(row, self.attribute, before)
            raise

    def allows(self, row: Any, trigger: str) -> bool:
        """Whether the trigger may be fired at all, before guards are asked."""
        return True

    def enqueue(self, row: Any, enqueue: Enqueue) -> None:
        if self._enqueue is not None:
            self._enqueue(row, enqueue)

    def describe(self, row: Any) -> str:
        """What the row is called in messages."""
        return f"{type(row).__name__} at {id(row):#x}"

    # The methods of the class

    def check(self) -> None:
        """Refuse what cannot work on this class.

        Raises:
            DeclarationError: A task without anything to enqueue it, or an unknown callback.
        """
        working = [state.name for state in self.machine.graph_states() if state.works]
        if working and self._enqueue is None and type(self).enqueue is Binding.enqueue:
            raise DeclarationError(
                f"{self.cls.__name__}.{self.attribute}: {', '.join(map(repr, working))} have tasks, but "
                "nothing enqueues them.",
                hint="Pass bind(…, enqueue=function), or use integration.models.StateField.",
            )
        for where, name in self.machine.callback_names():
            self.check_callback(where, name)

    def check_callback(self, where: str, name: str) -> None:
        if isinstance(name, ModelMethod) or name.removeprefix(self.methods) in self.machine.events:
            return
        if hasattr(self.cls, name) or self._imports(name):
            return
        if any(name in getattr(cls, "__annotations__", {}) for cls in self.cls.__mro__):
            return
        raise DeclarationError(
            f"{where} names the callback {name!r}, which {self.cls.__name__} does not have.",
            hint=f"Define {self.cls.__name__}.{name}, or give the dotted path of a function.",
        )

    def _imports(self, name: str) -> bool:
        module, _, attribute = name.rpartition(".")
        if not module:
            return False
        try:
            return hasattr(__import__(module, fromlist=[attribute]), attribute)
        except ImportError:
            return False

    def install(self) -> None:
        """Give the class its methods. Safe to repeat: what is there from this binding stays.

        Raises:
            DeclarationError: A method would shadow one of the class; none was installed.
        """
        methods = {**self._own_methods(), **self._trigger_methods(*self.machine.events)}
        for state in self.machine.states.values():
            methods |= self._state_method(state)
        self._put(methods)
        for state in self.machine.states.values():
            self._find_callbacks(state)

    def install_trigger(self, trigger: str) -> None:
        self._put(self._trigger_methods(trigger))

    def install_state(self, state: State) -> None:
        self._put(self._state_method(state))
        self._find_callbacks(state)

    def remove_trigger(self, trigger: str) -> None:
        for name in self._trigger_methods(trigger):
            if _made_by(vars(self.cls).get(name), self.machine):
                delattr(self.cls, name)

    def _own_methods(self) -> dict[str, Any]:
        """What is only a convenience, and gives way to a method of the class."""
        machine = self.machine
        methods = {
            "trigger": _trigger(machine),
            "may_trigger": _may_trigger(machine),
            "state": StateOf(machine),
        }
        methods = {self.methods + name: method for name, method in methods.items()}
        return {name: m for name, m in methods.items() if name != self.attribute and self._free(name)}

    def _trigger_methods(self, *triggers: str) -> dict[str, Any]:
        fires = {self.methods + name: _fire(self.machine, name) for name in triggers}
        mays = {f"{self.methods}may_{name}": _may(self.machine, name) for name in triggers}
        return fires | mays

    def _state_method(self, state: State) -> dict[str, Any]:
        name = self.methods + self.machine.is_method(self, state)
        return {name: _is(self.machine, state.name)} if name.isidentifier() else {}

    def _put(self, methods: dict[str, Any]) -> None:
        taken = [name for name in methods if not self._free(name) and self.machine.shadowed(self, name)]
        for name in methods.keys() - set(taken):
            _mark(methods[name], self.machine, name, self.cls)
            setattr(self.cls, name, methods[name])

    def _free(self, name: str) -> bool:
        existing = inspect.getattr_static(self.cls, name, None)
        return existing is None or _made_by(existing, self.machine)

    def _find_callbacks(self, state: State) -> None:
        """Add the class's own ``on_enter_<state>`` and ``on_exit_<state>``, as transitions does."""
        for kind in state.dynamic_methods:
            name = f"{kind}_{state.name}"
            function = inspect.getattr_static(self.cls, name, None)
            found = callable(function) and not hasattr(function, "statemachine")
            if found and name not in getattr(state, kind):
                state.add_callback(kind.removeprefix("on_"), ModelMethod(name))

class StateOf:
    """``team.state``: what is declared about the state that the row is in."""

    def __init__(self, machine: StateMachine) -> None:
        self.statemachine = machine

    def __get__(self, row: Any, cls: type | None = None) -> Any:
        return self if row is None else self.statemachine.get_model_state(row)


def _mark(method: Any, machine: StateMachine, name: str, cls: type) -> None:
    if inspect.isfunction(method):
        method.__name__, method.__qualname__ = name, f"{cls.__qualname__}.{name}"
        method.__module__ = cls.__module__
        method.statemachine = machine  # type: ignore[attr-defined]


def _made_by(method: Any, machine: StateMachine) -> bool:
    return getattr(method, "statemachine", None) is machine


def _fire(machine: StateMachine, trigger: str) -> Callable[..., bool]:
    def fire(self: Any, *args: Any, **kwargs: Any) -> bool:
        return machine.events[trigger].trigger(self, *args, **kwargs)

    fire.__doc__ = f"Fire {trigger!r}: True when the row moved, False when every guard refused."
    return fire


def _may(machine: StateMachine, trigger: str) -> Callable[..., bool]:
    def may(self: Any, *args: Any, **kwargs: Any) -> bool:
        return machine.may(self, trigger, *args, **kwargs)

    may.__doc__ = f"Whether {trigger!r} would move the row now."
    return may


def _trigger(machine: StateMachine) -> Callable[..., bool]:
    def trigger(self: Any, trigger_name: str, *args: Any, **kwargs: Any) -> bool:
        return machine.fire(self, trigger_name, *args, **kwargs)

    trigger.__doc__ = "Fire a trigger by its name."
    return trigger


def _may_trigger(machine: StateMachine) -> Callable[..., bool]:
    def may_trigger(self: Any, trigger_name: str, *args: Any, **kwargs: Any) -> bool:
        return machine.may(self, trigger_name, *args, **kwargs)

    may_trigger.__doc__ = "Whether the trigger of that name would move the row now."
    return may_trigger


def _is(machine: StateMachine, state: str) -> Callable[[Any], bool]:
    def is_state(self: Any) -> bool:
        return bool(machine.binding_of(self).read(self) == state)

    is_state.__doc__ = f"Whether the row is in {state!r}."
    return is_state
