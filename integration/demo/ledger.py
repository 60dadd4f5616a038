"""What a finished onboarding must have left in the entry table. Pure functions of entries and the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from integration.entries import Entry
from statemachine.diagrams import happy_path
from statemachine.graph import Graph

__all__ = ["Line", "lines", "violations"]


@dataclass(frozen=True)
class Line:
    """One entry of a run in which nothing goes wrong.

    Attributes:
        state: The state.
        step: Which task of it.
        task: Its name; empty where nothing works.
    """

    state: str
    step: int
    task: str


def lines(graph: Graph) -> list[Line]:
    """What is entered, in order, on the way from the initial state to the goal."""
    found = []
    for name in happy_path(graph).states:
        tasks = [step.task for step in graph[name].steps] or [""]
        found += [Line(name, step, task) for step, task in enumerate(tasks)]
    return found


def violations(entries: Sequence[Entry], graph: Graph) -> list[str]:
    """What contradicts "each transition of the straight run happened once", as sentences; none if nothing."""
    return [
        *_not_the_straight_run(entries, graph),
        *_twice(entries),
        *_undeclared(entries, graph),
        *_open(entries),
    ]


def _not_the_straight_run(entries: Sequence[Entry], graph: Graph) -> Iterator[str]:
    expected = lines(graph)
    if len(entries) != len(expected):
        yield f"There are {len(entries)} entries, and a straight run has {len(expected)}."
    for entry, line in zip(entries, expected, strict=False):
        if (entry.state, entry.step, entry.task) != (line.state, line.step, line.task):
            yield (
                f"Entry {entry.pk} is of {entry.state}, step {entry.step}; "
                f"a straight run has {line.state}, step {line.step}, there."
            )
            return


def _twice(entries: Sequence[Entry]) -> Iterator[str]:
    for (epoch, step), count in Counter((entry.epoch, entry.step) for entry in entries).items():
        if count > 1:
            yield f"Epoch {epoch}, step {step} was entered {count} times."


def _undeclared(entries: Sequence[Entry], graph: Graph) -> Iterator[str]:
    declared = {(edge.trigger, edge.source, edge.dest) for edge in graph.edges}
    for before, entry in pairwise(entries):
        if entry.epoch == before.epoch:
            if (entry.trigger, entry.state, entry.step) != ("step", before.state, before.step + 1):
                yield f"Entry {entry.pk} is not the next step of entry {before.pk}."
        elif entry.epoch != before.epoch + 1:
            yield f"The epoch went from {before.epoch} to {entry.epoch} at entry {entry.pk}."
        elif (entry.trigger, before.state, entry.state) not in declared or entry.source != before.state:
            edge = f"{entry.source} to {entry.state} by {entry.trigger!r}"
            yield f"Entry {entry.pk}, {edge}, is no declared edge."


def _open(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries[:-1]:
        if entry.open or entry.left_at is None:
            yield f"Entry {entry.pk} was never left."
    if entries and not entries[-1].open:
        yield "No entry is open."
