"""Prove what a graph promises, or show the shortest path to where it breaks the promise.

The limits first. A guard is a free choice here: it may pass or refuse whenever it is asked. A task may
finish or be given up, a timer may ring. So *proved* means that a way exists in the declaration, not that a
run takes it; and a guard that refuses for ever is not seen. The one thing known about a guard is where
there is none: an edge without conditions is always taken, so the later edges of its trigger never are.
``to_state``, which may put a row anywhere, is no edge.

Each property is a function from a search to its findings, in order of declaration. All of them together
take time linear in states and edges, and no recursion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from statemachine.graph import Finding, Graph
from statemachine.logic import Claim, Property
from statemachine.logic.kripke import Kripke
from statemachine.verify.claims import as_claim, refuse_titles, refutations, sentence
from statemachine.verify.loops import no_loop_is_hot
from statemachine.verify.report import Report
from statemachine.verify.search import Search
from statemachine.verify.stages import (
    every_edge_can_be_taken,
    every_finished_stage_moves_on,
    every_stage_can_be_given_up,
    every_state_names_who_moves_it,
    every_timer_can_fire,
)
from statemachine.verify.ways import (
    every_final_state_is_an_end,
    every_goal_is_an_end,
    every_kept_tag_is_kept,
    every_run_can_reach_a_goal,
    every_state_can_be_left,
    every_state_is_reachable,
)

__all__ = ["PROPERTIES", "Claim", "Report", "verify"]

Check = Callable[[Search], Iterator[Finding]]


def verify(graph: Graph, properties: Iterable[Claim] | None = None) -> Report:
    """Check every property of `PROPERTIES` and those that the graph declares, or only what is asked for.

    A finding is reported, never raised.

    Args:
        properties: Names of `PROPERTIES` or of the graph's own, formulas, their texts, or
            `statemachine.logic.Property` values.

    Raises:
        DeclarationError: A text is neither a name nor a formula, a formula names what is not there, or a
            property is called like another.
    """
    if properties is None:
        asked: Sequence[Property | str] = (*PROPERTIES, *graph.properties)
        refuse_titles(graph.properties, PROPERTIES)
    else:
        asked = [as_claim(claim, PROPERTIES, graph.properties) for claim in properties]
        refuse_titles(asked, PROPERTIES)
    search = Search(graph)
    return Report(
        name=graph.name,
        states=len(graph.states),
        edges=len(graph.edges),
        reachable=search.reachable,
        checked=tuple(
            [_TITLED[claim] if isinstance(claim, str) else _titled(claim, graph) for claim in asked]
        ),
        findings=tuple(_findings(search, asked)),
    )


def _titled(claim: Property, graph: Graph) -> tuple[str, str]:
    return claim.title, sentence(claim, graph.properties)


def _findings(search: Search, asked: Iterable[Property | str]) -> Iterator[Finding]:
    kripke: Kripke | None = None
    for claim in asked:
        if isinstance(claim, str):
            yield from PROPERTIES[claim][1](search)
        else:
            kripke = Kripke(search.graph) if kripke is None else kripke
            yield from refutations(kripke, claim)


PROPERTIES: Mapping[str, tuple[str, Check]] = {
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
    "timer-can-fire": ("every timer has an edge for its trigger that no guard refuses", every_timer_can_fire),
    "edge-can-be-taken": (
        "no trigger is ambiguous: no edge is hidden behind an unguarded one",
        every_edge_can_be_taken,
    ),
    "no-hot-loop": ("no loop goes round by itself without a limit", no_loop_is_hot),
    "goal-is-an-end": ("no edge leaves a goal, or it says who moves it on", every_goal_is_an_end),
    "tag-is-kept": ("no run loses a tag that is to be kept", every_kept_tag_is_kept),
}

_TITLED = {name: (name, sentence) for name, (sentence, _) in PROPERTIES.items()}
