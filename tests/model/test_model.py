"""The protocol in every state that a few processes can bring it to."""

from datetime import timedelta

import pytest

from statemachine import Enqueue, State, StateMachine
from tests.model import mutants
from tests.model.explore import Broken, explore
from tests.model.protocol import Protocol


def pipeline(*tasks, timer=False, stages=1):
    """Stages that a person starts, and that a person may try again, or a timer ends, when they failed."""
    working = [f"working {number}" for number in range(1, stages + 1)]
    after = {"after": (timedelta(days=1), "drop")} if timer else {}
    states = [
        State("draft", waits_for="a person"),
        *(State(name, on_enter=[Enqueue(task) for task in tasks]) for name in working),
        State("done", final=True),
        State("failed", waits_for="a person", **after),
        *([State("dropped", final=True)] if timer else []),
    ]
    steps = zip(working, [*working[1:], "done"], strict=True)
    transitions = [
        ["submit", "draft", working[0]],
        *(["advance", source, dest] for source, dest in steps),
        ["fail", working, "failed"],
        ["drop", "failed", "dropped"] if timer else ["retry", "failed", working[0]],
    ]
    return StateMachine(name="model", states=states, transitions=transitions, initial="draft", goal="done")


one, steps, timer, stages = (
    pipeline("a"),
    pipeline("a", "b"),
    pipeline("a", timer=True),
    pipeline("a", stages=2),
)
RAW = {"workers": 1, "fires": True, "updates": ("working 1", "done")}
DELETED = {"workers": 1, "fires": True, "faults": ("lose", "crash", "delete")}
RESTORED = {"workers": 1, "fires": True, "bodies": ("finish",), "faults": ("crash", "restore"), "attempts": 1}
WAITING = {"fires": True, "bodies": ("beat", "finish", "wait", "stop")}
KILLED = {"fires": True, "bodies": ("die",)}
UPDATED = {"fires": True, "updates": ("working 1",), "bodies": ("finish",), "attempts": 1}

CONFIGURATIONS = {
    "two workers": (one, {"fires": True}, 15_535),
    "two steps": (steps, {"fires": True, "workers": 1}, 822),
    "bodies that wait and workers that stop": (one, WAITING, 19_384),
    "bodies that always fail": (one, {"fires": True, "bodies": ("fail",)}, 15_277),
    "bodies that kill their worker": (one, KILLED, 10_460),
    "permanent failures": (one, {"fires": True, "workers": 1, "bodies": ("beat", "refuse")}, 384),
    "a failed trigger that a guard refuses": (one, {"fires": True, "workers": 1, "refused": ("fail",)}, 380),
    "a timer": (timer, {"fires": True, "bodies": ("fail",), "attempts": 1}, 6_630),
    "a timer that raises": (timer, {"fires": True, "workers": 1, "raises": ("drop",)}, 981),
    "an operator who jumps": (one, {"fires": True, "workers": 1, "jumps": ("working 1", "done")}, 1_254),
    "raw updates": (one, RAW, 6_096),
    "raw deletes, and new rows with old keys": (one, DELETED, 4_693),
    "backups": (one, RESTORED, 15_851),
    "a row from before the field": (one, {**RAW, "faults": (), "updates": (), "predates": True}, 178),
    "two workers, and an operator who jumps": (one, {"fires": True, "jumps": ("working 1",)}, 40_823),
    "two workers, and two steps": (steps, {"fires": True}, 58_688),
    "two workers, and raw updates": (one, UPDATED, 33_057),
}

NEEDED = {
    mutants.FencesByEpoch: (one, {"fires": True}),
    mutants.FencesByState: (one, {"fires": True}),
    mutants.FencesByEntry: (one, {"fires": True}),
    mutants.ForgetsWhoHolds: (one, WAITING),
    mutants.MovesWithoutTheRow: (one, RAW),
    mutants.BeatsWithoutFence: (one, {"fires": True}),
    mutants.ReleasesWithoutFence: (one, {"fires": True}),
    mutants.InsertsWhateverItClosed: (one, {"fires": True}),
    mutants.ClaimsFromMemory: (one, {"fires": True}),
    mutants.ClaimsWithoutCompare: (one, {"fires": True}),
    mutants.ClaimsWithoutAttempt: (one, {"fires": True}),
    mutants.GivesTheAttemptBack: (one, WAITING),
    mutants.CountsStrikesAtFailure: (one, KILLED),
    mutants.CountsNoStrikes: (one, KILLED),
    mutants.EntersUnarmed: (one, {"fires": True}),
    mutants.NeverSweeps: (one, {"fires": True, "workers": 1}),
    mutants.NeverScans: (one, RAW),
    mutants.SelectsThenUpdates: (one, {"fires": True}),
    mutants.PublishesFirst: (stages, {"fires": True, "workers": 1}),
    mutants.AdoptsWithoutCompare: (one, RAW),
    mutants.AdoptsUnderTheSameEpoch: (one, RAW),
    mutants.AdoptsAboveTheRowAlone: (one, RESTORED),
    mutants.JumpsAboveTheRowAlone: (one, {**RESTORED, "jumps": ("done",)}),
    mutants.HasNoUniqueKey: (one, RESTORED),
    mutants.DropsWhatDisagrees: (one, RAW),
    mutants.LooksForOrphansLast: (one, DELETED),
    mutants.LeavesOrphansOpen: (one, DELETED),
    mutants.CreatesAtTheFirstEpoch: (one, DELETED),
    mutants.LetsTheStageBeSkipped: (one, {"fires": True}),
}

SAVE_WORK = {
    # Safety rests on the compare-and-set: a lease only keeps a second worker from the same work.
    mutants.IgnoresLiveLeases: (one, {"fires": True}),
    mutants.NeverBeats: (one, {"fires": True, "workers": 1}),
    mutants.RingsWithoutPushing: (one, RAW),
    # What is left as it was found is found again, by the next claim or by the scan.
    mutants.KeepsWhatItRefused: (one, RAW),
    # The transition of a row that does not agree is refused, and adoption follows then.
    mutants.GivesUpFirst: (one, RAW),
    # Whatever repairs a row raises its epoch, so that the first comparison fails already.
    mutants.LooksOnce: (one, RAW),
}


def found(machine, options, pinned, tally):
    explored = explore(Protocol(machine, **options))
    tally("model states", len(explored.worlds))
    tally("model steps", explored.steps)
    # Pinned, for an action that no longer happens would find no violation either.
    assert len(explored.worlds) == pinned


def by_size():
    """What has many states is explored on one combination of versions only: the model knows none of them."""
    for name, (_, _, pinned) in CONFIGURATIONS.items():
        yield pytest.param(name, marks=[pytest.mark.slow] if pinned > 10_000 else [])


@pytest.mark.parametrize("name", [*by_size()])
def test_no_reachable_state_is_wrong_or_stuck(name, tally):
    found(*CONFIGURATIONS[name], tally)


@pytest.mark.parametrize("rule", NEEDED, ids=lambda mutant: mutant.__name__)
def test_a_rule_that_is_left_out_is_missed(rule, tally):
    machine, options = NEEDED[rule]
    with pytest.raises(Broken):
        explore(rule(machine, **options), most=20_000)
    tally("model mutants found")


@pytest.mark.parametrize("rule", SAVE_WORK, ids=lambda mutant: mutant.__name__)
def test_a_rule_that_only_saves_work_is_not_missed(rule):
    machine, options = SAVE_WORK[rule]
    assert explore(rule(machine, **options), most=20_000).steps


def test_every_seeded_breakage_is_tried():
    assert {*NEEDED, *SAVE_WORK} == set(Protocol.__subclasses__())


def test_a_violation_is_told_as_the_shortest_story():
    with pytest.raises(Broken) as broken:
        explore(mutants.LetsTheStageBeSkipped(one, fires=True, workers=1, faults=()))
    story = str(broken.value).splitlines()
    assert story[0] == (
        "1. it begins: the row in 'draft', epoch 0; "
        "entry 0 for 'draft', epoch 0, attempt 0, strikes 0, nothing due"
    )
    assert [line.partition(":")[0] for line in story[1:]] == [
        "2. the operator reads the row",
        "3. the operator fires 'submit'",
        "4. the operator reads the row",
        "Then 'advance' skipped a stage from outside.",
    ]
