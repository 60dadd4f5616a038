"""Celery: what it calls, what it carries, and what happens when the broker is not there."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest
from celery.exceptions import Ignore, Reject, Retry
from django.db import connections

from integration import dispatch, protocol, recovery, tasks
from integration.dispatch import Message, circuit, publish, set_publisher
from integration.entries import Entry
from integration.stage import bodies
from integration.tasks import PermanentFailure, Sweeper, judge, stage_task
from integration.verdict import Verdict
from statemachine import Enqueue, State
from tests.integration.application import application
from tests.integration.rows import LONG_AGO, elapse, paper_in, pending, where
from tests.integration.test_recovery import unreachable_database
from tests.oddities import tasks as letters_tasks  # noqa: F401  (declares what is sent to)
from tests.oddities.models import Letter
from tests.papers.models import Paper
from tests.papers.tasks import check

committing = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("error", "strikes", "expected"),
    [
        (Retry(), 5, Verdict.RELEASE),
        (Reject(), 5, Verdict.RELEASE),
        (Ignore(), 5, Verdict.RELEASE),
        (KeyboardInterrupt(), 5, Verdict.RELEASE),
        (PermanentFailure(), 1, Verdict.GIVE_UP),
        (ValueError(), 1, Verdict.RETRY),
        (ValueError(), 2, Verdict.GIVE_UP),
    ],
)
def test_celerys_own_exceptions_are_no_failures(error, strikes, expected):
    assert judge(error, strikes=strikes, max_attempts=2) is expected


@pytest.mark.parametrize(
    ("error", "expected"), [(NotImplementedError(), Verdict.RELEASE), (PermanentFailure(), Verdict.GIVE_UP)]
)
def test_what_a_worker_that_terminates_raises_in_a_body_is_no_failure(monkeypatch, error, expected):
    monkeypatch.setattr("celery.worker.state.should_terminate", 1)
    assert judge(error, strikes=5, max_attempts=5) is expected


# What a process of billiard's raises that is told to end, for whatever reason.
TERMINATED = SystemExit(-(256 - signal.SIGTERM))


@pytest.mark.django_db
@pytest.mark.parametrize(("limit", "passed", "counted"), [(60, 60, 1), (60, 30, 0), (None, 60, 0)])
def test_a_signal_to_end_counts_when_the_hard_time_limit_is_over(bodies, monkeypatch, limit, passed, counted):
    clock = [1000.0]

    def body(stage):
        clock[0] += passed
        raise TERMINATED

    monkeypatch.setattr(tasks.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(check, "time_limit", limit)
    bodies["papers.check"] = body
    paper = paper_in("checking")
    with suppress(SystemExit):
        check(pending(paper).pk)
    entry = pending(paper)
    assert entry.strikes == counted
    assert entry.error == ("TimeLimitExceeded(60,)" if counted else "SystemExit: -241")


def test_the_command_lines_time_limit_holds_for_every_task(monkeypatch):
    monkeypatch.setitem(tasks._command_line, "time_limit", None)
    tasks.keep_time_limit(options={"time_limit": 7})
    assert tasks._command_line == {"time_limit": 7}


@pytest.mark.parametrize("entry", [None, "12", 1.5, True, {"id": 1}])
def test_a_stage_task_that_is_called_like_a_function_explains_itself(entry):
    with pytest.raises(TypeError, match=r"papers.check is a stage task: .* Fire the trigger"):
        check(entry) if entry is not None else check()


def test_a_stage_task_keeps_the_name_and_the_documentation_of_its_body():
    @stage_task("papers.documented", rate_limit="9/m", acks_late=True)
    def documented(stage):
        """Says what it does."""

    del bodies["papers.documented"]

    assert (documented.name, documented.__doc__) == ("papers.documented", "Says what it does.")
    assert (documented.rate_limit, documented.acks_late, documented.ignore_result) == ("9/m", True, True)
    assert documented.__module__ == __name__


@pytest.mark.django_db
def test_a_task_answers_with_what_became_of_the_message(bodies):
    paper = paper_in("checking")
    entry = pending(paper)
    assert check(entry.pk) == "finished"
    assert check(entry.pk) == "dropped"
    assert tasks.timer(entry.pk) == "dropped"
    assert where(paper) == ("scoring", 2)


@pytest.mark.django_db
@pytest.mark.parametrize("error", [Retry(), Reject(), Ignore()])
def test_a_body_that_raises_celerys_own_exceptions_keeps_its_strike_and_does_not_spin(bodies, error):
    def body(stage):
        raise error

    bodies["papers.check"] = body
    paper = paper_in("checking")
    assert check(pending(paper).pk) == "waiting"
    assert check(pending(paper).pk) == "dropped"
    assert (pending(paper).attempt, pending(paper).strikes) == (1, 0)


# Eager mode


@pytest.fixture
def app():
    with application(broker_transport_options={"polling_interval": 0.01}) as app:
        yield app


@committing
def test_eager_mode_runs_every_stage_inline_one_after_the_other(app, bodies, runs):
    app.conf.task_always_eager = True
    bodies["papers.check"] = lambda stage: stage.attempt < 2 and 1 / 0
    paper = Paper.objects.create()
    paper.submit()
    assert where(paper)[0] == "published"
    assert [name for name, *_ in runs] == ["papers.check", "papers.check", "papers.score", "papers.explain"]
    assert dispatch.publisher()._inline.outcomes == []


@committing
def test_eager_mode_answers_former_names_and_leaves_what_newer_code_sent(app, mailbox, caplog):
    caplog.set_level(logging.WARNING, "statemachine")
    app.conf.task_always_eager = True
    letter = Letter.objects.create()
    letter.post()
    entry = pending(letter)
    newer = {"statemachine_version": 2}
    answered = app.tasks["oddities.order"].apply_async(args=(entry.pk,), headers=newer)
    assert (answered.get(), pending(letter).attempt) == ("dropped", 0)
    assert f"Entry {entry.pk} was rung by newer code, with message version 2" in caplog.text
    assert app.tasks["oddities.order"].delay(entry.pk).get() == "finished"
    assert where(letter)[0] == "sorting"
    assert pending(letter).task == "oddities.stamp"
    assert app.tasks["statemachine.timer"].apply_async((entry.pk,), headers=newer).get() == "dropped"


def test_a_former_name_is_a_task_with_the_options_of_todays(app):
    former, today = app.tasks["oddities.order"], app.tasks["oddities.sort"]
    assert (former.name, today.name) == ("oddities.order", "oddities.sort")
    for task in (former, today):
        assert (task.acks_late, task.rate_limit, task.ignore_result) == (True, "900/s", True)
        assert task.__doc__ == "Sort a letter."
    tasks.answer_former_names()
    assert app.tasks["oddities.order"] is former


def test_a_name_that_another_step_has_today_stays_that_ones(app, monkeypatch):
    machine = Letter._meta.get_field("status").machine
    monkeypatch.setitem(
        machine.states,
        "lost",
        State("lost", on_enter=Enqueue("oddities.search", formerly="oddities.stamp")),
    )
    monkeypatch.setattr(machine, "_graph", None)
    stamp = app.tasks["oddities.stamp"]

    @stage_task("oddities.search", rate_limit="1/s")
    def search(stage):
        """Not the stamping."""

    del bodies["oddities.search"], tasks._declared["oddities.search"]
    assert app.tasks["oddities.stamp"] is stamp
    assert stamp.rate_limit is None
    assert "oddities.stamp" not in tasks._former


@pytest.mark.parametrize("name", ["papers.check", "papers.other"])
def test_a_message_says_its_version_and_the_id_of_an_entry(app, name):
    assert publish(Message(entry=7, using="default", task=name))
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get("celery", no_ack=True)
        connection.default_channel.queue_purge("celery")
    assert message.headers["statemachine_version"] == 1
    assert message.payload[:2] == [[7], {}]


@committing
def test_eager_mode_has_no_heart(app, bodies):
    app.conf.task_always_eager = True
    names = []
    bodies["papers.check"] = lambda stage: names.extend(thread.name for thread in threading.enumerate())
    paper_in("checking")
    assert names
    assert not [name for name in names if name.startswith("heart")]


# Brokers that are not there


class BlackHole:
    """A socket that accepts and never answers."""

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        return self.socket.getsockname()[1]

    def __exit__(self, *error):
        self.socket.close()


MESSAGE = Message(entry=1, using="default", task="papers.check")


def send_to(app, url):
    """Send twice; how long each took."""
    if url.startswith("redis"):
        pytest.importorskip("redis")
    app.conf.broker_url = url
    times = []
    for _ in range(2):
        begun = time.monotonic()
        assert not publish(MESSAGE)
        times.append(time.monotonic() - begun)
    return times


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_never_answers_costs_its_timeout_once(app, scheme, settings):
    settings.STATEMACHINE_PUBLISH_TIMEOUT = tasks.conf().publish_timeout / 4
    with BlackHole() as port:
        first, second = send_to(app, f"{scheme}://127.0.0.1:{port}//".removesuffix("//"))
    assert first < 5
    assert second < 0.1


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_refuses_fails_at_once(app, scheme):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    first, second = send_to(app, f"{scheme}://127.0.0.1:{port}")
    assert first < 2
    assert second < 0.1


def test_a_connection_that_was_closed_while_it_was_idle_is_replaced_once(app, monkeypatch):
    sent, fail = [], [None]
    send = tasks._send

    def flaky(producer, app, message):
        error, fail[0] = fail[0], None
        if error is not None:
            raise error
        sent.append(producer)
        send(producer, app, message)

    monkeypatch.setattr(tasks, "_send", flaky)
    assert publish(MESSAGE)
    assert publish(MESSAGE)
    assert sent[0] is sent[1]
    fail[0] = ConnectionResetError("closed by the peer")
    assert publish(MESSAGE)
    assert len(sent) == 3
    assert sent[2] is not sent[0]
    fail[0] = TimeoutError("the broker hangs")
    assert not publish(MESSAGE)
    assert len(sent) == 3


def test_a_queue_that_does_not_exist_fails_its_message_alone(app):
    app.conf.task_create_missing_queues = False
    assert not publish(Message(entry=1, using="default", task="papers.check", queue="nope"))
    assert not circuit.is_open
    assert publish(MESSAGE)


def test_a_message_carries_an_entrys_id_and_nothing_else(app):
    message = Message(entry=7, using="default", task="papers.check", queue="slow", priority=3)
    assert publish(message)
    assert publish(Message(entry=8, using="other", task="papers.unknown", queue="slow"))
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        first, second = (channel.basic_get("slow", no_ack=True) for _ in range(2))
    assert first.payload[:2] == [[7], {}]
    assert first.headers["task"] == "papers.check"
    assert first.properties["priority"] == 3
    assert (first.headers["expires"], first.headers["eta"]) == (None, None)
    assert second.payload[:2] == [[8], {"using": "other"}]
    assert second.headers["task"] == "papers.unknown"


def _send_in_child(result):
    publisher = dispatch.publisher()
    before = {
        id(producer) for pools in publisher._idle.values() for idle in pools.values() for producer in idle
    }
    sent = publish(MESSAGE)
    idle = publisher._idle[os.getpid()]
    after = {id(producer) for producers in idle.values() for producer in producers}
    result.put((sent, bool(before), before & after))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_process_never_writes_on_its_parents_connection(app):
    assert publish(MESSAGE)
    context = multiprocessing.get_context("fork")
    result = context.SimpleQueue()
    child = context.Process(target=_send_in_child, args=(result,))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert result.get() == (True, True, set())


# The sweeper


@pytest.fixture
def fast(settings):
    from datetime import timedelta

    settings.STATEMACHINE_SWEEP_EVERY = timedelta(milliseconds=20)
    settings.STATEMACHINE_ADOPT_EVERY = timedelta(milliseconds=20)


class Arrivals:
    """A publisher that tells when something arrives."""

    def __init__(self):
        self.messages, self.happened = [], threading.Condition()

    def publish(self, message):
        with self.happened:
            self.messages.append(message)
            self.happened.notify_all()

    def wait(self, count=1):
        with self.happened:
            assert self.happened.wait_for(lambda: len(self.messages) >= count, timeout=10)


@pytest.fixture
def arrivals():
    box = Arrivals()
    before = set_publisher(box)
    yield box
    set_publisher(before)


def sweepers():
    return [thread for thread in threading.enumerate() if thread.name == "statemachine-sweep"]


@committing
@pytest.mark.usefixtures("fast")
def test_the_sweeper_rings_and_adopts_until_it_is_stopped(arrivals):
    paper = paper_in("checking")
    Paper.objects.bulk_create([Paper(status="checking")])
    arrivals.messages.clear()
    elapse(paper)
    sweeper = Sweeper()
    sweeper.start()
    try:
        arrivals.wait(2)
    finally:
        sweeper.stop()
    assert {message.entry for message in arrivals.messages} == {
        pending(paper).pk for paper in Paper.objects.all()
    }
    assert sweepers() == []


@committing
@pytest.mark.usefixtures("fast")
def test_a_sweeper_whose_database_is_away_tries_again(arrivals, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "statemachine")
    errors, sweep = [RuntimeError("away"), RuntimeError("still away")], recovery.sweep

    def flaky(**options):
        if errors:
            raise errors.pop()
        return sweep(**options)

    monkeypatch.setattr(recovery, "sweep", flaky)
    elapse(paper_in("checking"))
    arrivals.messages.clear()
    sweeper = Sweeper()
    sweeper.start()
    try:
        arrivals.wait()
    finally:
        sweeper.stop()
    assert caplog.text.count("The sweep failed, and will be tried again") == 2


@committing
@pytest.mark.usefixtures("fast")
def test_a_worker_sweeps_from_when_it_is_ready_until_it_has_shut_down():
    tasks.start_sweeping()
    tasks.start_sweeping()
    assert len(sweepers()) == 1
    tasks.stop_sweeping()
    tasks.stop_sweeping()
    assert sweepers() == []


def test_a_worker_does_not_sweep_when_the_project_says_so(settings):
    settings.STATEMACHINE_SWEEP = False
    tasks.start_sweeping()
    assert sweepers() == []


def test_the_sweeper_is_not_waited_for_in_a_signals_handler():
    from celery import signals

    assert not signals.worker_shutting_down.receivers
    assert any(tasks.stop_sweeping in (ref, ref()) for _, ref in signals.worker_shutdown.receivers if ref)


@committing
def test_a_database_that_is_away_does_not_stop_the_sweep_of_the_others(arrivals):
    paper = paper_in("checking")
    arrivals.messages.clear()
    elapse(paper)
    sweeper = Sweeper()
    with unreachable_database():
        tasks.sweep()
        assert len(arrivals.messages) == 1
        elapse(paper)
        for using in ("away", "default"):
            with tasks._surviving(using):
                sweeper._pass(using)
    assert len(arrivals.messages) == 2


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(tasks, "_BATCH", 2)


def at_the_first(mailbox, act):
    """Do something when the first message is sent, in the middle of whatever sends it."""
    publish = mailbox.publish

    def publishing(message):
        publish(message)
        if len(mailbox.messages) == 1:
            act()

    mailbox.publish = publishing


def let_the_turn_be_over():
    Entry.objects.filter(field="sweep").update(entered_at=LONG_AGO, ready_at=LONG_AGO)


@committing
@pytest.mark.usefixtures("small_batches")
def test_a_long_scan_gives_way_to_the_sweep(mailbox):
    paper = paper_in("checking")
    mailbox.messages.clear()
    Paper.objects.bulk_create([Paper(status="checking") for _ in range(5)])
    at_the_first(mailbox, lambda: (elapse(paper), let_the_turn_be_over()))
    Sweeper()._pass("default")
    assert [message.entry for message in mailbox.messages].index(pending(paper).pk) < 5


@committing
@pytest.mark.usefixtures("small_batches")
def test_a_long_sweep_is_seen_to_be_one(mailbox):
    for _ in range(4):
        elapse(paper_in("checking"))
    mailbox.messages.clear()
    at_the_first(mailbox, let_the_turn_be_over)
    Sweeper()._pass("default")
    assert len(mailbox.messages) == 4
    assert protocol.last_turn("sweep", using="default") > LONG_AGO


@committing
def test_the_sweep_may_be_run_by_beat(arrivals):
    paper = paper_in("checking")
    Paper.objects.bulk_create([Paper(status="checking")])
    elapse(paper)
    arrivals.messages.clear()
    tasks.sweep()
    assert len(arrivals.messages) == 2
    assert not circuit.is_open
    assert connections["default"].alias
