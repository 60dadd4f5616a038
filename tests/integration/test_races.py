"""Many threads at one row, again and again: one wins, the others get the right error, nobody waits for ever.

SQLite has one writer, so these run where rows are locked: `test_services` runs them.
"""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections, transaction

from integration import protocol, recovery
from integration.entries import Entry
from integration.protocol import Superseded, Token
from integration.stage import PermanentFailure, run
from statemachine import LeaseLost, StaleState, StateMachineError
from tests.integration.rows import agree, answer, elapse, paper_in, pending, raw, subject_of, trail, where
from tests.papers.machine import review
from tests.papers.models import Paper, Remark

pytestmark = [
    pytest.mark.services,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not connection.features.has_select_for_update, reason="run by test_services"),
    pytest.mark.usefixtures("mailbox"),
]

ROUNDS = 200
LEASE = timedelta(seconds=30)


class Racers:
    """Threads that keep their database connection from one round to the next."""

    def __init__(self, pool):
        self.pool = pool

    def __call__(self, *acts):
        """Let each act begin at the same instant; what each returned or raised."""
        barrier = threading.Barrier(len(acts))

        def at_once(act):
            barrier.wait(20)
            try:
                return act()
            except (StateMachineError, Superseded) as error:
                return type(error)

        futures = [self.pool.submit(at_once, act) for act in acts]
        return [future.result(30) for future in futures]


@pytest.fixture
def race():
    with ThreadPoolExecutor(8) as pool:
        yield Racers(pool)
        barrier = threading.Barrier(8)

        def close():
            barrier.wait(20)
            connections.close_all()

        for future in [pool.submit(close) for _ in range(8)]:
            future.result(30)


def claim(entry, worker):
    held = protocol.claim(entry, using="default", lease=LEASE, worker=worker)
    return held and Token(held.pk, held.attempt)


def test_one_of_many_claims_wins(race):
    paper = paper_in("checking")
    for number in range(ROUNDS):
        elapse(paper)
        paper.entries.filter(open=True).update(strikes=0)
        entry = pending(paper)
        tokens = race(*(lambda worker=worker, entry=entry: claim(entry, f"w{worker}") for worker in range(8)))
        assert [token for token in tokens if token] == [Token(entry.pk, number + 1)]
    assert agree(paper)


def test_one_of_many_answers_runs_the_body(race, bodies, runs):
    for _ in range(ROUNDS // 4):
        runs.clear()
        paper = paper_in("checking")
        entry = pending(paper)
        race(*(lambda pk=entry.pk: run(pk, task="papers.check", heartbeat=False) for _ in range(6)))
        assert len(runs) == 1
        assert where(paper) == ("scoring", 2)


def test_one_of_many_fires_wins_and_the_others_are_stale(race):
    for _ in range(ROUNDS):
        paper = Paper.objects.create()
        copies = [Paper.objects.get(pk=paper.pk) for _ in range(6)]
        results = Counter(race(*(copy.submit for copy in copies)))
        assert results == {True: 1, StaleState: 5}
        assert trail(paper) == ["created draft", "submit checking"]


def test_one_of_many_jumps_wins_and_the_others_are_stale(race):
    paper = paper_in("checking")
    for _ in range(ROUNDS):
        copies = [Paper.objects.get(pk=paper.pk) for _ in range(6)]
        states = ["draft", "scoring", "rejected"] * 2
        results = race(
            *(
                lambda copy=copy, state=state: review.to_state(copy, state, reason="race")
                for copy, state in zip(copies, states, strict=True)
            )
        )
        assert Counter(results) == {None: 1, StaleState: 5}
    assert agree(paper)


def test_sweeps_at_once_ring_each_entry_once(race, mailbox):
    papers = [paper_in("checking") for _ in range(12)]
    for _ in range(ROUNDS // 4):
        mailbox.messages.clear()
        Entry.objects.open().update(
            ready_at=protocol.later(None, -LEASE), due_at=protocol.later(None, -LEASE)
        )
        rung = race(*(lambda: recovery.sweep(limit=5).rung for _ in range(6)))
        rung.append(recovery.sweep().rung)
        assert sum(rung) == len(papers) == len({message.entry for message in mailbox.messages})


def test_a_sweep_does_not_wait_for_another_one(race, mailbox):
    papers = [paper_in("checking") for _ in range(4)]
    for paper in papers:
        elapse(paper)
    mailbox.messages.clear()
    held, swept = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            list(Entry.objects.filter(pk=pending(papers[0]).pk).select_for_update())
            held.set()
            return swept.wait(10)

    def sweep():
        held.wait(10)
        rung = recovery.sweep().rung
        swept.set()
        return rung

    assert race(hold, sweep) == [True, 3]


def test_a_jump_that_meets_a_step_change_wins_whichever_is_first(race):
    step = review.graph.by_name["scoring"]

    def change(token, subject):
        with transaction.atomic():
            protocol.next_step(subject, token, state=step, enqueue=step.steps[1], step=1, epoch=1)

    for _ in range(ROUNDS):
        paper = paper_in("scoring")
        token = claim(pending(paper), "w")
        copy, subject = Paper.objects.get(pk=paper.pk), subject_of(paper)
        _, moved = race(
            lambda token=token, subject=subject: change(token, subject),
            lambda copy=copy: review.to_state(copy, "draft", reason="race"),
        )
        assert moved is None
        assert where(paper) == ("draft", 2)
        assert agree(paper)


def test_a_jump_that_meets_a_finish_leaves_one_of_them(race, bodies):
    def write(stage):
        with stage.finish():
            Remark.objects.create(paper_id=stage.row.pk, text=f"of {stage.row.pk}")

    bodies["papers.check"] = write
    for _ in range(ROUNDS):
        paper = paper_in("checking")
        copy, entry = Paper.objects.get(pk=paper.pk), pending(paper)
        _, jumped = race(
            lambda pk=entry.pk: run(pk, task="papers.check", heartbeat=False),
            lambda copy=copy: review.to_state(copy, "draft", reason="race"),
        )
        finished = Remark.objects.filter(paper=paper).exists()
        assert finished == ("advance scoring" in trail(paper))
        assert jumped is (StaleState if finished else None)
        assert where(paper)[0] == ("scoring" if finished else "draft")
        assert agree(paper)


def test_heartbeats_that_meet_a_finish_never_deadlock(race, bodies):
    def beat(token):
        return [protocol.extend(token, using="default", lease=LEASE) for _ in range(3)]

    for _ in range(ROUNDS):
        paper = paper_in("checking")
        token = claim(pending(paper), "w")
        review.binding_of(paper).lend(paper, token)
        results = race(paper.advance, *(lambda token=token: beat(token) for _ in range(3)))
        assert results[0] is True
        for beats in results[1:]:
            assert beats == sorted(beats, reverse=True)
        assert where(paper)[0] == "scoring"


def test_a_finish_that_meets_another_claim_is_kept_or_lost_as_a_whole(race):
    def claim_again(row):
        elapse(row)
        return (
            claim(pending(row), "thief") if row.entries.filter(open=True, state="checking").exists() else None
        )

    for _ in range(ROUNDS):
        paper = paper_in("checking")
        review.binding_of(paper).lend(paper, claim(pending(paper), "w"))
        other = Paper.objects.get(pk=paper.pk)
        moved, _ = race(paper.advance, lambda other=other: claim_again(other))
        assert moved in (True, LeaseLost)
        assert where(paper)[0] == ("scoring" if moved is True else "checking")
        assert agree(paper)


def test_adopters_at_once_adopt_once(race):
    paper, states = paper_in("rejected"), review.graph.by_name
    for _ in range(ROUNDS):
        before = where(paper)
        raw(paper, status="checking" if before[0] == "rejected" else "rejected")
        subject = subject_of(paper)
        adopted = race(*(lambda subject=subject: protocol.adopt(subject, states) for _ in range(6)))
        assert len([entry for entry in adopted if entry is not None]) == 1
        assert where(paper)[1] == before[1] + 1
        assert agree(paper)


def test_an_adoption_that_meets_a_step_change_of_the_stray_entry_repairs_the_row(race):
    states = review.graph.by_name
    step = states["scoring"]

    def change(token, subject):
        with transaction.atomic():
            protocol.next_step(subject, token, state=step, enqueue=step.steps[1], step=1, epoch=1)

    for _ in range(ROUNDS):
        paper = paper_in("scoring")
        token, subject = claim(pending(paper), "w"), subject_of(paper)
        raw(paper, status="checking")
        race(
            lambda token=token, subject=subject: change(token, subject),
            lambda subject=subject: protocol.adopt(subject, states),
        )
        protocol.adopt(subject, states)
        assert where(paper)[0] == "checking"
        assert agree(paper)


def test_a_delete_that_comes_too_late_leaves_the_entries_of_the_row_that_took_the_key(race):
    for _ in range(ROUNDS // 4):
        paper = paper_in("checking")
        old, deleted = Paper.objects.get(pk=paper.pk), threading.Event()

        def replace(pk=paper.pk, deleted=deleted):
            with transaction.atomic():
                Paper.objects.filter(pk=pk)._raw_delete("default")
                deleted.set()
                Paper(pk=pk).save(force_insert=True)

        def delete(old=old, deleted=deleted):
            deleted.wait(20)
            old.delete()

        race(replace, delete)
        if Paper.objects.filter(pk=paper.pk).exists():
            assert agree(paper)
        else:
            assert not paper.entries.exists()


def test_one_of_many_workers_has_its_turn(race):
    for number in range(ROUNDS // 4):
        name = f"turn {number}"
        turns = race(*(lambda name=name: protocol.turn(name, every=LEASE, using="default") for _ in range(6)))
        assert Counter(turns) == {True: 1, False: 5}


IMPATIENT = {
    "postgresql": {"options": "-c lock_timeout=50ms"},
    "mysql": {"init_command": "SET innodb_lock_wait_timeout = 1"},
}


def test_a_row_that_stays_locked_parks_neither_what_is_given_up_nor_a_timer(race, bodies, monkeypatch):
    def refuse(stage):
        raise PermanentFailure("never")

    bodies["papers.check"] = refuse
    papers = [paper_in("checking"), paper_in("rejected")]
    elapse(papers[1])
    locked, done = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            list(Paper.objects.select_for_update())
            locked.set()
            done.wait(20)

    def work():
        locked.wait(20)
        try:
            with monkeypatch.context() as impatient:
                options = {**connection.settings_dict["OPTIONS"], **IMPATIENT[connection.vendor]}
                impatient.setitem(connection.settings_dict, "OPTIONS", options)
                connection.close()
                return [failure(lambda paper=paper: answer(paper)) for paper in papers]
        finally:
            connection.close()
            done.set()

    assert race(hold, work)[1] == [OperationalError, OperationalError]
    for paper in papers:
        elapse(paper)
        answer(paper)
    assert [where(paper)[0] for paper in papers] == ["rejected", "discarded"]


def failure(act):
    try:
        return act()
    except OperationalError as error:
        return type(error)
