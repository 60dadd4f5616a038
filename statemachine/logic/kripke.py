"""Decide formulas of temporal logic on a graph, and show by a run why one does not hold.

The limits first. A guard is a free choice: it may pass or refuse whenever it is asked. Time counts
transitions. ``to_state``, which may put a row anywhere, is no edge.

A run goes on as long as an edge can be taken, and stays for ever in a state that nothing leaves; also, if it
likes, in one whose every edge is guarded, for all the guards may refuse. What *can be taken* is `Graph.open`.

Each operator takes time linear in states and edges (Clarke, Emerson, Sistla, *Automatic verification of
finite-state concurrent systems using temporal logic specifications*, 1986); with fairness ``EG``, and what
is made of it, may take longer (`statemachine.components.loops`). Formulas are recursed over, graphs are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from statemachine.components import loops
from statemachine.graph import Edge, Graph
from statemachine.logic.formula import (
    AF,
    AG,
    AU,
    AX,
    EG,
    EU,
    EX,
    And,
    Atom,
    Constant,
    Formula,
    Not,
    Or,
    opened,
)
from statemachine.logic.properties import Fairness, Property, check_names
from statemachine.logic.refutation import Refutation, refutation

__all__ = ["Checker", "Kripke", "Refutation", "holds", "refuted"]

_NEGATED = bytes([1, 0]).ljust(256)


def holds(graph: Graph | Kripke, claim: Property) -> bool:
    """Whether the formula holds in the initial state.

    Raises:
        DeclarationError: The graph has nothing of a name, or a bare name is unclear.
    """
    kripke = _kripke(graph)
    check_names(kripke.graph, claim)
    return bool(Checker(kripke, claim.fair).where(claim.formula)[kripke.initial])


def refuted(graph: Graph | Kripke, claim: Property) -> Refutation | None:
    """The run that shows why a property does not hold; None when it does.

    Raises:
        DeclarationError: The graph has nothing of a name, or a bare name is unclear.
    """
    kripke = _kripke(graph)
    check_names(kripke.graph, claim)
    checker = Checker(kripke, claim.fair)
    if checker.where(claim.formula)[kripke.initial]:
        return None
    return refutation(checker, claim)


class Kripke:
    """A graph as lists of numbers, made once for all the formulas that are asked of it.

    Attributes:
        graph: The graph.
        names: The states, by number.
        initial: The number of the initial state.
        edges: The edges that can be taken out of each state.
        successors: Where these lead, in the same order.
        stays: 1 for a state that a run may stay in for ever without taking an edge.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names = [state.name for state in graph]
        self._number = {name: number for number, name in enumerate(self.names)}
        self.initial = self._number[graph.initial]
        self.edges = [graph.open[name] for name in self.names]
        self.successors = [[self._number[edge.dest] for edge in edges] for edges in self.edges]
        self.stays = bytes(all(edge.guards for edge in edges) for edges in self.edges)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def predecessors(self) -> list[list[int]]:
        sources: list[list[int]] = [[] for _ in self.names]
        for source, successors in enumerate(self.successors):
            for successor in successors:
                sources[successor].append(source)
        return sources

    def where(self, atom: Atom) -> bytes:
        found = bytearray(len(self))
        for name in atom.states_in(self.graph):
            found[self._number[name]] = 1
        return bytes(found)

    def fair_edges(self, fair: Fairness | tuple[str, ...] | None) -> list[list[int]]:
        """The places in `edges` of those that are fair."""
        if fair is None:
            return [[]] * len(self)
        return [
            [place for place, edge in enumerate(edges) if self._is_fair(edge, fair)] for edges in self.edges
        ]

    def _is_fair(self, edge: Edge, fair: Fairness | tuple[str, ...]) -> bool:
        if not isinstance(fair, Fairness):
            return edge.trigger in fair
        source = self.graph[edge.source]
        if source.works:
            return edge.trigger == source.done and not edge.internal
        return not source.final and not edge.internal


class Checker:
    """Where formulas hold, as bytes: 1 for a state in which one does. Each formula is worked out once.

    Whatever the fair edges are, every walk can go on to be a fair run: let it take the edges of each state
    in turn, and it ends up going round in states that no edge leaves. So ``EX`` and ``EU``, whose truth a
    beginning of a run shows, do not ask for fairness; ``EG`` does, and what is made of it.
    """

    def __init__(self, kripke: Kripke, fair: Fairness | tuple[str, ...] | None = None) -> None:
        self.kripke = kripke
        self.fair_edges = kripke.fair_edges(fair)
        self._fair = [
            [successors[place] for place in places]
            for successors, places in zip(kripke.successors, self.fair_edges, strict=True)
        ]
        self._where: dict[Formula, bytes] = {}
        self._loops: dict[Formula, list[list[int]]] = {}

    @property
    def is_fair(self) -> bool:
        """Whether any edge is fair."""
        return any(self.fair_edges)

    def states(self, formula: Formula) -> frozenset[str]:
        """The names of the states in which it holds."""
        return frozenset(
            name for name, holds in zip(self.kripke.names, self.where(formula), strict=True) if holds
        )

    def where(self, formula: Formula) -> bytes:
        if formula not in self._where:
            self._where[formula] = self._decide(formula)
        return self._where[formula]

    def _decide(self, formula: Formula) -> bytes:
        match formula:
            case Constant(value):
                return bytes([value]) * len(self.kripke)
            case Atom():
                return self.kripke.where(formula)
            case Not(operand):
                return self.where(operand).translate(_NEGATED)
            case And(left, right):
                return _both(self.where(left), self.where(right))
            case Or(left, right):
                return _either(self.where(left), self.where(right))
            case EX(operand):
                return self._before(self.where(operand))
            case EU(left, right):
                return self._until(self.where(left), self.where(right))
            case EG(operand):
                return self._for_ever(operand)
            case AG() | AF() | AX() | AU():
                return self.where(opened(Not(formula))).translate(_NEGATED)
        return self.where(opened(formula))

    def _before(self, goal: bytes) -> bytes:
        found = bytearray(_both(goal, self.kripke.stays))
        for state in _members(goal):
            for source in self.kripke.predecessors[state]:
                found[source] = 1
        return bytes(found)

    def _until(self, through: bytes, goal: bytes) -> bytes:
        predecessors, found = self.kripke.predecessors, bytearray(goal)
        pending = list(_members(goal))
        while pending:
            for source in predecessors[pending.pop()]:
                if through[source] and not found[source]:
                    found[source] = 1
                    pending.append(source)
        return bytes(found)

    def _for_ever(self, operand: Formula) -> bytes:
        goal = bytearray(len(self.kripke))
        for loop in self.loops(operand):
            for state in loop:
                goal[state] = 1
        return self._until(self.where(operand), bytes(goal))

    def loops(self, operand: Formula) -> list[list[int]]:
        """The largest sets of states in which a fair run can stay for ever, while the operand holds."""
        if operand not in self._loops:
            kripke = self.kripke
            found = loops(kripke.successors, kripke.stays, self._fair, among=self.where(operand))
            self._loops[operand] = list(found)
        return self._loops[operand]


def _kripke(graph: Graph | Kripke) -> Kripke:
    return Kripke(graph) if isinstance(graph, Graph) else graph


def _members(states: bytes) -> Iterator[int]:
    return (state for state, inside in enumerate(states) if inside)


def _both(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") & int.from_bytes(other, "big")).to_bytes(len(one), "big")


def _either(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") | int.from_bytes(other, "big")).to_bytes(len(one), "big")
