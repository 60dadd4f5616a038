"""A pytest plugin: transitions' own tests, run against `StateMachine`.

`Machine` restores what differs on purpose in the constructor, and gives every model a class of its own to
bind. It contains no firing code: triggers, guards and callbacks are those of the library.
"""

import importlib

import transitions
from transitions.core import listify
from transitions.extensions import factory

from statemachine import StateMachine
from statemachine.engine import state_key

UpstreamMachine = transitions.Machine


class Machine(StateMachine):
    def __init__(
        self,
        model=UpstreamMachine.self_literal,
        states=None,
        initial="initial",
        transitions=None,
        send_event=False,
        auto_transitions=True,
        ordered_transitions=False,
        *args,
        **kwargs,
    ):
        super().__init__(None, states, None, None, send_event, auto_transitions, False, *args, **kwargs)
        if initial is not None:
            self._ensure(initial)
            self.initial = initial
        self.add_transitions(transitions)
        if ordered_transitions:
            self.add_ordered_transitions()
        if model:
            self.add_model(model)

    def _ensure(self, initial):
        if state_key(initial) not in self.states:
            self.add_states(initial)

    def add_model(self, model, initial=None):
        if initial is None and self.initial is None:
            raise ValueError("no initial state")
        for mod in listify(model):
            row = self if mod is self.self_literal else mod
            if not any(row is known for known in self.models):
                fresh = _fresh_class(row.__class__)
                self.bind(fresh, self.model_attribute)
                row.__class__ = fresh
                self.set_state(initial or self.initial, row)
                self.models.append(row)

    def remove_transition(self, trigger, *args, **kwargs):
        """The methods are the class's: transitions would look for them on each model."""
        models, self.models = self.models, []
        try:
            super().remove_transition(trigger, *args, **kwargs)
        finally:
            self.models = models

    def shadowed(self, binding, name):
        """What the class has stays, as ``model_override=False`` means."""
        return True

    def is_method(self, binding, state):
        return (
            super().is_method(binding, state)
            if self.model_attribute == "state"
            else (f"is_{self.model_attribute}_{state.name}")
        )


def _fresh_class(cls):
    return type(cls.__name__, (cls,), {"__reduce_ex__": _reduce, "__module__": cls.__module__})


def _reduce(row, protocol):
    """Pickle a model as an object of its own class; it is bound again when it is loaded."""
    return _blank, (row.__class__.__mro__[1],), row.__getstate__(), None, None, _restore


def _blank(cls):
    return cls.__new__(cls)


def _restore(row, values):
    row.__dict__.update(values)
    machine = row if isinstance(row, Machine) else row.machine
    machine._bindings = {}
    machine.models = []
    machine.add_model(row, getattr(row, machine.model_attribute))


def pytest_configure(config):
    """Put the subclass where the tests look for transitions' machine."""
    transitions.Machine = Machine
    factory._CLASS_MAP = {
        features: Machine if cls is UpstreamMachine else cls for features, cls in factory._CLASS_MAP.items()
    }
    importlib.import_module("tests.test_enum").Machine = Machine
