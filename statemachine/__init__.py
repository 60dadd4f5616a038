"""A formal state machine: declared once, then run, proved and drawn from the same declaration.

It knows `transitions`, and neither Django nor Celery.
"""

from statemachine.engine import State
from statemachine.enqueue import Enqueue
from statemachine.errors import (
    DeclarationError,
    LeaseLost,
    Reentered,
    StaleState,
    StateMachineError,
    TransitionNotAllowed,
    UnknownTrigger,
)
from statemachine.graph import Edge, Finding, Graph, Path, StateValue
from statemachine.machine import StateMachine

__all__ = [
    "DeclarationError",
    "Edge",
    "Enqueue",
    "Finding",
    "Graph",
    "LeaseLost",
    "Path",
    "Reentered",
    "StaleState",
    "State",
    "StateMachine",
    "StateMachineError",
    "StateValue",
    "TransitionNotAllowed",
    "UnknownTrigger",
]
