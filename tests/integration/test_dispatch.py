"""A message is a doorbell: sent after the commit, and nobody's problem when it is not."""

import itertools
import traceback
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import transaction

from integration import dispatch, recovery
from integration.dispatch import Message, circuit, publish, publisher, ring
from integration.inline import Inline
from integration.stage import Outcome
from statemachine import Enqueue
from tests.integration.rows import elapse, is_due_in, paper_in, pending, where
from tests.papers.machine import review
from tests.papers.models import Paper

MESSAGE = Message(entry=1, using="default", task="papers.check")
committing = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clock(monkeypatch):
    """The circuit's clock, which stands still."""
    now = [1_000.0]
    monkeypatch.setattr(dispatch.time, "monotonic", lambda: now[0])
    return now


@committing
def test_a_fire_rings_after_the_commit_and_not_before(mailbox):
    paper = Paper.objects.create()
    with transaction.atomic():
        paper.submit()
        assert mailbox.messages == []
    entry = pending(paper)
    assert mailbox.messages == [Message(entry=entry.pk, using="default", task="papers.check")]


@committing
def test_a_rolled_back_transition_rings_nothing(mailbox):
    paper = Paper.objects.create()
    with transaction.atomic():
        paper.submit()
        transaction.set_rollback(True)
    assert mailbox.messages == []
    assert where(paper) == ("draft", 0)


@committing
def test_a_state_without_a_task_rings_nothing(mailbox):
    review.to_state(Paper.objects.create(), "rejected", reason="no")
    assert mailbox.messages == []


@committing
def test_only_the_first_step_is_rung_when_a_state_is_entered(mailbox):
    paper_in("scoring")
    assert mailbox.tasks == ["papers.score"]


@committing
def test_a_message_names_the_declared_queue_and_priority(mailbox, monkeypatch):
    named = review.graph.named
    slow = replace(named["checking"], steps=(Enqueue("papers.check", queue="slow", priority=3),))
    monkeypatch.setitem(named, "checking", slow)
    Paper.objects.create().submit()
    assert [(message.queue, message.priority) for message in mailbox.messages] == [("slow", 3)]


@committing
def test_a_broker_that_is_away_fails_neither_the_caller_nor_what_is_called_after_the_commit(mailbox, caplog):
    mailbox.away = True
    called, failures = [], circuit.failures
    paper = Paper.objects.create()
    with transaction.atomic():
        paper.submit()
        transaction.on_commit(lambda: called.append(True))
    assert where(paper) == ("checking", 1)
    assert called == [True]
    assert circuit.failures == failures + 1
    assert "Could not send entry" in caplog.text


def test_the_circuit_opens_at_a_failure_and_closes_by_itself(mailbox, clock):
    mailbox.away = True
    assert not publish(MESSAGE)
    mailbox.away = False
    assert circuit.is_open
    assert not publish(MESSAGE)
    assert mailbox.messages == []
    clock[0] += 5
    assert not circuit.is_open
    assert publish(MESSAGE)
    assert mailbox.messages == [MESSAGE]


def test_another_publisher_begins_with_a_closed_circuit(mailbox):
    mailbox.away = True
    publish(MESSAGE)
    before = dispatch.set_publisher(mailbox)
    assert before is mailbox is publisher()
    assert not circuit.is_open


@committing
def test_the_sweep_does_nothing_while_the_circuit_is_open_and_rings_when_the_broker_is_back(mailbox, clock):
    mailbox.away = True
    paper = paper_in("checking")
    elapse(paper)
    due_at = pending(paper).due_at
    mailbox.away = False
    assert recovery.sweep() == recovery.Sweep()
    assert pending(paper).due_at == due_at
    clock[0] += 5
    assert recovery.sweep() == recovery.Sweep(rung=1)
    assert mailbox.tasks == ["papers.check"]


@committing
def test_what_the_sweep_could_not_send_is_due_again_after_the_grace(mailbox):
    papers = [paper_in("checking") for _ in range(3)]
    for paper in papers:
        elapse(paper)
    mailbox.away = True
    assert recovery.sweep() == recovery.Sweep(unsent=3)
    soon = [is_due_in(pending(paper), timedelta(), timedelta(seconds=1)) for paper in papers]
    assert soon == [True, True, True]
    assert recovery.sweep() == recovery.Sweep()


@committing
def test_a_message_that_cannot_be_sent_holds_up_no_other():
    sent = []

    class Picky:
        def publish(self, message):
            if message.entry == bad:
                raise KeyError("no such queue")
            sent.append(message.entry)

    before = dispatch.set_publisher(Picky())
    try:
        bad = None
        papers = [paper_in("checking") for _ in range(3)]
        for paper in papers:
            elapse(paper)
        bad = pending(papers[0]).pk
        sent.clear()
        assert recovery.sweep() == recovery.Sweep(rung=2, unsent=1)
        assert not circuit.is_open
    finally:
        dispatch.set_publisher(before)
    assert sorted(sent) == [pending(paper).pk for paper in papers[1:]]
    assert not is_due_in(pending(papers[0]), timedelta(), timedelta(minutes=1))


def test_a_process_without_a_publisher_sends_nothing_and_fails_nobody():
    before = dispatch.set_publisher(dispatch.Silent())
    try:
        assert not publish(MESSAGE)
    finally:
        dispatch.set_publisher(before)


@committing
def test_a_ring_outside_a_transaction_is_sent_at_once(mailbox):
    ring(MESSAGE)
    assert mailbox.messages == [MESSAGE]


# Inline: what a stage dispatches is run after it, not inside it


@committing
def test_inline_runs_a_chain_of_stages_in_as_deep_a_stack_as_one(bodies, stages):
    """Were each run inside the one before it, a third of them would exhaust the stack."""
    deepest, again = [], itertools.count(1)

    def body(stage):
        deepest.append(sum(1 for _ in traceback.walk_stack(None)))
        if next(again) < 60:
            review.to_state(stage.row, "checking", reason="once more")

    bodies["papers.check"] = body
    paper = Paper.objects.create()
    paper.submit()
    assert len(deepest) == 60
    assert len(set(deepest)) == 1
    assert where(paper) == ("published", 62)


def test_inline_runs_a_chain_of_2000_stages_without_recursion(monkeypatch):
    """The inline publisher alone, on stages that only dispatch the next one."""
    inline, depth, deepest = Inline(), [0], [0]

    def answer(message, elapsed):
        depth[0] += 1
        deepest[0] = max(deepest[0], depth[0])
        if message.entry < 2_000:
            inline.publish(Message(entry=message.entry + 1, using="default", task="papers.check"))
        depth[0] -= 1
        return Outcome.FINISHED

    monkeypatch.setattr(inline, "_run", answer)
    inline.publish(MESSAGE)
    assert (deepest, len(inline.outcomes)) == ([1], 2_000)


def test_inline_runs_what_is_left_when_a_body_stops_the_process(monkeypatch):
    inline, answered = Inline(), []

    def answer(message, elapsed):
        answered.append(message.entry)
        if message.entry == 1:
            inline.publish(Message(entry=2, using="default", task="papers.check"))
            raise SystemExit
        return Outcome.FINISHED

    monkeypatch.setattr(inline, "_run", answer)
    with pytest.raises(SystemExit):
        inline.publish(MESSAGE)
    inline.publish(Message(entry=3, using="default", task="papers.check"))
    assert answered == [1, 2, 3]


@pytest.mark.usefixtures("stages")
def test_what_inline_raises_is_raised_and_opens_no_circuit(monkeypatch):
    monkeypatch.setattr(publisher(), "_run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish(MESSAGE)
    assert not circuit.is_open
