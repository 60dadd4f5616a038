"""Timers of waiting states: fired once, never before their time, whoever else moves the row."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections

from integration import protocol, recovery
from integration.entries import Entry
from integration.protocol import later
from integration.stage import Outcome, PermanentFailure, run
from integration.tasks import judge
from statemachine import StateMachineError
from statemachine.engine import Transition
from tests.integration.rows import LONG_AGO, agree, answer, elapse, is_due_in, paper_in, pending, trail, where
from tests.papers.machine import review
from tests.papers.models import Paper

pytestmark = pytest.mark.django_db
committing = pytest.mark.django_db(transaction=True)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def discarding(monkeypatch):
    """What is done before a rejected paper is discarded."""
    acts = []
    (discard,) = review.events["discard"].transitions["rejected"]
    monkeypatch.setattr(discard, "before", [lambda event: [act(event) for act in acts]])
    return acts


@pytest.fixture
def paper():
    """A rejected paper whose timer is over."""
    paper = paper_in("rejected")
    elapse(paper)
    return paper


def raising(*errors):
    """Raise the next of the errors at each call, then nothing."""
    left = list(errors)

    def act(event):
        if left:
            raise left.pop(0)

    return act


def refuse(monkeypatch):
    (discard,) = review.events["discard"].transitions["rejected"]
    monkeypatch.setattr(discard, "conditions", review.events["revise"].transitions["rejected"][0].conditions)


# Once, and not before


def test_a_timer_is_fired_by_its_claimant_once(paper):
    entry = pending(paper)
    assert answer(paper) is Outcome.FINISHED
    assert run(entry.pk) is Outcome.DROPPED
    assert where(paper) == ("discarded", 2)
    assert trail(paper)[-1] == "discard discarded"


def test_a_timer_is_never_fired_before_its_time():
    paper = paper_in("rejected")
    assert is_due_in(pending(paper), timedelta(days=30) - HOUR, timedelta(days=30))
    elapse(paper, ago=-SECOND * 20)
    assert recovery.sweep().rung == 0
    assert answer(paper) is Outcome.DROPPED
    assert (pending(paper).attempt, where(paper)) == (0, ("rejected", 1))


def test_a_timer_of_a_state_that_was_left_and_entered_again_begins_again():
    paper = paper_in("rejected")
    first = pending(paper)
    paper.revise()
    review.to_state(paper, "rejected", reason="once more")
    Entry.objects.filter(pk=first.pk).update(ready_at=LONG_AGO)
    assert run(first.pk) is Outcome.DROPPED
    assert is_due_in(pending(paper), timedelta(days=30) - HOUR, timedelta(days=30))


def test_a_timer_that_is_declared_no_more_is_disarmed():
    paper = paper_in("draft")
    elapse(paper)
    assert answer(paper) is Outcome.DROPPED
    entry = pending(paper)
    assert (entry.due_at, entry.error) == (None, "")


@pytest.mark.parametrize("leave", [lambda row: row.revise(), lambda row: row.discard()])
def test_a_row_that_is_moved_after_the_claim_is_not_moved_by_its_timer(paper, leave):
    held = protocol.claim(pending(paper), using="default", lease=HOUR, worker="a worker")
    assert leave(Paper.objects.get())
    assert run(held.pk) is Outcome.DROPPED
    assert len(trail(paper)) == 3
    assert agree(paper)


@committing
@pytest.mark.parametrize("other", ["revise", "discard", "to_state", "answer"])
def test_whoever_else_moves_the_row_at_that_moment_one_of_them_does(mailbox, other):
    """Two threads at a barrier, with a connection each."""

    def ring(entry, row, barrier):
        return run(entry.pk) is Outcome.FINISHED

    def move(entry, row, barrier):
        try:
            if other == "to_state":
                review.to_state(row, "draft", reason="by hand")
                return True
            return getattr(row, other)()
        except StateMachineError:
            return False

    def at_once(act, *arguments):
        try:
            arguments[-1].wait(20)
            return act(*arguments)
        finally:
            connections.close_all()

    acts = [ring, ring if other == "answer" else move]
    for _ in range(10):
        paper = paper_in("rejected")
        elapse(paper)
        given = pending(paper), Paper.objects.get(pk=paper.pk), threading.Barrier(2)
        with ThreadPoolExecutor(2) as pool:
            moved = [future.result() for future in [pool.submit(at_once, act, *given) for act in acts]]
        assert sum(moved) == 1
        assert len(trail(paper)) == 3
        assert agree(paper)


@committing
@pytest.mark.services
@pytest.mark.skipif(not connection.features.has_select_for_update, reason="run by test_services")
def test_thousands_that_are_due_at_once_are_each_fired_once(mailbox, tally):
    count = 2_000
    Paper.objects.bulk_create([Paper(status="rejected") for _ in range(count)])
    assert recovery.scan_all().adopted == count
    Entry.objects.open().update(ready_at=LONG_AGO, due_at=LONG_AGO)
    mailbox.messages.clear()
    while recovery.sweep(limit=500).rung:
        pass
    assert len({message.entry for message in mailbox.messages}) == len(mailbox.messages) == count
    messages = iter([*mailbox.messages, *mailbox.messages[: count // 10]])
    lock, outcomes = threading.Lock(), []

    def work():
        try:
            while True:
                with lock:
                    message = next(messages, None)
                if message is None:
                    return
                outcomes.append(run(message.entry))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work) for _ in range(4)]:
            future.result()
    assert outcomes.count(Outcome.FINISHED) == count
    assert outcomes.count(Outcome.DROPPED) == count // 10
    assert set(Paper.objects.values_list("status", "status_epoch")) == {("discarded", 2)}
    assert Entry.objects.filter(trigger="discard").count() == count
    tally("timers due at once", count)


# What goes wrong


def test_a_timer_whose_trigger_raises_backs_off_with_its_error_shown(paper, discarding):
    discarding.append(raising(ZeroDivisionError("first"), ZeroDivisionError("second")))
    for strikes, text, least in ((1, "first", SECOND * 0.7), (2, "second", SECOND * 1.4)):
        elapse(paper)
        assert answer(paper) is Outcome.BACKING_OFF
        entry = pending(paper)
        assert (entry.strikes, entry.error) == (strikes, f"'discard': ZeroDivisionError: {text}")
        assert is_due_in(entry, least - SECOND * 0.2, least * 2)
        assert answer(paper) is Outcome.DROPPED
    elapse(paper)
    assert answer(paper) is Outcome.FINISHED
    assert where(paper) == ("discarded", 2)


def test_a_timer_whose_trigger_always_raises_is_parked_when_its_attempts_are_used_up(
    paper, discarding, settings
):
    settings.STATEMACHINE_MAX_ATTEMPTS = 3
    discarding.append(lambda event: 1 / 0)
    for expected in (Outcome.BACKING_OFF, Outcome.BACKING_OFF, Outcome.PARKED):
        elapse(paper)
        assert answer(paper) is expected
    entry = pending(paper)
    assert (entry.due_at, entry.strikes) == (None, 3)
    assert entry.error == "'discard': ZeroDivisionError: division by zero"
    assert list(Entry.objects.parked()) == [entry]
    assert agree(paper)


def test_a_timer_whose_trigger_fails_for_good_is_parked_at_once(paper, discarding):
    discarding.append(raising(PermanentFailure("nobody can discard this")))
    assert answer(paper) is Outcome.PARKED
    assert pending(paper).error == "'discard': nobody can discard this"


def test_a_timer_whose_guard_refuses_is_parked(paper, monkeypatch):
    refuse(monkeypatch)
    Paper.objects.update(worth=False)
    assert answer(paper) is Outcome.PARKED
    assert pending(paper).error == "'discard': every guard of 'discard' refused"


def test_a_timer_that_leaves_the_row_where_it_is_is_parked(paper, monkeypatch):
    monkeypatch.setitem(review.events["discard"].transitions, "rejected", [Transition("rejected", None)])
    assert answer(paper) is Outcome.PARKED
    assert "'discard' from 'rejected' took an internal edge" in pending(paper).error


def test_a_timer_whose_workers_died_between_claim_and_fire_is_fired_out_of_strikes_too(paper):
    paper.entries.filter(open=True).update(strikes=5, attempt=5)
    assert answer(paper) is Outcome.FINISHED
    entry = paper.entries.get(state="rejected")
    assert (entry.strikes, entry.attempt) == (5, 6)
    assert where(paper) == ("discarded", 2)


def test_a_timer_out_of_strikes_that_raises_is_parked(paper, discarding):
    discarding.append(lambda event: 1 / 0)
    paper.entries.filter(open=True).update(strikes=5)
    assert answer(paper) is Outcome.PARKED
    assert pending(paper).strikes == 5


def test_a_worker_that_dies_between_claim_and_fire_costs_a_strike(paper):
    held = protocol.claim(pending(paper), using="default", lease=HOUR, worker="dies")
    assert held.strikes == 1
    assert answer(paper) is Outcome.DROPPED
    elapse(paper)
    assert answer(paper) is Outcome.FINISHED


@pytest.mark.parametrize(("before", "after"), [(0, 0), (5, 5)])
def test_a_worker_that_is_told_to_stop_while_it_fires_a_timer_gives_the_strike_back(
    paper, discarding, before, after
):
    discarding.append(raising(KeyboardInterrupt()))
    paper.entries.filter(open=True).update(strikes=before)
    with pytest.raises(KeyboardInterrupt):
        answer(paper)
    entry = pending(paper)
    assert (entry.strikes, entry.attempt, entry.worker) == (after, 1, "")
    assert is_due_in(entry, -SECOND, timedelta())
    assert answer(paper) is Outcome.FINISHED


def test_a_timer_whose_trigger_exits_does_not_end_the_worker(paper, discarding):
    discarding.append(raising(SystemExit(1)))
    assert answer(paper) is Outcome.BACKING_OFF
    assert pending(paper).error == "'discard': SystemExit: 1"


def test_a_timer_that_asks_to_be_run_again_keeps_its_strike_and_does_not_spin(paper, discarding):
    from celery.exceptions import Retry

    discarding.append(raising(Retry("later")))
    assert answer(paper, judge=judge) is Outcome.WAITING
    assert pending(paper).strikes == 0
    assert is_due_in(pending(paper), SECOND / 2, SECOND * 2)


def test_a_timer_that_the_database_interrupts_is_rung_again_not_parked(paper, discarding):
    discarding.append(raising(*[OperationalError("locked")] * 2))
    with pytest.raises(OperationalError):
        answer(paper)
    assert is_due_in(pending(paper), SECOND * 10, HOUR)
    elapse(paper)
    assert answer(paper) is Outcome.FINISHED
    assert where(paper)[0] == "discarded"


def test_a_parked_timer_is_rung_no_more_and_its_row_may_be_moved_by_hand(paper, discarding, mailbox):
    discarding.append(raising(PermanentFailure("no")))
    answer(paper)
    Entry.objects.open().update(ready_at=later(None, -HOUR))
    assert recovery.sweep().rung == 0
    assert answer(paper) is Outcome.DROPPED
    assert Paper.objects.get().revise()
