"""`StateMachine`: a `transitions.Machine` that is declared once and bound to classes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, overload

from statemachine.binding import Binding, EnqueueFunction
from statemachine.declaration import Declaration
from statemachine.diagrams import draw
from statemachine.engine import Event, EventData, OwnMethod, State, Transition, state_key
from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError, Reentered, StaleState, UnknownTrigger
from statemachine.export import export
from statemachine.verify import Claim, Report, verify

__all__ = ["StateMachine"]

_firing = threading.local()


class StateMachine(Declaration):
    """A pipeline, declared once: states, edges, where it begins and what it means to reach.

    It takes what `transitions.Machine` takes, and its engine runs every edge. Only defaults differ: no
    model, no auto transitions, ``send_event=True``. It is bound to classes and never holds a row.

    A `State` object may be shared by several machines. What is added to it by hand, as
    ``machine.on_enter_published(callback)`` does, is then shared too; the methods of bound classes are not.

    Args:
        name: What the machine is called in messages, diagrams and commands.
        states: Strings, dicts, enum members or `State`.
        transitions: Dicts or lists, as transitions takes them; a dict may name further ``writes``.
        initial: The state of a new row: one of the states.
        goal: The state, or states, that every run means to reach; the final states by default.
        keeps: The tag, or tags, that a run never loses again.
        properties: What else is to hold: properties, formulas or their texts; see `statemachine.logic`.

    Raises:
        DeclarationError: A state that is not declared or declared twice, a wildcard that matches nothing,
            a queue, a trigger that is no method name, a callback that cannot be called, a tag to keep that
            no state has, a property of what there is not.
    """

    def verify(self, properties: Iterable[Claim] | None = None) -> Report:
        """Prove the graph, or show where it is wrong: see `statemachine.verify`."""
        return verify(self.graph, properties)

    @overload
    def draw(self, format: Literal["mermaid", "dot", "svg"] = "mermaid") -> str: ...
    @overload
    def draw(self, format: Literal["png"]) -> bytes: ...
    @overload
    def draw(self, format: str) -> str | bytes: ...
    def draw(self, format: str = "mermaid") -> str | bytes:
        """Draw the graph as ``mermaid``, ``dot``, ``svg`` or ``png``: see `statemachine.diagrams`."""
        return draw(self.graph, format)

    def export(self, format: str = "json") -> str:
        """Write the graph as ``json``, ``promela``, ``scxml`` or ``tla``: see `statemachine.export`."""
        return export(self.graph, format)

    # Binding

    def bind(
        self,
        cls: type,
        attribute: str = "",
        *,
        methods: str = "",
        enqueue: EnqueueFunction | None = None,
        binding: type[Binding] = Binding,
    ) -> Binding:
        """Give a class the methods of this machine, which keeps its state in an attribute of the class.

        The class receives, for each trigger, ``advance()`` and ``may_advance()``; for each state
        ``is_published()``; and ``state``, what is declared about the state that a row is in. Its own
        ``on_enter_published`` and ``on_exit_published`` are called like callbacks that the state names.

        Args:
            cls: The class; its subclasses inherit the methods.
            attribute: Holds the state; the machine's ``model_attribute`` by default.
            methods: A prefix of all these methods, for several machines on one class.
            enqueue: What entering a state with a task does.
            binding: Where the state is kept, if not in the attribute alone.

        Raises:
            DeclarationError: A method would shadow one of the class, a callback is unknown, or there are
                tasks and nothing enqueues them. Nothing was bound.
        """
        attribute = attribute or self.model_attribute
        if not isinstance(cls, type):
            raise DeclarationError(
                f"{self._title} is bound to a class, not to {cls!r}.",
                hint=f'Write bind({type(cls).__name__}, "{attribute}").',
            )
        if cls in self._bindings and self._bindings[cls].attribute != attribute:
            raise DeclarationError(
                f"This machine is bound to {cls.__name__}.{self._bindings[cls].attribute} already.",
                hint=f"Declare a second StateMachine for {attribute!r}.",
            )
        bound = binding(self, cls, attribute, methods=methods, enqueue=enqueue)
        bound.install(bound.plan())
        self._bindings[cls] = bound
        return bound

    def shadowed(self, binding: Binding, name: str) -> bool:
        """Refuse a method that the class has already. A subclass may return True: the class keeps its own."""
        raise DeclarationError(
            f"{binding.cls.__name__}.{name} exists already, and the machine would shadow it.",
            hint=f'Rename the trigger or state, or pass methods="{binding.attribute}_".',
        )

    def is_method(self, binding: Binding, state: Any) -> str:
        """The name of the method that asks for a state."""
        return f"is_{state.name}"

    def binding_of(self, row: Any) -> Binding:
        """The binding of the row's class, or of the nearest class that it inherits from.

        Raises:
            DeclarationError: There is none.
        """
        for cls in row.__class__.__mro__:
            if cls in self._bindings:
                return self._bindings[cls]
        name = row.__class__.__name__
        raise DeclarationError(
            f"{name} is not bound to {self.label or 'this machine'}.",
            hint=f'Call bind({name}, "attribute") once, where the class is defined.',
        )

    @property
    def bindings(self) -> tuple[Binding, ...]:
        return tuple(self._bindings.values())

    def add_model(self, model: Any, initial: Any = None) -> None:
        """Refused: a machine that holds its rows leaks them and overwrites loaded state."""
        raise DeclarationError(
            "A StateMachine holds no model.", hint='Bind the class once: machine.bind(Paper, "status").'
        )

    def _add_trigger_to_model(self, trigger: str, model: Any) -> None:
        """Nothing: the class has the method."""

    def _add_model_to_state(self, state: Any, model: Any) -> None:
        """Nothing: the class has the method."""

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled is the declaration; bindings belong to the process that made them."""
        return {**self.__dict__, "_bindings": {}}

    # Running

    def fire(self, row: Any, trigger: str, /, *args: Any, **kwargs: Any) -> bool:
        """Fire a trigger by its name.

        Returns:
            True when the row moved; False when every guard refused, or ``on_exception`` took the error.

        Raises:
            UnknownTrigger: The machine has no such trigger.
            TransitionNotAllowed: The row's state has no such edge, or is none of the machine's.
            StaleState: Another process moved the row first.
        """
        if trigger in self.events:
            return self.events[trigger].trigger(row, *args, **kwargs)
        binding = self.binding_of(row)
        name = binding.read(row)
        state = self.states.get(name)
        if state is not None and self.ignores(state):
            return False
        raise UnknownTrigger(
            f"{self._title} has no trigger {trigger!r}.",
            hint=f"From {name!r} there are: {', '.join(self.get_triggers(name)) or 'none'}.",
            row=binding.describe(row),
            trigger=trigger,
            state=str(name),
        )

    def may(self, row: Any, trigger: str, /, *args: Any, **kwargs: Any) -> bool:
        """Whether the trigger would move the row now. Runs ``prepare`` and the guards, writes nothing."""
        binding = self.binding_of(row)
        if binding.read(row) not in self.states or not binding.allows(row, trigger):
            return False
        return bool(self._can_trigger(row, trigger, *args, **kwargs))

    def to_state(self, row: Any, state: Any, *, reason: str, by: Any = None, expect: Any = None) -> None:
        """Put a row into a state: the only jump there is, for recovery by hand.

        Runs ``on_exit``, ``on_enter`` and ``on_final``, asks no guard, and leaves even a state that nobody
        knows. Callbacks find ``reason`` and ``by`` as if a trigger had been fired with them.

        Args:
            reason: Why; kept with the entry.
            by: Who; kept with the entry.
            expect: The state that the row must be in, if it matters; possibly one that nobody knows.

        Raises:
            DeclarationError: The state is not declared, or there is no reason.
            StaleState: The row is not in the expected state, or another process moved it first.
        """
        if not reason:
            raise DeclarationError("to_state() needs a reason.", hint='Pass reason="why this row is moved".')
        dest, binding = self.get_state(state), self.binding_of(row)
        given = {"reason": reason, "by": by}
        event = EventData(None, Event("to_state", self), self, row, (), given)
        with self.firing(event):
            source = binding.read(row)
            if expect is not None and binding.today(state_key(expect)) != source:
                raise StaleState.moved(binding.describe(row), "to_state", expected=str(state_key(expect)))
            event.state = self.states.get(source)  # type: ignore[assignment]
            event.transition = Transition(source, dest.name)
            event.transition._change_state(event)
            event.result = True

    def enqueue(self, row: Any, enqueue: Enqueue) -> None:
        """Do with a state's task what the binding says. Called by `Enqueue` itself."""
        self.binding_of(row).enqueue(row, enqueue)

    @contextmanager
    def firing(self, event: EventData) -> Iterator[None]:
        """Surround a fire: one at a time for each row, undone as a whole when it raises."""
        key = (id(self), id(event.model))
        active: set[tuple[int, int]] = _firing.__dict__.setdefault("rows", set())
        binding = self.binding_of(event.model)
        if key in active:
            raise Reentered(
                f"{binding.describe(event.model)} is in the middle of a transition, and a callback fired "
                f"{event.event.name!r} on it.",
                hint="Let the stage's task fire it, or declare it as an edge of its own.",
                row=binding.describe(event.model),
                trigger=event.event.name,
                state=str(binding.read(event.model)),
            )
        active.add(key)
        try:
            with binding.firing(event):
                yield
        finally:
            active.discard(key)

    def callbacks(self, funcs: Iterable[Any], event_data: EventData) -> None:
        """Call callbacks in order; see `Event` for what transitions would swallow."""
        try:
            for func in funcs:
                self.callback(func, event_data)
        except BaseException as error:
            if funcs is self.finalize_event:
                event_data.__dict__["finalize_error"] = error
            raise
        shown = event_data.error
        if funcs is self.on_exception and shown is not None and not isinstance(shown, Exception):
            raise shown

    def callback(self, func: Any, event_data: EventData) -> None:
        """Call a callback; an `Enqueue` receives the event even where others receive its arguments."""
        if isinstance(func, Enqueue):
            func(event_data)
            return
        if isinstance(func, OwnMethod):
            func = self.binding_of(event_data.model).own_method(func, event_data)
        if func is not None:
            super().callback(func, event_data)

    def is_state(self, state: Any, model: Any) -> bool:
        """Whether the row is in a state.

        Raises:
            DeclarationError: The state is not declared.
        """
        return bool(self.binding_of(model).read(model) == self.get_state(state).name)

    def get_model_state(self, model: Any) -> State:
        """What is declared about the state that the row is in.

        Raises:
            DeclarationError: The row is in a state that is not declared.
        """
        return self.get_state(self.binding_of(model).read(model))

    def set_state(self, state: Any, model: Any = None) -> None:
        """Assign a state without a transition: for objects that are kept nowhere."""
        if model is not None:
            setattr(model, self.binding_of(model).attribute, self.get_state(state).value)
