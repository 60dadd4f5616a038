"""`run_to_completion`, `fail_at` and `redeliver_at`: one row through its real stages."""

import logging
from datetime import timedelta

import pytest
from django.db import models
from django.test import TestCase, TransactionTestCase
from django.utils.module_loading import autodiscover_modules

from integration import protocol
from integration.dispatch import publisher
from integration.entries import Entry
from integration.onboarding.machine import onboarding
from integration.onboarding.models import Team
from integration.stage import Outcome, PermanentFailure
from integration.stage import bodies as registered
from integration.testing import Stuck, fail_at, redeliver_at, run_to_completion
from tests.integration.rows import raw
from tests.papers.machine import printing, review
from tests.papers.models import Journal, Paper

TO_THE_END = ("draft", "checking", "scoring", "published")


@pytest.fixture
def paper(db, bodies):
    paper = Paper.objects.create()
    paper.submit()
    return paper


def test_a_row_runs_to_its_end_and_the_way_is_told(paper, runs):
    path = run_to_completion(paper)
    assert (path.states, paper.status) == (TO_THE_END[1:], "published")
    assert set(path.edges) <= set(review.graph.edges)
    assert [task for task, _, _ in runs] == ["papers.check", "papers.score", "papers.explain"]


def test_an_attempt_that_is_made_to_fail_tells_of_no_other(paper, caplog):
    with fail_at("checking", times=None):
        run_to_completion(paper)
    told = [logging.Formatter().formatException(r.exc_info) for r in caplog.records if r.exc_info]
    assert len(told) == 3
    assert [one.count("in failing") for one in told] == [1, 1, 1]


def test_a_row_that_waits_for_somebody_stays_there(db, runs):
    paper = Paper.objects.create()
    assert run_to_completion(paper).states == ("draft",)
    assert runs == []


def test_the_timer_of_a_state_that_waits_for_somebody_rings_only_when_asked(paper):
    with fail_at("checking", times=None):
        assert run_to_completion(paper).end == "rejected"
    assert run_to_completion(paper).states == ("rejected",)
    assert run_to_completion(paper, timers=True).states == ("rejected", "discarded")


def test_waits_count_as_elapsed(paper, bodies):
    waited = []

    def patient(stage):
        if not waited:
            waited.append(stage.attempt)
            stage.wait(timedelta(days=1))

    bodies["papers.check"] = patient
    assert run_to_completion(paper).end == "published"
    assert waited == [1]


def test_what_waits_for_ever_is_stuck(paper, bodies):
    bodies["papers.check"] = lambda stage: stage.wait(timedelta(days=1))
    with pytest.raises(Stuck, match=r"stuck in 'checking' after attempt 7: 7 messages were delivered"):
        run_to_completion(paper, limit=7)


def test_a_row_that_is_parked_is_stuck_and_its_error_is_told(paper, bodies, monkeypatch):
    def refuse(self, event):
        raise ValueError("the archive is closed")

    monkeypatch.setattr(Paper, "keep_error", refuse)
    with fail_at("checking", times=None, error=PermanentFailure("no text")), pytest.raises(Stuck) as caught:
        run_to_completion(paper)
    assert str(caught.value).splitlines() == [
        f"Paper {paper.pk} is stuck in 'checking' after attempt 1: it is parked.",
        "Its error: no text; 'fail': ValueError: the archive is closed",
        "Its way:",
        "1. starts in 'checking'",
    ]


def test_a_task_without_a_body_is_stuck(paper, monkeypatch):
    monkeypatch.delitem(registered, "papers.score")
    with pytest.raises(Stuck, match=r"stuck in 'scoring': no body of 'papers.score' is registered: import"):
        run_to_completion(paper)


def test_a_row_that_is_gone_is_told_so(paper):
    models.QuerySet(Paper).filter(pk=paper.pk)._raw_delete("default")
    with pytest.raises(Stuck, match="is gone"):
        run_to_completion(paper)


def test_a_raw_update_is_adopted_on_the_way(paper):
    raw(paper, status="scoring")
    assert run_to_completion(paper).states[-1] == "published"


def test_one_of_several_fields_is_named(db, bodies):
    journal = Journal.objects.create()
    journal.review_submit()
    journal.print_start()
    with pytest.raises(ValueError, match="has the state fields status, print_status: pass field=…"):
        run_to_completion(journal)
    assert run_to_completion(journal, field="print_status").states == ("printing", "printed")
    assert journal.status == "checking"


def test_an_unstored_row_is_refused(db):
    with pytest.raises(ValueError, match="is not stored"):
        run_to_completion(Paper())


def test_what_other_rows_dispatched_is_sent_at_the_end(paper, bodies, mailbox):
    other = Paper.objects.create()
    bodies["papers.check"] = lambda stage: other.submit() if stage.row.pk == paper.pk else None
    run_to_completion(paper)
    assert publisher() is mailbox
    assert [Entry.objects.get(pk=message.entry).object for message in mailbox.messages] == [str(other.pk)]


# Failing


def test_a_stage_that_fails_once_is_tried_again(paper, runs):
    with fail_at("checking") as failures:
        assert run_to_completion(paper).end == "published"
    assert failures.raised == 1
    assert [attempt for task, _, attempt in runs if task == "papers.check"] == [2]


def test_a_stage_that_always_fails_is_given_up(paper):
    with fail_at("scoring", times=None, error=OSError("no scorer")) as failures:
        assert run_to_completion(paper).states == ("checking", "scoring", "rejected")
    assert failures.raised == 5
    assert paper.error == "OSError: no scorer"


def test_a_permanent_failure_is_given_up_at_once(paper):
    with fail_at("checking", error=PermanentFailure("no text")) as failures:
        assert run_to_completion(paper).end == "rejected"
    assert (failures.raised, paper.error) == (1, "no text")


def test_only_the_named_pipeline_fails(db, bodies):
    journal = Journal.objects.create()
    journal.print_start()
    with (
        pytest.raises(ValueError, match="No state 'checking' with a task"),
        fail_at("checking", machine=printing),
    ):
        pass
    with fail_at("printing", machine=printing, times=None):
        assert run_to_completion(journal, field="print_status").end == "jammed"


def test_a_body_that_another_state_shares_does_not_fail_there(db, monkeypatch):
    autodiscover_modules("tasks")
    for task in [task for task in registered if task.startswith("onboarding.")]:
        monkeypatch.setitem(registered, task, lambda stage: None)
    team = Team.objects.create()
    onboarding.to_state(team, "background_syncing", reason="the test begins here")
    with pytest.raises(AssertionError, match="no stage of 'syncing' was run"), fail_at("syncing"):
        run_to_completion(team)
    assert team.onboarding_pipeline_status == "complete"


def test_a_failure_that_never_happens_is_an_error(db):
    with (
        pytest.raises(AssertionError, match="no stage of 'checking' was run, so nothing failed"),
        fail_at("checking"),
    ):
        pass


@pytest.mark.parametrize("context", [fail_at, redeliver_at])
@pytest.mark.parametrize("state", ["draft", "unheard_of"])
def test_a_state_without_work_cannot_be_meant(db, context, state):
    with pytest.raises(ValueError, match=f"No state '{state}' with a task is declared"), context(state):
        pass


def test_the_bodies_are_put_back(paper):
    before = dict(registered)
    with pytest.raises(ZeroDivisionError), fail_at("checking"):
        raise ZeroDivisionError
    assert registered == before


# Delivering again


def test_a_message_that_comes_twice_does_nothing_while_its_stage_runs_and_when_it_is_over(paper, runs):
    with redeliver_at("scoring") as redelivered:
        run_to_completion(paper)
    assert redelivered.outcomes == [Outcome.DROPPED] * 4
    assert [task for task, _, _ in runs] == ["papers.check", "papers.score", "papers.explain"]


def test_a_redelivery_of_what_never_ran_is_an_error(db):
    with pytest.raises(AssertionError, match="no stage of 'checking' was finished"), redeliver_at("checking"):
        pass


def test_a_claim_that_lets_two_in_is_found(paper, monkeypatch):
    """The protocol is broken on purpose: whoever asks is let in, and what the row says is not asked."""
    claim = protocol.claim

    def everybody(entry, **options):
        Entry.objects.filter(pk=entry.pk).update(ready_at=entry.entered_at)
        entry.refresh_from_db()
        return claim(entry, **{**options, "now": None})

    monkeypatch.setattr(protocol, "claim", everybody)
    found = pytest.raises(AssertionError, match="the second delivery ran the body once more")
    with found, redeliver_at("checking"):
        run_to_completion(paper)


class TestInATestCase(TestCase):
    def test_it_runs_where_nothing_commits(self):
        paper = Paper.objects.create()
        paper.submit()
        with fail_at("checking"), redeliver_at("scoring"):
            assert run_to_completion(paper).states == TO_THE_END[1:]


class TestInATransactionTestCase(TransactionTestCase):
    def test_it_runs_where_everything_commits(self):
        paper = Paper.objects.create()
        paper.submit()
        with fail_at("checking"), redeliver_at("scoring"):
            assert run_to_completion(paper).states == TO_THE_END[1:]
