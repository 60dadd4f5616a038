"""Ways through a real pipeline: to a state, and from wherever it is to a goal."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from integration.testing.trouble import Broken
from integration.testing.world import World
from statemachine import Edge, Graph, Path

__all__ = ["Ways", "come_to_rest", "reach_a_goal", "walk"]

_TRIES = 3
"""How often a person tries the same trigger in the same state."""

_ROUNDS = 100
_DELIVERIES = 1000


@dataclass(frozen=True)
class Ways:
    """What a graph says of the ways through it. Guards are free choices."""

    graph: Graph

    @cached_property
    def edges(self) -> Mapping[str, tuple[Edge, ...]]:
        """The edges that can be taken and move the row, by the state that they leave."""
        return {
            state: tuple(edge for edge in edges if not edge.internal)
            for state, edges in self.graph.open.items()
        }

    @cached_property
    def shortest(self) -> Mapping[str, Path]:
        """A path from the initial state to each state that runs enter, the most likely to be walked.

        It is a shortest one of those without guards and failures; where there is none, a shortest one.
        """
        paths = {self.graph.initial: Path(self.graph.initial)}
        failures = self.graph.failure_edges()
        self._explore(paths, lambda edge: not edge.guards and edge not in failures)
        self._explore(paths, lambda edge: True)
        return paths

    def _explore(self, paths: dict[str, Path], allowed: Callable[[Edge], bool]) -> None:
        """Add a shortest path to each state that can be entered from those that have one."""
        queue = deque(paths)
        while queue:
            state = queue.popleft()
            for edge in filter(allowed, self.edges[state]):
                if edge.dest not in paths:
                    paths[edge.dest] = paths[state].then(edge)
                    queue.append(edge.dest)

    @cached_property
    def distance(self) -> Mapping[str, int]:
        """How far the nearest goal is, from each state that has a way to one."""
        sources: dict[str, list[str]] = {state.name: [] for state in self.graph}
        for edge in (edge for edges in self.edges.values() for edge in edges):
            sources[edge.dest].append(edge.source)
        found = dict.fromkeys(self.graph.goals, 0)
        queue = deque(found)
        while queue:
            state = queue.popleft()
            for source in sources[state]:
                if source not in found:
                    found[source] = found[state] + 1
                    queue.append(source)
        return found

    def is_end(self, state: str) -> bool:
        return self.graph[state].final or state in self.graph.goals

    def onwards(self, state: str) -> list[str]:
        """The triggers that somebody may fire to get nearer to a goal, the best first."""
        own = {self.graph[state].done, self.graph[state].failed} if self.graph[state].works else set()
        nearest: dict[str, int] = {}
        for edge in self.edges[state]:
            far = self.distance.get(edge.dest)
            if far is not None and edge.dest != state and edge.trigger not in own:
                nearest[edge.trigger] = min(far, nearest.get(edge.trigger, far))
        return sorted(nearest, key=lambda trigger: nearest[trigger])


def come_to_rest(world: World) -> None:
    """Let time pass, sweeps sweep and messages be answered, until nothing is pending but timers.

    Raises:
        Broken: There is no end to it.
    """
    if world.strayed:
        world.scan()
    delivered = 0
    for _ in range(_ROUNDS):
        while world.messages and delivered < _DELIVERIES:
            world.answer(world.messages[0])
            delivered += 1
        world.sweep()
        if not world.messages:
            return
    raise Broken(
        f"It never comes to rest: it is in {world.where().status!r}, and work is still pending. "
        "Where a stage waits for something that is not there, let create=… make it, or pass tasks=…."
    )


def reach_a_goal(world: World, ways: Ways) -> None:
    """Come to rest, and fire what leads to a goal wherever somebody is waited for, until the row is there.

    A final state is an end as well. Where a guard refuses, other ways are tried.

    Raises:
        Broken: The row is stuck.
    """
    tried: Counter[tuple[str, str]] = Counter()
    while True:
        come_to_rest(world)
        state = world.where().status
        if ways.is_end(state):
            return
        if not any(
            _tried(world, ways, state, trigger, tried) for trigger in _least_tried(ways, state, tried)
        ):
            raise Broken(_stuck(world, ways, state, tried))


def _least_tried(ways: Ways, state: str, tried: Counter[tuple[str, str]]) -> list[str]:
    left = [trigger for trigger in ways.onwards(state) if tried[state, trigger] < _TRIES]
    return sorted(left, key=lambda trigger: tried[state, trigger])


def _tried(world: World, ways: Ways, state: str, trigger: str, tried: Counter[tuple[str, str]]) -> bool:
    """Try to leave a state by a trigger. Whether the row has moved."""
    tried[state, trigger] += 1
    before = world.where()
    take(world, ways.graph, state, trigger)
    return world.where() != before


def take(world: World, graph: Graph, state: str, trigger: str) -> None:
    """Let a trigger be fired by whoever fires it: the timer of the state, or a person."""
    after = graph[state].after
    if after is None or after[1] != trigger or trigger in world.pipeline.drive:
        world.fire(trigger)
        return
    world.tell(f"time passes until the timer of {state!r} is over")
    world.elapse(timers=True)
    world.sweep()
    while world.messages:
        world.answer(world.messages[0])


def _stuck(world: World, ways: Ways, state: str, tried: Counter[tuple[str, str]]) -> str:
    goals, entry = " or ".join(map(repr, ways.graph.goals)), world.pending()
    attempts = [f"{trigger!r} ({number}×)" for (at, trigger), number in tried.items() if at == state]
    parts = [f"The row is stuck in {state!r}: it never reaches {goals}."]
    if attempts:
        parts.append(f"Tried there: {', '.join(attempts)}; the story says what came of it.")
        parts.append(
            "If a person brings something along, say so: drive={'trigger': {…}} or a function of the row."
        )
    elif ways.graph[state].works:
        parts.append("Its stage is over, and nothing that somebody may fire leads on.")
    else:
        parts.append("No trigger leads from there to a goal.")
    if entry is not None and entry.error:
        parts.append(f"Its entry says: {entry.error}")
    return "\n".join(parts)


def walk(world: World, path: Path, graph: Graph) -> bool:
    """Walk along a path from the initial state. Whether the row got to its end."""
    for edge in path.edges:
        if world.where().status != edge.source:
            return False
        _follow(world, graph, edge)
    return world.where().status == path.end


def _follow(world: World, graph: Graph, edge: Edge) -> None:
    state = graph[edge.source]
    if not state.works or edge.trigger not in (state.done, state.failed):
        take(world, graph, edge.source, edge.trigger)
        return
    world.task_fails = edge.trigger == state.failed and edge.trigger != state.done
    try:
        for _ in state.steps:
            if world.where().status == edge.source and world.messages:
                world.answer(world.messages[0])
    finally:
        world.task_fails = False
