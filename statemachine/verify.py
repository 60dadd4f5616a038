"""Prove what a graph promises, or show the shortest path to where it breaks the promise.

The limits first. A guard is a free choice here: it may pass or refuse whenever it is asked. A task may
finish or be given up, a timer may ring. So *proved* means that a way exists in the declaration, not that a
run takes it; and a guard that refuses for ever is not seen. The one thing known about a guard is where
there is none: an edge without conditions is always taken, so the later edges of its trigger never are.
``to_state``, which may put a row anywhere, is no edge.

Each property is a function from a graph to its findings, in order of declaration. All of them together
take time linear in states and edges, and no recursion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from textwrap import indent
from typing import Literal

from statemachine.graph import Edge, Finding, Graph, Path, StateValue

__all__ = ["PROPERTIES", "Report", "verify"]

Level = Literal["error", "warning"]
Property = Callable[[Graph], Iterator[Finding]]

# To tell the way to every state of one long dead branch would be quadratic: the later findings have no path.
_EDGES_TOLD = 100_000
_NAMED = 4


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was checked, how much there was of it, and what did not hold. Prints as a text for people.

    Attributes:
        name: What the machine is called.
        states: How many states are declared.
        edges: How many edges are declared.
        reachable: How many states a run can be in.
        checked: The properties, each as its name and its sentence.
        findings: By property, then in order of declaration.
    """

    name: str
    states: int
    edges: int
    reachable: int
    checked: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no row can get stuck or lost: warnings are allowed."""
        return not self.of_level("error")

    def of_level(self, level: Level) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == level)

    def against(self, name: str) -> tuple[Finding, ...]:
        """The findings against one property; empty when it is proved."""
        return tuple(finding for finding in self.findings if finding.property == name)

    def __str__(self) -> str:
        size = f"{_count(self.states, 'state')}, {self.reachable} reachable, {_count(self.edges, 'edge')}"
        parts = [f"{self.name}: {size}"]
        for name, sentence in self.checked:
            findings = self.against(name)
            parts.append(f"{_verdict(findings)} {name}: {sentence}")
            parts += [indent(str(finding), "    ") for finding in findings]
        errors, warnings = len(self.of_level("error")), len(self.of_level("warning"))
        parts.append(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}")
        return "\n".join(parts)


def verify(graph: Graph) -> Report:
    """Check every property of `PROPERTIES`; a finding is reported, never raised."""
    return Report(
        name=graph.name,
        states=len(graph.states),
        edges=len(graph.edges),
        reachable=len(_Search(graph).arrivals),
        checked=tuple((name, sentence) for name, (sentence, _) in PROPERTIES.items()),
        findings=tuple(finding for _, check in PROPERTIES.values() for finding in check(graph)),
    )


def every_state_is_reachable(graph: Graph) -> Iterator[Finding]:
    """For every state some run enters it: EF state in CTL.

    Breadth-first search from the initial state, O(states + edges) (Clarke, Emerson, Sistla 1986). An edge
    whose guard never passes still counts.
    """
    search = _Search(graph)
    for state in graph:
        if state.name not in search.arrivals:
            yield search.finding(
                "reachable",
                state,
                msg=f"No run enters {state.name!r}: {search.why_unreachable(state)}.",
                hint=f"Declare an edge to {state.name!r} from a state that runs enter, or delete it.",
            )


def every_run_can_reach_a_goal(graph: Graph) -> Iterator[Finding]:
    """From every reachable state that is not final some path leads to a goal: AG (final or EF goal) in CTL.

    Backward reachability from the goals, O(states + edges) (Clarke, Emerson, Sistla 1986). A final state is
    an end that was declared, so nothing is asked of it. It does not say that a run *will* reach a goal:
    guards and tasks are outside the graph, and a loop that can be left may be run through for ever.
    """
    search = _Search(graph)
    if not graph.goals:
        yield search.finding(
            "can-reach-goal",
            graph[graph.initial],
            msg="There is no goal and no final state, so no run can ever reach its end.",
            hint="Name what every run means to reach: goal='...'; of a cycle, a state that must come again.",
        )
        return
    hopeful, goals = search.can_reach(graph.goals), _either(graph.goals)
    for state in graph:
        if state.name not in hopeful and not state.final and state.name in search.arrivals:
            yield search.finding(
                "can-reach-goal",
                state,
                msg=f"No path leads from {state.name!r} to {goals}: a run that is there never gets it done.",
                hint=f"Declare an edge that leads from {state.name!r} towards {goals}; "
                "if a run may end otherwise, name that end as a goal too.",
            )


def every_finished_stage_moves_on(graph: Graph) -> Iterator[Finding]:
    """For every state with a task an edge of its ``done`` trigger exists: AG (works -> EX done) in CTL.

    One look at each edge. Whether a guard refuses at the moment the task finishes is not known here.
    """
    search = _Search(graph)
    for state in graph:
        if state.works and not search.ending(state, state.done):
            yield search.finding(
                "finished-stage-moves-on",
                state,
                msg=f"{state.name!r} runs {_tasks(state)}, but has no edge for {state.done!r}: "
                "there is no way out on success.",
                hint=f"Declare an edge of {state.done!r} from {state.name!r}, or correct its done='...'.",
            )


def every_stage_can_be_given_up(graph: Graph) -> Iterator[Finding]:
    """For every state with a task its ``failed`` trigger always has an edge: AG (works -> EX failed) in CTL.

    One look at each edge. Guards of which one always passes, such as ``x`` and ``not x``, are not
    recognised, so a stage whose edges are all guarded is a warning and no error.
    """
    search = _Search(graph)
    for state in graph:
        edges = search.ending(state, state.failed)
        if state.works and not edges:
            yield search.finding(
                "stage-can-be-given-up",
                state,
                msg=f"{state.name!r} runs {_tasks(state)}, but has no edge for {state.failed!r}: "
                "there is no way out on failure.",
                hint=f"Declare an edge of {state.failed!r} from {state.name!r}, or correct its failed='...'.",
            )
        elif state.works and all(edge.guards for edge in edges):
            yield search.finding(
                "stage-can-be-given-up",
                state,
                msg=f"Every edge of {state.failed!r} from {state.name!r} is guarded: "
                "when all refuse, a failed stage cannot be given up.",
                hint=f"Declare a last edge of {state.failed!r} from {state.name!r} without conditions.",
                level="warning",
            )


def every_state_can_be_left(graph: Graph) -> Iterator[Finding]:
    """For every state that is neither final nor a goal an edge to another state exists: AG (end or EX other).

    One look at each edge; internal edges and those back to the same state do not leave it.
    """
    search = _Search(graph)
    for state in graph:
        if state.name not in search.ends and not search.leaving(state):
            yield search.finding(
                "can-be-left",
                state,
                msg=f"{state.name!r} is a dead end: no edge leaves it, and it is neither final nor a goal.",
                hint=f"Declare an edge that leaves {state.name!r}, or mark it with final=True.",
            )


def every_final_state_is_an_end(graph: Graph) -> Iterator[Finding]:
    """For every final state no edge to another state exists: AG (final -> not EX other) in CTL.

    One look at each edge. The path shown goes one edge too far: out of the final state.
    """
    search = _Search(graph)
    for state in graph:
        if state.final and (leaving := search.leaving(state)):
            found = search.finding(
                "final-is-an-end",
                state,
                msg=f"{state.name!r} is final, yet {_either(edge.trigger for edge in leaving)} leaves it.",
                hint="A source of '*' takes final states along: list the sources, or drop final=True.",
                level="warning",
            )
            # A path of no edges is falsy.
            yield found if found.path is None else replace(found, path=found.path.then(leaving[0]))


def every_state_names_who_moves_it(graph: Graph) -> Iterator[Finding]:
    """Every state is an end, or says who moves a row out of it: a task, a timer or somebody named.

    This is asked of the declaration, not of its runs: one look at each state.
    """
    search = _Search(graph)
    for state in graph:
        if state.name not in search.ends and not (state.works or state.waits_for or state.after):
            yield search.finding(
                "names-who-moves-it",
                state,
                msg=f"{state.name!r} waits for nobody named: it has no task, no timer and no waits_for.",
                hint=f"Say who moves a row out of {state.name!r}: waits_for='...'.",
                level="warning",
            )


def every_timer_can_fire(graph: Graph) -> Iterator[Finding]:
    """For every state with a timer an edge of the timer's trigger exists: AG (timer -> EX trigger) in CTL.

    One look at each edge. Whether a guard refuses at the moment the timer rings is not known here.
    """
    search = _Search(graph)
    for state in graph:
        if state.after and not search.ending(state, state.after[1]):
            yield search.finding(
                "timer-can-fire",
                state,
                msg=f"The timer of {state.name!r} fires {state.after[1]!r}, which no edge takes out of "
                "there.",
                hint=f"Declare an edge of {state.after[1]!r} from {state.name!r}, or correct its after.",
            )


def every_edge_can_be_taken(graph: Graph) -> Iterator[Finding]:
    """No edge stands behind one of its trigger that is unguarded, since the first that passes is taken.

    One look at each edge. An edge that can be taken from another source is left alone: that is how a
    wildcard reads which is declared after its exceptions.
    """
    search = _Search(graph)
    taken = {(edge.trigger, edge.dest) for edges in search.edges.values() for edge in edges}
    for state in graph:
        for edge in graph.outgoing[state.name]:
            if (edge.trigger, edge.dest) not in taken:
                yield search.finding(
                    "edge-can-be-taken",
                    state,
                    msg=f"{edge} is never taken: an edge of {edge.trigger!r} before it has no condition.",
                    hint="Declare the guarded edges first and the unguarded one last, or delete this one.",
                    level="warning",
                )


PROPERTIES: Mapping[str, tuple[str, Property]] = {
    "reachable": ("some run enters every state", every_state_is_reachable),
    "can-reach-goal": ("a path leads to a goal from all but the final states", every_run_can_reach_a_goal),
    "finished-stage-moves-on": ("every task has an edge for its success", every_finished_stage_moves_on),
    "stage-can-be-given-up": (
        "every task has an edge for its failure that no guard refuses",
        every_stage_can_be_given_up,
    ),
    "can-be-left": ("an edge leaves every state that is neither final nor a goal", every_state_can_be_left),
    "final-is-an-end": ("no edge leaves a final state", every_final_state_is_an_end),
    "names-who-moves-it": (
        "every other state has a task, a timer or somebody it waits for",
        every_state_names_who_moves_it,
    ),
    "timer-can-fire": ("every timer has an edge for its trigger", every_timer_can_fire),
    "edge-can-be-taken": ("no edge is hidden behind an unguarded one", every_edge_can_be_taken),
}


class _Search:
    """What the properties ask of a graph; each answer is worked out when it is first asked for."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._to_tell = _EDGES_TOLD

    def finding(
        self, name: str, state: StateValue, *, msg: str, hint: str, level: Level = "error"
    ) -> Finding:
        path = self.path_to(state.name)
        return Finding(property=name, msg=msg, hint=hint, state=state.name, path=path, level=level)

    @cached_property
    def edges(self) -> Mapping[str, list[Edge]]:
        """The edges that can be taken, by their source."""
        return {state: list(_open(edges)) for state, edges in self._graph.outgoing.items()}

    @cached_property
    def ends(self) -> frozenset[str]:
        """Where a run may stay: the final states and the goals."""
        return frozenset(self._graph.goals).union(state.name for state in self._graph if state.final)

    @cached_property
    def arrivals(self) -> Mapping[str, Edge | None]:
        """Every reachable state, nearest first, with the edge by which a shortest path enters it."""
        found: dict[str, Edge | None] = {self._graph.initial: None}
        queue = deque(found)
        while queue:
            for edge in self.edges[queue.popleft()]:
                if edge.dest not in found:
                    found[edge.dest] = edge
                    queue.append(edge.dest)
        return found

    def path_to(self, state: str) -> Path | None:
        """A shortest path; None when there is none, or when enough was told already."""
        if state not in self.arrivals or self._to_tell < 0:
            return None
        edges: list[Edge] = []
        while edge := self.arrivals[state]:
            edges.append(edge)
            state = edge.source
        self._to_tell -= len(edges)
        return Path(state, tuple(reversed(edges)))

    def can_reach(self, goals: Iterable[str]) -> set[str]:
        """The states from which one of the goals can be reached: breadth-first search, backwards."""
        sources: dict[str, list[str]] = {state.name: [] for state in self._graph}
        for edges in self.edges.values():
            for edge in edges:
                sources[edge.dest].append(edge.source)
        found = set(goals)
        queue = deque(found)
        while queue:
            for source in sources[queue.popleft()]:
                if source not in found:
                    found.add(source)
                    queue.append(source)
        return found

    def ending(self, state: StateValue, trigger: str) -> list[Edge]:
        """The edges of a trigger that end a stage or a wait; an internal one would leave it open."""
        return [edge for edge in self.edges[state.name] if edge.trigger == trigger and not edge.internal]

    def leaving(self, state: StateValue) -> list[Edge]:
        return [edge for edge in self.edges[state.name] if edge.dest != state.name]

    def why_unreachable(self, state: StateValue) -> str:
        entering = [edge for edge in self._graph.incoming[state.name] if edge.source != state.name]
        hidden = next((edge for edge in entering if edge.source in self.arrivals), None)
        if hidden:
            return f"{hidden} is hidden by an earlier edge of {hidden.trigger!r} without conditions"
        if entering:
            return f"edges lead to it from {_either(edge.source for edge in entering)} only, where no run is"
        return "no edge leads to it"


def _open(edges: Iterable[Edge]) -> Iterator[Edge]:
    """Leave out what comes after an unguarded edge of the same trigger: that one is always taken first."""
    closed: set[str] = set()
    for edge in edges:
        if edge.trigger not in closed:
            yield edge
        if not edge.guards:
            closed.add(edge.trigger)


def _tasks(state: StateValue) -> str:
    return ", ".join(repr(step.task) for step in state.steps)


def _either(names: Iterable[str]) -> str:
    """Name a few: a list of all of a thousand goals in each of a thousand findings helps nobody."""
    unique = list(dict.fromkeys(names))
    shown = [repr(name) for name in unique[:_NAMED]]
    if len(unique) > _NAMED:
        shown.append(_count(len(unique) - _NAMED, "other"))
    return " or ".join(shown)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _verdict(findings: tuple[Finding, ...]) -> str:
    if not findings:
        return "proved "
    return "refuted" if any(finding.level == "error" for finding in findings) else "doubted"
