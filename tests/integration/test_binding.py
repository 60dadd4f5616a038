"""What is fired inside a fire, what was loaded in part, and whose token it is."""

from contextlib import contextmanager

import pytest
from django.db import transaction

from integration.binding import bindings, holding
from integration.protocol import Subject, Token
from integration.signals import transitioned
from integration.stage import Outcome
from statemachine import StaleState
from tests.integration.rows import answer, pending, where
from tests.papers.machine import printing, review
from tests.papers.models import Journal, Paper

pytestmark = pytest.mark.django_db


@contextmanager
def heard():
    told = []

    def listen(sender, **values):
        told.append((values["field"], values["state"]))

    transitioned.connect(listen)
    try:
        yield told
    finally:
        transitioned.disconnect(listen)


@pytest.fixture
def printing_begins_with_the_check():
    """A callback of one field that fires the other one, for as long as the test lasts."""
    state = review.states["checking"]
    before = list(state.on_enter)

    def begin(event):
        if isinstance(event.model, Journal):
            event.model.print_start()

    state.on_enter.insert(0, begin)
    yield
    state.on_enter[:] = before


def test_a_field_that_is_fired_in_anothers_callback_takes_nothing_from_it(
    printing_begins_with_the_check, mailbox, django_capture_on_commit_callbacks
):
    journal = Journal.objects.create()
    with heard() as told, django_capture_on_commit_callbacks(execute=True):
        journal.review_submit()
    assert sorted(told) == [("print_status", "printing"), ("status", "checking")]
    assert sorted(message.task for message in mailbox.messages) == ["papers.check", "papers.print"]


def test_an_outer_fire_that_fails_undoes_in_memory_what_it_fired_inside(printing_begins_with_the_check):
    journal = Journal.objects.create()

    def refuse(sender, **values):
        if values["field"] == "status":
            raise RuntimeError("a listener refuses")

    transitioned.connect(refuse)
    try:
        with pytest.raises(RuntimeError):
            journal.review_submit()
    finally:
        transitioned.disconnect(refuse)
    assert (journal.status, journal.print_status, journal.print_status_epoch) == ("draft", "waiting", 0)
    assert journal.print_start()


def test_a_status_is_never_refreshed_without_its_epoch():
    paper = Paper.objects.create()
    Paper.objects.get(pk=paper.pk).submit()
    paper.refresh_from_db(fields=["status"])
    assert (paper.status, paper.status_epoch) == ("checking", 1)


def test_a_status_that_was_loaded_without_its_epoch_is_what_the_caller_saw():
    pk = Paper.objects.create(status="rejected").pk
    seen = Paper.objects.only("title", "status").get(pk=pk)
    review.to_state(Paper.objects.get(pk=pk), "draft", reason="the test")
    with pytest.raises(StaleState, match="is no longer 'rejected'"):
        seen.discard()
    assert Paper.objects.get(pk=pk).status == "draft"


def test_a_callback_is_shown_the_error_that_the_caller_gets():
    shown = []
    review.on_exception = lambda event: shown.append(type(event.error)) or (_ for _ in ()).throw(event.error)
    try:
        paper = Paper.objects.create()
        Paper.objects.get(pk=paper.pk).submit()
        with pytest.raises(StaleState):
            paper.submit()
    finally:
        review.on_exception = []
    assert shown == [StaleState]


def test_a_token_does_not_hold_for_the_same_key_on_another_database():
    paper = Paper.objects.create(status="checking")
    binding = bindings["papers.paper", "status"]
    elsewhere = Subject(owner=Paper, pk=paper.pk, field="status", using="other")
    here = binding.subject(paper)
    with holding(Subject(owner=Paper, pk=paper.pk, field="status", using=here.using), Token(1, 1)):
        assert binding.token(paper) == Token(1, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("integration.protocol.Subject.object", str(paper.pk))
        with holding(elsewhere, Token(2, 1)):
            assert binding.token(paper) is None


def test_a_stale_save_does_not_erase_the_instant_of_entry():
    stale = Paper.objects.create()
    with transaction.atomic():
        review.to_state(Paper.objects.get(pk=stale.pk), "published", reason="the test")
    stale.title = "Renamed"
    stale.save()
    stale.save(update_fields=["published_at", "title"])
    stored = Paper.objects.get(pk=stale.pk)
    assert stored.title == "Renamed"
    assert stored.published_at is not None


def test_two_machines_on_a_row_are_bound_apart():
    assert bindings["papers.journal", "status"].machine is review
    assert bindings["papers.journal", "print_status"].machine is printing


def test_a_body_that_advances_its_row_in_an_early_step_opens_the_next_one(mailbox, bodies, runs):
    bodies["papers.score"] = lambda stage: stage.row.advance()
    paper = Paper.objects.create()
    review.to_state(paper, "scoring", reason="the test")
    assert answer(paper) is Outcome.FINISHED
    assert where(paper) == ("scoring", 1)
    assert pending(paper).task == "papers.explain"
    bodies["papers.explain"] = lambda stage: Paper.objects.get(pk=stage.row.pk).advance()
    assert answer(paper) is Outcome.FINISHED
    assert where(paper) == ("published", 2)
    assert [name for name, *_ in runs] == ["papers.score", "papers.explain"]


def test_a_superseded_body_opens_no_step(mailbox, bodies):
    def late(stage):
        review.to_state(Paper.objects.get(pk=stage.row.pk), "draft", reason="an operator")
        stage.row.advance()

    bodies["papers.score"] = late
    paper = Paper.objects.create()
    review.to_state(paper, "scoring", reason="the test")
    assert answer(paper) is Outcome.SUPERSEDED
    assert where(paper) == ("draft", 2)
