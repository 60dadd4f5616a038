"""Errors in three families, which cross process borders with all that they know."""

import copy
import pickle

import pytest
import transitions

import statemachine
from statemachine import (
    DeclarationError,
    LeaseLost,
    Reentered,
    StaleState,
    StateMachineError,
    TransitionNotAllowed,
    UnknownTrigger,
)

NOT_ALLOWED = [TransitionNotAllowed, UnknownTrigger, Reentered]


def examples():
    known = {"row": "Paper 7", "trigger": "advance", "state": "draft"}
    yield DeclarationError("It is wrong.", hint="Put it right.")
    yield from (error("It may not.", hint="Ask first.", **known) for error in NOT_ALLOWED)
    yield StaleState.moved("Paper 7", "advance", expected="draft", epoch=4)
    yield LeaseLost.superseded("Paper 7", state="checking", entry=12, attempt=2)


def test_every_error_that_is_exported_has_an_example_here():
    exported = {
        value
        for name in statemachine.__all__
        if isinstance(value := getattr(statemachine, name), type) and issubclass(value, StateMachineError)
    }
    assert exported == {StateMachineError, *map(type, examples())}


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
@pytest.mark.parametrize("error", list(examples()), ids=lambda error: type(error).__name__)
def test_a_copy_knows_what_the_error_knows(error, copied):
    error.add_note("seen in a worker")
    other = copied(error)
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)
    assert other.args == error.args


def test_the_families_can_be_told_apart():
    families = [DeclarationError, TransitionNotAllowed, StaleState, LeaseLost]
    for error in examples():
        assert isinstance(error, StateMachineError)
        assert sum(isinstance(error, family) for family in families) == 1


@pytest.mark.parametrize("error", NOT_ALLOWED)
def test_what_a_row_may_not_is_an_error_of_transitions_too(error):
    raised = error("It may not.", row="Paper 7", trigger="advance", state="draft")
    assert isinstance(raised, transitions.MachineError)
    assert raised.value == "It may not."


def test_errors_are_also_what_python_calls_them():
    assert issubclass(DeclarationError, ValueError)
    assert issubclass(UnknownTrigger, AttributeError)


def test_a_message_is_the_problem_and_what_to_do():
    assert str(DeclarationError("It is wrong.", hint="Put it right.")) == "It is wrong. Put it right."
    assert str(DeclarationError("It is wrong.")) == "It is wrong."


@pytest.mark.parametrize(("epoch", "where"), [(None, "'draft'"), (4, "'draft' (epoch 4)")])
def test_a_stale_row_says_where_it_was_thought_to_be(epoch, where):
    error = StaleState.moved("Paper 7", "advance", expected="draft", epoch=epoch)
    assert str(error) == (
        f"Paper 7 is no longer {where}, so 'advance' was not applied: another process moved it first. "
        "Call refresh_from_db() and look again."
    )
    assert (error.row, error.trigger, error.expected, error.epoch) == ("Paper 7", "advance", "draft", epoch)


def test_a_superseded_stage_says_to_stop():
    error = LeaseLost.superseded("Paper 7", state="checking", entry=12, attempt=2)
    assert str(error) == (
        "Paper 7 no longer waits for attempt 2 of 'checking': the lease ran out and another worker took it, "
        "or the row was moved. Stop working; nothing of this attempt will be kept."
    )
    assert (error.row, error.state, error.entry, error.attempt) == ("Paper 7", "checking", 12, 2)
