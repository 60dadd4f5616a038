"""A bag of messages, workers that die anywhere, operators and foreign programs, in any order.

The workers are real, one at a time: what happens between two statements is for `test_races`.
"""

from contextlib import suppress
from datetime import timedelta
from itertools import pairwise

import hypothesis
import pytest
from django.db import models
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from integration import recovery, stage
from integration.dispatch import circuit
from integration.entries import Entry
from integration.stage import PermanentFailure, verdict
from statemachine import StaleState, TransitionNotAllowed
from tests.integration.rows import LONG_AGO, agree
from tests.papers.machine import review
from tests.papers.models import Paper, Remark
from tests.papers.tasks import bodies

STATES = [state.name for state in review.graph]
TASKS = ["papers.check", "papers.score", "papers.explain"]
EDGES = {(edge.source, edge.trigger, edge.dest) for edge in review.graph.edges}


class Killed(BaseException):
    """The worker is gone: nothing that it would do from here on happens."""


def mute(error, **values):
    if isinstance(error, Killed):
        raise error
    return verdict(error, **values)


def finish(stage):
    with stage.finish():
        Remark.objects.create(paper_id=stage.row.pk, text=f"{stage._entry.pk}")


def die_after(stage):
    finish(stage)
    raise Killed


def die_in_the_middle(stage):
    with stage.finish():
        Remark.objects.create(paper_id=stage.row.pk, text=f"{stage._entry.pk}")
        raise Killed


def die_before(stage):
    raise Killed


def fail(stage):
    raise ValueError("no luck")


def refuse(stage):
    raise PermanentFailure("never")


def wait(stage):
    stage.wait(until=LONG_AGO)


BEHAVIOURS = [finish, die_before, die_in_the_middle, die_after, fail, refuse, wait]


class Simulation(RuleBasedStateMachine):
    mailbox = None

    def __init__(self):
        super().__init__()
        Entry.objects.all().delete()
        Paper.objects.all().delete()
        circuit.reset()
        self.bag = self.mailbox.messages
        self.bag.clear()
        self.papers = [Paper.objects.create() for _ in range(2)]
        self.foreign = set()

    def paper(self, data):
        return data.draw(st.sampled_from(self.papers))

    def message(self, data, *, keep):
        message = data.draw(st.sampled_from(self.bag))
        if not keep:
            self.bag.remove(message)
        return message

    @rule(data=st.data(), behaviour=st.sampled_from(BEHAVIOURS), keep=st.booleans())
    @precondition(lambda self: self.bag)
    def deliver(self, data, behaviour, keep):
        """A message arrives, the oldest or another one, and perhaps not for the last time."""
        self.answer(self.message(data, keep=keep), behaviour)

    def answer(self, message, behaviour):
        bodies.update(dict.fromkeys(TASKS, behaviour))
        task = "" if message.task == "statemachine.timer" else message.task
        with suppress(Killed):
            stage.run(message.entry, task=task, judge=mute, heartbeat=False)

    @rule(data=st.data())
    @precondition(lambda self: self.bag)
    def lose(self, data):
        self.message(data, keep=False)

    @rule(data=st.data(), trigger=st.sampled_from(["submit", "revise", "advance", "fail", "discard"]))
    def fire(self, data, trigger):
        paper = Paper.objects.get(pk=self.paper(data).pk)
        with suppress(TransitionNotAllowed, StaleState):
            getattr(paper, trigger)()

    @rule(data=st.data(), state=st.sampled_from(STATES))
    def jump(self, data, state):
        review.to_state(Paper.objects.get(pk=self.paper(data).pk), state, reason="an operator")

    @rule(data=st.data(), state=st.sampled_from(STATES))
    def update(self, data, state):
        """A foreign program writes the status."""
        paper = self.paper(data)
        models.QuerySet(Paper).filter(pk=paper.pk).update(status=state)
        self.foreign.add(paper.pk)

    @rule()
    def elapse(self):
        Entry.objects.open().filter(due_at__isnull=False).update(ready_at=LONG_AGO, due_at=LONG_AGO)

    @rule()
    def sweep(self):
        recovery.sweep()

    @rule()
    def scan(self):
        recovery.scan(everything=True)
        self.foreign.clear()

    @invariant()
    def entries_tell_one_story(self):
        for paper in self.papers:
            entries = list(paper.entries.order_by("epoch", "step"))
            opened = [entry for entry in entries if entry.open]
            assert len(opened) == 1
            assert all(entry.left_at and not entry.due_at for entry in entries if not entry.open)
            assert all(entry.strikes <= 5 and entry.strikes <= entry.attempt for entry in entries)
            assert sorted({entry.epoch for entry in entries}) == list(range(entries[-1].epoch + 1))
            assert all(self.is_declared(entry) for entry in entries)
            assert bool(opened[0].due_at) == bool(opened[0].task or opened[0].state == "rejected")
            if paper.pk not in self.foreign:
                assert agree(paper)

    @staticmethod
    def is_declared(entry):
        jump = entry.trigger in ("created", "to_state", "adopted", "step")
        return jump or (entry.source, entry.trigger, entry.state) in EDGES

    @invariant()
    def what_a_stage_wrote_is_there_if_and_only_if_it_ended(self):
        written = Remark.objects.values_list("text", flat=True)
        left = set(map(str, Entry.objects.exclude(task="").filter(open=None).values_list("pk", flat=True)))
        assert set(written) <= left
        for paper in self.papers:
            entries = list(paper.entries.order_by("epoch", "step"))
            for entry, following in pairwise(entries):
                ended = entry.task and following.trigger in ("advance", "step")
                assert bool(ended) == (str(entry.pk) in written)

    def teardown(self):
        """With the faults off, everything reaches the goal or waits for somebody."""
        recovery.scan()
        for _ in range(20):
            self.elapse()
            if not recovery.sweep().rung:
                break
            while self.bag:
                self.answer(self.bag.pop(0), finish)
        self.scan()
        for paper in self.papers:
            assert agree(paper)
            assert Paper.objects.get(pk=paper.pk).status in {"draft", "published", "discarded"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.slow
def test_nothing_is_lost_and_nothing_is_done_twice(mailbox, bodies, settings):
    # Only `elapse` lets time pass, so that a run can be repeated.
    settings.STATEMACHINE_GRACE = settings.STATEMACHINE_BACKOFF = timedelta(hours=1)

    class Bound(Simulation):
        pass

    Bound.mailbox = mailbox
    run_state_machine_as_test(
        Bound,
        settings=hypothesis.settings(
            max_examples=15,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
