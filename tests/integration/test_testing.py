"""`integration.testing`: what a project's tests are given."""

import logging
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from integration.dispatch import publisher
from integration.stage import Outcome
from integration.testing import StagesMixin, inline_stages
from tests.integration.rows import rolled_back
from tests.papers.models import Journal, Paper

OUTCOMES = [Outcome.FINISHED] * 3


def outcomes(done):
    return [outcome for _, outcome in done]


@pytest.mark.django_db
def test_run_walks_a_row_to_its_end_inside_a_transaction(stages, runs):
    paper = Paper.objects.create()
    paper.submit()
    assert runs == []
    assert outcomes(stages.run()) == OUTCOMES
    paper.refresh_from_db()
    assert paper.status == "published"
    assert [task for task, _, _ in runs] == ["papers.check", "papers.score", "papers.explain"]


@pytest.mark.django_db(transaction=True)
def test_stages_run_at_the_commit_where_there_is_one(stages, runs):
    paper = Paper.objects.create()
    with transaction.atomic():
        paper.submit()
        assert runs == []
    assert [task for task, _, _ in runs] == ["papers.check", "papers.score", "papers.explain"]
    assert outcomes(stages.run()) == OUTCOMES


@pytest.mark.django_db
def test_run_tells_what_happened_since_the_last_call(stages, runs):
    Paper.objects.create().submit()
    stages.run()
    assert stages.run() == []


@pytest.mark.django_db
def test_backoffs_count_as_elapsed(stages, bodies, runs):
    def unlucky_twice(stage):
        if stage.attempt < 3:
            raise ValueError("no luck")

    bodies["papers.check"] = unlucky_twice
    paper = Paper.objects.create()
    paper.submit()
    assert outcomes(stages.run()) == [Outcome.BACKING_OFF] * 2 + OUTCOMES
    assert [attempt for task, _, attempt in runs if task == "papers.check"] == [1, 2, 3]


@pytest.mark.django_db
def test_what_fails_for_good_is_given_up(stages, bodies):
    def unlucky(stage):
        raise ValueError("no luck")

    bodies["papers.check"] = unlucky
    paper = Paper.objects.create()
    paper.submit()
    assert outcomes(stages.run())[-1] is Outcome.GIVEN_UP
    paper.refresh_from_db()
    assert (paper.status, paper.error) == ("rejected", "ValueError: no luck")


@pytest.mark.django_db
def test_a_wait_is_not_elapsed(stages, bodies):
    bodies["papers.check"] = lambda stage: stage.wait(timedelta(days=1))
    paper = Paper.objects.create()
    paper.submit()
    assert outcomes(stages.run()) == [Outcome.WAITING]
    paper.refresh_from_db()
    assert paper.status == "checking"


@pytest.mark.django_db
def test_what_is_rolled_back_does_not_run(stages, runs):
    paper = Paper.objects.create()
    with rolled_back():
        paper.submit()
    assert stages.run() == []
    assert runs == []


@pytest.mark.django_db
def test_other_on_commit_callbacks_run_in_order(stages):
    order = []
    paper = Paper.objects.create()
    transaction.on_commit(lambda: order.append("before"))
    paper.submit()
    transaction.on_commit(lambda: order.append("after"))
    stages.run()
    assert order == ["before", "after"]


@pytest.mark.django_db
def test_a_robust_callback_that_raises_is_logged_and_another_is_raised(stages, caplog):
    transaction.on_commit(lambda: 1 / 0, robust=True)
    with caplog.at_level(logging.ERROR, "statemachine"):
        stages.run()
    assert "ZeroDivisionError" in caplog.text
    transaction.on_commit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stages.run()


@pytest.mark.django_db
def test_two_pipelines_of_a_row_both_run(stages, bodies):
    journal = Journal.objects.create()
    journal.review_submit()
    journal.print_start()
    stages.run()
    journal.refresh_from_db()
    assert (journal.status, journal.print_status) == ("published", "printed")


def test_the_publisher_is_put_back():
    before = publisher()
    with inline_stages():
        assert publisher() is not before
    assert publisher() is before


class TestInATestCase(StagesMixin, TestCase):
    def test_stages_run_when_they_are_told(self):
        paper = Paper.objects.create()
        paper.submit()
        assert outcomes(self.run_stages()) == OUTCOMES
        paper.refresh_from_db()
        assert paper.status == "published"


class TestInATransactionTestCase(StagesMixin, TransactionTestCase):
    def test_stages_run_at_the_commit(self):
        paper = Paper.objects.create()
        paper.submit()
        paper.refresh_from_db()
        assert paper.status == "published"
