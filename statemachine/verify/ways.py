"""Where runs get to: states that none enters, states that none leaves, and ends that are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from statemachine.graph import Edge, Finding
from statemachine.verify.search import Search
from statemachine.verify.wording import either, some

__all__ = [
    "every_final_state_is_an_end",
    "every_goal_is_an_end",
    "every_kept_tag_is_kept",
    "every_run_can_reach_a_goal",
    "every_state_can_be_left",
    "every_state_is_reachable",
]


def every_state_is_reachable(search: Search) -> Iterator[Finding]:
    """For every state some run enters it: EF state in CTL.

    Breadth-first search from the initial state, O(states + edges) (Clarke, Emerson, Sistla 1986). An edge
    whose guard never passes still counts.
    """
    for at in search.unreachable:
        name = search.states[at].name
        yield search.finding(
            "reachable",
            at,
            msg=f"No run enters {name!r}: {_why_unreachable(search, name)}.",
            hint=f"Declare an edge to {name!r} from a state that runs enter, or delete it.",
        )


def _why_unreachable(search: Search, name: str) -> str:
    entering = [edge for edge in search.graph.incoming[name] if edge.source != name]
    hidden = next((edge for edge in entering if search.rank[search.number[edge.source]] >= 0), None)
    if hidden:
        return f"{hidden} is hidden by an earlier edge of {hidden.trigger!r} without conditions"
    if entering:
        return f"edges lead to it from {either(edge.source for edge in entering)} only, where no run is"
    return "no edge leads to it"


def every_run_can_reach_a_goal(search: Search) -> Iterator[Finding]:
    """From every reachable state that is not final some path leads to a goal: AG (final or EF goal) in CTL.

    Backward reachability from the goals, O(states + edges) (Clarke, Emerson, Sistla 1986). A final state is
    an end that was declared, so nothing is asked of it. It does not say that a run *will* reach a goal:
    guards and tasks are outside the graph, and a loop that can be left may be run through for ever. A
    failed state is asked like any other: it has a way back, or says that a run ends there.
    """
    graph = search.graph
    if not graph.goals:
        yield search.finding(
            "can-reach-goal",
            search.number[graph.initial],
            msg="There is no goal and no final state, so no run can ever reach its end.",
            hint="Name what every run means to reach: goal='...'; of a cycle, a state that must come again.",
        )
        return
    rank = search.rank
    stuck = [at for at in search.hopeless if rank[at] >= 0]
    goals = either(graph.goals) if stuck else ""
    for at in stuck:
        name = search.states[at].name
        if search.states[at].final:
            continue
        if any(map(search.fails, search.entering(at))):
            msg = f"A stage that fails ends in {name!r}, and no path leads from there to {goals}."
            hint = (
                f"Declare a way back from {name!r}, such as a 'retry'; or, if a run ends there, final=True."
            )
        else:
            msg = f"No path leads from {name!r} to {goals}: a run that is there never gets it done."
            hint = (
                f"Declare an edge that leads from {name!r} towards {goals}; "
                "if a run may end otherwise, name that end as a goal too."
            )
        yield search.finding("can-reach-goal", at, msg=msg, hint=hint)


def every_state_can_be_left(search: Search) -> Iterator[Finding]:
    """For every state that is neither final nor a goal an edge to another state exists: AG (end or EX other).

    One look at each state from which no goal can be reached; internal edges and those back to the same
    state do not leave it.
    """
    # What leads to a goal elsewhere is left on the way.
    for at in search.hopeless:
        if at not in search.ends and not search.leaving(at):
            name = search.states[at].name
            yield search.finding(
                "can-be-left",
                at,
                msg=f"{name!r} is a dead end: no edge leaves it, and it is neither final nor a goal.",
                hint=f"Declare an edge that leaves {name!r}, or mark it with final=True.",
            )


def every_final_state_is_an_end(search: Search) -> Iterator[Finding]:
    """For every final state no edge to another state exists: AG (final -> not EX other) in CTL.

    One look at each final state. The path shown goes one edge too far: out of the final state.
    """
    for at in search.final:
        state = search.states[at]
        if leaving := search.leaving(at):
            found = search.finding(
                "final-is-an-end",
                at,
                msg=f"{state.name!r} is final, yet {either(edge.trigger for edge in leaving)} leaves it.",
                hint="A source of '*' takes final states along: list the sources, or drop final=True."
                if any(edge.wildcard for edge in leaving)
                else "Drop final=True if it is right that a run goes on from there, or delete the edge.",
                level="warning",
            )
            yield _one_further(found, leaving[0])


def every_goal_is_an_end(search: Search) -> Iterator[Finding]:
    """No edge to another state leaves a goal, or it says who moves a row on: AG (goal -> AX goal) in CTL.

    One look at each goal. A final goal is left to ``final-is-an-end``. Of a cycle, a goal is a state that
    must come again: it has a task, a timer or somebody it waits for. The path shown goes one edge too far.
    """
    for at in sorted(map(search.number.__getitem__, set(search.graph.goals))):
        state = search.states[at]
        moved = state.final or state.steps or state.waits_for or state.after
        if not moved and (leaving := search.leaving(at)):
            triggers = either(edge.trigger for edge in leaving)
            found = search.finding(
                "goal-is-an-end",
                at,
                msg=f"{state.name!r} is a goal, yet {triggers} leaves it, and nobody is named who would.",
                hint="A source of '*' takes goals along: list the sources; "
                "or say who moves a row on: waits_for='...'.",
                level="warning",
            )
            yield _one_further(found, leaving[0])


def every_kept_tag_is_kept(search: Search) -> Iterator[Finding]:
    """Where a state has a tag that is to be kept, all later states have it: AG (tag -> AG tag) in CTL.

    One look at each edge for each such tag: a run that loses it takes an edge from a state that has it to
    one that has not. The path shown is a shortest that loses it.
    """
    for tag in search.graph.keeps:
        has = [tag in state.tags for state in search.states]
        source, dest, rank = search.source, search.dest, search.rank
        lost = [e for e in search.taken if has[source[e]] and not has[dest[e]] and rank[source[e]] >= 0]
        if lost:
            first = min(lost, key=lambda edge: (rank[source[edge]], edge))
            others = [edge for edge in lost if edge != first]
            edges = [search.edges[edge] for edge in (first, *others)]
            found = search.finding(
                "tag-is-kept",
                source[first],
                msg=f"The tag {tag!r} is to be kept, yet it is lost by {some(edges)}.",
                hint=f"Give the tag to {either(edge.dest for edge in edges)}, or lead elsewhere.",
            )
            yield _one_further(found, edges[0])


def _one_further(found: Finding, edge: Edge) -> Finding:
    """The finding, with a path that takes this edge as well."""
    return found if found.path is None else replace(found, path=found.path.then(edge))
