"""Two questions about a graph, by hand and by others: which states no run enters, and where runs get stuck.

Each search begins with the same `Graph` and ends with its own kind of answer; `Answer` is what all can be
told as. A state is stuck when it can be reached, is not final, and no goal can be reached from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from statemachine.graph import Graph
from statemachine.verify import Report


@dataclass(frozen=True)
class Answer:
    """The names of the states; in a list of results they tell themselves by their numbers."""

    unreachable: frozenset[str]
    stuck: frozenset[str]

    def __repr__(self) -> str:
        return f"{len(self.unreachable)} unreachable and {len(self.stuck)} stuck states"


def answer_of(graph: Graph, reached: Iterable[str], hopeful: Iterable[str]) -> Answer:
    """Of the states that a run enters, and of those from which a goal can be reached."""
    entered, final = set(reached), {state.name for state in graph.states if state.final}
    every = {state.name for state in graph.states}
    return Answer(frozenset(every - entered), frozenset(entered - set(hopeful) - final))


def answer_of_report(report: Report) -> Answer:
    return Answer(
        frozenset(finding.state for finding in report.against("reachable")),
        frozenset(finding.state for finding in report.against("can-reach-goal")),
    )


# The floor


@dataclass(frozen=True)
class Lists:
    """A graph of numbers."""

    after: list[list[int]]
    before: list[list[int]]
    initial: int
    goals: list[int]


def lists_of(graph: Graph) -> Lists:
    number = {state.name: index for index, state in enumerate(graph.states)}
    after: list[list[int]] = [[] for _ in number]
    before: list[list[int]] = [[] for _ in number]
    for edge in graph.edges:
        source, dest = number[edge.source], number[edge.dest]
        after[source].append(dest)
        before[dest].append(source)
    return Lists(after, before, number[graph.initial], [number[goal] for goal in graph.goals])


def searched(lists: Lists) -> tuple[bytearray, bytearray]:
    """Once forward and once back; which states were seen."""
    return _seen(lists.after, [lists.initial]), _seen(lists.before, lists.goals)


def _seen(edges: Sequence[Sequence[int]], starts: Iterable[int]) -> bytearray:
    queue, seen = list(starts), bytearray(len(edges))
    for start in queue:
        seen[start] = 1
    for state in queue:  # grows as it is read
        for other in edges[state]:
            if not seen[other]:
                seen[other] = 1
                queue.append(other)
    return seen


def names(graph: Graph, seen: bytearray) -> list[str]:
    return [state.name for state, is_seen in zip(graph.states, seen, strict=True) if is_seen]


# Others. Each imports its package itself: what is not installed is left out.


def networkx_graph(graph: Graph) -> Any:
    import networkx

    directed = networkx.DiGraph()
    directed.add_nodes_from(state.name for state in graph.states)
    directed.add_edges_from((edge.source, edge.dest) for edge in graph.edges)
    return directed


def networkx_searched(graph: Graph, directed: Any) -> tuple[set[str], set[str]]:
    import networkx

    reached = networkx.descendants(directed, graph.initial) | {graph.initial}
    hopeful = set(graph.goals).union(*(networkx.ancestors(directed, goal) for goal in graph.goals))
    return reached, hopeful


def rustworkx_graph(graph: Graph) -> Any:
    import rustworkx

    directed = rustworkx.PyDiGraph()
    numbers = directed.add_nodes_from([state.name for state in graph.states])
    number = dict(zip((state.name for state in graph.states), numbers, strict=True))
    directed.add_edges_from_no_data([(number[edge.source], number[edge.dest]) for edge in graph.edges])
    return directed, number


def rustworkx_searched(graph: Graph, made: Any) -> tuple[set[int], set[int]]:
    import rustworkx

    directed, number = made
    first, goals = number[graph.initial], [number[goal] for goal in graph.goals]
    reached = rustworkx.descendants(directed, first) | {first}
    return reached, set(goals).union(*(rustworkx.ancestors(directed, goal) for goal in goals))


def scipy_graph(graph: Graph) -> Any:
    """A sparse matrix, and its transpose; its nodes are the states and, last, one that leads to each goal."""
    import numpy
    from scipy.sparse import csr_array

    number = {state.name: index for index, state in enumerate(graph.states)}
    count = len(number)
    sources = [number[edge.source] for edge in graph.edges]
    dests = [number[edge.dest] for edge in graph.edges]
    goals = [number[goal] for goal in graph.goals]

    def matrix(rows: list[int], columns: list[int]) -> Any:
        ones = numpy.ones(len(rows), dtype=numpy.int8)
        return csr_array((ones, (rows, columns)), shape=(count + 1, count + 1))

    back = matrix(dests + [count] * len(goals), sources + goals)
    return matrix(sources, dests), back, number[graph.initial], count


def scipy_searched(made: Any) -> tuple[Any, Any]:
    """The numbers of the states; among those of the second is the one of the node that was added."""
    from scipy.sparse.csgraph import breadth_first_order

    forth, back, first, last = made
    return (
        breadth_first_order(forth, first, return_predecessors=False),
        breadth_first_order(back, last, return_predecessors=False),
    )
