"""`Enqueue`: a value, and a callback."""

import copy
import dataclasses
import pickle
from datetime import timedelta
from types import SimpleNamespace

import pytest

from statemachine import DeclarationError, Enqueue

HOUR = timedelta(hours=1)


def full():
    return Enqueue(
        "papers.check",
        kwargs={"depth": 2, "also": ("a", "b")},
        lease=HOUR,
        max_attempts=3,
        backoff=HOUR,
        max_runtime=2 * HOUR,
        queue="slow",
        priority=0,
    )


def test_only_the_task_is_needed():
    enqueue = Enqueue("papers.check")
    assert dataclasses.asdict(enqueue) == {
        "task": "papers.check",
        "kwargs": (),
        "lease": None,
        "max_attempts": None,
        "backoff": None,
        "max_runtime": HOUR,
        "queue": None,
        "priority": None,
        "formerly": (),
    }


def test_equal_declarations_are_equal_values():
    assert full() == full()
    assert hash(full()) == hash(full())
    assert full() != Enqueue("papers.check")
    assert Enqueue("a", kwargs={"x": 1, "y": 2}) == Enqueue("a", kwargs={"y": 2, "x": 1})


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        full().task = "papers.score"


def test_its_kwargs_are_sorted_pairs_that_do_not_follow_the_given_dict():
    given = {"depth": 2, "also": 1}
    enqueue = Enqueue("papers.check", kwargs=given)
    given["depth"] = 3
    assert enqueue.kwargs == (("also", 1), ("depth", 2))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)), dataclasses.replace]
)
def test_a_copy_is_equal(copied):
    assert copied(full()) == full()


def test_it_is_replaced_in_part():
    assert dataclasses.replace(full(), queue="fast").queue == "fast"


def test_it_prints_as_a_call():
    assert str(Enqueue("papers.check")) == "papers.check"
    assert (
        str(Enqueue("papers.check", kwargs={"depth": 2, "mode": "all"}))
        == "papers.check(depth=2, mode='all')"
    )


def test_called_with_an_event_it_hands_the_row_and_itself_to_the_machine():
    handed, row = [], object()
    enqueue = full()
    event = SimpleNamespace(model=row, machine=SimpleNamespace(enqueue=lambda *given: handed.append(given)))
    assert enqueue(event) is None
    assert handed == [(row, enqueue)]


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("", {}, "Enqueue needs the registered name of a task, not ''. Write Enqueue(\"app.task\")."),
        (None, {}, 'Enqueue needs the registered name of a task, not None. Write Enqueue("app.task").'),
        ("a", {"max_attempts": 0}, "'a' has max_attempts=0. Give it a whole number, at least 1."),
        ("a", {"max_attempts": "3"}, "'a' has max_attempts='3'. Give it a whole number, at least 1."),
        ("a", {"max_attempts": 2.5}, "'a' has max_attempts=2.5. Give it a whole number, at least 1."),
        ("a", {"max_attempts": True}, "'a' has max_attempts=True. Give it a whole number, at least 1."),
        ("a", {"priority": -1}, "'a' has priority=-1. Give it a whole number, at least 0."),
        ("a", {"priority": "high"}, "'a' has priority='high'. Give it a whole number, at least 0."),
        ("a", {"lease": 60}, "'a' has lease=60, which is no duration. Give it a positive timedelta."),
        (
            "a",
            {"backoff": timedelta()},
            "'a' has backoff=datetime.timedelta(0), which is no duration. Give it a positive timedelta.",
        ),
        (
            "a",
            {"max_runtime": None},
            "'a' has max_runtime=None, which is no duration. Give it a positive timedelta.",
        ),
        ("a", {"queue": ""}, "'a' has queue=''. Give it the name of a queue."),
        (
            "a",
            {"kwargs": {"pages": [1, 2]}},
            "The kwargs of 'a' cannot be hashed: unhashable type: 'list'. "
            "Use strings, numbers and tuples; a task reads larger things from its row.",
        ),
        ("a", {"kwargs": {1: 2}}, "The kwargs of 'a' have a name that is no string. Use strings."),
    ],
)
def test_a_wrong_value_is_refused_with_its_remedy(task, options, message):
    with pytest.raises(DeclarationError) as caught:
        Enqueue(task, **options)
    assert str(caught.value) == message
