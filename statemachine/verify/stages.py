"""What is declared of one state: its task, its timer, who is waited for, and the order of its edges."""

from __future__ import annotations

from collections.abc import Iterator

from statemachine.graph import Finding
from statemachine.verify.search import Search
from statemachine.verify.wording import tasks

__all__ = [
    "every_edge_can_be_taken",
    "every_finished_stage_moves_on",
    "every_stage_can_be_given_up",
    "every_state_names_who_moves_it",
    "every_timer_can_fire",
]


def every_finished_stage_moves_on(search: Search) -> Iterator[Finding]:
    """For every state with a task an edge of its ``done`` trigger exists: AG (works -> EX done) in CTL.

    One look at each edge. Whether a guard refuses at the moment the task finishes is not known here.
    """
    for at, state in enumerate(search.states):
        if state.steps and not (search.surely_ended(state, state.done) or search.ending(at, state.done)):
            yield search.finding(
                "finished-stage-moves-on",
                at,
                msg=f"{state.name!r} runs {tasks(state)}, but has no edge for {state.done!r}: "
                "there is no way out on success.",
                hint=f"Declare an edge of {state.done!r} from {state.name!r}, or correct its done='...'.",
            )


def every_stage_can_be_given_up(search: Search) -> Iterator[Finding]:
    """For every state with a task its ``failed`` trigger always has an edge: AG (works -> EX failed) in CTL.

    One look at each edge. Guards of which one always passes, such as ``x`` and ``not x``, are not
    recognised, so a stage whose edges are all guarded is a warning and no error.
    """
    for at, state in enumerate(search.states):
        if not state.steps or search.surely_ended(state, state.failed):
            continue
        if search.ending(at, state.failed):
            yield search.finding(
                "stage-can-be-given-up",
                at,
                msg=f"Every edge of {state.failed!r} from {state.name!r} is guarded: "
                "when all refuse, a failed stage cannot be given up.",
                hint=f"Declare a last edge of {state.failed!r} from {state.name!r} without conditions.",
                level="warning",
            )
        else:
            yield search.finding(
                "stage-can-be-given-up",
                at,
                msg=f"{state.name!r} runs {tasks(state)}, but has no edge for {state.failed!r}: "
                "there is no way out on failure.",
                hint=f"Declare an edge of {state.failed!r} from {state.name!r}, or correct its failed='...'.",
            )


def every_state_names_who_moves_it(search: Search) -> Iterator[Finding]:
    """Every state is an end, or says who moves a row out of it: a task, a timer or somebody named.

    This is asked of the declaration, not of its runs: one look at each state.
    """
    for at, state in enumerate(search.states):
        if not (state.steps or state.waits_for or state.after) and at not in search.ends:
            yield search.finding(
                "names-who-moves-it",
                at,
                msg=f"{state.name!r} waits for nobody named: it has no task, no timer and no waits_for.",
                hint=f"Say who moves a row out of {state.name!r}: waits_for='...'.",
                level="warning",
            )


def every_timer_can_fire(search: Search) -> Iterator[Finding]:
    """For every state with a timer an edge of the timer's trigger exists: AG (timer -> EX trigger) in CTL.

    One look at each edge. Whether a guard refuses at the moment the timer rings is not known here.
    """
    for at, state in enumerate(search.states):
        if state.after and not search.ending(at, state.after[1]):
            yield search.finding(
                "timer-can-fire",
                at,
                msg=f"The timer of {state.name!r} fires {state.after[1]!r}, which no edge takes out of "
                "there.",
                hint=f"Declare an edge of {state.after[1]!r} from {state.name!r}, or correct its after.",
            )


def every_edge_can_be_taken(search: Search) -> Iterator[Finding]:
    """No edge stands behind one of its trigger that is unguarded, since the first that passes is taken.

    One look at each edge. An edge that can be taken from another source is left alone: that is how a
    wildcard reads which is declared after its exceptions.
    """
    if not search.hidden:
        return
    taken = {(search.edges[at].trigger, search.edges[at].dest) for at in search.taken}
    # In order of the states, whatever the order of the edges.
    for at in sorted(search.hidden, key=search.source.__getitem__):
        edge = search.edges[at]
        if (edge.trigger, edge.dest) not in taken:
            yield search.finding(
                "edge-can-be-taken",
                search.source[at],
                msg=f"{edge} is never taken: an edge of {edge.trigger!r} before it has no condition.",
                hint="Declare the guarded edges first and the unguarded one last, or delete this one.",
                level="warning",
            )
