"""What spin says of exported models: what holds, what each rule is for, and whether `verify` agrees."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from integration.onboarding.machine import onboarding
from statemachine import Edge, Enqueue, Graph, State, StateMachine, StateValue
from statemachine.export.promela import to_promela
from statemachine.logic import Property, always, eventually, leads_to
from statemachine.logic.kripke import refuted
from statemachine.verify import verify
from tests.model.spin import check, claims, needs_spin
from tests.model.test_model import one, steps, timer
from tests.papers.machine import review

pytestmark = needs_spin

SMALL = {"FAULTS": 1, "JUMPS": 0}


def checked(graph, claim, folder, tally, *, workers=1, properties=(), **sizes):
    model = to_promela(graph, workers=workers, properties=properties)
    verdict = check(model, claim, folder, **sizes)
    tally("spin states", verdict.states)
    return verdict.holds


again = StateMachine(
    name="again",
    states=[
        State("working", on_enter=Enqueue("a")),
        State("done", final=True),
        State("failed", waits_for="a person", after=(timedelta(days=1), "retry")),
    ],
    transitions=[
        ["advance", "working", "done"],
        ["fail", "working", "failed"],
        ["retry", "failed", "working"],
    ],
    initial="working",
)
"""A clock and a person may both take it out of a state, to which it comes again."""


every = StateMachine(
    name="every",
    states=[
        State("draft", waits_for="a person"),
        State("working", on_enter=[Enqueue("a"), Enqueue("b")]),
        State("failed", waits_for="a person", after=(timedelta(days=1), "retry")),
        State("done", final=True),
    ],
    transitions=[
        {"trigger": "submit", "source": "draft", "dest": "working"},
        {"trigger": "cancel", "source": "working", "dest": "draft"},
        {"trigger": "advance", "source": "working", "dest": "done", "conditions": "is_worth_it"},
        {"trigger": "fail", "source": "working", "dest": "failed", "conditions": "is_worth_it"},
        {"trigger": "retry", "source": "failed", "dest": "working", "conditions": "is_worth_it"},
    ],
    initial="draft",
    goal="done",
)
"""Steps, a timer, a stage that a person may leave, and guards that may all refuse."""


# What holds

SOUND = {
    "one stage": (one, "safe", {"workers": 2}),
    "one stage that rests": (one, "comes_to_rest", {"workers": 2, "JUMPS": 0}),
    "two steps that rest": (steps, "comes_to_rest", {"FAULTS": 2}),
    "a timer that rings": (timer, "what_is_overdue_is_rung", {"FAULTS": 2}),
    "a review": (review, "safe", {"FAULTS": 1}),
    "a review that rests": (review, "comes_to_rest", {"FAULTS": 1}),
    "an onboarding": (onboarding, "safe", SMALL),
    "an onboarding that rests": (onboarding, "comes_to_rest", SMALL),
}
LARGE = {
    "one stage that is rung": (one, "what_is_overdue_is_rung", {"FAULTS": 2}),
    "a timer": (timer, "safe", {"FAULTS": 2}),
    "two steps": (steps, "safe", {"FAULTS": 2}),
    "one stage": (one, "safe", {"workers": 2, "FAULTS": 2, "JUMPS": 2}),
    "one stage that rests": (one, "comes_to_rest", {"workers": 2, "FAULTS": 2}),
    "three workers": (one, "safe", {"workers": 3}),
    "a review": (review, "safe", {"workers": 2}),
    "a review that rests": (review, "comes_to_rest", {"workers": 2, "JUMPS": 0}),
    "an onboarding": (onboarding, "safe", {"workers": 2, "JUMPS": 0}),
    "an onboarding that is put anywhere": (onboarding, "comes_to_rest", {"FAULTS": 2}),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_machine_holds(name, tmp_path, tally):
    machine, claim, sizes = SOUND[name]
    assert checked(machine.graph, claim, tmp_path, tally, **sizes)


@pytest.mark.deep
@pytest.mark.parametrize("name", LARGE)
def test_a_sound_machine_holds_among_many_states(name, tmp_path, tally):
    machine, claim, sizes = LARGE[name]
    assert checked(machine.graph, claim, tmp_path, tally, **sizes)


def test_everything_in_the_model_happens(tmp_path, tally):
    """What never happens would break no claim either."""
    verdict = check(to_promela(every.graph, workers=1), "safe", tmp_path)
    tally("spin states", verdict.states)
    assert verdict.holds
    # The ends of processes that have none, and of tables that are asked for what they have.
    assert verdict.unreached == {"}", ":: else -> t = nowhere"}


# What each rule is for

FENCED = "IS_THERE && HOLDS(_pid) ->"
TOKEN = " && entry[has[w]].attempt == token[w]"
RELEASE_LATER = ":: HOLDS(_pid) -> release(_pid, LATER, 0)"
NEXT_STEP = "accept(_pid); leave(has[_pid]); enter(at, step + 1)"
PUSHED = "entry[found].is_open && entry[found].clock == DUE -> entry[found].clock = READY; ring(found)"
CLAIMED = "token[_pid] = entry[has[_pid]].attempt;"
STRUCK = "entry[has[_pid]].strikes = entry[has[_pid]].strikes + !is_spent;"
COUNTED = "strikes = strikes + !is_spent;"
ARMED = "(WORKS(s) -> READY : (HAS_TIMER(s) -> LATER : NOTHING))"
OUT_OF_STAGE = ":: s == s_failed -> t = s1 /* retry */"
RUNG_AFTER = "  /* The commit is here"

LEFT_OUT = {
    "the attempt in the token": ("one_worker_holds", one, [(TOKEN, "")]),
    "the fence of a finish": ("the_superseded_write_nothing", one, [(FENCED, "status == at ->")]),
    "the token of a finish": ("an_entry_is_left_once", one, [(FENCED, "true ->")]),
    "the row of a finish": ("every_move_is_declared", one, [(FENCED, "true ->")]),
    "the fence of a heartbeat": (
        "what_was_left_is_not_armed",
        one,
        [(":: HOLDS(_pid) -> d_step { accept", ":: true -> d_step { accept")],
    ),
    "the fence of a release": (
        "the_superseded_write_nothing",
        one,
        [(RELEASE_LATER, RELEASE_LATER.replace("HOLDS(_pid)", "true"))],
    ),
    "the comparison of a claim": (
        "one_worker_holds",
        one,
        [
            ("(IS_ADMITTED(has[_pid]) && IS_AS_READ)", "IS_ADMITTED(has[_pid])"),
            (CLAIMED, "token[_pid] = attempt + 1;"),
        ],
    ),
    "the count of attempts": ("one_worker_holds", one, [("entry[has[_pid]].attempt++;", "")]),
    "the count of strikes": ("comes_to_rest", one, [(STRUCK, ""), (COUNTED, "")]),
    "the last strike": ("strikes_are_limited", one, [(STRUCK, STRUCK.replace("!is_spent", "1"))]),
    "the arming of a commit": ("what_is_pending_is_armed", one, [(ARMED, "NOTHING")]),
    "the arming of a timer": (
        "what_is_pending_is_armed",
        timer,
        [("(HAS_TIMER(s) -> LATER : NOTHING)", "NOTHING")],
    ),
    "the sweep": (
        "comes_to_rest",
        one,
        [("entry[OPEN].is_open && entry[OPEN].clock == DUE -> found", "false -> found")],
    ),
    "the ring of the sweep": ("what_is_overdue_is_rung", one, [(PUSHED, "true")]),
    "the comparison of the sweep": (
        "what_was_left_is_not_armed",
        one,
        [(PUSHED, PUSHED.partition("-> ")[2].join(["true -> ", ""]))],
    ),
    "that a claimant gives up, not the sweep": (
        "no_stage_is_skipped",
        one,
        [(PUSHED, PUSHED.replace("entry[found].clock = READY; ring(found)", "move(found, s_failed)"))],
    ),
    "the end of a dead worker's lease": (
        "comes_to_rest",
        one,
        [("clock == LATER && !IS_TENDED ->", "clock == LATER && !entry[OPEN].is_held ->")],
    ),
    "the commit before the message": (
        "what_is_rung_is_committed",
        one,
        [("\nwrite:\n", "\nwrite:\n  skip; d_step { ring(NEXT); look_over() };\n")],
    ),
    "the leaving of a step": ("one_entry_is_open", steps, [(NEXT_STEP, "accept(_pid); enter(at, step + 1)")]),
    "the fence of a next step": (
        "an_entry_is_left_once",
        steps,
        [(f":: HOLDS(_pid) -> {NEXT_STEP}", f":: true -> {NEXT_STEP}")],
    ),
    "the next epoch": ("the_epoch_moves_by_one", one, [("epoch = epoch + 1;", "")]),
    "the epoch of a person's copy": (
        "the_superseded_write_nothing",
        again,
        [
            (
                ":: to != nowhere && status == seen && epoch == seen_epoch ->",
                ":: to != nowhere && status == seen ->",
            )
        ],
    ),
    "that a task alone leaves its stage": (
        "no_stage_is_skipped",
        one,
        [
            (OUT_OF_STAGE, f"{OUT_OF_STAGE}\n  :: s == s1 -> t = s_done"),
            ("MAY_BE_FIRED(s) (", "MAY_BE_FIRED(s) ((s) == s1 || "),
        ],
    ),
}
QUICK = [
    "the attempt in the token",
    "the fence of a finish",
    "the comparison of a claim",
    "the count of strikes",
    "the arming of a commit",
    "the sweep",
    "that a claimant gives up, not the sweep",
    "the commit before the message",
    "the leaving of a step",
    "that a task alone leaves its stage",
]


def broken(model, changes):
    for old, new in changes:
        assert old in model, f"the model has no more {old!r}"
        model = model.replace(old, new)
    return model


def missed(rule, folder, tally):
    claim, machine, changes = LEFT_OUT[rule]
    model = to_promela(machine.graph)
    verdict = check(broken(model, changes), claim, folder, FAULTS=2)
    tally("spin mutants found", not verdict.holds)
    return not verdict.holds


@pytest.mark.parametrize("rule", QUICK)
def test_spin_misses_a_rule_that_is_left_out(rule, tmp_path, tally):
    assert missed(rule, tmp_path, tally)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [rule for rule in LEFT_OUT if rule not in QUICK])
def test_spin_misses_every_rule_that_is_left_out(rule, tmp_path, tally):
    assert missed(rule, tmp_path, tally)


def test_every_claim_of_safety_is_broken_by_some_rule_that_is_left_out():
    asked = {claim for claim, _, _ in LEFT_OUT.values()}
    assert set(claims(to_promela(one.graph))) - asked == {"safe", "never_at_a_goal"}


# What spin says, and what verify says


def graph(states, *edges, goal="done"):
    """Read ``name task`` where a state works, ``name!`` where it is final; ``trigger source dest guard…``."""
    values = []
    for text in states.split(","):
        name, *tasks = text.split()
        steps = tuple(map(Enqueue, tasks))
        values.append(StateValue(name=name.strip("!"), final=name.endswith("!"), steps=steps))
    found = []
    for text in edges:
        trigger, source, dest, *guards = text.split()
        found.append(Edge(trigger=trigger, source=source, dest=dest, guards=tuple(guards)))
    return Graph(name="tiny", states=tuple(values), edges=tuple(found), initial=values[0].name, goals=(goal,))


WRONG = {
    "a dead end": (
        "can-be-left",
        graph("draft, work a, done!, lost", "go draft work", "advance work done", "fail work lost"),
    ),
    "a stage that cannot be given up": (
        "stage-can-be-given-up",
        graph("draft, work a, done!", "go draft work", "advance work done"),
    ),
    "a stage whose failure a guard may refuse": (
        "stage-can-be-given-up",
        graph("draft, work a, done!", "go draft work", "advance work done", "fail work draft is_worth_it"),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_spin_refutes_what_verify_refutes(name, tmp_path, tally):
    property, wrong = WRONG[name]
    assert verify(wrong).against(property)
    assert not checked(wrong, "comes_to_rest", tmp_path, tally, **SMALL)


def test_spin_finds_stages_that_start_one_another_for_ever(tmp_path, tally):
    hot = graph(
        "draft, one a, two b, done!",
        *("go draft one", "advance one two", "fail one draft", "advance two one", "fail two done"),
    )
    assert not checked(hot, "comes_to_rest", tmp_path, tally, **SMALL)


NAMES = ("a", "b", "c")


@st.composite
def graphs(draw):
    """A goal and three states that may work, and be left by any edge."""
    works = draw(st.lists(st.booleans(), min_size=3, max_size=3))
    states = ", ".join(f"{name} task" if work else name for name, work in zip(NAMES, works, strict=True))
    edges = []
    for name, work in zip(NAMES, works, strict=True):
        for trigger in ["advance", "fail"] if work else ["go", "turn"]:
            dest = draw(st.sampled_from(["", *NAMES, "done"]))
            guard = draw(st.sampled_from(["", "", "is_worth_it"]))
            edges += [f"{trigger} {name} {dest} {guard}"] if dest else []
    return graph(f"{states}, done!", *edges)


def agree_about_the_goal(drawn, folder, tally):
    """From each state that a run can be in, spin finds a way to the goal exactly where verify does."""
    report = verify(drawn)
    hopeless = {finding.state for finding in report.against("can-reach-goal")}
    unreached = {finding.state for finding in report.against("reachable")}
    for state in [name for name in NAMES if name not in unreached]:
        stays_away = checked(
            drawn, "never_at_a_goal", folder, tally, FAULTS=0, JUMPS=0, STRIKES=1, START=f"s_{state}"
        )
        assert stays_away == (state in hopeless), state


def quickly(examples):
    shared = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=shared,
    )


@quickly(2)
@given(graphs())
def test_spin_reaches_the_goal_where_verify_does(tmp_path, tally, drawn):
    agree_about_the_goal(drawn, tmp_path, tally)


@pytest.mark.deep
@quickly(10)
@given(graphs())
def test_spin_reaches_the_goal_where_verify_does_in_many_graphs(tmp_path, tally, drawn):
    agree_about_the_goal(drawn, tmp_path, tally)


def starts_itself_again(drawn):
    """What is left of the stages without those that lead out of them: cycles, and what leads there."""
    left = {state.name for state in drawn if state.works}
    while ends := {name for name in left if not any(e.dest in left for e in drawn.outgoing[name])}:
        left -= ends
    return left


@pytest.mark.deep
@quickly(10)
@given(graphs())
def test_spin_brings_to_rest_what_verify_cannot_find_stuck(tmp_path, tally, drawn):
    findings = verify(drawn).findings
    unreached = {finding.state for finding in findings if finding.property == "reachable"}
    stuck = {f.state for f in findings if f.property in ("can-be-left", "stage-can-be-given-up")}
    wrong = (stuck | starts_itself_again(drawn)) - unreached
    assert checked(drawn, "comes_to_rest", tmp_path, tally, **SMALL) == (not wrong)


# What a user claims

CLAIMED = {
    "a tag that is kept": (always("dashboard -> AG dashboard"), onboarding, True),
    "a tag that is lost": (always("running -> AG running"), onboarding, False),
    "what comes in the end": (eventually("done | failed", fair=None), one, True),
    "what need not come": (eventually("done", fair=None), one, False),
    "what follows": (leads_to('"working 1"', "done | failed", fair=None), one, True),
    "what comes first": (Property('A[~done U "working 1"]'), one, True),
}


@pytest.mark.parametrize("name", CLAIMED)
def test_spin_and_verify_agree_about_what_a_user_claims(name, tmp_path, tally):
    claimed, machine, holds = CLAIMED[name]
    claim = "property_1"
    assert checked(machine.graph, claim, tmp_path, tally, properties=[claimed], **SMALL) is holds
    assert (refuted(machine.graph, claimed) is None) is holds


def test_a_jump_by_hand_breaks_nothing_that_a_user_claims(tmp_path, tally):
    kept = always("dashboard -> AG dashboard")
    assert checked(onboarding.graph, "property_1", tmp_path, tally, properties=[kept], FAULTS=0, JUMPS=1)
