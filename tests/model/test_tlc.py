"""What TLC says of exported modules: what holds, what each rule is for, and whether others agree."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from statemachine import Edge, Graph, StateValue
from statemachine.export.promela import to_promela
from statemachine.export.tla import to_tla
from statemachine.verify import verify
from tests.model import spin
from tests.model.spin import needs_spin
from tests.model.test_model import one, steps, timer
from tests.model.test_spin import SMALL, WRONG, again, broken, every, graph
from tests.model.tlc import check, claimed, needs_tlc

pytestmark = needs_tlc

ONE = {"Workers": "{w1}"}
TWO = {"Workers": "{w1, w2}"}


def asked(graph, folder, tally, *claims, **sizes):
    verdict = check(to_tla(graph), folder, claims=claims, **sizes)
    tally("TLC states", verdict.states)
    return verdict.holds


# What holds


def test_a_sound_machine_holds(tmp_path, tally):
    assert asked(one.graph, tmp_path, tally, **ONE)


SOUND = {
    "jumps by hand": (one, {**ONE, "Jumps": 1}),
    "two workers": (one, {**TWO, "Strikes": 1}),
    "two steps": (steps, ONE),
    "a timer": (timer, ONE),
    "a clock and a person": (again, ONE),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_machine_holds_under_more(name, tmp_path, tally):
    machine, sizes = SOUND[name]
    assert asked(machine.graph, tmp_path, tally, **sizes)


@pytest.mark.slow
def test_tlc_reads_whatever_a_user_calls_a_state(tmp_path, tally):
    names = ["with spaces", '"*)\\', "(* ====", "完了"]
    states = tuple(StateValue(name=name, label=name) for name in names)
    edges = tuple(Edge(trigger="go", source=a, dest=b) for a, b in pairwise(names))
    odd = Graph(name="---- café", states=states, edges=edges, initial=names[0], goals=(names[-1],))
    assert asked(odd, tmp_path, tally, "TypeOK", **ONE)


@pytest.mark.slow
def test_everything_in_the_module_happens(tmp_path):
    """What never happens would break no claim either."""
    verdict = check(
        to_tla(every.graph),
        tmp_path,
        claims=["TypeOK"],
        options=["-coverage", "1"],
        **ONE,
        Strikes=1,
        Jumps=1,
    )
    assert verdict.holds
    report = verdict.told.rpartition("The coverage statistics")[2]
    taken = dict(re.findall(r"<(\w+) line .*>: \d+:(\d+)", report))
    assert {"Deliver", "NextStep", "Find", "GoAway", "Jump", "Fault"} <= taken.keys()
    assert [name for name, times in taken.items() if times == "0"] == []


# What each rule is for

FENCED = "IF IsThere(w) /\\ Holds(w)\n"
BEAT = """IF Holds(w)
     THEN /\\ entry' = [entry EXCEPT !.clock = "later"]"""
RELEASE = "  IF Holds(w)\n  THEN /\\ entry' ="
READ_AS = "  /\\ worker[w].attempt = entry.attempt\n  /\\ worker[w].strikes = entry.strikes\n"
MOVED_BY_SWEEP = """\
Sweep == Find \\/ (found = entry.id /\\ Move("failed", worker, copy) /\\ UNCHANGED <<faults, jumps>>)"""
RUNG_BEFORE = """\
  \\/ /\\ \\E w \\in Workers : worker[w].phase = "body"
     /\\ rung' = Ring(After(entry.id), rung)
     /\\ UNCHANGED <<row, entry, worker, found, copy, faults, jumps>>
  \\/ Sweep"""
ARMED = 'IF s \\in Works THEN "ready" ELSE'
FIRED = "Fire ==\n  /\\ row = copy\n"

LEFT_OUT = {
    "the attempt in the token": (
        *("OneWorkerHolds", one, TWO),
        ("  /\\ worker[w].attempt = entry.attempt\n  /\\ entry.by", "  /\\ entry.by"),
    ),
    "the fence of a finish": (
        *("TheSupersededWriteNothing", one, TWO),
        (FENCED, "IF row.status = worker[w].state\n"),
    ),
    "the token of a finish": ("AnEntryIsLeftOnce", one, TWO, (FENCED, "IF TRUE\n")),
    "the row of a finish": ("EveryMoveIsDeclared", one, TWO, (FENCED, "IF TRUE\n")),
    "the fence of a heartbeat": (
        *("TheSupersededWriteNothing", one, TWO),
        (BEAT, BEAT.replace("Holds(w)", "TRUE")),
    ),
    "the fence of a release": (
        *("TheSupersededWriteNothing", one, TWO),
        (RELEASE, RELEASE.replace("Holds(w)", "TRUE")),
    ),
    "the comparison of a claim": ("StrikesAreLimited", one, {**TWO, "Strikes": 1}, (READ_AS, "")),
    "the count of attempts": (
        *("OneWorkerHolds", one, TWO),
        ("!.attempt = @ + 1, ", ""),
        ("![w].attempt = @ + 1, ", ""),
    ),
    "the last strike": ("StrikesAreLimited", one, ONE, ("IF worker[w].spent THEN 0 ELSE 1", "1")),
    "the arming of a commit": ("ArmedWhilePending", one, ONE, (ARMED, "")),
    "the sweep": ("ComesToRest", one, ONE, ("Sweep == Find \\/ Push", "Sweep == Push")),
    "the ring of the sweep": ("OverdueIsRung", one, ONE, ("Sweep == Find \\/ Push", "Sweep == Find")),
    "the message of the sweep": ("ComesToRest", one, ONE, ("rung' = Ring(found, rung)", "rung' = rung")),
    "that a claimant gives up, not the sweep": (
        *("NoStageIsSkipped", one, ONE),
        ("Sweep == Find \\/ Push", MOVED_BY_SWEEP),
    ),
    "the end of a dead worker's lease": (
        *("ComesToRest", one, ONE),
        ('entry.clock = "later" /\\ ~IsTended', 'entry.clock = "later" /\\ entry.by = Nobody'),
    ),
    "the commit before the message": ("RungIsCommitted", one, ONE, ("  \\/ Sweep", RUNG_BEFORE)),
    "the fence of a next step": (
        *("RowAndEntryAgree", steps, {**ONE, "Jumps": 1}),
        ("IF Holds(w)\n     THEN /\\ Enter", "IF TRUE\n     THEN /\\ Enter"),
    ),
    "the next epoch": (
        *("TheEpochMovesByOne", one, ONE),
        ("epoch |-> After(row.epoch)]", "epoch |-> row.epoch]"),
    ),
    "the epoch of a person's copy": (
        *("TheSupersededWriteNothing", again, ONE),
        (FIRED, FIRED.replace("row = copy", "row.status = copy.status")),
    ),
    "that a task alone leaves its stage": (
        *("NoStageIsSkipped", one, ONE),
        ("To(ByHand, row.status)", "To(ByHand \\union Done, row.status)"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", LEFT_OUT)
def test_tlc_misses_a_rule_that_is_left_out(rule, tmp_path, tally):
    claim, machine, sizes, *changes = LEFT_OUT[rule]
    verdict = check(broken(to_tla(machine.graph), changes), tmp_path, claims=[claim], **sizes)
    tally("TLC mutants found", not verdict.holds)
    assert not verdict.holds


def test_every_claim_is_broken_by_some_rule_that_is_left_out():
    text = to_tla(one.graph)
    claims = {*claimed(text, "INVARIANT"), *claimed(text, "PROPERTY")}
    assert claims - {claim for claim, *_ in LEFT_OUT.values()} == {"TypeOK"}


# What spin and `verify` say


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_tlc_refutes_what_verify_refutes(name, tmp_path, tally):
    property, wrong = WRONG[name]
    assert verify(wrong).against(property)
    assert not asked(wrong, tmp_path, tally, "ComesToRest", **ONE)


HOT = graph(
    "draft, one a, two b, done!",
    *("go draft one", "advance one two", "fail one draft", "advance two one", "fail two done"),
)


@needs_spin
@pytest.mark.slow
@pytest.mark.parametrize(
    "drawn",
    [one.graph, WRONG["a stage whose failure a guard may refuse"][1], HOT],
    ids=["a sound machine", "guards that refuse", "stages that start one another"],
)
def test_tlc_and_spin_agree_about_what_comes_to_rest(drawn, tmp_path, tally):
    model = to_promela(drawn, workers=1, messages=1)
    by_spin = spin.check(model, "comes_to_rest", tmp_path, **SMALL)
    assert asked(drawn, tmp_path, tally, "ComesToRest", **ONE) is by_spin.holds


@pytest.mark.slow
def test_tlc_does_not_expect_a_person_to_cancel_what_is_parked(tmp_path, tally):
    """spin does: there a person is a process that is not stopped for ever."""
    assert not asked(every.graph, tmp_path, tally, "ComesToRest", **ONE)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["draft", "work", "lost"])
def test_tlc_reaches_the_goal_where_verify_does(start, tmp_path, tally):
    wrong = WRONG["a dead end"][1]
    hopeless = {finding.state for finding in verify(wrong).against("can-reach-goal")}
    stays_away = asked(wrong, tmp_path, tally, "NeverAtAGoal", **ONE, Faults=0, Start=f'"{start}"')
    assert stays_away is (start in hopeless)
