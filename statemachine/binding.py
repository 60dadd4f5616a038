"""What ties a machine to a class: where the state is kept, and the methods that the class receives."""

from __future__ import annotations

import importlib.util
import inspect
import keyword
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from statemachine.engine import EventData, OwnMethod, State, check_synchronous, state_key, state_value
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
        self._given: set[str] = set()

    # Where the state is kept

    def read(self, row: Any) -> Any:
        """The state that the row is in, as it is registered today: possibly one that nobody knows."""
        return self.today(state_key(getattr(row, self.attribute)))

    def today(self, name: Any) -> Any:
        """Today's name of a state that may be stored by a former one."""
        return self.machine.former.get(name, name)

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

    def take_step(self, event: EventData) -> bool:
        """Take what a trigger means short of a transition: within a stage, its next step. False: nothing."""
        return False

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

    def plan(self) -> dict[str, Any]:
        """The methods that the class is to receive. Changes nothing.

        Raises:
            DeclarationError: What the machine declares cannot work on this class: a method of its own would
                be hidden, a callback is unknown, or there is a task and nothing enqueues it.
        """
        self._check_tasks()
        methods = self._machine_methods()
        if self.attribute in methods:
            raise DeclarationError(
                f"{self.cls.__name__}.{self.attribute} would be hidden by the method of that name.",
                hint="Rename the attribute, or the trigger or state.",
            )
        for where, callbacks in self.machine.declared_callbacks():
            for callback in callbacks:
                self.check_callback(where, callback, methods)
        wanted = {name: method for name, method in methods.items() if self._takes(name)}
        own = {n: m for n, m in self._own_methods().items() if n not in methods and self._is_free(n)}
        return {**own, **wanted}

    def install(self, methods: Mapping[str, Any]) -> None:
        """Give the class its planned methods. Safe to repeat: what is there from this machine stays."""
        self._given.update(methods)
        for name, method in methods.items():
            if not _made_by(vars(self.cls).get(name), self.machine):
                _mark(method, self.machine, name, self.cls)
                setattr(self.cls, name, method)
        for state in self.machine.states.values():
            for kind in state.dynamic_methods:
                callbacks, standing = getattr(state, kind), OwnMethod(f"{kind}_{state.name}")
                if standing not in callbacks:
                    callbacks.append(standing)

    def remove_trigger(self, trigger: str) -> None:
        for name in (self.methods + trigger, f"{self.methods}may_{trigger}"):
            self._given.discard(name)
            if _made_by(vars(self.cls).get(name), self.machine):
                delattr(self.cls, name)

    def hidden(self, cls: type) -> Iterator[tuple[str, type]]:
        """The methods that a class no longer answers by, each with the class that has something else there.

        What is assigned to the bound class afterwards hides them, and so does what a subclass defines: it
        would be called by some, while stages and timers fire past it.
        """
        for name in sorted(self._given - self._own_methods().keys()):
            nearest = next((base for base in cls.__mro__ if name in vars(base)), None)
            if nearest is not None and not _made_by(vars(nearest)[name], self.machine):
                yield name, nearest

    def own_method(self, standing: OwnMethod, event: EventData) -> str | None:
        """The name of the row's own method that another stands for, unless its state names it itself."""
        name = self.methods + standing
        named = event.state is not None and name in _plain(event.state)
        method = None if named else getattr(event.model, name, None)
        return name if inspect.ismethod(method) and not hasattr(method, "statemachine") else None

    def check_callback(self, where: str, callback: Any, methods: Container[str]) -> None:
        """Refuse the name of a callback that is neither the class's, nor planned, nor a function's path.

        A path into a module that is not imported yet passes when there is such a module: importing it
        while classes are made is how circular imports begin.
        """
        if not isinstance(callback, str) or isinstance(callback, OwnMethod) or callback in methods:
            return
        found = self._found(callback)
        if found:
            check_synchronous(where, getattr(found[0], "__func__", found[0]))
        elif not (self._annotates(callback) or _is_path(callback)):
            raise DeclarationError(
                f"{where} names the callback {callback!r}, which {self.cls.__name__} does not have.",
                hint=f"Define {self.cls.__name__}.{callback}, or give the dotted path of a function."
                if callback.isidentifier()
                else "Give the dotted path of a function.",
            )

    def _check_tasks(self) -> None:
        working = [state.name for state in self.machine.states.values() if state_value(state).works]
        if working and self._enqueue is None and type(self).enqueue is Binding.enqueue:
            raise DeclarationError(
                f"{self.cls.__name__}.{self.attribute}: {', '.join(map(repr, working))} have tasks, but "
                "nothing enqueues them.",
                hint="Pass bind(…, enqueue=function), or use integration.models.StateField.",
            )

    def _own_methods(self) -> dict[str, Any]:
        """What is only a convenience, and gives way to what the class has."""
        machine = self.machine
        methods = {
            "trigger": _trigger(machine),
            "may_trigger": _may_trigger(machine),
            "state": StateOf(machine),
        }
        return {self.methods + name: method for name, method in methods.items() if name != self.attribute}

    def _machine_methods(self) -> dict[str, Any]:
        methods: dict[str, Any] = {}
        for name, method in self._named_methods():
            if name in methods:
                raise DeclarationError(
                    f"{self.cls.__name__}.{name} would be two methods of the machine.",
                    hint="Rename one of the triggers or states.",
                )
            if keyword.iskeyword(name):
                raise DeclarationError(
                    f"{self.cls.__name__}.{name} cannot be called: {name!r} is a word of Python.",
                    hint=f'Rename the trigger, or pass methods="{self.attribute}_".',
                )
            methods[name] = method
        return methods

    def _named_methods(self) -> Iterator[tuple[str, Any]]:
        for trigger in self.machine.events:
            yield self.methods + trigger, _fire(self.machine, trigger)
            yield f"{self.methods}may_{trigger}", _may(self.machine, trigger)
        for state in self.machine.states.values():
            name = self.methods + self.machine.is_method(self, state)
            if name.isidentifier():
                yield name, _is(self.machine, state.name)

    def _takes(self, name: str) -> bool:
        """Whether the class is to receive a method of this name: it may override one that it inherits."""
        if self._is_free(name):
            return True
        overrides = any(_made_by(inherited, self.machine) for inherited in self._found(name)[1:])
        return not overrides and not self.machine.shadowed(self, name)

    def _is_free(self, name: str) -> bool:
        found = self._found(name)
        return not found or found[0] is None or _made_by(found[0], self.machine)

    def _found(self, name: str) -> list[Any]:
        """What the class and its bases have under a name, nearest first; not what its metaclass has."""
        return [vars(base)[name] for base in self.cls.__mro__ if name in vars(base)]

    def _annotates(self, name: str) -> bool:
        return any(name in vars(base).get("__annotations__", {}) for base in self.cls.__mro__)


def _plain(state: Any) -> set[str]:
    """The names that a state gives as callbacks itself."""
    given = (callback for kind in state.dynamic_methods for callback in getattr(state, kind))
    return {
        callback for callback in given if isinstance(callback, str) and not isinstance(callback, OwnMethod)
    }


def _is_path(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if not module:
        return False
    loaded = sys.modules.get(module)
    if loaded is not None and not getattr(getattr(loaded, "__spec__", None), "_initializing", False):
        return hasattr(loaded, attribute)
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


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


def _is(machine: StateMachine, state: str) -> Callable[..., bool]:
    def is_state(self: Any, *args: Any, **kwargs: Any) -> bool:  # as a guard it is given the event
        return machine.is_state(state, self)

    is_state.__doc__ = f"Whether the row is in {state!r}."
    return is_state
