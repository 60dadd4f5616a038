"""`Declaration`: what a machine is declared to be. It is checked here, and turned into a `Graph`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any, cast

from transitions import Machine
from transitions import core as upstream
from transitions.core import listify

from statemachine.binding import Binding
from statemachine.engine import Event, State, Transition, check_callbacks, formerly_of, state_key, state_value
from statemachine.errors import DeclarationError
from statemachine.graph import Edge, Graph
from statemachine.logic import Claim, as_properties
from statemachine.verify import PROPERTIES
from statemachine.verify.claims import refuse_titles

__all__ = ["Declaration"]

_MACHINE_CALLBACKS = (
    "prepare_event",
    "before_state_change",
    "after_state_change",
    "finalize_event",
    "on_exception",
    "on_final",
)


class Declaration(Machine):
    """The states and edges of a machine, and how they are declared: as transitions does, but checked."""

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
        ordered_transitions: bool = False,
        *args: Any,
        goal: Any = None,
        keeps: str | Iterable[str] = (),
        properties: Claim | Iterable[Claim] = (),
        name: str = "",
        queued: bool = False,
        **kwargs: Any,
    ) -> None:
        if queued:
            raise DeclarationError(
                "queued=True is one queue for the rows of all threads.",
                hint="Leave it out: a row that fires inside its own callbacks is refused, others need none.",
            )
        self.label = name
        self._bindings: dict[type, Binding] = {}
        self._graph: Graph | None = None
        self.former: Mapping[str, str] = {}
        """Today's name of the state that each former name stands for."""
        self._declares = False
        options: Any = {"name": name or None, **kwargs}
        super().__init__(model, None, None, None, send_event, auto_transitions, False, *args, **options)
        for kind in _MACHINE_CALLBACKS:
            check_callbacks(kind, getattr(self, kind))
        self.add_states([] if states is None else states)
        if initial is not None:
            self.initial = initial
        self.add_transitions(transitions)
        if ordered_transitions:
            self.add_ordered_transitions()
        self.goals = tuple(self._known(state, "goal") for state in listify(goal))
        self.keeps = (keeps,) if isinstance(keeps, str) else tuple(keeps)
        self.properties = as_properties(properties)
        refuse_titles(self.properties, PROPERTIES)
        if self.initial is not None and (self.keeps or self.properties):
            _ = self.graph  # which refuses what it does not know

    # Declaring

    def add_states(self, states: Any, *args: Any, **kwargs: Any) -> None:
        """Declare further states, as transitions does; bound classes learn of them.

        Raises:
            DeclarationError: Something is no state, is declared twice, was formerly called what another
                state is or was called, or cannot work on a bound class. Nothing was added.
        """
        declared = [dict(state) if isinstance(state, dict) else state for state in listify(states)]
        former = self._check_states(declared)
        with self._declaring():
            super().add_states(declared, *args, **kwargs)
        self.former = former

    def _check_states(self, states: list[Any]) -> dict[str, str]:
        """Refuse what cannot be added; returns the former names of all the states."""
        names, former = set(self.states), dict(self.former)
        for state in states:
            name = state_key(state.get("name") if isinstance(state, dict) else state)
            if not isinstance(name, str) or name in ("", self.wildcard_all, self.wildcard_same):
                raise DeclarationError(
                    f"{self._title}: {state!r} is no state.",
                    hint="A state is a string, a member of an enum, a dict with a name, or a State.",
                )
            if isinstance(state, upstream.State) and name != state_key(state._name):
                raise DeclarationError(
                    f"{self._title}: {state!r} is transitions' own State, which knows enums by name only.",
                    hint="Use statemachine.State.",
                )
            if name in names:
                raise DeclarationError(
                    f"{self._title}: the state {name!r} is declared twice.", hint="Declare it once."
                )
            names.add(name)
            for old in _formerly(name, state):
                if old in former:
                    raise self._twice(old, former[old], name)
                former[old] = name
        for old in sorted(names & former.keys()):
            raise self._twice(old, old, former[old])
        return former

    def _twice(self, name: str, *states: str) -> DeclarationError:
        return DeclarationError(
            f"{self._title}: {name!r} is, or was formerly, the name of {states[0]!r} and of {states[1]!r}.",
            hint="A row that is stored under it would be in two states: give it to one of them.",
        )

    def add_transition(  # type: ignore[override]
        self, trigger: str, source: Any, dest: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Declare an edge for each source, as transitions does; bound classes learn of its trigger.

        Raises:
            DeclarationError: An unknown state, a wildcard that matches nothing, a trigger that is no
                method name, or what cannot work on a bound class. Nothing was added.
        """
        self._check_trigger(trigger)
        where = f"an edge of {trigger!r}"
        wildcard = _is(source, self.wildcard_all)
        sources = list(self.states) if wildcard else listify(source)
        if not sources:
            raise DeclarationError(
                f"{trigger!r} leaves no state: its source {source!r} matches nothing.",
                hint="Declare the states first.",
            )
        sources = [self._known(state, where) for state in sources]
        if dest is not None and not _is(dest, self.wildcard_same):
            dest = self._known(dest, where)
        with self._declaring():
            try:
                super().add_transition(trigger, sources, dest, *args, **kwargs)
                for added in sources if wildcard else ():
                    self.events[trigger].transitions[added][-1].wildcard = True  # type: ignore[attr-defined]
            finally:
                if not self.events[trigger].transitions:
                    del self.events[trigger]

    def _check_trigger(self, trigger: Any) -> None:
        if not (isinstance(trigger, str) and trigger.isidentifier()):
            raise DeclarationError(
                f"The trigger {trigger!r} cannot be a method.", hint="Give it the name of a method."
            )
        if trigger in ("to_state", self.model_attribute):
            raise DeclarationError(
                f"The trigger {trigger!r} would hide what has that name.", hint="Give it another name."
            )

    def add_transitions(self, transitions: Any) -> None:
        """Declare several edges, each a dict, a list or a tuple."""
        for transition in listify(transitions):
            if isinstance(transition, dict):
                self.add_transition(**transition)
            elif isinstance(transition, list | tuple):
                self.add_transition(*transition)
            else:
                raise DeclarationError(
                    f"{self._title}: {transition!r} is no transition.",
                    hint='Write ["trigger", "source", "dest"], or a dict, each in a list of them.',
                )

    def add_ordered_transitions(self, states: Any = None, *args: Any, **kwargs: Any) -> None:
        """Declare edges from state to state, in order, as transitions does."""
        keys = None if states is None else [state_key(state) for state in states]
        with self._declaring():
            super().add_ordered_transitions(keys, *args, **kwargs)

    def remove_transition(self, trigger: str, source: Any = "*", dest: Any = "*") -> None:
        """Remove edges; a trigger that has none left is taken from the bound classes."""
        self._graph = None
        super().remove_transition(trigger, _keys(source), _keys(dest))
        if trigger not in self.events:
            for binding in self._bindings.values():
                binding.remove_trigger(trigger)

    @property
    def initial(self) -> str | None:
        """The state of a new row."""
        return self._initial

    @initial.setter
    def initial(self, state: Any) -> None:
        self._initial = self._known(state, "initial")
        self._graph = None

    def __getattr__(self, name: str) -> Any:
        """``machine.on_enter_published(callback)`` and its like, checked as if declared at once."""
        add = super().__getattr__(name)

        def add_callback(callback: Any) -> None:
            for binding in self._bindings.values():
                binding.check_callback(name, callback, binding.plan())
            add(callback)

        return add_callback

    @contextmanager
    def _declaring(self) -> Iterator[None]:
        """Bound classes learn of what is declared inside; what one of them refuses is undone."""
        self._graph = None
        if self._declares or not self._bindings:
            yield
            return
        states = dict(self.states)
        edges = {
            trigger: {source: list(edges) for source, edges in event.transitions.items()}
            for trigger, event in self.events.items()
        }
        self._declares = True
        try:
            yield
            plans = [(binding, binding.plan()) for binding in self._bindings.values()]
        except BaseException:
            self._put_back(states, edges)
            raise
        finally:
            self._declares = False
        for binding, methods in plans:
            binding.install(methods)

    def _put_back(self, states: Mapping[str, Any], edges: Mapping[str, Mapping[str, list[Any]]]) -> None:
        self._graph = None  # asked for meanwhile, with what is taken back
        for name in self.states.keys() - states.keys():
            del self.states[name]
        for trigger in self.events.keys() - edges.keys():
            del self.events[trigger]
        for trigger, event in self.events.items():
            event.transitions = defaultdict(list, edges[trigger])

    # Asking

    @property
    def _title(self) -> str:
        return self.label or "The machine"

    def _known(self, state: Any, where: str) -> str:
        key = state_key(state)
        if not (isinstance(key, str) and key in self.states):
            raise DeclarationError(
                f"{self._title}: {where} names the state {key!r}, which is not declared.",
                hint=f"Declared are: {', '.join(self.states) or 'none'}.",
            )
        if isinstance(state, upstream.State) and self.states[key] is not state:
            raise DeclarationError(
                f"{self._title}: {where} has another State called {key!r} than the declared one.",
                hint="Pass its name, or the same object.",
            )
        return key

    def get_state(self, state: Any) -> State:
        """The declared state.

        Raises:
            DeclarationError: There is none of that name.
        """
        key = state_key(state)
        if not (isinstance(key, str) and key in self.states):
            raise DeclarationError(
                f"{key!r} is no state of {self.label or 'this machine'}.",
                hint=f"Declared are: {', '.join(self.states)}.",
            )
        return cast("State", self.states[key])

    def get_transitions(
        self, trigger: str = "", source: Any = "*", dest: Any = "*"
    ) -> list[upstream.Transition]:
        """The edges, as transitions finds them."""
        return super().get_transitions(trigger, state_key(source), state_key(dest))

    def get_triggers(self, *states: Any) -> list[str]:
        """The triggers that leave at least one of the states, in order of declaration."""
        return super().get_triggers(*(state_key(state) for state in states))

    def triggers_from(self, state: Any) -> tuple[str, ...]:
        """The triggers that leave a state, in order of declaration."""
        return tuple(self.get_triggers(self.get_state(state)))

    def ignores(self, state: upstream.State) -> bool:
        """Whether a trigger that has no edge from a state returns False, where others raise."""
        own = state.ignore_invalid_triggers
        return bool(self.ignore_invalid_triggers if own is None else own)

    @property
    def graph(self) -> Graph:
        """The declaration as a frozen value.

        Raises:
            DeclarationError: No initial state was declared.
        """
        if self._graph is None:
            if self.initial is None:
                raise DeclarationError(
                    f"{self._title} does not say where a row begins.", hint='Pass initial="state".'
                )
            states = tuple(state_value(state) for state in self.states.values())
            self._graph = Graph(
                name=self.label,
                states=states,
                edges=self._edges(),
                initial=self.initial,
                goals=self.goals or tuple(state.name for state in states if state.final),
                keeps=self.keeps,
                properties=self.properties,
            )
        return self._graph

    def _edges(self) -> tuple[Edge, ...]:
        leaving: dict[str, list[Edge]] = {name: [] for name in self.states}
        for trigger, event in self.events.items():
            for source, transitions in event.transitions.items():
                leaving[source] += [cast("Transition", edge).edge(trigger) for edge in transitions]
        return tuple(edge for edges in leaving.values() for edge in edges)

    def declared_callbacks(self) -> Iterator[tuple[str, Iterable[Any]]]:
        """Every list of callbacks, with where it is declared."""
        for kind in _MACHINE_CALLBACKS:
            yield kind, getattr(self, kind)
        for state in self.states.values():
            for kind in state.dynamic_methods:
                yield f"{kind} of state {state.name!r}", getattr(state, kind)
        for trigger, event in self.events.items():
            for source, transitions in event.transitions.items():
                for edge in transitions:
                    guards = (condition.func for condition in edge.conditions)
                    yield f"{trigger!r} from {source!r}", [*edge.prepare, *guards, *edge.before, *edge.after]


def _formerly(name: str, state: Any) -> tuple[str, ...]:
    """The former names of a state in any of the forms that it may be declared in."""
    if isinstance(state, State):
        return state.formerly
    given = state.get("formerly", ()) if isinstance(state, dict) else ()
    return formerly_of(f"State {name!r}", name, given)


def _is(given: Any, wildcard: str) -> bool:
    return isinstance(given, str) and not isinstance(given, Enum) and given == wildcard


def _keys(states: Any) -> Any:
    return "*" if _is(states, "*") else [state_key(state) for state in listify(states)]
