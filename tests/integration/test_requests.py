"""Dispatch from where projects fire: requests, savepoints, several databases; and with brokers that hang."""

import socket
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta

import pytest
from django.apps import apps
from django.db import connection, connections, transaction
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.http import HttpResponse
from django.test import TestCase
from django.urls import path

from integration import recovery, tasks
from integration.dispatch import circuit, set_publisher
from integration.entries import Entry
from integration.stage import Outcome, run
from integration.testing import StagesMixin
from tests.integration.application import application
from tests.integration.rows import agree, elapse, paper_in, pending, trail, where
from tests.papers.models import Paper, Remark
from tests.papers.tasks import check

committing = pytest.mark.django_db(transaction=True)


# A view, as a project has one


def submit(request, pk):
    """Fire, and then what the query asks for."""
    Paper.objects.get(pk=pk).submit()
    happened.append(f"fired, {in_transaction()}")
    if "error" in request.GET:
        raise ValueError("after the transition")
    if "refused" in request.GET:
        transaction.set_rollback(True)
        return HttpResponse(status=409)
    return HttpResponse("submitted")


def submit_some(request):
    """Fire each paper in a savepoint; those that are worth nothing are rolled back."""
    for paper in Paper.objects.order_by("pk"):
        with suppress(ValueError), transaction.atomic():
            paper.submit()
            if not paper.worth:
                raise ValueError("it is worth nothing")
    return HttpResponse("submitted")


urlpatterns = [path("submit/<int:pk>", submit), path("submit", submit_some)]

happened = []
"""What the view and the broker saw, in order."""


def in_transaction():
    return "in a transaction" if connection.in_atomic_block else "committed"


class Witness:
    """A broker that says whether what it carries is committed."""

    def __init__(self):
        self.messages = []

    def publish(self, message):
        self.messages.append(message)
        happened.append(f"sent, {in_transaction()}")


@pytest.fixture
def witness():
    happened.clear()
    box = Witness()
    before = set_publisher(box)
    yield box
    set_publisher(before)


@pytest.fixture
def in_requests(monkeypatch, settings):
    """Each request is one transaction."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    settings.ROOT_URLCONF = __name__


@committing
@pytest.mark.usefixtures("in_requests")
def test_under_atomic_requests_a_message_is_sent_after_the_response_is_committed(client, witness):
    paper = Paper.objects.create()
    assert client.post(f"/submit/{paper.pk}").status_code == 200
    assert happened == ["fired, in a transaction", "sent, committed"]
    assert [message.entry for message in witness.messages] == [pending(paper).pk]
    assert where(paper) == ("checking", 1)


@committing
@pytest.mark.usefixtures("in_requests")
@pytest.mark.parametrize(("query", "status"), [("error", 500), ("refused", 409)])
def test_under_atomic_requests_an_error_or_a_rollback_sends_nothing(client, witness, query, status):
    client.raise_request_exception = False
    paper = Paper.objects.create()
    assert client.post(f"/submit/{paper.pk}?{query}").status_code == status
    assert happened == ["fired, in a transaction"]
    assert where(paper) == ("draft", 0)
    assert trail(paper) == ["created draft"]


@committing
@pytest.mark.usefixtures("in_requests")
def test_a_savepoint_that_is_rolled_back_sends_nothing_and_the_others_their_messages(client, witness):
    papers = [Paper.objects.create(worth=worth) for worth in (True, False, True)]
    assert client.post("/submit").status_code == 200
    assert [message.entry for message in witness.messages] == [pending(papers[0]).pk, pending(papers[2]).pk]
    assert [where(paper)[0] for paper in papers] == ["checking", "draft", "checking"]
    assert all(agree(paper) for paper in papers)


class TestInATestCase(StagesMixin, TestCase):
    def test_what_a_request_dispatches_runs_when_the_test_says_so(self):
        paper = Paper.objects.create()
        with self.settings(ROOT_URLCONF=__name__):
            self.client.post(f"/submit/{paper.pk}")
        assert where(paper)[0] == "checking"
        assert [outcome for _, outcome in self.run_stages()] == [Outcome.FINISHED] * 3
        assert where(paper)[0] == "published"


# Brokers that are not there


@contextmanager
def accepting():
    """A socket that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@contextmanager
def unreachable():
    """A socket whose queue of connections is full: nobody is even accepted, or refused."""
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@contextmanager
def refusing():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield port


@committing
@pytest.mark.usefixtures("in_requests")
@pytest.mark.parametrize("scheme", ["redis", "amqp"])
@pytest.mark.parametrize("broker", [refusing, accepting, unreachable])
def test_a_broker_that_is_away_is_tried_once_and_the_requests_succeed(client, settings, broker, scheme):
    """And what else waits for the commit is called; the sweep sends what was not sent."""
    if scheme == "redis":
        pytest.importorskip("redis")
    settings.STATEMACHINE_PUBLISH_TIMEOUT = timedelta(milliseconds=200)
    settings.STATEMACHINE_CIRCUIT = timedelta(hours=1)
    papers, after, tried = [Paper.objects.create() for _ in range(3)], [], circuit.failures
    with broker() as port, application(f"{scheme}://127.0.0.1:{port}//".removesuffix("//")):
        for paper in papers:
            with transaction.atomic():
                assert client.post(f"/submit/{paper.pk}").status_code == 200
                transaction.on_commit(lambda: after.append("called"))
        assert circuit.failures == tried + 1
        assert circuit.is_open
    assert after == ["called"] * 3
    assert [where(paper)[0] for paper in papers] == ["checking"] * 3
    sent = Witness()
    before = set_publisher(sent)
    try:
        for paper in papers:
            elapse(paper)
        assert recovery.sweep().rung == 3
    finally:
        set_publisher(before)
    assert {message.entry for message in sent.messages} == {pending(paper).pk for paper in papers}


# A second database


class ToOther:
    """Everything of the papers is in another database, its entries with it."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "papers" else None

    db_for_write = db_for_read


class Admitted(DatabaseWrapper):
    """A database that Django's test classes were not told of as they began."""

    def ensure_connection(self):
        if self.connection is None:
            with self.wrap_database_errors:
                self.connect()


@pytest.fixture
def other(tmp_path, settings):
    """A second database, to which a router sends the papers."""
    given = {
        **connections.settings["default"],
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "other.sqlite3"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
    connections.settings["other"], connections["other"] = given, Admitted(given, "other")
    try:
        with connections["other"].schema_editor() as editor:
            for model in apps.get_models():
                if not model._meta.proxy:
                    editor.create_model(model)
        settings.DATABASE_ROUTERS = [ToOther()]
        yield "other"
    finally:
        connections["other"].close()
        del connections["other"], connections.settings["other"]


def at(row):
    """The row's status and epoch, on the other database."""
    return Paper.objects.using("other").values_list("status", "status_epoch").get(pk=row.pk)


@committing
def test_a_row_and_its_entries_are_on_the_database_that_the_router_says(other, mailbox):
    paper = Paper.objects.create()
    paper.submit()
    assert at(paper) == ("checking", 1)
    assert [entry.state for entry in Entry.objects.using(other)] == ["draft", "checking"]
    assert not Entry.objects.using("default").exists()
    assert not Paper.objects.using("default").exists()
    (message,) = mailbox.messages
    assert (message.using, message.entry) == (other, pending(paper).pk)


@committing
def test_a_message_waits_for_the_commit_of_its_rows_database_and_no_other(other, mailbox):
    paper = Paper.objects.create()
    with transaction.atomic(using=other):
        with transaction.atomic():
            paper.submit()
        assert mailbox.messages == []
    assert len(mailbox.messages) == 1
    stale = Paper.objects.create()
    with suppress(ZeroDivisionError), transaction.atomic(using=other):
        stale.submit()
        raise ZeroDivisionError
    assert len(mailbox.messages) == 1
    with suppress(ZeroDivisionError), transaction.atomic():
        Paper.objects.create().submit()
        raise ZeroDivisionError
    assert len(mailbox.messages) == 2


@committing
def test_a_worker_answers_on_the_database_that_the_message_says(other, mailbox, bodies):
    paper = Paper.objects.create()
    paper.submit()
    (message,) = mailbox.messages
    assert check(message.entry) == "dropped"

    def body(stage):
        stage.progress(1, 2)
        with stage.finish():
            Remark.objects.create(paper_id=stage.row.pk, text="checked")

    bodies["papers.check"] = body
    assert check(message.entry, using=other) == "finished"
    assert at(paper) == ("scoring", 2)
    assert Remark.objects.using(other).get().text == "checked"
    assert mailbox.messages[-1].using == other


@committing
def test_the_sweep_and_the_scan_cover_every_database(other, mailbox):
    paper = paper_in("checking")
    Paper.objects.bulk_create([Paper(status="checking")])
    elapse(paper)
    mailbox.messages.clear()
    assert recovery.aliases() == ["default", other]
    tasks.sweep()
    assert {(message.using, message.entry) for message in mailbox.messages} == {
        (other, pending(row).pk) for row in Paper.objects.all()
    }
    assert len(mailbox.messages) == 2


@committing
def test_a_timer_of_another_database_is_fired_there(other, mailbox):
    paper = paper_in("rejected")
    elapse(paper)
    assert recovery.sweep(using=other).rung == 1
    (message,) = mailbox.messages
    assert tasks.timer(message.entry) == "dropped"
    assert run(message.entry, using=message.using) is Outcome.FINISHED
    assert at(paper)[0] == "discarded"
