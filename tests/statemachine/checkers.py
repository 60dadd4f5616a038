"""Temporal logic decided anew, to compare with: by the definitions, on sets of names, for small graphs.

Nothing here is shared with `statemachine.logic.kripke` but the classes of formulas. Fairness is decided by
looking at every set of states that a run could be in for ever.
"""

import warnings
from functools import cached_property
from itertools import chain, combinations

from statemachine.graph import Path
from statemachine.logic import (
    AF,
    AG,
    AU,
    AX,
    EF,
    EG,
    EU,
    EX,
    IN_THE_END,
    And,
    Atom,
    Constant,
    Implies,
    Not,
    Or,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # lark imports sre_parse
    from pyModelChecking import CTL
    from pyModelChecking.kripke import Kripke as PeersKripke


class Naive:
    """The fixpoints of the textbook, one set after the other until nothing changes."""

    def __init__(self, graph, fair=None):
        self.graph = graph
        self.all = frozenset(state.name for state in graph.states)
        self.edges = [edge for edge in graph.edges if not self.hidden(edge)]
        self.fair = [edge for edge in self.edges if self.is_fair(edge, fair)]

    def hidden(self, edge):
        same = [e for e in self.graph.edges if (e.source, e.trigger) == (edge.source, edge.trigger)]
        before = same[: next(place for place, e in enumerate(same) if e is edge)]
        return any(not e.guards for e in before)

    def is_fair(self, edge, fair):
        if fair is None:
            return False
        if fair is not IN_THE_END:
            return edge.trigger in fair
        source = next(state for state in self.graph.states if state.name == edge.source)
        takers = edge.trigger == source.done if source.steps else not source.final
        return takers and not edge.internal

    def may_stay(self, state):
        return not any(edge.source == state and not edge.guards for edge in self.edges)

    @cached_property
    def next(self):
        found = {state: {state} if self.may_stay(state) else set() for state in self.all}
        for edge in self.edges:
            found[edge.source].add(edge.dest)
        return found

    @cached_property
    def for_ever(self):
        """Every set of states that a fair run can be in for ever, no less and no more."""
        subsets = chain.from_iterable(
            combinations(sorted(self.all), size + 1) for size in range(len(self.all))
        )
        return [frozenset(subset) for subset in subsets if self.can_be_all_there_is(frozenset(subset))]

    def can_be_all_there_is(self, states):
        if any(edge.source in states and edge.dest not in states for edge in self.fair):
            return False
        return all(states <= self.ahead(start, states) for start in states)

    def ahead(self, start, states):
        """Where at least one step leads, and more of them, inside the states."""
        found, grown = frozenset(), self.next[start] & states
        while grown != found:
            found, grown = grown, grown | {t for s in grown for t in self.next[s] & states}
        return found

    def some_next(self, goal):
        return {state for state in self.all if self.next[state] & goal}

    def every_next(self, goal):
        return {state for state in self.all if self.next[state] <= goal}

    def some_until(self, through, goal):
        return fixpoint(lambda z: goal | (through & self.some_next(z)), set())

    def some_for_ever(self, inside):
        ends = [end for end in self.for_ever if end <= inside]
        return self.some_until(inside, set().union(*ends))

    @cached_property
    def starts(self):
        """Where a fair run begins."""
        return self.some_for_ever(self.all)

    def where(self, formula):
        match formula:
            case Constant(value):
                return set(self.all) if value else set()
            case Atom(name, kind):
                return self.named(name, kind)
            case Not(p):
                return self.all - self.where(p)
            case And(p, q):
                return self.where(p) & self.where(q)
            case Or(p, q):
                return self.where(p) | self.where(q)
            case Implies(p, q):
                return (self.all - self.where(p)) | self.where(q)
        return self.fairly(formula) if self.fair else self.unfairly(formula)

    def named(self, name, kind):
        of = {"state": lambda s: {s.name}, "tag": lambda s: set(s.tags), "phase": lambda s: {s.phase}}
        kinds = [kind] if kind else list(of)
        return {state.name for state in self.graph.states for kind in kinds if name in of[kind](state)}

    def unfairly(self, formula):
        p, q = self.where(formula.operands[0]), self.where(formula.operands[-1])
        match formula:
            case EX():
                return self.some_next(p)
            case AX():
                return self.every_next(p)
            case EF():
                return fixpoint(lambda z: p | self.some_next(z), set())
            case AF():
                return fixpoint(lambda z: p | self.every_next(z), set())
            case EG():
                return fixpoint(lambda z: p & self.some_next(z), self.all)
            case AG():
                return fixpoint(lambda z: p & self.every_next(z), self.all)
            case EU():
                return fixpoint(lambda z: q | (p & self.some_next(z)), set())
            case AU():
                return fixpoint(lambda z: q | (p & self.every_next(z)), set())

    def fairly(self, formula):
        p, q = self.where(formula.operands[0]), self.where(formula.operands[-1])
        no_p, no_q = self.all - p, self.all - q
        match formula:
            case EX():
                return self.some_next(p & self.starts)
            case AX():
                return self.all - self.some_next(no_p & self.starts)
            case EF():
                return self.some_until(self.all, p & self.starts)
            case AF():
                return self.all - self.some_for_ever(no_p)
            case EG():
                return self.some_for_ever(p)
            case AG():
                return self.all - self.some_until(self.all, no_p & self.starts)
            case EU():
                return self.some_until(p, q & self.starts)
            case AU():
                reach = self.some_until(no_q, no_p & no_q & self.starts)
                return self.all - (reach | self.some_for_ever(no_q))


def fixpoint(step, start):
    states = set(start)
    while (new := step(states)) != states:
        states = new
    return states


def peer(graph, formula):
    """Where pyModelChecking says that the formula holds. It knows fairness of states only."""
    naive = Naive(graph)
    steps = [(state, successor) for state in naive.all for successor in naive.next[state]]
    labels = {
        state: [f"p{n}" for n, a in enumerate(formula.atoms()) if state in naive.where(a)]
        for state in naive.all
    }
    return set(CTL.modelcheck(PeersKripke(S=naive.all, R=steps, L=labels), _peers(formula, formula.atoms())))


def _peers(formula, atoms):
    match formula:
        case Constant(value):
            return CTL.Bool(value)
        case Atom():
            return CTL.AtomicProposition(f"p{atoms.index(formula)}")
        case Implies():
            return CTL.Imply(*(_peers(part, atoms) for part in formula.operands))
    return getattr(CTL, type(formula).__name__)(*(_peers(part, atoms) for part in formula.operands))


class Witness:
    """Judges whether a path tells that a formula does not hold.

    Args:
        path: The path.
        naive: What holds where.
        stem: Judge the way to a loop only: a loop may be any set that a fair run can be in for ever.
    """

    def __init__(self, path, naive, *, stem=False):
        self.path, self.naive, self.stem = path, naive, stem
        self.states = path.states
        self.last = len(path.edges)

    def is_a_run(self):
        path, naive = self.path, self.naive
        steps = zip(self.states, path.edges, strict=False)
        if path.start != naive.graph.initial or any(edge not in naive.edges for edge in path.edges):
            return False
        if any(edge.source != state for state, edge in steps):
            return False
        return path.loop != self.last or naive.may_stay(path.end)

    def refutes(self, formula):
        return self.shows(formula, False, 0)

    def shows(self, formula, wanted, at):
        """Whether the rest of the path, from one of its states on, tells that it is as wanted."""
        if (self.states[at] in self.naive.where(formula)) != wanted:
            return False
        if not is_a_run_to_tell(formula, wanted):
            return True
        match formula:
            case Not(p):
                return self.shows(p, not wanted, at)
            case And() | Or() | Implies():
                parts = self.parts(formula, wanted)
                told = [part for part in parts if is_a_run_to_tell(*part)]
                both = isinstance(formula, And) == wanted
                return any(self.shows(*part, at) for part in (told if both else parts))
            case AX(p) | EX(p):
                stays = self.naive.may_stay(self.states[at]) and self.shows(p, wanted, at)
                return stays or (at < self.last and self.shows(p, wanted, at + 1))
            case EF(p) | AG(p):
                return any(self.shows(p, wanted, later) for later in range(at, self.last + 1))
            case EG(p) | AF(p):
                return self.goes_round(p, wanted, at)
            case EU(p, q):
                return self.comes_to(
                    lambda state: self.is_so(p, state), lambda to: self.shows(q, True, to), at
                )
            case AU(p, q):
                end = self.comes_to(
                    lambda state: not self.is_so(q, state),
                    lambda to: not self.is_so(p, self.states[to]) and self.shows(Or(p, q), False, to),
                    at,
                )
                return end or self.goes_round(q, False, at)

    @staticmethod
    def parts(formula, wanted):
        left = not wanted if isinstance(formula, Implies) else wanted
        return [(formula.operands[0], left), (formula.operands[1], wanted)]

    def is_so(self, formula, state):
        return state in self.naive.where(formula)

    def comes_to(self, through, shown, at):
        for to in range(at, self.last + 1):
            if shown(to):
                return True
            if not through(self.states[to]):
                return False
        return False

    def goes_round(self, formula, wanted, at):
        inside = self.naive.where(formula) if wanted else self.naive.all - self.naive.where(formula)
        if not inside.issuperset(self.states[at:]):
            return False
        if self.stem:
            return any(self.path.end in end and end <= inside for end in self.naive.for_ever)
        if self.path.loop is None or self.path.loop < at:  # it tells what begins before it
            return False
        again = self.states[self.path.loop :]
        owed = [edge for edge in self.naive.fair if edge.source in again]
        return inside.issuperset(again) and all(edge in self.path.edges[self.path.loop :] for edge in owed)


def is_a_run_to_tell(formula, wanted):
    match formula:
        case Not(p):
            return is_a_run_to_tell(p, not wanted)
        case And() | Or() | Implies():
            return any(is_a_run_to_tell(*part) for part in Witness.parts(formula, wanted))
        case EX() | EF() | EG() | EU():
            return wanted
        case AX() | AF() | AG() | AU():
            return not wanted
    return False


def walks(naive, length):
    """Every run of so many edges from the initial state, ended, or with each loop that it can have."""
    walks = [()]
    for _ in range(length):
        walks = [
            (*walk, edge)
            for walk in walks
            for edge in naive.edges
            if edge.source == (walk[-1].dest if walk else naive.graph.initial)
        ]
    for walk in walks:
        path = Path(naive.graph.initial, walk)
        yield path
        for loop, state in enumerate(path.states):
            if state == path.end and (loop < length or naive.may_stay(state)):
                yield Path(path.start, walk, loop)
