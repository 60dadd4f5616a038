"""Who takes which edges of a state: its task, a clock, or a person."""

from __future__ import annotations

from collections.abc import Sequence

from statemachine.graph import Edge, Graph, StateValue

__all__ = ["Choices"]


class Choices:
    """The edges that leave a state, or enter it anew, and are not hidden behind an unguarded one."""

    def __init__(self, graph: Graph) -> None:
        self._open = {name: tuple(e for e in edges if not e.internal) for name, edges in graph.open.items()}
        self._ends = {*graph.goals, *(state.name for state in graph if state.final)}

    def open(self, state: StateValue) -> Sequence[Edge]:
        return self._open[state.name]

    def done(self, state: StateValue) -> Sequence[Edge]:
        return [e for e in self.open(state) if state.works and e.trigger == state.done]

    def failed(self, state: StateValue) -> Sequence[Edge]:
        return [e for e in self.open(state) if state.works and e.trigger == state.failed]

    def timer(self, state: StateValue) -> Sequence[Edge]:
        trigger = state.after[1] if state.after and not state.works else None
        return [e for e in self.open(state) if e.trigger == trigger]

    def by_hand(self, state: StateValue) -> Sequence[Edge]:
        """What may be fired from outside: not what ends a stage, which belongs to its task."""
        own = {state.done, state.failed} if state.works else set()
        return [e for e in self.open(state) if e.trigger not in own]

    def rests(self, state: StateValue) -> bool:
        """Whether a run may stay: at an end, or where it waits for somebody."""
        waits = not state.works and any(edge.dest != state.name for edge in self.open(state))
        return waits or state.name in self._ends
