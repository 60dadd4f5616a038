"""What `verify` proves, and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import State, StateMachine
from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError
from statemachine.graph import Edge, Finding, Graph, StateValue
from statemachine.logic import always, leads_to
from statemachine.verify import PROPERTIES, Report, verify


def state(name: str, *, task: str = "", **values: object) -> StateValue:
    steps = (Enqueue(task),) if task else ()
    return StateValue(name=name, steps=steps, **values)  # type: ignore[arg-type]


def edge(text: str, **values: object) -> Edge:
    """Read ``source trigger dest guard…``."""
    source, trigger, dest, *guards = text.split()
    return Edge(source=source, trigger=trigger, dest=dest, guards=tuple(guards), **values)  # type: ignore[arg-type]


def graph(states: Iterable[StateValue], *edges: str | Edge, goals: tuple[str, ...] = ("done",)) -> Graph:
    states = tuple(states)
    return Graph(
        name="papers",
        states=states,
        edges=tuple(edge(e) if isinstance(e, str) else e for e in edges),
        initial=states[0].name,
        goals=goals,
    )


DRAFT = state("draft", waits_for="the author")
DONE = state("done", final=True)

REVIEW = Graph(
    name="review",
    states=(
        DRAFT,
        state("checking", task="papers.check"),
        state("scoring", task="papers.score"),
        state("published", final=True),
        state("rejected", waits_for="the author", after=(timedelta(days=30), "discard")),
        state("discarded", final=True),
    ),
    edges=(
        edge("draft submit checking"),
        edge("checking advance scoring"),
        edge("scoring advance published"),
        edge("checking fail rejected"),
        edge("scoring fail rejected"),
        edge("rejected revise draft"),
        edge("rejected discard discarded"),
    ),
    initial="draft",
    goals=("published",),
)


def only(graph: Graph) -> Finding:
    (found,) = verify(graph).findings
    return found


# The report


def test_a_graph_without_findings_is_ok_and_every_property_is_proved() -> None:
    report = verify(REVIEW)

    assert report.ok
    assert report.findings == ()
    assert (report.name, report.states, report.edges, report.reachable) == ("review", 6, 7, 6)
    assert str(report) == (
        "review: 6 states, 6 reachable, 7 edges\n"
        "proved  reachable: some run enters every state\n"
        "proved  can-reach-goal: a path leads to a goal from all but the final states\n"
        "proved  finished-stage-moves-on: every task has an edge for its success\n"
        "proved  stage-can-be-given-up: every task has an edge for its failure that no guard refuses\n"
        "proved  can-be-left: an edge leaves every state that is neither final nor a goal\n"
        "proved  final-is-an-end: no edge leaves a final state\n"
        "proved  names-who-moves-it: every other state has a task, a timer or somebody it waits for\n"
        "proved  timer-can-fire: every timer has an edge for its trigger that no guard refuses\n"
        "proved  edge-can-be-taken: no trigger is ambiguous: no edge is hidden behind an unguarded one\n"
        "proved  no-hot-loop: no loop goes round by itself without a limit\n"
        "proved  goal-is-an-end: no edge leaves a goal, or it says who moves it on\n"
        "proved  tag-is-kept: no run loses a tag that is to be kept\n"
        "0 errors, 0 warnings"
    )


def test_a_finding_is_told_as_a_story_below_its_property() -> None:
    report = verify(
        graph([DRAFT, state("lost", waits_for="nobody"), DONE], "draft submit done", "draft drop lost")
    )

    assert not report.ok
    assert (
        "refuted can-reach-goal: a path leads to a goal from all but the final states\n"
        "    can-reach-goal: No path leads from 'lost' to 'done': a run that is there never gets it done.\n"
        "      1. starts in 'draft'\n"
        "      2. drop() moves it to 'lost'\n"
        "      Hint: Declare an edge that leads from 'lost' towards 'done'; "
        "if a run may end otherwise, name that end as a goal too.\n"
    ) in str(report)
    assert str(report).endswith("2 errors, 0 warnings")


def test_a_warning_alone_is_still_ok() -> None:
    report = verify(graph([state("draft"), DONE], "draft submit done"))

    assert report.ok
    assert len(report.of_level("warning")) == 1
    assert "doubted names-who-moves-it: every other state" in str(report)
    assert str(report).endswith("0 errors, 1 warning")


def test_a_report_is_a_frozen_value() -> None:
    assert verify(REVIEW) == verify(REVIEW)
    with pytest.raises(FrozenInstanceError):
        verify(REVIEW).name = "other"  # type: ignore[misc]


def test_every_property_is_reported_as_checked_and_says_what_it_claims_and_how_far() -> None:
    report = verify(REVIEW)

    assert [name for name, _ in report.checked] == list(PROPERTIES)
    assert all((check.__doc__ or "").count("\n") >= 2 for _, check in PROPERTIES.values())


# Reachable


def test_a_state_that_no_edge_enters_is_an_error_without_a_path() -> None:
    found = only(
        graph([DRAFT, state("checking", waits_for="a person"), DONE], "draft submit done", "checking go done")
    )

    assert (found.property, found.level, found.state, found.path) == ("reachable", "error", "checking", None)
    assert found.msg == "No run enters 'checking': no edge leads to it."
    assert found.hint == "Declare an edge to 'checking' from a state that runs enter, or delete it."


def test_a_state_that_is_entered_from_unreachable_states_only_names_them() -> None:
    a, b = state("a", waits_for="x"), state("b", waits_for="x")
    first, second = verify(
        graph([DRAFT, a, b, DONE], "draft submit done", "a go b", "b go a", "b stop done")
    ).findings

    assert first.msg == "No run enters 'a': edges lead to it from 'b' only, where no run is."
    assert second.msg == "No run enters 'b': edges lead to it from 'a' only, where no run is."


def test_a_state_behind_an_unguarded_edge_of_the_same_trigger_is_unreachable() -> None:
    found = verify(
        graph(
            [DRAFT, state("other", waits_for="x"), DONE], "draft go done", "draft go other", "other go done"
        )
    )

    assert [(f.property, f.state) for f in found.findings] == [
        ("reachable", "other"),
        ("edge-can-be-taken", "draft"),
    ]
    assert found.findings[0].msg == (
        "No run enters 'other': draft --go--> other is hidden by an earlier edge of 'go' without conditions."
    )


def test_a_guarded_edge_hides_nothing() -> None:
    assert not verify(
        graph(
            [DRAFT, state("other", waits_for="x"), DONE],
            "draft go done sure",
            "draft go other",
            "other go done",
        )
    ).findings


# A goal


def test_every_state_that_cannot_reach_a_goal_is_shown_with_its_own_shortest_path() -> None:
    states = [DRAFT, state("trap", waits_for="x"), state("deeper", waits_for="x"), DONE]
    report = verify(
        graph(
            states,
            "draft go done",
            "draft stray trap",
            "trap sink deeper",
            "draft dive deeper",
            "deeper rise trap",
        )
    )

    assert [(f.state, f.path and f.path.states) for f in report.against("can-reach-goal")] == [
        ("trap", ("draft", "trap")),
        ("deeper", ("draft", "deeper")),
    ]


def test_the_path_shown_is_the_shortest_whichever_was_declared_first() -> None:
    states = [DRAFT, *(state(name, waits_for="x") for name in ("near", "far", "farther", "trap")), DONE]
    edges = ["draft go done", "draft a near", "draft b far", "far b farther", "farther b trap", "near a trap"]
    report = verify(graph(states, *edges, "trap stay trap"))

    assert report.against("can-be-left")[0].path == report.against("can-reach-goal")[-1].path
    assert str(report.against("can-be-left")[0].path) == (
        "1. starts in 'draft'\n2. a() moves it to 'near'\n3. a() moves it to 'trap'"
    )


def test_a_final_state_is_an_end_that_was_declared_and_needs_no_way_to_a_goal() -> None:
    cancelled = state("cancelled", final=True)

    assert not verify(graph([DRAFT, DONE, cancelled], "draft go done", "draft cancel cancelled")).findings


def test_a_state_from_which_only_an_end_that_is_no_goal_can_be_reached_is_an_error() -> None:
    states = [DRAFT, state("refunding", waits_for="the bank"), state("cancelled", final=True), DONE]
    edges = ["draft go done", "draft cancel refunding", "refunding paid cancelled"]

    assert only(graph(states, *edges)).state == "refunding"
    assert not verify(graph(states, *edges, goals=("done", "cancelled"))).findings


def test_a_failed_state_without_a_way_back_is_told_to_have_one_or_to_be_an_end() -> None:
    states = [state("checking", task="papers.check"), state("failed", waits_for="x"), DONE]
    report = verify(graph(states, "checking advance done", "checking fail failed"))
    (found,) = report.against("can-reach-goal")

    assert found.msg == "A stage that fails ends in 'failed', and no path leads from there to 'done'."
    assert found.hint == (
        "Declare a way back from 'failed', such as a 'retry'; or, if a run ends there, final=True."
    )


def test_a_graph_without_any_goal_is_an_error_of_its_initial_state() -> None:
    a, b = state("green", waits_for="a timer"), state("red", waits_for="a timer")
    found = only(graph([a, b], "green turn red", "red turn green", goals=()))

    assert (found.property, found.state) == ("can-reach-goal", "green")
    assert found.msg == "There is no goal and no final state, so no run can ever reach its end."
    assert not verify(graph([a, b], "green turn red", "red turn green", goals=("green",))).findings


def test_an_unreachable_state_is_not_asked_for_a_way_to_the_goal() -> None:
    states = [DRAFT, state("a", waits_for="x"), state("b", waits_for="x"), DONE]

    assert not verify(graph(states, "draft go done", "a go b", "b go a")).against("can-reach-goal")


def test_many_goals_are_not_all_named() -> None:
    ends = [state(f"end{n}", final=True) for n in range(6)]
    states = [DRAFT, state("lost", waits_for="x"), state("lost2", waits_for="x"), *ends]
    edges = [
        "draft lose lost",
        "lost lose lost2",
        "lost2 lose lost",
        *(f"draft to{n} end{n}" for n in range(6)),
    ]
    found = verify(graph(states, *edges, goals=tuple(end.name for end in ends))).findings[0]

    assert found.msg == (
        "No path leads from 'lost' to 'end0' or 'end1' or 'end2' or 'end3' or 2 others: "
        "a run that is there never gets it done."
    )


# Stages


def test_a_task_without_an_edge_for_its_success_is_an_error() -> None:
    states = [state("checking", task="papers.check"), state("failed", waits_for="x"), DONE]
    found = only(graph(states, "checking fail failed", "failed skip done"))

    assert (found.property, found.level, found.state) == ("finished-stage-moves-on", "error", "checking")
    assert found.msg == (
        "'checking' runs 'papers.check', but has no edge for 'advance': there is no way out on success."
    )
    assert found.hint == "Declare an edge of 'advance' from 'checking', or correct its done='...'."


def test_a_task_without_an_edge_for_its_failure_is_an_error() -> None:
    found = only(graph([state("checking", task="papers.check"), DONE], "checking advance done"))

    assert (found.property, found.level, found.state) == ("stage-can-be-given-up", "error", "checking")
    assert (
        found.msg
        == "'checking' runs 'papers.check', but has no edge for 'fail': there is no way out on failure."
    )
    assert found.hint == "Declare an edge of 'fail' from 'checking', or correct its failed='...'."


def test_a_state_may_name_its_own_triggers_of_success_and_failure() -> None:
    checking = state("checking", task="papers.check", done="passed", failed="broken")

    assert not verify(graph([checking, DONE], "checking passed done", "checking broken done")).findings
    assert len(verify(graph([checking, DONE], "checking advance done", "checking fail done")).findings) == 2


def test_a_failure_whose_edges_are_all_guarded_is_a_warning() -> None:
    checking = state("checking", task="papers.check")
    found = only(
        graph([checking, DONE], "checking advance done", "checking fail done late", "checking fail done bad")
    )

    assert (found.property, found.level) == ("stage-can-be-given-up", "warning")
    assert found.msg == (
        "Every edge of 'fail' from 'checking' is guarded: when all refuse, a failed stage cannot be given up."
    )
    assert found.hint == "Declare a last edge of 'fail' from 'checking' without conditions."


def test_one_unguarded_edge_of_a_failure_is_enough() -> None:
    checking = state("checking", task="papers.check")

    assert not verify(
        graph([checking, DONE], "checking advance done", "checking fail checking again", "checking fail done")
    ).findings


def test_an_internal_edge_does_not_end_a_stage() -> None:
    checking = state("checking", task="papers.check")
    found = only(
        graph(
            [checking, DONE],
            "checking skip done",
            edge("checking advance checking", internal=True),
            "checking fail done",
        )
    )

    assert found.property == "finished-stage-moves-on"


# Ways out


def test_a_dead_end_is_an_error() -> None:
    states = [DRAFT, state("lost", waits_for="x"), DONE]
    report = verify(
        graph(
            states,
            "draft go done",
            "draft lose lost",
            "lost wait lost",
            edge("lost note lost", internal=True),
        )
    )
    (found,) = report.against("can-be-left")

    assert (found.level, found.state) == ("error", "lost")
    assert found.msg == "'lost' is a dead end: no edge leaves it, and it is neither final nor a goal."
    assert found.hint == "Declare an edge that leaves 'lost', or mark it with final=True."
    assert found.path is not None
    assert found.path.states == ("draft", "lost")


def test_a_goal_need_not_be_left_nor_say_who_does() -> None:
    assert not verify(graph([DRAFT, state("done")], "draft go done")).findings


def test_an_edge_out_of_a_final_state_is_a_warning_that_shows_it_taken() -> None:
    found = only(
        graph([DRAFT, DONE], "draft go done", "done fail draft", "done reopen draft", "done go done")
    )

    assert (found.property, found.level, found.state) == ("final-is-an-end", "warning", "done")
    assert found.msg == "'done' is final, yet 'fail' or 'reopen' leaves it."
    assert found.hint == "Drop final=True if it is right that a run goes on from there, or delete the edge."
    assert found.path is not None
    assert found.path.states == ("draft", "done", "draft")


def test_a_wildcard_that_leaves_a_final_state_is_told_to_list_its_sources() -> None:
    again = [edge(f"{source} again draft", wildcard=True) for source in ("draft", "done")]
    found = only(graph([DRAFT, DONE], "draft go done", *again))

    assert found.hint == "A source of '*' takes final states along: list the sources, or drop final=True."


def test_the_initial_state_is_left_by_the_path_shown_when_it_is_final() -> None:
    found = only(graph([DONE, DRAFT], "done reopen draft", "draft go done"))

    assert found.path is not None
    assert found.path.states == ("done", "draft")


@pytest.mark.parametrize(
    "mover",
    [
        state("a", task="papers.check"),
        state("a", waits_for="the author"),
        state("a", after=(timedelta(days=1), "advance")),
    ],
)
def test_a_task_a_person_or_a_timer_moves_a_row(mover: StateValue) -> None:
    assert not verify(graph([mover, DONE], "a advance done", "a fail done")).findings


def test_a_state_that_nobody_is_named_to_move_is_a_warning() -> None:
    found = only(graph([state("draft"), DONE], "draft go done"))

    assert (found.property, found.level, found.state) == ("names-who-moves-it", "warning", "draft")
    assert found.msg == "'draft' waits for nobody named: it has no task, no timer and no waits_for."
    assert found.hint == "Say who moves a row out of 'draft': waits_for='...'."


# Timers and hidden edges


def test_a_timer_whose_trigger_has_no_edge_from_there_is_an_error() -> None:
    states = [DRAFT, state("rejected", after=(timedelta(days=30), "discard")), DONE]
    found = only(graph(states, "draft discard done", "draft reject rejected", "rejected revise draft"))

    assert (found.property, found.level, found.state) == ("timer-can-fire", "error", "rejected")
    assert found.msg == "The timer of 'rejected' fires 'discard', which no edge takes out of there."
    assert found.hint == "Declare an edge of 'discard' from 'rejected', or correct its after."
    assert found.path is not None
    assert found.path.states == ("draft", "rejected")


def test_a_timer_whose_edges_are_all_guarded_is_a_warning() -> None:
    states = [DRAFT, state("rejected", after=(timedelta(days=30), "discard")), DONE]
    found = only(graph(states, "draft reject rejected", "rejected discard done paid"))

    assert (found.property, found.level, found.state) == ("timer-can-fire", "warning", "rejected")
    assert found.msg == (
        "Every edge of 'discard' from 'rejected' is guarded: "
        "when all refuse as its timer rings, the row stays."
    )
    assert not verify(
        graph(states, "draft reject rejected", "rejected discard done paid", "rejected discard draft")
    ).findings


def test_a_timer_whose_trigger_never_leaves_the_state_is_an_error() -> None:
    states = [DRAFT, state("rejected", after=(timedelta(days=30), "poke")), DONE]
    poke = Edge(trigger="poke", source="rejected", dest="rejected", internal=True)
    found = only(graph(states, "draft reject rejected", "rejected revise done", poke))

    assert (found.property, found.level, found.state) == ("timer-can-fire", "error", "rejected")


def test_an_edge_that_can_never_be_taken_is_a_warning() -> None:
    found = only(graph([DRAFT, DONE], "draft go done", "draft stop done", "draft stop draft"))

    assert (found.property, found.level, found.state) == ("edge-can-be-taken", "warning", "draft")
    assert found.msg == (
        "draft --stop--> draft is never taken: "
        "draft --stop--> done is declared before it and has no condition."
    )
    assert found.hint == "Declare the guarded edges first and the unguarded one last, or delete this one."


def test_a_wildcard_declared_after_its_exceptions_is_no_finding() -> None:
    paid = state("paid", waits_for="x")
    refunded, cancelled = state("refunded", final=True), state("cancelled", final=True)
    wildcard = [edge(f"{source} cancel cancelled", wildcard=True) for source in ("draft", "paid")]

    assert not verify(
        graph(
            [DRAFT, paid, DONE, refunded, cancelled],
            "draft pay paid",
            "paid go done",
            "paid cancel refunded",
            *wildcard,
        )
    ).findings


def test_an_ambiguous_trigger_is_found_although_its_edge_can_be_taken_from_elsewhere() -> None:
    states = [DRAFT, state("other", waits_for="x"), DONE]
    found = only(graph(states, "draft go other", "draft go done", "other go done"))

    assert (found.property, found.state) == ("edge-can-be-taken", "draft")


def test_a_wildcard_that_is_hidden_in_every_state_is_found_once() -> None:
    paid, held = state("paid", waits_for="x"), state("held", waits_for="x")
    hidden = [edge(f"{source} cancel draft", wildcard=True) for source in ("draft", "paid", "held")]
    edges = ["draft pay paid", "paid hold held", "held go done"]
    first = [f"{source} cancel done" for source in ("draft", "paid", "held")]

    assert only(graph([DRAFT, paid, held, DONE], *edges, *first, *hidden)).state == "draft"


def test_a_wildcard_that_leads_back_is_no_finding_where_it_is_hidden() -> None:
    paid = state("paid", waits_for="x")
    back = [edge(f"{source} touch {source}", wildcard=True) for source in ("draft", "paid")]

    assert not verify(
        graph([DRAFT, paid, DONE], "draft pay paid", "paid go done", "paid touch done", *back)
    ).findings


def test_a_wildcard_that_leads_back_is_found_behind_one_that_leads_to_one_state() -> None:
    paid = state("paid", waits_for="x")
    to_one = [edge(f"{source} touch draft", wildcard=True) for source in ("draft", "paid")]
    back = [edge(f"{source} touch {source}", wildcard=True) for source in ("draft", "paid")]
    found = only(graph([DRAFT, paid, DONE], "draft pay paid", "paid go done", *to_one, *back))

    assert (found.property, found.state) == ("edge-can-be-taken", "draft")


def test_a_machine_tells_its_graph_which_edges_a_wildcard_declared() -> None:
    machine = StateMachine(
        name="papers",
        states=[State("draft", waits_for="x"), State("paid", waits_for="x"), State("done", final=True)],
        transitions=[["go", "draft", "paid"], ["go", "paid", "done"], ["go", ["draft", "paid"], "done"]],
        initial="draft",
    )
    assert [f.state for f in machine.verify().against("edge-can-be-taken")] == ["draft", "paid"]
    machine.remove_transition("go", "draft", "done")
    machine.remove_transition("go", "paid", "done")
    machine.add_transition("go", "*", "done")
    assert not machine.verify().against("edge-can-be-taken")


# Loops that go round by themselves

STARTED = state("started", task="papers.start")
SYNCING = state("syncing", task="papers.sync")
HELD = state("held", waits_for="a person")
ONWARD = ("draft go started", "started advance syncing", "syncing advance done", "started fail held")
HELD_ENDS = "held stop done"


def test_a_failure_that_leads_back_to_what_starts_it_is_a_hot_loop() -> None:
    found = only(graph([DRAFT, STARTED, SYNCING, HELD, DONE], *ONWARD, "syncing fail started", HELD_ENDS))

    assert (found.property, found.level, found.state) == ("no-hot-loop", "error", "started")
    assert found.msg == (
        "Whenever 'syncing' fails, the run goes to 'started' and comes back by itself: "
        "nobody is waited for, and no guard limits how often."
    )
    assert str(found.path) == (
        "1. starts in 'draft'\n"
        "2. go() moves it to 'started'\n"
        "3. advance() moves it to 'syncing'\n"
        "4. fail() moves it to 'started'\n"
        "5. and so on from 2, for ever"
    )


def test_a_failure_that_enters_its_own_state_again_is_a_hot_loop() -> None:
    edges = ["draft go syncing", "syncing advance done", "syncing fail syncing"]
    found = only(graph([DRAFT, SYNCING, DONE], *edges))

    assert found.msg.startswith("Whenever 'syncing' fails, the run enters it again by itself: ")
    assert found.path is not None
    assert found.path.states[found.path.loop or 0] == "syncing"


def test_a_loop_of_successes_is_a_warning() -> None:
    states = [DRAFT, STARTED, SYNCING, HELD, DONE]
    edges = ["draft go started", "started advance syncing", "syncing advance started"]
    found = only(graph(states, *edges, "started fail held", "syncing fail held", HELD_ENDS))

    assert (found.property, found.level) == ("no-hot-loop", "warning")
    assert found.msg.startswith("Whenever 'started' is done, the run goes to 'syncing' and comes back")


@pytest.mark.parametrize(
    "limited",
    [
        ("syncing fail started may_again", "syncing fail held"),
        ("syncing fail held exhausted", "syncing fail started"),
        ("syncing fail held", "held retry started"),
    ],
)
def test_a_guard_before_or_on_an_edge_of_it_or_a_wait_limits_a_loop(limited: tuple[str, ...]) -> None:
    assert not verify(graph([DRAFT, STARTED, SYNCING, HELD, DONE], *ONWARD, *limited, HELD_ENDS)).findings


def test_a_timer_of_no_time_does_not_cool_a_loop() -> None:
    at_once = state("held", after=(timedelta(0), "retry"))
    later = state("held", after=(timedelta(seconds=1), "retry"))
    edges = ["draft go syncing", "syncing advance done", "syncing fail held", "held retry syncing"]

    assert only(graph([DRAFT, SYNCING, at_once, DONE], *edges)).property == "no-hot-loop"
    assert not verify(graph([DRAFT, SYNCING, later, DONE], *edges)).findings


def test_a_loop_that_no_run_enters_is_no_hot_loop() -> None:
    edges = ["draft go done", "syncing fail syncing", "syncing advance done"]
    report = verify(graph([DRAFT, SYNCING, DONE], *edges))

    assert [f.property for f in report.findings] == ["reachable"]


def test_a_loop_that_no_run_enters_is_not_found_beside_one_that_runs_enter() -> None:
    stray = state("stray", task="papers.stray")
    edges = ["draft go syncing", "syncing advance done", "syncing fail syncing", "stray fail stray"]
    (found,) = verify(graph([DRAFT, SYNCING, stray, DONE], *edges)).against("no-hot-loop")

    assert found.state == "syncing"


# Goals and tags


def test_a_goal_that_is_left_by_nobody_named_is_a_warning_that_shows_it_left() -> None:
    found = only(graph([DRAFT, state("done")], "draft go done", "done reopen draft"))

    assert (found.property, found.level, found.state) == ("goal-is-an-end", "warning", "done")
    assert found.msg == "'done' is a goal, yet 'reopen' leaves it, and nobody is named who would."
    assert found.path is not None
    assert found.path.states == ("draft", "done", "draft")


def test_a_goal_may_be_left_when_it_says_by_whom() -> None:
    assert not verify(
        graph([DRAFT, state("done", waits_for="the author")], "draft go done", "done reopen draft")
    ).findings


def kept(*edges: str) -> Graph:
    shown = {"waits_for": "x", "tags": ("shown",)}
    states = [DRAFT, state("near", **shown), state("far", **shown), state("lost", waits_for="x")]
    whole = graph([*states, state("done", final=True, tags=("shown",))], *edges)
    return replace(whole, keeps=("shown",))


def test_a_kept_tag_that_is_lost_is_an_error_with_the_shortest_story() -> None:
    found = only(
        kept("draft go near", "near on far", "far lose lost", "near slip lost", "lost on done", "far on done")
    )

    assert (found.property, found.level, found.state) == ("tag-is-kept", "error", "near")
    assert found.msg == (
        "The tag 'shown' is to be kept, yet it is lost by near --slip--> lost and far --lose--> lost."
    )
    assert found.hint == "Give the tag to 'lost', or lead elsewhere."
    assert found.path is not None
    assert found.path.states == ("draft", "near", "lost")


def test_a_tag_that_is_never_lost_is_proved() -> None:
    assert not verify(kept("draft go lost", "lost go near", "near on far", "far on done")).findings


def test_a_tag_that_is_not_to_be_kept_may_be_lost() -> None:
    lossy = kept("draft go near", "near on far", "far lose lost", "lost on done", "near back draft")

    assert not verify(replace(lossy, keeps=())).findings


def test_a_tag_to_keep_that_no_state_has_is_refused_with_a_close_one() -> None:
    with pytest.raises(DeclarationError) as refused:
        replace(kept("draft go near"), keeps=("show",))

    assert str(refused.value) == (
        "The graph 'papers' keeps the tag 'show', which no state has. "
        "Did you mean 'shown'? Its tags are: shown."
    )


# A graph's own properties


def declared(**promises: object) -> StateMachine:
    return StateMachine(
        name="papers",
        states=[
            State("draft", waits_for="the author"),
            State("shown", waits_for="the author", tags=["visible"]),
            State("done", final=True),
        ],
        transitions=[["show", "draft", "shown"], ["go", "shown", "done"]],
        initial="draft",
        **promises,
    )


def test_a_machine_declares_what_else_is_to_hold() -> None:
    machine = declared(properties=["AG EF done", leads_to("visible", "done", name="shown-papers-end")])
    report = machine.verify()

    assert report.findings == ()
    assert report.checked[len(PROPERTIES) :] == (
        ("AG EF done", "declared"),
        ("shown-papers-end", "AG(visible -> AF done) (fair: in the end)"),
    )
    assert str(report).endswith(
        "proved  AG EF done: declared\n"
        "proved  shown-papers-end: AG(visible -> AF done) (fair: in the end)\n"
        "0 errors, 0 warnings"
    )


def test_a_property_of_its_own_that_fails_is_an_error_with_its_path() -> None:
    (found,) = declared(keeps="visible", properties="AG ~done").verify().against("AG ~done")

    assert (found.level, found.state) == ("error", "done")
    assert found.path is not None
    assert found.path.states == ("draft", "shown", "done")


def test_what_is_asked_for_is_checked_alone() -> None:
    report = declared(properties="AG EF done").verify(["reachable", "EF shown"])

    assert report.checked == (("reachable", "some run enters every state"), ("EF shown", "asked for"))


@pytest.mark.parametrize(
    ("promises", "message"),
    [
        ({"keeps": ["visibel"]}, "keeps the tag 'visibel', which no state has. Did you mean 'visible'?"),
        ({"properties": ["AG EF finished"]}, "has no state, tag or phase 'finished'."),
        ({"properties": ["AG EF"]}, "AG EF"),
        ({"properties": [always("done", name="reachable")]}, "'reachable', which is a built-in one"),
        ({"properties": ["EF done", "EF done"]}, "2 properties are called 'EF done'."),
    ],
)
def test_a_promise_that_cannot_be_meant_is_refused_when_declared(
    promises: dict[str, object], message: str
) -> None:
    with pytest.raises(DeclarationError) as refused:
        declared(**promises)

    assert message in str(refused.value)


def test_a_property_that_is_asked_for_twice_is_refused() -> None:
    with pytest.raises(DeclarationError):
        verify(REVIEW, ["EF published", "EF published"])


# Order and size


def test_findings_come_by_property_and_then_in_order_of_declaration() -> None:
    states = [DRAFT, *(state(name) for name in ("z", "a", "m")), DONE]
    report = verify(graph(states, "draft go done", "draft m m", "draft a a", "draft z z"))

    assert [(f.property, f.state) for f in report.findings] == [
        (name, at)
        for name in ("can-reach-goal", "can-be-left", "names-who-moves-it")
        for at in ("z", "a", "m")
    ]


def chain(length: int, *, ends_in_goal: bool) -> Graph:
    names = [f"s{n}" for n in range(length)]
    states = [*(state(name, waits_for="x") for name in names), DONE]
    edges = [Edge(trigger="go", source=a, dest=b) for a, b in pairwise(names)]
    return graph(
        states, *edges, Edge(trigger="go", source=names[-1] if ends_in_goal else names[0], dest="done")
    )


def test_a_chain_of_a_hundred_thousand_edges_is_proved_without_recursion() -> None:
    report = verify(chain(100_000, ends_in_goal=True))

    assert not report.findings
    assert report.edges == report.reachable - 1 == 100_000


def test_twenty_thousand_findings_do_not_tell_twenty_thousand_long_stories() -> None:
    long = chain(20_000, ends_in_goal=True)
    cut = Graph(name="cut", states=long.states, edges=long.edges[:-1], initial="s0", goals=("done",))
    found = verify(cut).against("can-reach-goal")

    assert len(found) == 20_000
    assert [finding.path and finding.path.end for finding in found[1:400]] == [f"s{n}" for n in range(1, 400)]
    assert found[-1].path is None
    assert sum(len(finding.path.edges) for finding in found if finding.path) < 120_001


# Against a naive fixpoint

NAMES = ("a", "b", "c", "d", "e", "f")


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    a_name = st.sampled_from(names)
    edges = st.builds(
        Edge,
        trigger=st.sampled_from(("go", "stop", "turn")),
        source=a_name,
        dest=a_name,
        guards=st.sampled_from(((), (), ("sure",))),
    )
    states = tuple(state(name, final=draw(st.integers(0, 4)) == 0, waits_for="x") for name in names)
    goals = tuple(draw(st.lists(a_name, min_size=1, max_size=2, unique=True)))
    return Graph(
        name="random",
        states=states,
        edges=tuple(draw(st.lists(edges, max_size=14))),
        initial="a",
        goals=goals,
    )


def steps(graph: Graph) -> set[tuple[str, str]]:
    """The pairs of states between which a run may step, each edge compared with all before it."""
    return {
        (e.source, e.dest)
        for at, e in enumerate(graph.edges)
        if not any((e.source, e.trigger, ()) == (o.source, o.trigger, o.guards) for o in graph.edges[:at])
    }


def least_fixpoint(seed: set[str], pairs: set[tuple[str, str]]) -> set[str]:
    grown = seed | {b for a, b in pairs if a in seed}
    return seed if grown == seed else least_fixpoint(grown, pairs)


@given(graphs())
def test_reachability_agrees_with_a_naive_fixpoint(graph: Graph) -> None:
    reachable = least_fixpoint({"a"}, steps(graph))
    report = verify(graph)

    assert report.reachable == len(reachable)
    assert [f.state for f in report.against("reachable")] == [
        s.name for s in graph if s.name not in reachable
    ]


@given(graphs())
def test_reaching_a_goal_agrees_with_a_naive_fixpoint(graph: Graph) -> None:
    reachable = least_fixpoint({"a"}, steps(graph))
    hopeful = least_fixpoint(set(graph.goals), {(b, a) for a, b in steps(graph)})
    stuck = [s.name for s in graph if s.name in reachable - hopeful and not s.final]

    assert [f.state for f in verify(graph).against("can-reach-goal")] == stuck


@given(graphs())
def test_every_path_shown_is_a_shortest_walk_along_edges_that_can_be_taken(graph: Graph) -> None:
    pairs = steps(graph)
    for finding in verify(graph).findings:
        if finding.path is None or finding.property == "final-is-an-end":
            continue
        walk = finding.path.states
        assert (walk[0], walk[-1]) == ("a", finding.state)
        assert set(pairwise(walk)) <= pairs
        nearer = {"a"}
        for _ in range(len(walk) - 2):
            nearer |= {b for a, b in pairs if a in nearer}
        assert len(walk) == 1 or finding.state not in nearer


@given(graphs())
def test_verifying_twice_gives_the_same_report(graph: Graph) -> None:
    assert isinstance(verify(graph), Report)
    assert verify(graph) == verify(graph)
