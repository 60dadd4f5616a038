"""`transitioned` in the transaction, `entered` after the commit."""

import logging
from contextlib import contextmanager

import pytest
from django.db import transaction

from integration.entries import Entry
from integration.signals import entered, transitioned
from tests.integration.rows import rolled_back
from tests.papers.machine import review
from tests.papers.models import Journal, Paper, Poster, PosterProxy

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def heard(signal, receiver=None, sender=None):
    told = []

    def listen(sender, signal, **values):
        told.append({"sender": sender, **values})
        if receiver is not None:
            receiver(**values)

    signal.connect(listen, sender=sender)
    try:
        yield told
    finally:
        signal.disconnect(listen, sender=sender)


@pytest.mark.parametrize("signal", [transitioned, entered])
def test_both_tell_the_row_and_what_happened_to_it(signal, mailbox):
    paper = Paper.objects.create()
    with heard(signal) as told:
        paper.submit()
    assert told == [
        {
            "sender": Paper,
            "row": paper,
            "field": "status",
            "trigger": "submit",
            "source": "draft",
            "state": "checking",
            "entry": Entry.objects.get(open=True).pk,
        }
    ]


def test_transitioned_is_sent_in_the_transaction(mailbox):
    paper = Paper.objects.create()
    with heard(transitioned, lambda **_: seen.append(transaction.get_connection().in_atomic_block)):
        seen = []
        paper.submit()
    assert seen == [True]


def test_a_receiver_of_transitioned_that_raises_undoes_the_transition(mailbox):
    paper = Paper.objects.create()
    with heard(transitioned, lambda **_: 1 / 0), pytest.raises(ZeroDivisionError):
        paper.submit()
    assert paper.status == Paper.objects.get().status == "draft"
    assert mailbox.messages == []


def test_entered_is_sent_after_the_commit(mailbox):
    paper = Paper.objects.create()
    with heard(entered) as told, transaction.atomic():
        paper.submit()
        assert told == []
    assert len(told) == 1


def test_entered_is_not_sent_for_what_is_rolled_back(mailbox):
    paper = Paper.objects.create()
    with heard(entered) as told, rolled_back():
        paper.submit()
    assert told == []


def test_a_receiver_of_entered_that_raises_is_logged_and_hinders_nobody(mailbox, caplog):
    paper = Paper.objects.create()
    with heard(entered, lambda **_: 1 / 0), caplog.at_level(logging.ERROR, "django.dispatch"):
        paper.submit()
    assert "ZeroDivisionError" in caplog.text
    assert len(mailbox.messages) == 1


def test_a_jump_is_told_as_such(mailbox):
    paper = Paper.objects.create()
    with heard(transitioned) as told:
        review.to_state(paper, "rejected", reason="test")
    assert (told[0]["trigger"], told[0]["state"]) == ("to_state", "rejected")


@pytest.mark.parametrize("signal", [transitioned, entered])
def test_an_internal_edge_and_a_refused_one_tell_nothing(signal, mailbox):
    draft, rejected = Paper.objects.create(), Paper.objects.create(status="rejected", worth=False)
    with heard(signal) as told:
        assert draft.note()
        assert not rejected.revise()
    assert told == []


def test_a_listener_of_one_model_hears_of_that_model(mailbox):
    with heard(entered, sender=Poster) as posters, heard(entered, sender=PosterProxy) as proxies:
        Poster.objects.create().start()
        PosterProxy.objects.create().start()
    assert [len(posters), len(proxies)] == [1, 1]


def test_the_field_tells_two_pipelines_of_a_row_apart(mailbox):
    journal = Journal.objects.create()
    with heard(entered) as told:
        journal.print_start()
        journal.review_submit()
    assert [values["field"] for values in told] == ["print_status", "status"]
