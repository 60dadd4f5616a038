"""Graphs of any size, the same each time: what is measured on them can be measured again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from statemachine import Enqueue
from statemachine.graph import Edge, Graph, StateValue

STAGES = 10
"""Working states of a phase of a pipeline; each has an edge on, one to the failure, and one back from it."""

EDGES_PER_STATE = 4


def pipeline(edges: int) -> Graph:
    """Phases of working states, each phase with a failure from which a person retries: no findings."""
    phases, rest = divmod(edges, 3 * STAGES)
    stages = [STAGES] * phases + ([max(1, rest // 3)] if rest >= 3 or not phases else [])
    states = [state for number, size in enumerate(stages) for state in _phase(number, size)]
    working = [state.name for state in states if state.works] + ["done"]
    return Graph(
        name="pipeline",
        states=(*states, StateValue(name="done", final=True)),
        edges=tuple(_pipeline_edges(working)),
        initial=working[0],
        goals=("done",),
    )


def _phase(number: int, size: int) -> Iterator[StateValue]:
    for stage in range(size):
        name = f"p{number}_s{stage}"
        yield StateValue(name=name, phase=f"p{number}", steps=(Enqueue(f"tasks.{name}"),))
    yield StateValue(name=f"p{number}_failed", phase=f"p{number}", waits_for="a person")


def _pipeline_edges(working: list[str]) -> Iterator[Edge]:
    for here, there in pairwise(working):
        failed = f"{here.partition('_')[0]}_failed"
        yield Edge(trigger="advance", source=here, dest=there)
        yield Edge(trigger="fail", source=here, dest=failed)
        yield Edge(trigger="retry", source=failed, dest=here, guards=(f"failed_in_{here}",))


def sound(edges: int) -> Graph:
    """At random, but every state can be reached and left towards the goal: no findings."""
    count = max(2, edges // EDGES_PER_STATE)
    chance = random.Random(edges)
    pairs = [(chance.randrange(dest), dest) for dest in range(1, count)]
    pairs = [(source if source < count - 1 else 0, dest) for source, dest in pairs]
    pairs += [(source, chance.randrange(source + 1, count)) for source in range(count - 1)]
    pairs += [(chance.randrange(count - 1), chance.randrange(count)) for _ in range(edges - len(pairs))]
    return _of_pairs("sound", count, pairs)


def broken(edges: int) -> Graph:
    """At random: some states cannot be reached, and some reach no goal, so a report has much to tell."""
    count = max(2, edges // EDGES_PER_STATE)
    chance = random.Random(edges)
    pairs = [(0, 1), (0, count - 1)]
    pairs += [(chance.randrange(count - 1), chance.randrange(count)) for _ in range(edges - len(pairs))]
    return _of_pairs("broken", count, pairs)


def _of_pairs(name: str, count: int, pairs: list[tuple[int, int]]) -> Graph:
    """Each edge of a state has a trigger of its own, so none is hidden; the last state is the goal."""
    leaving = [0] * count
    edges = []
    for source, dest in pairs:
        leaving[source] += 1
        edges.append(Edge(trigger=f"go{leaving[source]}", source=f"s{source}", dest=f"s{dest}"))
    states = [StateValue(name=f"s{number}", waits_for="a person") for number in range(count - 1)]
    last = f"s{count - 1}"
    states.append(StateValue(name=last, final=True))
    return Graph(name=name, states=tuple(states), edges=tuple(edges), initial="s0", goals=(last,))


GRAPHS: Mapping[str, Callable[[int], Graph]] = {"pipeline": pipeline, "sound": sound, "broken": broken}
