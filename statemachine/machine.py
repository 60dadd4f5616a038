"""`StateMachine`: a `transitions.Machine` that is declared once and bound to classes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from transitions import Machine
from transitions.core import State as UpstreamState
from transitions.core import listify

from statemachine.binding import Binding, EnqueueFunction
from statemachine.diagrams import draw
from statemachine.engine import Event, EventData, ModelMethod, State, Transition, state_key, state_value
from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError, Reentered, StaleState, UnknownTrigger
from statemachine.graph import Graph, StateValue
from statemachine.verify import Report, verify

__all__ = ["StateMachine"]

_firing = threading.local()


class StateMachine(Machine):
    """A pipeline, declared once: states, edges, where it begins and what it means to reach.

    It takes what `transitions.Machine` takes, and its engine runs every edge. Only defaults differ: no
    model, no auto transitions, ``send_event=True``. It is bound to classes and never holds a row.

    Args:
        name: What the machine is called in messages, diagrams and commands.
        states: Strings, dicts, enum members or `State`.
        transitions: Dicts or lists, as transitions takes them; a dict may name further ``writes``.
        initial: The state of a new row: one of the states.
        goal: The state, or states, that every run means to reach; the final states by default.

    Raises:
        DeclarationError: A state that is not declared, a wildcard that matches nothing, a queue, a
            trigger that is no method name.
    """

    state_cls = State
    transition_cls = Transition
    event_cls = Event

    def __init__(
        self,
        model: Any = None,
        states: Any = None,
        initial: Any = None,
        transitions: Any = None,
        send_event: bool = True,
        auto_transitions: bool = False,
        *args: Any,
        goal: Any = None,
        name: str = "",
        queued: bool = False,
        **kwargs: Any,
    ) -> None:
        if queued:
            raise DeclarationError(
                "queued=True is one queue for the rows of all threads.",
                hint="Leave it out: a row that fires inside its own callbacks is refused, others need no queue.",
            )
        self._bindings: dict[type, Binding] = {}
        self._graph: Graph | None = None
        self.label = name
        super().__init__(
            model, states, None, None, send_event, auto_transitions, *args, name=name or None, **kwargs
        )  # type: ignore[misc]
        if initial is not None:
            self.initial = self._known(initial, "initial")
        self.goals = tuple(self._known(state, "goal") for state in listify(goal))
        for transition in listify(transitions):
            self._add_declared(transition)

    # Declaring

    def _add_declared(self, transition: Any) -> None:
        if isinstance(transition, dict):
            self.add_transition(**transition)
        else:
            self.add_transition(*transition)

    def _known(self, state: Any, where: str) -> str:
        key = state_key(state)
        if key not in self.states:
            raise DeclarationError(
                f"{self.label or 'The machine'}: {where} names the state {key!r}, which is not declared.",
                hint=f"Declared are: {', '.join(map(str, self.states)) or 'none'}.",
            )
        if isinstance(state, UpstreamState) and self.states[key] is not state:
            raise DeclarationError(
                f"{self.label or 'The machine'}: {where} has another State called {key!r} than the declared one.",
                hint="Pass its name, or the same object.",
            )
        return str(key)

    def add_states(self, states: Any, *args: Any, **kwargs: Any) -> None:
        """Declare further states, as transitions does; bound classes learn of them."""
        self._graph = None
        before = set(self.states)
        super().add_states(_copies(states), *args, **kwargs)
        for name in [name for name in self.states if name not in before]:
            for binding in self._bindings.values():
                binding.install_state(self.states[name])

    def add_transition(self, trigger: str, source: Any, dest: Any, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Declare an edge for each source, as transitions does; bound classes learn of its trigger.

        Raises:
            DeclarationError: An unknown state, a wildcard that matches nothing, a trigger that is no
                method name, or an unknown callback of a bound class.
        """
        if not (isinstance(trigger, str) and trigger.isidentifier()):
            raise DeclarationError(
                f"The trigger {trigger!r} cannot be a method.", hint="Give it the name of a method."
            )
        sources = list(self.states) if source == self.wildcard_all else listify(source)
        if not sources:
            raise DeclarationError(
                f"{trigger!r} leaves no state: its source {source!r} matches nothing.",
                hint="Declare the states first.",
            )
        where = f"a transition of {trigger!r}"
        sources = [self._known(state, where) for state in sources]
        if dest is not None and dest != self.wildcard_same:
            dest = self._known(dest, where)
        self._graph = None
        super().add_transition(trigger, sources, dest, *args, **kwargs)
        for binding in self._bindings.values():
            binding.check()
            binding.install_trigger(trigger)

    def add_ordered_transitions(self, states: Any = None, *args: Any, **kwargs: Any) -> None:
        """Declare edges from state to state, in order, as transitions does."""
        keys = None if states is None else [state_key(state) for state in states]
        super().add_ordered_transitions(keys, *args, **kwargs)

    def remove_transition(self, trigger: str, source: Any = "*", dest: Any = "*") -> None:
        """Remove edges; a trigger that has none left is taken from the bound classes."""
        self._graph = None
        models, self.models = self.models, []  # transitions would look for the method on the instance
        try:
            super().remove_transition(trigger, _keys(source), _keys(dest))
        finally:
            self.models = models
        if trigger not in self.events:
            for binding in self._bindings.values():
                binding.remove_trigger(trigger)

    def get_transitions(self, trigger: str = "", source: Any = "*", dest: Any = "*") -> Any:
        return super().get_transitions(trigger, state_key(source), state_key(dest))

    def get_triggers(self, *states: Any) -> list[str]:
        return super().get_triggers(*(state_key(state) for state in states))  # type: ignore[no-any-return]

    @property
    def initial(self) -> str | None:
        """The state of a new row."""
        return self._initial

    @initial.setter
    def initial(self, state: Any) -> None:
        self._initial = self._known(state, "initial")
        self._graph = None

    def get_state(self, state: Any) -> State:
        """The declared state.

        Raises:
            DeclarationError: There is none of that name.
        """
        key = state_key(state)
        if key not in self.states:
            raise DeclarationError(
                f"State '{key}' is not a registered state of {self.label or 'this machine'}.",
                hint=f"Registered are: {', '.join(map(str, self.states))}. machine.to_state() recovers a row.",
            )
        return self.states[key]  # type: ignore[return-value]

    # Reading the declaration

    @property
    def graph(self) -> Graph:
        """The declaration as a frozen value.

        Raises:
            DeclarationError: No initial state was declared.
        """
        if self._graph is None:
            if self._initial is None:
                raise DeclarationError(
                    f"{self.label or 'The machine'} does not say where a row begins.",
                    hint='Pass initial="state".',
                )
            states = self.graph_states()
            final = tuple(state.name for state in states if state.final)
            self._graph = Graph(
                name=self.label,
                states=states,
                edges=tuple(self._edges()),
                initial=self._initial,
                goals=self.goals or final,
            )
        return self._graph

    def graph_states(self) -> tuple[StateValue, ...]:
        return tuple(state_value(state) for state in self.states.values())

    def _edges(self) -> Iterator[Any]:
        for name in self.states:
            for trigger, event in self.events.items():
                for transition in event.transitions.get(name, ()):
                    yield transition.edge(trigger)

    def callback_names(self) -> Iterator[tuple[str, str]]:
        """Every callback that is given by name, with where it is declared."""
        for where, callbacks in self._callbacks():
            yield from ((where, name) for name in callbacks if isinstance(name, str))

    def _callbacks(self) -> Iterator[tuple[str, Iterable[Any]]]:
        for kind in _MACHINE_CALLBACKS:
            yield kind, getattr(self, kind)
        for state in self.states.values():
            for kind in state.dynamic_methods:
                yield f"{kind} of state {state.name!r}", getattr(state, kind)
        for trigger, event in self.events.items():
            for transition in (t for group in event.transitions.values() for t in group):
                where = f"a transition of {trigger!r}"
                yield where, [*transition.prepare, *transition.before, *transition.after]
                yield where, [condition.func for condition in transition.conditions]

    def triggers_from(self, state: Any) -> tuple[str, ...]:
        """The triggers that leave a state, in order of declaration."""
        return tuple(self.get_triggers(self.get_state(state).name))

    def verify(self) -> Report:
        """Prove the graph, or show where it is wrong: see `statemachine.verify`."""
        return verify(self.graph)

    def draw(self, format: str = "mermaid") -> str:
        """Draw the graph as ``mermaid``, ``dot`` or ``svg``: see `statemachine.diagrams`."""
        return draw(self.graph, format)

    # Binding

    def bind(
        self,
        cls: type,
        attribute: str = "state",
        *,
        methods: str = "",
        enqueue: EnqueueFunction | None = None,
        binding: type[Binding] = Binding,
    ) -> Binding:
        """Give a class the methods of this machine, which keeps its state in an attribute of the class.

        The class receives, for each trigger, ``advance()`` and ``may_advance()``; for each state
        ``is_published()``; and ``state``, what is declared about the state that a row is in.

        Args:
            cls: The class; its subclasses inherit the methods.
            attribute: Holds the state.
            methods: A prefix of the methods, for several machines on one class.
            enqueue: What entering a state with a task does.
            binding: Where the state is kept, if not in the attribute alone.

        Raises:
            DeclarationError: A method would shadow one of the class, a callback is unknown, or there are
                tasks and nothing enqueues them. Nothing was bound.
        """
        bound = binding(self, cls, attribute, methods=methods, enqueue=enqueue)
        if cls in self._bindings and self._bindings[cls].attribute != attribute:
            raise DeclarationError(
                f"This machine is bound to {cls.__name__}.{self._bindings[cls].attribute} already.",
                hint=f"Declare a second StateMachine for {attribute!r}.",
            )
        if attribute in self.events:
            raise DeclarationError(
                f"{cls.__name__}.{attribute} would be hidden by the trigger of that name.",
                hint="Rename one of them.",
            )
        bound.check()
        bound.install()
        self._bindings[cls] = bound
        return bound

    def shadowed(self, binding: Binding, name: str) -> bool:
        """Refuse a method that the class has already. A subclass may return True: the class keeps its own."""
        raise DeclarationError(
            f"{binding.cls.__name__}.{name} exists already, and the machine would shadow it.",
            hint=f'Rename the trigger or state, or pass methods="{binding.attribute}_".',
        )

    def is_method(self, binding: Binding, state: State) -> str:
        """The name of the method that asks for a state."""
        return f"is_{state.name}"

    def binding_of(self, row: Any) -> Binding:
        """The binding of the row's class, or of the nearest class that it inherits from.

        Raises:
            DeclarationError: There is none.
        """
        for cls in type(row).__mro__ if row.__class__ is type(row) else row.__class__.__mro__:
            if cls in self._bindings:
                return self._bindings[cls]
        raise DeclarationError(
            f"{type(row).__name__} is not bound to {self.label or 'this machine'}.",
            hint=f'Call bind({type(row).__name__}, "attribute") once, where the class is defined.',
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
            True when the row moved; False when every guard refused.

        Raises:
            UnknownTrigger: The machine has no such trigger.
            TransitionNotAllowed: The row's state has no such edge.
            StaleState: Another process moved the row first.
        """
        if trigger not in self.events:
            state = self.get_model_state(row)
            if self._ignores(state):
                return False
            raise UnknownTrigger(
                f"Do not know event named '{trigger}'.",
                hint=f"From {state.name!r} there are: {', '.join(self.get_triggers(state)) or 'none'}.",
                row=self.binding_of(row).describe(row),
                trigger=trigger,
                state=state.name,
            )
        return self.events[trigger].trigger(row, *args, **kwargs)  # type: ignore[no-any-return]

    def _ignores(self, state: Any) -> bool:
        ignore = state.ignore_invalid_triggers
        return bool(self.ignore_invalid_triggers if ignore is None else ignore)

    def may(self, row: Any, trigger: str, /, *args: Any, **kwargs: Any) -> bool:
        """Whether the trigger would move the row now. Runs ``prepare`` and the guards, writes nothing."""
        if not self.binding_of(row).allows(row, trigger):
            return False
        return bool(self._can_trigger(row, trigger, *args, **kwargs))

    def to_state(self, row: Any, state: Any, *, reason: str, by: Any = None, expect: Any = None) -> None:
        """Put a row into a state: the only jump there is, for recovery by hand.

        Runs ``on_exit`` and ``on_enter``, asks no guard, and leaves even a state that nobody knows.

        Args:
            reason: Why; kept with the entry.
            by: Who; kept with the entry.
            expect: The state that the row must be in, if it matters.

        Raises:
            DeclarationError: The state is not declared, or there is no reason.
            StaleState: The row is not in the expected state, or another process moved it first.
        """
        if not reason:
            raise DeclarationError("to_state() needs a reason.", hint='Pass reason="why this row is moved".')
        dest, binding = self.get_state(state), self.binding_of(row)
        event = EventData(None, Event("to_state", self), self, row, (), {"reason": reason, "by": by})  # type: ignore[arg-type]
        with self.firing(event):
            source = binding.read(row)
            if expect is not None and state_key(expect) != source:
                raise StaleState.moved(binding.describe(row), "to_state", expected=str(state_key(expect)))
            event.state = self.states.get(source)  # type: ignore[assignment]
            event.transition = Transition(source, dest.name)
            event.transition._change_state(event)

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

    def get_model_state(self, model: Any) -> State:
        """What is declared about the state that the row is in."""
        return self.get_state(self.binding_of(model).read(model))

    def set_state(self, state: Any, model: Any = None) -> None:
        """Assign a state without a transition: for objects that are kept nowhere."""
        for row in listify(model):
            setattr(row, self.binding_of(row).attribute, self.get_state(state).value)

    def resolve_callable(self, func: Any, event_data: EventData) -> Any:  # type: ignore[override]
        if isinstance(func, ModelMethod) and not hasattr(event_data.model, func):
            return lambda *args, **kwargs: None
        return super().resolve_callable(func, event_data)


_MACHINE_CALLBACKS = (
    "prepare_event",
    "before_state_change",
    "after_state_change",
    "finalize_event",
    "on_exception",
    "on_final",
)


def _keys(states: Any) -> Any:
    return "*" if states == "*" else [state_key(state) for state in listify(states)]


def _copies(states: Any) -> Any:
    """The states with each dict copied: transitions writes into the caller's."""
    return [dict(state) if isinstance(state, dict) else state for state in listify(states)]
