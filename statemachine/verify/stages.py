"""What is declared of one state: its task, its timer, who is waited for, and the order of its edges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from statemachine.graph import Edge, Finding, StateValue
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
    triggers = [search.states[at].done for at in search.working]
    for at in search.unsure(search.working, triggers):
        state = search.states[at]
        if not search.ending(at, state.done):
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
    triggers = [search.states[at].failed for at in search.working]
    for at in search.unsure(search.working, triggers):
        state = search.states[at]
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
    ends = search.ends
    for at, state in enumerate(search.states):
        if not (state.steps or state.waits_for or state.after or at in ends):
            yield search.finding(
                "names-who-moves-it",
                at,
                msg=f"{state.name!r} waits for nobody named: it has no task, no timer and no waits_for.",
                hint=f"Say who moves a row out of {state.name!r}: waits_for='...'.",
                level="warning",
            )


def every_timer_can_fire(search: Search) -> Iterator[Finding]:
    """For every state with a timer its trigger always has an edge: AG (timer -> EX trigger) in CTL.

    One look at each edge. Guards of which one always passes are not recognised, so a timer whose edges are
    all guarded is a warning and no error.
    """
    timed = [at for at, state in enumerate(search.states) if state.after]
    for at in search.unsure(timed, [_timer(search.states[at]) for at in timed]):
        name, trigger = search.states[at].name, _timer(search.states[at])
        if search.ending(at, trigger):
            yield search.finding(
                "timer-can-fire",
                at,
                msg=f"Every edge of {trigger!r} from {name!r} is guarded: "
                "when all refuse as its timer rings, the row stays.",
                hint=f"Declare a last edge of {trigger!r} from {name!r} without conditions.",
                level="warning",
            )
        else:
            yield search.finding(
                "timer-can-fire",
                at,
                msg=f"The timer of {name!r} fires {trigger!r}, which no edge takes out of there.",
                hint=f"Declare an edge of {trigger!r} from {name!r}, or correct its after.",
            )


def _timer(state: StateValue) -> str:
    return state.after[1] if state.after else ""


def every_edge_can_be_taken(search: Search) -> Iterator[Finding]:
    """No trigger is ambiguous: no edge stands behind an unguarded one of its trigger.

    The first edge whose guards pass is taken, so that one is always taken first. One look at each edge. A
    wildcard may be hidden in some states, where its exceptions are declared before it, but not in all: it is
    found once. Whether two guards exclude each other is not known here.
    """
    if not search.hidden:
        return
    wildcards = _wildcards(search.edges)
    told = {wildcards.get(at) for at in search.taken}
    # In order of the states, whatever the order of the edges.
    for at in sorted(search.hidden, key=search.source.__getitem__):
        edge, wildcard = search.edges[at], wildcards.get(at)
        if wildcard is None or wildcard not in told:
            told.add(wildcard)
            yield search.finding(
                "edge-can-be-taken",
                search.source[at],
                msg=f"{edge} is never taken: {search.hider(at)} is declared before it and has no condition.",
                hint="Declare the guarded edges first and the unguarded one last, or delete this one.",
                level="warning",
            )


def _wildcards(edges: Sequence[Edge]) -> dict[int, tuple[str, int]]:
    """Which wildcard has declared an edge: how many edges of later ones its trigger has there.

    A state that was declared after some wildcards has the edges of the later ones only.
    """
    later: Counter[tuple[str, str]] = Counter()
    found = {}
    for at in reversed(range(len(edges))):
        edge = edges[at]
        if edge.wildcard:
            found[at] = (edge.trigger, later[edge.source, edge.trigger])
            later[edge.source, edge.trigger] += 1
    return found
