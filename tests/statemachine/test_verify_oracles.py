"""Every built-in property, compared with what its sentence says: by sets, by CTL, and run by run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine import State, StateMachine
from statemachine.enqueue import Enqueue
from statemachine.graph import Edge, Finding, Graph, StateValue
from statemachine.graph import Path as Walk
from statemachine.logic import EF, Property, parse
from statemachine.logic import state as in_state
from statemachine.logic.kripke import Checker, Kripke, holds
from statemachine.verify import PROPERTIES, verify

NAMES = "abcde"
TRIGGERS = ("advance", "fail", "go")
KINDS = (
    {"steps": (Enqueue("papers.work"),)},
    {"steps": (Enqueue("papers.work"),), "failed": "go"},
    {"waits_for": "somebody"},
    {"after": (timedelta(0), "go")},
    {"after": (timedelta(days=1), "go")},
    {},
    {"final": True},
)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    a_name = st.sampled_from(names)
    states = tuple(
        StateValue(name=name, tags=draw(st.sampled_from(((), ("shown",)))), **draw(st.sampled_from(KINDS)))
        for name in names
    )
    if not any(state.tags for state in states):
        states = (StateValue(name="a", tags=("shown",)), *states[1:])
    declared = st.tuples(
        st.sampled_from(TRIGGERS),
        st.sampled_from([*names, *names, "*"]),
        a_name,
        st.sampled_from(((), (), ("sure",))),
    )
    edges = [edge for d in draw(st.lists(declared, max_size=9)) for edge in expanded(names, *d)]
    inside = st.builds(
        lambda trigger, at: Edge(trigger=trigger, source=at, dest=at, internal=True),
        st.sampled_from(TRIGGERS),
        a_name,
    )
    return Graph(
        name="random",
        states=states,
        edges=(*draw(st.lists(inside, max_size=2)), *edges),
        initial="a",
        goals=tuple(draw(st.lists(a_name, max_size=2, unique=True))),
        keeps=("shown",),
    )


def expanded(names: str, trigger: str, source: str, dest: str, guards: tuple[str, ...]) -> Iterator[Edge]:
    wildcard = source == "*"
    for name in names if wildcard else source:
        yield Edge(trigger=trigger, source=name, dest=dest, guards=guards, wildcard=wildcard)


class Naive:
    """The graph as sets, by the words of the documentation and by nothing of the library."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.places = [at for at, _ in enumerate(graph.edges) if not self.is_hidden(at)]
        self.edges = [graph.edges[at] for at in self.places]
        self.reachable = {"a"}
        for _ in graph.states:
            self.reachable |= {e.dest for e in self.edges if e.source in self.reachable}

    def is_hidden(self, at: int) -> bool:
        edge = self.graph.edges[at]
        before = self.graph.edges[:at]
        return any((e.source, e.trigger, e.guards) == (edge.source, edge.trigger, ()) for e in before)

    def ending(self, state: StateValue, trigger: str) -> list[Edge]:
        return [e for e in self.edges if (e.source, e.trigger, e.internal) == (state.name, trigger, False)]

    def left(self, state: StateValue) -> bool:
        return any(e.source == state.name != e.dest for e in self.edges)

    def is_end(self, state: StateValue) -> bool:
        return state.final or state.name in self.graph.goals

    def hot(self) -> list[Edge]:
        """The edges that a run takes by itself, without a guard before or on them."""
        return [
            edge
            for edge in self.edges
            if edge.source in self.reachable
            and not edge.guards
            and not edge.internal
            and edge.trigger in self.by_itself(self.graph[edge.source])
            and self.by_itself(self.graph[edge.dest])
            and edge == next(e for e in self.edges if (e.source, e.trigger) == (edge.source, edge.trigger))
        ]

    def by_itself(self, state: StateValue) -> set[str]:
        if state.steps:
            return {state.done, state.failed}
        return {state.after[1]} if state.after and not state.after[0] else set()


def levels(naive: Naive, trigger: str) -> set[tuple[str, str]]:
    """What the triggers of stages and timers should be reported for."""
    found = set()
    for state in naive.graph:
        timer = state.after[1] if state.after else ""
        wanted = timer if trigger == "after" else state.steps and getattr(state, trigger)
        if wanted and not (edges := naive.ending(state, wanted)):
            found.add((state.name, "error"))
        elif wanted and trigger != "done" and all(edge.guards for edge in edges):
            found.add((state.name, "warning"))
    return found


def found(graph: Graph, name: str) -> list[tuple[str, str]]:
    return [(finding.state, finding.level) for finding in verify(graph, [name]).findings]


def warned(states: Iterator[StateValue]) -> list[tuple[str, str]]:
    return [(state.name, "warning") for state in states]


@settings(max_examples=60)
@given(graphs())
def test_what_is_asked_of_single_states_agrees_with_its_sentence(graph: Graph) -> None:
    naive = Naive(graph)
    assert set(found(graph, "finished-stage-moves-on")) == levels(naive, "done")
    assert set(found(graph, "stage-can-be-given-up")) == levels(naive, "failed")
    assert set(found(graph, "timer-can-fire")) == levels(naive, "after")
    assert found(graph, "can-be-left") == [
        (s.name, "error") for s in graph if not naive.is_end(s) and not naive.left(s)
    ]
    assert found(graph, "final-is-an-end") == warned(s for s in graph if s.final and naive.left(s))
    named = {s.name for s in graph if s.steps or s.waits_for or s.after}
    assert found(graph, "names-who-moves-it") == warned(
        s for s in graph if s.name not in named and not naive.is_end(s)
    )
    assert found(graph, "goal-is-an-end") == warned(
        s for s in graph if s.name in graph.goals and not s.final and s.name not in named and naive.left(s)
    )


@st.composite
def declarations(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The edges of one trigger, some of them wildcards."""
    name, guard = st.sampled_from(("a", "b", "c")), st.sampled_from(([], ["sure"]))
    one = st.fixed_dictionaries(
        {"source": name | st.just("*"), "dest": name | st.just("="), "conditions": guard}
    )
    return draw(st.lists(one, max_size=6))


@given(declarations())
def test_an_edge_is_found_when_it_is_hidden_and_a_wildcard_when_it_is_hidden_everywhere(
    declared: list[dict[str, Any]],
) -> None:
    machine = StateMachine(
        states=[State("a"), State("b"), State("c")],
        transitions=[{"trigger": "go", **one} for one in declared],
        initial="a",
    )
    closed: set[str] = set()
    hidden = []
    for one in declared:
        sources = ["a", "b", "c"] if one["source"] == "*" else [one["source"]]
        if closed.issuperset(sources):
            hidden.append(sources[0])
        closed.update(sources if not one["conditions"] else ())
    assert found(machine.graph, "edge-can-be-taken") == [(name, "warning") for name in sorted(hidden)]


def test_states_that_were_declared_after_a_wildcard_have_only_the_later_ones() -> None:
    machine = StateMachine(states=["a", "b"], transitions=[["go", "*", "b"]], initial="a")
    machine.add_states(["c"])
    machine.add_transition("go", "*", "a")
    assert found(machine.graph, "edge-can-be-taken") == []
    machine.add_transition("go", "*", "=")
    assert found(machine.graph, "edge-can-be-taken") == [("a", "warning")]


@settings(max_examples=60)
@given(graphs())
def test_what_is_asked_of_runs_agrees_with_temporal_logic(graph: Graph) -> None:
    checker = Checker(Kripke(graph))
    reached = [s.name for s in graph if holds(graph, Property(EF(in_state(s.name))))]
    assert [state for state, _ in found(graph, "reachable")] == [
        s.name for s in graph if s.name not in reached
    ]
    if graph.goals:
        goal = " | ".join(f"state:{name}" for name in graph.goals)
        hopeful = checker.states(parse(f"EF ({goal})"))
        assert [state for state, _ in found(graph, "can-reach-goal")] == [
            s.name for s in graph if s.name in reached and s.name not in hopeful and not s.final
        ]
    assert (not found(graph, "tag-is-kept")) is holds(graph, Property("AG(shown -> AG shown)"))


@settings(max_examples=60)
@given(graphs())
def test_the_story_of_a_lost_tag_is_the_shortest_that_loses_it(graph: Graph) -> None:
    edges, shown = Naive(graph).edges, set(graph.tagged("shown"))
    for finding in verify(graph, ["tag-is-kept"]).findings:
        assert finding.path is not None
        assert loses(finding.path.states, shown)
        assert_legal(finding.path, edges)
        runs = [("a",)]
        for _ in range(len(finding.path) - 1):
            runs = [(*run, e.dest) for run in runs for e in edges if e.source == run[-1]][:4000]
            assert not any(loses(run, shown) for run in runs)


def loses(run: tuple[str, ...], shown: set[str]) -> bool:
    return any(a in shown and b not in shown for a, b in pairwise(run))


def assert_legal(path: Walk, edges: list[Edge]) -> None:
    assert path.start == "a"
    assert all(edge in edges for edge in path.edges)
    assert [edge.source for edge in path.edges] == list(path.states[:-1])


@settings(max_examples=80)
@given(graphs())
def test_hot_loops_are_the_sets_of_states_that_lead_to_each_other_by_themselves(graph: Graph) -> None:
    naive = Naive(graph)
    hot = naive.hot()
    onward = {(e.source, e.dest) for e in hot}
    for middle in NAMES:
        onward |= {(a, b) for a in NAMES for b in NAMES if {(a, middle), (middle, b)} <= onward}
    loops = {frozenset(b for b in NAMES if {(a, b), (b, a)} <= onward) for a in NAMES} - {frozenset()}
    findings = verify(graph, ["no-hot-loop"]).findings
    told = [frozenset(round_of(finding)) for finding in findings]
    assert len(findings) == len(loops)
    assert {next(loop for loop in loops if states <= loop) for states in told} == loops
    for finding, states in zip(findings, told, strict=True):
        assert finding.path is not None
        assert finding.path.loop is not None
        assert_legal(finding.path, naive.edges)
        assert set(finding.path.edges[finding.path.loop :]) <= set(hot)
        loop = next(loop for loop in loops if states <= loop)
        inner = [edge for edge in hot if {edge.source, edge.dest} <= loop]
        driven = any(is_failure(graph, edge) for edge in inner)
        assert finding.level == ("error" if driven else "warning")
        assert not driven or any(is_failure(graph, e) for e in finding.path.edges[finding.path.loop :])


def round_of(finding: Finding) -> tuple[str, ...]:
    assert finding.path is not None
    return finding.path.states[finding.path.loop :]


def is_failure(graph: Graph, edge: Edge) -> bool:
    return graph[edge.source].works and edge.trigger == graph[edge.source].failed


def test_every_property_has_an_oracle_here() -> None:
    written = Path(__file__).read_text(encoding="utf-8")
    assert {name for name in PROPERTIES if f'"{name}"' not in written} == set()
