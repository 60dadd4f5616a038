"""What a body may do, what becomes of it, and the heartbeat beside it."""

import contextvars
import logging
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import InterfaceError, OperationalError, connections, transaction

from integration import body as body_module
from integration import protocol, recovery, stage
from integration.binding import RowBinding
from integration.body import in_transaction
from integration.entries import Entry
from integration.heart import Heart
from integration.protocol import Token
from integration.stage import Outcome, PermanentFailure
from integration.verdict import Verdict, backoff, verdict
from statemachine import Enqueue, LeaseLost, TransitionNotAllowed
from statemachine.engine import Transition
from tests.integration.rows import agree, answer, elapse, is_due_in, paper_in, pending, raw, trail, where
from tests.oddities.models import Book, Shelf
from tests.papers.machine import review
from tests.papers.models import Paper, Remark

pytestmark = pytest.mark.django_db
committing = pytest.mark.django_db(transaction=True)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def raising(error):
    def body(stage):
        raise error

    return body


class Stopped(SystemExit):
    """What a worker raises that is told to stop."""


def make_internal(monkeypatch, trigger, state):
    """Let a trigger take an internal edge: it is fired, and the row stays where it is."""
    monkeypatch.setitem(review.events[trigger].transitions, state, [Transition(state, None)])


def steal(row):
    """Let another worker claim the row's entry, as when the lease ran out."""
    elapse(row)
    return protocol.claim(pending(row), using="default", lease=SECOND * 30, worker="thief")


# What becomes of an attempt


@pytest.mark.parametrize(
    ("error", "strikes", "expected"),
    [
        (ValueError(), 1, Verdict.RETRY),
        (ValueError(), 2, Verdict.RETRY),
        (ValueError(), 3, Verdict.GIVE_UP),
        (ValueError(), 4, Verdict.GIVE_UP),
        (PermanentFailure(), 1, Verdict.GIVE_UP),
        (MemoryError(), 1, Verdict.RETRY),
        (SystemExit(1), 1, Verdict.RETRY),
        (SystemExit(), 3, Verdict.GIVE_UP),
        (SystemExit("no disk"), 3, Verdict.GIVE_UP),
        (SystemExit(-1), 3, Verdict.GIVE_UP),
        (SystemExit(-(256 - signal.SIGTERM)), 3, Verdict.RELEASE),
        (Stopped(), 3, Verdict.RELEASE),
        (KeyboardInterrupt(), 3, Verdict.RELEASE),
    ],
)
def test_a_verdict_depends_on_the_error_and_the_strikes(error, strikes, expected):
    assert verdict(error, strikes=strikes, max_attempts=3) is expected


def test_a_backoff_doubles_up_to_the_longest_and_is_never_twice_the_same():
    waits = [backoff(strikes, SECOND) / SECOND for strikes in (1, 2, 3, 4)]
    for wait, exact in zip(waits, (1, 2, 4, 8), strict=True):
        assert 0.75 * exact <= wait <= 1.25 * exact
    assert backoff(1_000, SECOND) <= HOUR * 1.25
    assert len({backoff(1, SECOND) for _ in range(9)}) > 1


def test_a_body_that_returns_is_finished_for_it(bodies, runs):
    paper = paper_in("checking")
    assert answer(paper) is Outcome.FINISHED
    assert where(paper) == ("scoring", 2)
    assert runs == [("papers.check", paper.pk, 1)]


def test_an_error_backs_off_and_counts(bodies):
    bodies["papers.check"] = raising(ValueError("no  luck\ntoday"))
    paper = paper_in("checking")
    assert answer(paper) is Outcome.BACKING_OFF
    entry = pending(paper)
    assert (entry.attempt, entry.strikes, entry.error) == (1, 1, "ValueError: no luck today")
    assert is_due_in(entry, SECOND / 2, SECOND * 1.5)
    assert answer(paper) is Outcome.DROPPED


def test_the_last_strike_gives_up_at_once(bodies):
    bodies["papers.check"] = raising(ValueError("no"))
    paper = paper_in("checking")
    outcomes = []
    for _ in range(3):
        elapse(paper)
        outcomes.append(answer(paper))
    assert outcomes == [Outcome.BACKING_OFF, Outcome.BACKING_OFF, Outcome.GIVEN_UP]
    paper.refresh_from_db()
    assert (paper.status, paper.error) == ("rejected", "ValueError: no")
    assert pending(paper).reason == "ValueError: no"


def test_a_permanent_failure_gives_up_at_once(bodies):
    bodies["papers.check"] = raising(PermanentFailure("The file is empty."))
    paper = paper_in("checking")
    assert answer(paper) is Outcome.GIVEN_UP
    assert Paper.objects.get().error == "The file is empty."


def test_a_spent_claim_bumps_the_attempt_not_the_strikes_and_fires_failed_instead_of_the_body(bodies, runs):
    paper = paper_in("checking")
    paper.entries.filter(open=True).update(attempt=7, strikes=3)
    entry = pending(paper)
    assert answer(paper) is Outcome.GIVEN_UP
    entry.refresh_from_db()
    assert (entry.attempt, entry.strikes) == (8, 3)
    assert runs == []
    assert Paper.objects.get().error == "no attempt ever reported back"


def test_a_spent_claim_gives_the_last_error_as_the_reason(bodies):
    paper = paper_in("checking")
    paper.entries.filter(open=True).update(strikes=3, error="ValueError: no")
    answer(paper)
    assert Paper.objects.get().error == "ValueError: no"


@pytest.mark.parametrize("error", [Stopped(), SystemExit(-241), KeyboardInterrupt()])
def test_a_worker_that_is_told_to_stop_gives_the_strike_back_and_stops(bodies, error):
    bodies["papers.check"] = raising(error)
    paper = paper_in("checking")
    with pytest.raises(type(error)):
        answer(paper)
    entry = pending(paper)
    assert (entry.attempt, entry.strikes) == (1, 0)
    assert is_due_in(entry, -SECOND, timedelta())


def test_a_worker_stops_even_when_the_database_cannot_take_the_work_back(bodies, monkeypatch):
    def broken(*args, **kwargs):
        raise OperationalError("away")

    bodies["papers.check"] = raising(Stopped())
    paper = paper_in("checking")
    monkeypatch.setattr(protocol, "release", broken)
    with pytest.raises(Stopped):
        answer(paper)


def test_a_body_that_exits_does_not_end_the_worker_and_is_given_up_in_the_end(bodies):
    bodies["papers.check"] = lambda stage: sys.exit(1)
    paper = paper_in("checking")
    assert answer(paper) is Outcome.BACKING_OFF
    assert is_due_in(pending(paper), SECOND / 2, SECOND * 1.5)
    for expected in (Outcome.BACKING_OFF, Outcome.GIVEN_UP):
        elapse(paper)
        assert answer(paper) is expected
    assert Paper.objects.get().error == "SystemExit: 1"


@pytest.mark.parametrize(
    ("said", "kept"),
    [("half \x00a file", "half a file"), ("caf\udce9.txt", r"caf\udce9.txt"), ("\x00", "PermanentFailure")],
    ids=["NUL in it", "lone surrogate", "NUL alone"],
)
def test_an_error_that_no_database_could_keep_is_kept_all_the_same(bodies, said, kept, monkeypatch):
    # The log has the error as it is, which a parallel run of the tests cannot hand on.
    monkeypatch.setattr(logging.getLogger("statemachine"), "disabled", True)
    bodies["papers.check"] = raising(PermanentFailure(said))
    paper = paper_in("checking")
    assert answer(paper) is Outcome.GIVEN_UP
    assert Paper.objects.get().error == kept


def test_a_failed_trigger_that_a_callback_breaks_is_parked_with_both_errors(bodies, monkeypatch):
    monkeypatch.setattr(Paper, "keep_error", lambda self, event: 1 / 0)
    bodies["papers.check"] = raising(PermanentFailure("empty"))
    paper = paper_in("checking")
    assert answer(paper) is Outcome.PARKED
    entry = pending(paper)
    assert entry.due_at is None
    assert entry.error == "empty; 'fail': ZeroDivisionError: division by zero"
    assert answer(paper) is Outcome.DROPPED
    assert agree(paper)


def test_a_failed_trigger_that_its_guard_refuses_is_parked(bodies, monkeypatch):
    guarded = review.events["fail"].transitions["checking"][0]
    monkeypatch.setattr(guarded, "conditions", review.events["revise"].transitions["rejected"][0].conditions)
    bodies["papers.check"] = raising(PermanentFailure("empty"))
    paper = paper_in("checking", worth=False)
    assert answer(paper) is Outcome.PARKED
    assert pending(paper).error == "empty; 'fail': every guard of 'fail' refused"


def test_a_done_trigger_that_its_guard_refuses_is_an_error_and_given_up_in_the_end(bodies, monkeypatch):
    guarded = review.events["advance"].transitions["checking"][0]
    monkeypatch.setattr(guarded, "conditions", review.events["revise"].transitions["rejected"][0].conditions)
    paper = paper_in("checking", worth=False)
    for expected in (Outcome.BACKING_OFF, Outcome.BACKING_OFF, Outcome.GIVEN_UP):
        elapse(paper)
        assert answer(paper) is expected
    assert "every guard of 'advance' from 'checking' refused" in Paper.objects.get().error


def test_a_deadlock_in_the_failed_trigger_is_tried_again_at_once(bodies, monkeypatch):
    errors = [OperationalError("deadlock detected")]

    def keep_error(self, event):
        if errors:
            raise errors.pop()

    monkeypatch.setattr(Paper, "keep_error", keep_error)
    bodies["papers.check"] = raising(PermanentFailure("empty"))
    paper = paper_in("checking")
    assert answer(paper) is Outcome.GIVEN_UP
    assert where(paper)[0] == "rejected"


@pytest.mark.parametrize("failure", [OperationalError("database is locked"), InterfaceError("closed")])
def test_a_failed_trigger_that_the_database_interrupts_is_rung_again_not_parked(bodies, monkeypatch, failure):
    bodies["papers.check"] = raising(PermanentFailure("empty"))
    paper = paper_in("checking")
    with monkeypatch.context() as broken:
        broken.setattr(Paper, "keep_error", lambda self, event: raising(failure)(self))
        with pytest.raises(type(failure)):
            answer(paper)
    assert is_due_in(pending(paper), SECOND * 10, HOUR)
    elapse(paper)
    assert recovery.sweep().rung == 1
    elapse(paper)
    assert answer(paper) is Outcome.GIVEN_UP
    assert Paper.objects.get().error == "empty"


def test_a_failed_trigger_that_leaves_the_row_where_it_is_is_parked(bodies, monkeypatch):
    make_internal(monkeypatch, "fail", "checking")
    bodies["papers.check"] = raising(PermanentFailure("empty"))
    paper = paper_in("checking")
    assert answer(paper) is Outcome.PARKED
    assert pending(paper).error == (
        f"empty; 'fail': Paper {paper.pk}: 'fail' from 'checking' took an internal edge, which moves no "
        "row. Give the edge of 'fail' a dest: what a stage or a timer fires must move the row."
    )
    assert agree(paper)


def test_a_done_trigger_that_leaves_the_row_where_it_is_undoes_the_writes_and_is_an_error(
    bodies, monkeypatch
):
    def body(stage):
        with stage.finish():
            remark(stage)

    make_internal(monkeypatch, "advance", "checking")
    bodies["papers.check"] = body
    paper = paper_in("checking")
    for expected in (Outcome.BACKING_OFF, Outcome.BACKING_OFF, Outcome.GIVEN_UP):
        elapse(paper)
        assert answer(paper) is expected
    assert not Remark.objects.exists()
    assert "'advance' from 'checking' took an internal edge" in Paper.objects.get().error


def test_a_message_for_another_task_or_an_entry_that_was_left_is_dropped(bodies, runs):
    paper = paper_in("checking")
    entry = pending(paper)
    assert answer(paper, task="papers.score") is Outcome.DROPPED
    assert answer(paper, task="") is Outcome.DROPPED
    review.to_state(paper, "draft", reason="stop")
    assert stage.run(entry.pk, task="papers.check") is Outcome.DROPPED
    assert stage.run(10**9, task="papers.check") is Outcome.DROPPED
    assert runs == []


def test_a_task_that_this_process_did_not_import_costs_no_strike(bodies, monkeypatch):
    paper = paper_in("checking")
    monkeypatch.delitem(stage.bodies, "papers.check")
    assert answer(paper) is Outcome.DROPPED
    assert pending(paper).attempt == 0


def test_a_claimant_that_finds_the_row_elsewhere_adopts_before_it_gives_up(bodies, runs):
    paper = paper_in("checking")
    paper.entries.filter(open=True).update(strikes=3)
    raw(paper, status="scoring")
    assert answer(paper) is Outcome.ADOPTED
    assert where(paper) == ("scoring", 2)
    assert trail(paper)[-1] == "adopted scoring"
    assert runs == []


@pytest.mark.parametrize("strikes", [0, 3])
def test_a_claim_that_can_neither_run_nor_repair_anything_costs_no_strike(bodies, runs, strikes):
    paper = paper_in("checking")
    paper.entries.filter(open=True).update(strikes=strikes)
    raw(paper, status="of another version")
    assert answer(paper) is Outcome.DROPPED
    entry = pending(paper)
    assert (entry.strikes, entry.attempt, entry.worker) == (strikes, 1, "")
    assert is_due_in(entry, SECOND * 10, HOUR)
    assert runs == []


def test_a_claimant_that_finds_no_row_closes_the_entry(bodies, runs):
    paper = paper_in("checking")
    entry = pending(paper)
    Paper.objects.all()._raw_delete("default")
    assert stage.run(entry.pk, task="papers.check", heartbeat=False) is Outcome.DROPPED
    assert not Entry.objects.open().exists()
    assert runs == []


@committing
def test_a_message_is_not_answered_inside_a_transaction(bodies):
    paper = paper_in("checking")
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        answer(paper)
    assert pending(paper).attempt == 0


# Progress and checkpoint


def test_progress_is_written_once_a_second_and_at_the_end(bodies, monkeypatch):
    clock, written = [100.0], []
    monkeypatch.setattr(body_module.time, "monotonic", lambda: clock[0])

    def body(stage):
        for done in range(1, 6):
            stage.progress(done, 5)
            written.append(pending(stage.row).progress["done"])
            clock[0] += 0.4

    bodies["papers.check"] = body
    answer(paper_in("checking"))
    assert written == [1, 1, 1, 4, 5]


def test_progress_inside_a_transaction_does_not_lock_the_entry(bodies):
    def body(stage):
        with stage.finish():
            assert in_transaction("default")
            stage.progress(5, 5)

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.FINISHED
    assert paper.entries.get(state="checking").progress is None


@pytest.mark.parametrize("says", ["progress", "checkpoint"])
def test_what_was_superseded_learns_it_when_it_reports(bodies, says):
    caught = []

    def body(stage):
        steal(stage.row)
        try:
            if says == "progress":
                stage.progress(1)
            else:
                stage.checkpoint = 1
        except LeaseLost as error:
            caught.append(error)
            raise

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.SUPERSEDED
    assert caught[0].attempt == 1
    assert (pending(paper).attempt, pending(paper).progress, pending(paper).checkpoint) == (2, None, None)


def test_a_body_that_catches_everything_is_superseded_all_the_same(bodies):
    def body(stage):
        steal(stage.row)
        with suppress(Exception):
            stage.progress(1)

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.SUPERSEDED
    assert where(paper) == ("checking", 1)


def test_a_checkpoint_survives_to_the_next_attempt(bodies):
    seen = []

    def body(stage):
        seen.append(stage.checkpoint)
        stage.checkpoint = {"page": len(seen)}
        raise ValueError

    bodies["papers.check"] = body
    paper = paper_in("checking")
    for _ in range(3):
        elapse(paper)
        answer(paper)
    assert seen == [None, {"page": 1}, {"page": 2}]


@committing
def test_a_checkpoint_inside_a_transaction_is_refused_for_it_would_lock_the_entry_before_the_row(bodies):
    def body(stage):
        with stage.finish():
            stage.checkpoint = {"page": 1}

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.BACKING_OFF
    assert pending(paper).error == (
        "RuntimeError: stage.checkpoint = … is kept at once, so it cannot be assigned inside a transaction, "
        "nor inside finish(): assign it before."
    )
    assert pending(paper).checkpoint is None


def test_an_idempotency_key_is_not_that_of_a_deleted_row_whose_primary_key_is_used_again(bodies):
    keys = []
    bodies["papers.check"] = lambda stage: keys.append(stage.idempotency_key)
    for _ in range(2):
        paper = paper_in("checking", pk=77)
        answer(paper)
        paper.delete()
    assert len(set(keys)) == 2


def test_an_idempotency_key_is_the_same_for_every_attempt_and_for_no_other_step(bodies):
    keys = {}

    def body(stage):
        keys.setdefault((stage.row.pk, stage._entry.pk), []).append(stage.idempotency_key)
        if stage.attempt == 1:
            raise ValueError

    for task in ("papers.check", "papers.score", "papers.explain"):
        bodies[task] = body
    for paper in (paper_in("checking"), paper_in("checking")):
        for _ in range(6):
            elapse(paper)
            answer(paper)
        assert where(paper)[0] == "published"
    assert all(len(set(attempts)) == 1 and len(attempts) == 2 for attempts in keys.values())
    assert len({attempts[0] for attempts in keys.values()}) == len(keys) == 6


def test_a_body_finds_what_its_enqueue_declares(bodies):
    seen = []
    bodies["papers.score"] = lambda stage: seen.append((stage.kwargs, stage.attempt, repr(stage)))
    paper = paper_in("scoring")
    answer(paper)
    assert seen == [({"scale": 5}, 1, f"<Stage papers.paper {paper.pk}: scoring (epoch 1) attempt 1>")]


# Waiting


@pytest.mark.parametrize("until", [HOUR, lambda: datetime.now(UTC) + HOUR])
def test_a_wait_gives_the_work_back_and_costs_no_strike(bodies, until):
    bodies["papers.check"] = lambda stage: stage.wait(until=until() if callable(until) else until)
    paper = paper_in("checking")
    assert answer(paper) is Outcome.WAITING
    entry = pending(paper)
    assert (entry.attempt, entry.strikes, entry.worker) == (1, 0, "")
    assert is_due_in(entry, HOUR - SECOND * 20, HOUR + SECOND * 20)
    assert answer(paper) is Outcome.DROPPED


@pytest.mark.parametrize("catch", [Exception, BaseException])
def test_a_body_that_catches_everything_around_a_wait_still_waits(bodies, catch):
    def body(stage):
        with suppress(catch):
            stage.wait(until=HOUR)

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.WAITING
    assert is_due_in(pending(paper), HOUR - SECOND * 20, HOUR)


def test_nothing_is_written_by_a_body_after_its_wait(bodies):
    def body(stage):
        try:
            stage.wait(until=HOUR)
        finally:
            stage.row.advance()

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.WAITING
    assert where(paper) == ("checking", 1)
    assert pending(paper).strikes == 0


def test_a_wait_without_a_time_zone_is_refused(bodies):
    bodies["papers.check"] = lambda stage: stage.wait(until=datetime(2100, 1, 1))  # noqa: DTZ001
    paper = paper_in("checking")
    assert answer(paper) is Outcome.BACKING_OFF
    assert "has no time zone" in pending(paper).error


def test_a_wait_inside_a_transaction_is_refused_for_it_would_be_undone(bodies):
    def body(stage):
        with transaction.atomic():
            stage.wait(until=HOUR)

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.BACKING_OFF
    assert pending(paper).error.startswith("RuntimeError")


def test_a_superseded_body_cannot_wait(bodies):
    def body(stage):
        steal(stage.row)
        stage.wait(until=HOUR)

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.SUPERSEDED
    assert pending(paper).attempt == 2


# Finishing


def remark(stage, text="done"):
    return Remark.objects.create(paper_id=stage.row.pk, text=text)


def test_finish_commits_the_writes_with_the_transition(bodies):
    def body(stage):
        with stage.finish():
            remark(stage)
            assert where(stage.row) == ("checking", 1)
        assert stage.row.status == "scoring"

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.FINISHED
    assert where(paper) == ("scoring", 2)
    assert Remark.objects.count() == 1


def _raise(stage):
    raise ValueError


def _move(stage):
    review.to_state(Paper.objects.get(pk=stage.row.pk), "draft", reason="stop")


def _claim_again(stage):
    stage.row.entries.filter(open=True).update(attempt=2)


@pytest.mark.parametrize(
    ("state", "meanwhile", "outcome"),
    [
        ("checking", _raise, Outcome.BACKING_OFF),
        ("checking", _claim_again, Outcome.SUPERSEDED),
        ("checking", _move, Outcome.SUPERSEDED),
        ("checking", lambda stage: raw(stage.row, status="draft"), Outcome.SUPERSEDED),
        (
            "checking",
            lambda stage: Paper.objects.filter(pk=stage.row.pk)._raw_delete("default"),
            Outcome.SUPERSEDED,
        ),
        ("scoring", _raise, Outcome.BACKING_OFF),
        ("scoring", _claim_again, Outcome.SUPERSEDED),
        ("scoring", _move, Outcome.SUPERSEDED),
    ],
)
def test_finish_commits_neither_the_writes_nor_the_transition(bodies, state, meanwhile, outcome):
    def body(stage):
        with stage.finish():
            Remark.objects.create(paper=Paper.objects.create(), text="done")
            meanwhile(stage)

    bodies["papers.check"] = bodies["papers.score"] = body
    paper = paper_in(state)
    assert answer(paper) is outcome
    assert not Remark.objects.exists()
    assert not paper.entries.filter(trigger__in=["advance", "step"]).exists()


@committing
@pytest.mark.parametrize("how", ["claimed", "moved"])
def test_finish_undoes_its_writes_when_it_was_superseded_before(bodies, how):
    def body(stage):
        steal(stage.row) if how == "claimed" else _move(stage)
        with stage.finish():
            remark(stage)

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.SUPERSEDED
    assert not Remark.objects.exists()
    assert agree(paper)


@committing
def test_finish_refuses_an_outer_transaction(bodies):
    def body(stage):
        with transaction.atomic(), stage.finish():
            remark(stage)

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.BACKING_OFF
    assert pending(paper).error.startswith("RuntimeError")


def test_a_stage_that_was_finished_is_not_asked_for_again(bodies, monkeypatch):
    def body(stage):
        with stage.finish():
            remark(stage)
        monkeypatch.setattr(protocol, "holds", lambda token, using: 1 / 0)

    bodies["papers.check"] = body
    assert answer(paper_in("checking")) is Outcome.FINISHED


def test_a_body_may_try_to_finish_again_after_its_block_failed(bodies):
    def body(stage):
        with suppress(ValueError), stage.finish():
            remark(stage, "first")
            raise ValueError
        with stage.finish():
            remark(stage, "second")

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.FINISHED
    assert where(paper) == ("scoring", 2)
    assert Remark.objects.get().text == "second"


@committing
def test_a_commit_that_fails_finishes_nothing_although_the_body_swallows_it(bodies, monkeypatch):
    wrapper, paper, failed = connections["default"], paper_in("checking"), []
    commit = wrapper._commit

    def lose_connection():
        if where(paper)[0] == "scoring" and not failed:
            failed.append(True)
            raise OperationalError("the connection was lost in the commit")
        commit()

    def body(stage):
        with pytest.raises(OperationalError), stage.finish():
            remark(stage)

    monkeypatch.setattr(wrapper, "_commit", lose_connection)
    bodies["papers.check"] = body
    assert answer(paper) is Outcome.FINISHED
    assert failed
    assert where(paper) == ("scoring", 2)
    assert not Remark.objects.exists()
    assert agree(paper)


# Moving the row in other ways


def test_a_body_that_advances_its_row_itself_is_not_finished_twice(bodies):
    bodies["papers.check"] = lambda stage: stage.row.advance()
    paper = paper_in("checking")
    assert answer(paper) is Outcome.FINISHED
    assert where(paper) == ("scoring", 2)


def test_a_body_may_advance_another_instance_of_its_row_in_its_own_context(bodies):
    bodies["papers.check"] = lambda stage: Paper.objects.get(pk=stage.row.pk).advance()
    paper = paper_in("checking")
    assert answer(paper) is Outcome.FINISHED
    assert where(paper) == ("scoring", 2)


@committing
def test_a_thread_may_advance_the_row_that_the_stage_lends_it_and_no_other(bodies):
    refused = []

    def in_thread(row):
        try:
            row.advance()
        except TransitionNotAllowed as error:
            refused.append(error)
        finally:
            connections.close_all()

    def body(stage):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(in_thread, Paper.objects.get(pk=stage.row.pk)).result()
            assert len(refused) == 1
            pool.submit(in_thread, stage.row).result()

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.FINISHED
    assert len(refused) == 1
    assert where(paper) == ("scoring", 2)


def test_a_body_may_fail_its_row_itself(bodies):
    bodies["papers.check"] = lambda stage: stage.row.fail(error="not today")
    paper = paper_in("checking")
    assert answer(paper) is Outcome.FINISHED
    assert Paper.objects.get().error == "not today"


def test_a_row_that_a_body_moved_stays_moved_when_it_raises_then(bodies):
    def body(stage):
        stage.row.advance()
        raise PermanentFailure("too late")

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.SUPERSEDED
    assert where(paper) == ("scoring", 2)
    assert agree(paper)


def test_a_move_that_the_body_rolled_back_is_made_by_the_runner(bodies):
    def body(stage):
        with suppress(ValueError), transaction.atomic():
            stage.row.advance()
            raise ValueError
        assert stage.row.status == "scoring"

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.FINISHED
    assert where(paper) == ("scoring", 2)


@pytest.mark.parametrize(
    "delete", [lambda row: row.delete(), lambda row: Paper.objects.all()._raw_delete("default")]
)
def test_a_body_that_returns_after_its_row_was_deleted_leaves_nothing_open(bodies, delete):
    bodies["papers.check"] = lambda stage: delete(stage.row) and None
    paper = paper_in("checking")
    assert answer(paper) in (Outcome.FINISHED, Outcome.SUPERSEDED)
    assert not Entry.objects.open().exists()


def test_a_row_that_was_moved_by_raw_sql_while_it_ran_is_adopted_at_once(bodies):
    bodies["papers.check"] = lambda stage: raw(stage.row, status="scoring")
    paper = paper_in("checking")
    assert answer(paper) is Outcome.SUPERSEDED
    assert where(paper) == ("scoring", 2)
    assert agree(paper)


def test_a_lease_that_another_row_lost_is_an_error_like_any_other(bodies):
    def body(stage):
        raise LeaseLost.superseded("Paper 99", state="checking", entry=10**9, attempt=1)

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper) is Outcome.BACKING_OFF
    assert pending(paper).strikes == 1


def test_a_row_that_outlives_its_stage_is_an_ordinary_row(bodies):
    kept = []
    bodies["papers.check"] = lambda stage: kept.append(stage.row) or stage.row.fail()
    paper = paper_in("checking")
    answer(paper)
    kept[0].revise()
    assert where(paper)[0] == "draft"


# Steps


def test_a_crash_between_two_steps_resumes_at_the_second(bodies, runs):
    paper = paper_in("scoring")
    assert answer(paper) is Outcome.FINISHED
    assert where(paper) == ("scoring", 1)
    bodies["papers.explain"] = raising(Stopped())
    with pytest.raises(Stopped):
        answer(paper)
    bodies.clear()
    assert answer(paper) is Outcome.FINISHED
    assert [name for name, *_ in runs] == ["papers.score", "papers.explain", "papers.explain"]
    assert trail(paper) == ["created draft", "to_state scoring", "step scoring", "advance published"]


@pytest.mark.parametrize(
    ("declared", "then"),
    [
        (["score", "explain", "print"], ["score", "explain", "print"]),
        (["check", "score", "explain"], ["score", "explain"]),
        (["explain", "score"], ["score"]),
        (["score"], ["score"]),
    ],
)
def test_a_deploy_that_moves_the_tasks_of_a_stage_repeats_and_skips_none(
    bodies, runs, monkeypatch, declared, then
):
    paper = paper_in("scoring")
    scoring = replace(
        review.graph.by_name["scoring"], steps=tuple(Enqueue(f"papers.{task}") for task in declared)
    )
    states = {**review.graph.by_name, "scoring": scoring}
    monkeypatch.setattr(RowBinding, "states", property(lambda self: states))
    while pending(paper).task:
        assert answer(paper) is Outcome.FINISHED
    assert [name for name, *_ in runs] == [f"papers.{task}" for task in then]
    assert where(paper)[0] == "published"
    assert [entry.step for entry in paper.entries.filter(state="scoring")] == list(range(len(then)))


def test_a_deploy_that_takes_out_an_earlier_task_does_not_skip_the_next_one(bodies, runs, monkeypatch):
    paper = paper_in("scoring")
    answer(paper)
    scoring = replace(
        review.graph.by_name["scoring"], steps=(Enqueue("papers.explain"), Enqueue("papers.print"))
    )
    states = {**review.graph.by_name, "scoring": scoring}
    monkeypatch.setattr(RowBinding, "states", property(lambda self: states))
    while pending(paper).task:
        assert answer(paper) is Outcome.FINISHED
    assert [name for name, *_ in runs] == ["papers.score", "papers.explain", "papers.print"]


def test_a_step_finishes_with_its_writes(bodies):
    def body(stage):
        with stage.finish():
            remark(stage)

    bodies["papers.score"] = body
    paper = paper_in("scoring")
    assert answer(paper) is Outcome.FINISHED
    assert (pending(paper).task, Remark.objects.count()) == ("papers.explain", 1)


# The heartbeat


class Beats:
    """Counts what the heart asks the protocol for, and answers what the test wants."""

    def __init__(self, monkeypatch, answers=()):
        self.happened, self.count, self.answers = threading.Condition(), 0, list(answers)
        self.extend = protocol.extend
        monkeypatch.setattr(protocol, "extend", self)

    def __call__(self, *args, **kwargs):
        with self.happened:
            self.count += 1
            self.happened.notify_all()
            answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return self.extend(*args, **kwargs)

    def wait(self, count):
        with self.happened:
            assert self.happened.wait_for(lambda: self.count >= count, timeout=10)


LEASE = timedelta(milliseconds=60)


@pytest.fixture
def short_lease(settings):
    settings.STATEMACHINE_LEASE = LEASE


def hearts():
    return [thread for thread in threading.enumerate() if thread.name.startswith("heart-")]


@committing
@pytest.mark.usefixtures("short_lease")
def test_the_heart_extends_the_lease_beside_a_long_body(bodies, monkeypatch):
    beats = Beats(monkeypatch)

    def body(stage):
        before = pending(stage.row).due_at
        beats.wait(4)
        assert pending(stage.row).due_at > before
        assert len(hearts()) == 1

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper, heartbeat=True) is Outcome.FINISHED
    assert hearts() == []


@committing
@pytest.mark.usefixtures("short_lease")
def test_a_heart_that_is_superseded_stops_and_tells_the_body_without_asking_again(bodies):
    told = []

    def body(stage):
        steal(stage.row)
        stage._heart._thread.join(10)
        stage._reported = float("inf")
        try:
            stage.progress(1)
        except LeaseLost as error:
            told.append(error)
            raise

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper, heartbeat=True) is Outcome.SUPERSEDED
    assert pending(paper).worker == "thief"
    assert len(told) == 1


# Moved by hand while it runs


def _cancel(book):
    assert book.cancel()


def _jump(book):
    book._meta.get_field("status").machine.to_state(book, "new", reason="by hand")


def working_book():
    book = Book.objects.create()
    book.start()
    return book


@committing
@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("leave", [_cancel, _jump])
def test_a_body_whose_row_is_moved_by_hand_learns_it_at_its_next_beat_and_cannot_finish(monkeypatch, leave):
    told = []

    def body(stage):
        leave(Book.objects.get(pk=stage.row.pk))
        stage._heart._thread.join(10)
        assert stage._heart.lost
        with pytest.raises(LeaseLost) as beat:
            stage.progress(1)
        with pytest.raises(LeaseLost) as finish, stage.finish():
            Shelf.objects.create()
        told.extend([beat, finish])
        raise finish.value

    monkeypatch.setitem(stage.bodies, "oddities.work", body)
    book = working_book()
    entry = pending(book)
    assert answer(book, heartbeat=True) is Outcome.SUPERSEDED
    assert len(told) == 2
    assert where(book) == ("new", 2)
    assert not Shelf.objects.exists()
    entry.refresh_from_db()
    assert (entry.open, entry.due_at, entry.progress) == (None, None, None)
    assert agree(book)


@pytest.mark.parametrize("leave", [_cancel, _jump])
def test_who_moves_a_row_by_hand_does_not_lose_to_a_claim_that_happened_meanwhile(leave):
    copy = working_book()
    held = steal(copy)
    leave(copy)
    assert where(copy) == ("new", 2)
    assert not protocol.extend(Token(held.pk, held.attempt), using="default", lease=HOUR)
    assert agree(copy)


@pytest.mark.parametrize("trigger", ["advance", "fail"])
def test_a_stray_trigger_outside_the_stage_cannot_skip_it_while_it_runs(monkeypatch, trigger):
    def body(stage):
        with pytest.raises(TransitionNotAllowed, match="whose task alone fires"):
            # In a context of its own: that of a page, or of a shell.
            contextvars.Context().run(getattr(Book.objects.get(pk=stage.row.pk), trigger))

    monkeypatch.setitem(stage.bodies, "oddities.work", body)
    book = working_book()
    assert answer(book) is Outcome.FINISHED
    assert trail(book) == ["created new", "start working", "advance done"]


# Bodies that hang


@committing
@pytest.mark.usefixtures("short_lease")
def test_a_body_that_hangs_loses_its_lease_after_its_longest_runtime_and_its_late_writes_are_refused(
    bodies, monkeypatch
):
    checking = review.graph.by_name["checking"]
    hasty = replace(checking, steps=(replace(checking.steps[0], max_runtime=LEASE * 2),))
    states = {**review.graph.by_name, "checking": hasty}
    monkeypatch.setattr(RowBinding, "states", property(lambda self: states))
    hanging, woken, seen = threading.Event(), threading.Event(), []

    def body(stage):
        if stage.attempt == 1:
            stage.checkpoint = {"page": 1}
            seen.append(stage._heart._thread)
            hanging.set()
            assert woken.wait(30)
            with stage.finish():
                remark(stage, "too late")
        seen.append((stage.attempt, stage.checkpoint))

    def work():
        try:
            return answer(paper, heartbeat=True)
        finally:
            connections.close_all()

    bodies["papers.check"] = body
    paper = paper_in("checking")
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(work)
        assert hanging.wait(30)
        seen.pop().join(30)  # the heart has given up, although the body has not ended
        assert not hung.done()
        elapse(paper)
        assert answer(paper) is Outcome.FINISHED
        woken.set()
        assert hung.result(30) is Outcome.SUPERSEDED
    assert seen == [(2, {"page": 1})]
    assert where(paper) == ("scoring", 2)
    assert not Remark.objects.exists()
    assert agree(paper)


@committing
def test_progress_extends_the_lease(bodies):
    def body(stage):
        elapse(stage.row, ago=-SECOND)
        stage.progress(1, 2)
        assert is_due_in(pending(stage.row), SECOND * 50, HOUR)

    bodies["papers.check"] = body
    assert answer(paper_in("checking")) is Outcome.FINISHED


@committing
@pytest.mark.usefixtures("short_lease")
def test_a_beat_that_the_database_refuses_is_tried_again(bodies, monkeypatch, caplog):
    beats = Beats(monkeypatch, [OperationalError("away"), OperationalError("still away")])

    def body(stage):
        beats.wait(4)
        assert not stage._heart.lost

    bodies["papers.check"] = body
    assert answer(paper_in("checking"), heartbeat=True) is Outcome.FINISHED
    assert "Could not extend the lease" in caplog.text


@committing
def test_a_heart_stops_after_the_longest_runtime():
    paper = paper_in("checking")
    held = protocol.claim(pending(paper), using="default", lease=LEASE, worker="w")
    heart = Heart(Token(held.pk, 1), using="default", lease=LEASE, max_runtime=LEASE)
    with heart.beating():
        heart._thread.join(10)
        assert not heart._thread.is_alive()
    assert not heart.lost


@committing
def test_the_hearts_connection_is_closed_with_its_thread(monkeypatch):
    closed = []
    paper = paper_in("checking")
    held = protocol.claim(pending(paper), using="default", lease=LEASE, worker="w")
    wrapper = type(connections["default"])
    close = wrapper.close
    monkeypatch.setattr(
        wrapper, "close", lambda self: closed.append(threading.current_thread().name) or close(self)
    )
    beats = Beats(monkeypatch)
    with Heart(Token(held.pk, 1), using="default", lease=LEASE, max_runtime=HOUR).beating():
        beats.wait(2)
    assert f"heart-{held.pk}" in closed


@committing
@pytest.mark.usefixtures("short_lease")
def test_a_heart_never_stands_in_the_way_of_a_long_finish(bodies, monkeypatch):
    def body(stage):
        with stage.finish():
            remark(stage)
            threading.Event().wait(LEASE.total_seconds() * 2)

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper, heartbeat=True) is Outcome.FINISHED
    assert where(paper) == ("scoring", 2)
    assert hearts() == []


@committing
@pytest.mark.usefixtures("short_lease")
def test_a_beat_that_is_late_does_not_shorten_a_wait(bodies):
    late = []

    def body(stage):
        late.append(stage._token)
        stage.wait(until=HOUR)

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert answer(paper, heartbeat=True) is Outcome.WAITING
    assert not protocol.extend(late[0], using="default", lease=LEASE)
    assert is_due_in(pending(paper), HOUR - SECOND * 20, HOUR)


def test_there_is_no_heart_inside_a_test_case(bodies):
    bodies["papers.check"] = lambda stage: hearts() and 1 / 0
    assert answer(paper_in("checking"), heartbeat=True) is Outcome.FINISHED


# Inline


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.WARNING, "statemachine")


@committing
def test_inline_stages_run_in_order_and_retry_at_once(bodies, runs, stages):
    bodies["papers.check"] = lambda stage: stage.attempt < 3 and 1 / 0
    paper = Paper.objects.create()
    paper.submit()
    assert [name for name, *_ in runs] == ["papers.check"] * 3 + ["papers.score", "papers.explain"]
    assert where(paper)[0] == "published"


@committing
def test_an_inline_wait_or_release_does_not_spin(bodies, runs, stages):
    bodies["papers.check"] = lambda stage: stage.wait(until=timedelta())
    paper = Paper.objects.create()
    paper.submit()
    assert len(runs) == 1
    assert pending(paper).strikes == 0


@committing
def test_a_stage_that_dispatches_others_inline_is_finished_before_they_begin(bodies, stages):
    depth, deepest = [0], [0]

    def body(stage):
        depth[0] += 1
        deepest[0] = max(depth[0], deepest[0])
        if Paper.objects.count() < 5:
            Paper.objects.create().submit()
        depth[0] -= 1

    bodies["papers.check"] = body
    Paper.objects.create().submit()
    assert deepest == [1]
    assert set(Paper.objects.values_list("status", flat=True)) == {"published"}
