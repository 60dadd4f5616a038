"""Each place where it can crash, and why nothing is lost there and nothing is done twice.

The page docs/explanation/commit-crash-and-recovery.md names these tests. `test_crash_matrix` tries every
point; here is one of each kind, to be read.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import OperationalError, models, transaction

from integration import recovery
from integration.dispatch import circuit, set_publisher
from integration.entries import Entry
from integration.stage import Outcome
from statemachine import LeaseLost, StaleState
from tests.integration.crash import come_to_rest
from tests.integration.crash.actor import Actor, Blow, Fault, acting
from tests.integration.crash.broker import Broker
from tests.integration.rows import agree, elapse, pending, raw, trail, where
from tests.papers.machine import printing
from tests.papers.models import Leaflet, Paper, Remark

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = Path(__file__).parents[2] / "docs/explanation/commit-crash-and-recovery.md"
PRINTED = ["created waiting", "start printing", "advance printed"]
PRINT = "papers.print"


@pytest.fixture
def broker(bodies):
    broker = Broker()
    before = set_publisher(broker)
    yield broker
    set_publisher(before)
    broker.close()


@pytest.fixture
def leaflet(broker):
    return Leaflet.objects.create()


@pytest.fixture
def started(leaflet):
    """A leaflet whose message is at the broker."""
    leaflet.start()
    return leaflet


def strike(act, point, blow):
    """Let a process of its own act, and strike it."""
    actor = Actor(Fault(point, blow)).run(act)
    assert actor.struck
    return actor


def deliver(broker):
    return broker.deliver(broker.waiting[0])


def printed_once(row, runs, *, attempts=1):
    """Whether the leaflet came to its end by the one path, and its body ran so many times."""
    assert agree(row)
    assert trail(row) == PRINTED
    assert [attempt for _, _, attempt in runs] == list(range(1, attempts + 1))
    return True


def test_it_died_before_the_commit_of_a_fire(leaflet, broker, runs):
    strike(leaflet.start, "COMMIT", Blow.DIES_BEFORE)
    assert where(leaflet) == ("waiting", 0)
    assert (trail(leaflet), broker.sent) == (["created waiting"], [])
    Leaflet.objects.get().start()
    come_to_rest(broker)
    assert printed_once(leaflet, runs)


def test_the_commit_was_done_and_its_reply_lost(leaflet, broker, runs):
    actor = strike(leaflet.start, "COMMIT", Blow.LOSES_REPLY)
    assert isinstance(actor.error, OperationalError)
    assert (leaflet.status, where(leaflet)) == ("waiting", ("printing", 1))
    with pytest.raises(StaleState):
        leaflet.start()
    come_to_rest(broker)
    assert printed_once(leaflet, runs)


def test_it_was_committed_and_not_published(leaflet, broker, runs):
    strike(leaflet.start, f"publish to {PRINT}", Blow.DIES_BEFORE)
    assert (where(leaflet), broker.sent) == (("printing", 1), [])
    come_to_rest(broker)
    assert printed_once(leaflet, runs)


@pytest.mark.parametrize("error", [ConnectionRefusedError, TimeoutError])
def test_the_publish_failed_or_hung(leaflet, broker, runs, error):
    calls = []

    class Away:
        def publish(self, message):
            calls.append("publish")
            raise error

    set_publisher(Away())
    with transaction.atomic():
        leaflet.start()
        transaction.on_commit(lambda: calls.append("later callback"))
    assert (calls, leaflet.status, circuit.is_open) == (["publish", "later callback"], "printing", True)
    set_publisher(broker)
    come_to_rest(broker)
    assert printed_once(leaflet, runs)


def test_it_was_published_and_the_reply_lost(leaflet, broker, runs):
    actor = strike(leaflet.start, f"publish to {PRINT}", Blow.LOSES_REPLY)
    assert actor.returned
    circuit.reset()
    elapse(leaflet)
    recovery.sweep()
    assert len(broker.waiting) == 2
    come_to_rest(broker)
    assert printed_once(leaflet, runs)


def test_the_broker_lost_expired_or_purged_it(started, broker, runs):
    broker.waiting.clear()
    come_to_rest(broker)
    assert printed_once(started, runs)


def test_the_worker_died_before_the_claim(started, broker, runs):
    strike(lambda: deliver(broker), "SELECT statemachine_entry", Blow.DIES_AFTER)
    assert pending(started).attempt == 0
    come_to_rest(broker)
    assert printed_once(started, runs)


def test_the_worker_died_after_the_claim(started, broker, runs):
    strike(lambda: deliver(broker), "SELECT papers_leaflet", Blow.DIES_BEFORE)
    assert (pending(started).attempt, runs) == (1, [])
    come_to_rest(broker)
    assert (where(started), pending(started).open) == (("printed", 2), True)
    assert [attempt for _, _, attempt in runs] == [2]


def kill():
    acting().die()


def exhaust_memory():
    raise MemoryError


def exceed_the_limit():
    raise SoftTimeLimitExceeded


@pytest.mark.parametrize("die", [kill, exhaust_memory, exceed_the_limit])
def test_the_worker_died_in_the_body(started, broker, bodies, runs, die):
    bodies[PRINT] = lambda stage: die() if stage.attempt == 1 else None
    Actor().run(lambda: deliver(broker))
    assert (where(started), pending(started).strikes) == (("printing", 1), 1)
    come_to_rest(broker)
    assert printed_once(started, runs, attempts=2)


def test_the_effects_were_done_and_the_row_not_advanced(started, broker, bodies, runs):
    outside, paper = [], Paper.objects.create()

    def effects(stage):
        outside.append(stage.idempotency_key)
        with stage.finish():
            Remark.objects.create(paper=paper, text=str(stage.attempt))

    bodies[PRINT] = effects
    strike(lambda: deliver(broker), "INSERT papers_remark", Blow.DIES_AFTER)
    assert (where(started), Remark.objects.count()) == (("printing", 1), 0)
    come_to_rest(broker)
    assert printed_once(started, runs, attempts=2)
    assert [remark.text for remark in Remark.objects.all()] == ["2"]
    assert outside == [outside[0]] * 2


def test_the_row_was_advanced_and_the_message_not_acknowledged(started, broker, runs):
    strike(lambda: deliver(broker), "acknowledge", Blow.DIES_BEFORE)
    assert where(started) == ("printed", 2)
    broker.take_back()
    assert deliver(broker) is Outcome.DROPPED
    assert printed_once(started, runs)


def test_a_zombie_wakes_after_its_successor(started, broker, bodies, runs):
    paper = Paper.objects.create()

    def work(stage):
        if stage.attempt == 1:  # it sleeps, and its lease runs out
            elapse(started)
            recovery.sweep()
            Actor().run(lambda: deliver(broker))
        with stage.finish():
            Remark.objects.create(paper=paper, text=str(stage.attempt))

    bodies[PRINT] = work
    assert deliver(broker) is Outcome.SUPERSEDED
    assert printed_once(started, runs, attempts=2)
    assert [remark.text for remark in Remark.objects.all()] == ["2"]


def test_a_sweep_died_between_its_write_and_its_publish(started, broker, runs):
    broker.waiting.clear()
    elapse(started)
    strike(recovery.sweep, f"publish to {PRINT}", Blow.DIES_BEFORE)
    assert (broker.waiting, recovery.sweep().rung) == ([], 0)
    come_to_rest(broker)
    assert printed_once(started, runs)


def test_two_sweeps_at_once(broker, runs):
    for _ in range(5):
        elapse(Leaflet.objects.create(status="printing"))
    broker.waiting.clear()
    barrier = Barrier(2)

    def sweep():
        barrier.wait(20)
        recovery.sweep()

    with ThreadPoolExecutor(2) as pool:
        actors = list(pool.map(lambda _: Actor().run(sweep), range(2)))
    assert [actor.error for actor in actors] == [None, None]
    assert len({message.entry for message in broker.waiting}) == len(broker.waiting) == 5


def test_no_sweep_is_running(broker, runs):
    lost, heard = Leaflet.objects.create(status="printing"), Leaflet.objects.create()
    broker.waiting.clear()
    elapse(lost)
    heard.start()
    deliver(broker)
    assert (where(heard), where(lost)) == (("printed", 2), ("printing", 0))
    assert [entry.object for entry in Entry.objects.overdue()] == [str(lost.pk)]
    come_to_rest(broker)
    assert where(lost) == ("printed", 1)


@pytest.mark.parametrize("state", ["jammed", "waiting", "printing"])
def test_it_was_cancelled_or_moved_while_it_ran(started, broker, bodies, state):
    paper, lost = Paper.objects.create(), []

    def work(stage):
        if not lost:
            row = Leaflet.objects.get()
            Actor().run(lambda: printing.to_state(row, state, reason="stop"))
            with pytest.raises(LeaseLost) as caught:
                stage.progress(1, 1)
            lost.append(caught.value.attempt)
        with stage.finish():
            Remark.objects.create(paper=paper, text=str(stage._entry.epoch))

    bodies[PRINT] = work
    assert deliver(broker) is Outcome.SUPERSEDED
    assert (where(started), lost) == ((state, 2), [1])
    come_to_rest(broker)
    assert agree(started)
    assert [remark.text for remark in Remark.objects.all()] == (["2"] if state == "printing" else [])


def test_the_outer_transaction_was_rolled_back(leaflet, broker, runs):
    with suppress(ZeroDivisionError), transaction.atomic():
        leaflet.start()
        raise ZeroDivisionError
    assert (where(leaflet), trail(leaflet)) == (("waiting", 0), ["created waiting"])
    come_to_rest(broker)
    assert (broker.sent, runs) == ([], [])


@pytest.mark.parametrize("delete", [Leaflet.delete, lambda row: raw_delete(row)])
def test_the_row_was_deleted(started, broker, runs, delete):
    key = started.pk
    delete(started)
    assert deliver(broker) is Outcome.DROPPED
    come_to_rest(broker, strays=True)
    assert not Entry.objects.open().filter(object=str(key)).exists()
    assert runs == []


def raw_delete(row):
    models.QuerySet(Leaflet).filter(pk=row.pk)._raw_delete("default")


@pytest.mark.parametrize("column", ["state", "task"])
def test_the_code_does_not_know_the_state_or_the_task(started, broker, runs, column):
    other = Leaflet.objects.create(status="printing")
    known = Entry.objects.values_list(column, flat=True).get(pk=pending(started).pk)
    Entry.objects.filter(pk=pending(started).pk).update(**{column: "engrave"})
    if column == "state":
        raw(started, status="engrave")
    while broker.waiting:
        deliver(broker)
    elapse(started)
    recovery.sweep()
    assert (broker.waiting, where(other)[0]) == ([], "printed")
    assert (pending(started).attempt, [pk for _, pk, _ in runs]) == (0, [other.pk])
    Entry.objects.filter(pk=pending(started).pk).update(**{column: known})
    raw(started, status="printing")
    come_to_rest(broker)
    assert trail(started) == PRINTED


@pytest.mark.parametrize("state", ["printing", "jammed"])
def test_the_status_was_updated_raw(leaflet, broker, runs, state):
    raw(leaflet, status=state)
    come_to_rest(broker, strays=True)
    recovery.scan(everything=True)
    adopted = [f"adopted {state}", "advance printed"][: 2 if state == "printing" else 1]
    assert trail(leaflet) == ["created waiting", *adopted]
    assert len(runs) == len(adopted) - 1
    assert agree(leaflet)


def test_nobody_listens_on_the_queue(started, broker, runs):
    for _ in range(20):
        elapse(started, ago=timedelta(days=1))
        recovery.sweep()
    entry = pending(started)
    assert (len(broker.waiting), entry.attempt, entry.strikes, bool(entry.due_at)) == (21, 0, 0, True)
    come_to_rest(broker)
    assert printed_once(started, runs)


def test_the_page_names_every_crash_point_with_a_test_that_exists():
    named = re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8"))
    itself = "test_the_page_names_every_crash_point_with_a_test_that_exists"
    here = [name for name in globals() if name.startswith("test_") and name != itself]
    assert named == here
