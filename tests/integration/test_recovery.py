"""The sweep rings what nobody answered; the scan gives an entry to rows that have none."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connection, connections
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test.utils import CaptureQueriesContext

from integration import protocol, recovery
from integration.dispatch import set_publisher
from integration.entries import Entry
from integration.portable import due_again
from integration.recovery import Sweep
from integration.stage import Outcome, run
from tests.integration.rows import agree, elapse, is_due_in, paper_in, pending, raw, trail, where
from tests.oddities.models import Country, Label, Parcel
from tests.papers.machine import review
from tests.papers.models import BigPoster, Journal, Paper, Poster

pytestmark = pytest.mark.django_db
committing = pytest.mark.django_db(transaction=True)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("waited", "again"),
    [
        (timedelta(), 10 * SECOND),
        (3 * SECOND, 10 * SECOND),
        (10 * SECOND, 10 * SECOND),
        (42 * SECOND, 42 * SECOND),
        (HOUR, HOUR),
        (30 * HOUR, HOUR),
        (-HOUR, 10 * SECOND),
    ],
)
def test_an_unanswered_entry_is_rung_again_after_as_long_as_it_has_waited(waited, again):
    assert due_again(NOON, NOON - waited, shortest=10 * SECOND, longest=HOUR) == NOON + again


def overdue_paper(state="checking", *, ago=2 * HOUR):
    paper = paper_in(state)
    elapse(paper, ago=ago)
    return paper


def ids(messages):
    return [message.entry for message in messages]


def test_the_sweep_rings_what_is_due_and_leaves_what_is_not(mailbox):
    late, early = overdue_paper(), paper_in("checking")
    assert recovery.sweep() == Sweep(rung=1)
    assert ids(mailbox.messages) == [pending(late).pk]
    assert pending(early).pk not in ids(mailbox.messages)


def test_the_sweep_pushes_what_it_rings_and_nothing_else(mailbox):
    paper = overdue_paper(ago=timedelta(minutes=7))
    before = Entry.objects.values().get(pk=pending(paper).pk)
    recovery.sweep()
    after = Entry.objects.values().get(pk=pending(paper).pk)
    assert {name for name in before if before[name] != after[name]} == {"due_at"}
    assert is_due_in(pending(paper), timedelta(minutes=6, seconds=50), timedelta(minutes=7, seconds=10))
    assert recovery.sweep() == Sweep()


def test_the_sweep_takes_the_oldest_first_and_no_more_than_a_batch(mailbox):
    ages = [5, 9, 7, 6, 8]
    papers = {age: overdue_paper(ago=age * HOUR) for age in ages}
    assert recovery.sweep(limit=2) == Sweep(rung=2)
    assert set(ids(mailbox.messages)) == {pending(papers[9]).pk, pending(papers[8]).pk}
    assert recovery.sweep(limit=2) == Sweep(rung=2)
    assert recovery.sweep(limit=2) == Sweep(rung=1)
    assert len(set(ids(mailbox.messages))) == 5


@pytest.mark.parametrize(("limit", "others"), [(6, 3), (2, 1), (1, 1)])
def test_however_long_one_pipeline_is_overdue_another_is_in_each_batch(mailbox, limit, others):
    papers = [overdue_paper(ago=9 * HOUR) for _ in range(8)]
    posters = [BigPoster.objects.create() for _ in range(4)]
    for poster in posters:
        poster.start()
        elapse(poster, ago=HOUR)
    mailbox.messages.clear()
    done = recovery.sweep(limit=limit)
    labels = [Entry.objects.get(pk=pk).model for pk in ids(mailbox.messages)]
    assert labels.count("papers.poster") == others
    assert limit <= done.rung <= limit + 1
    while recovery.sweep(limit=limit).rung:
        pass
    assert len(set(ids(mailbox.messages))) == len(mailbox.messages) == len(papers) + len(posters)


def test_what_one_pipeline_does_not_need_of_a_batch_the_others_have(mailbox):
    for _ in range(7):
        overdue_paper(ago=9 * HOUR)
    poster = BigPoster.objects.create()
    poster.start()
    elapse(poster, ago=HOUR)
    mailbox.messages.clear()
    assert recovery.sweep(limit=6) == Sweep(rung=6)
    assert ids(mailbox.messages)[-1] == pending(poster).pk


def test_what_was_claimed_while_the_broker_was_found_away_keeps_its_lease(mailbox):
    claimed, kept = overdue_paper(), overdue_paper()

    class Away:
        """A broker that is away, while another message's worker is faster than the sweep."""

        def publish(self, message):
            protocol.claim(pending(claimed), using="default", lease=HOUR, worker="w")
            raise ConnectionError

    before = set_publisher(Away())
    assert recovery.sweep() == Sweep(unsent=2)
    set_publisher(before)
    assert is_due_in(pending(claimed), timedelta(minutes=59), HOUR)
    assert is_due_in(pending(kept), timedelta(), 2 * SECOND)


def test_a_swept_message_is_answered_and_answered_once(mailbox, bodies, runs):
    paper = overdue_paper()
    recovery.sweep()
    (message,) = mailbox.messages
    for _ in range(2):
        run(message.entry, task=message.task, heartbeat=False)
    assert where(paper) == ("scoring", 2)
    assert len(runs) == 1


def test_a_timer_that_is_due_is_rung_at_the_librarys_own_task(mailbox):
    paper = overdue_paper("rejected")
    recovery.sweep()
    assert mailbox.tasks == ["statemachine.timer"]
    assert run(mailbox.messages[0].entry) is Outcome.FINISHED
    assert run(mailbox.messages[0].entry) is Outcome.DROPPED
    assert trail(paper)[-1] == "discard discarded"


@pytest.mark.parametrize(
    "unknown",
    [
        {"model": "gone.model"},
        {"field": "gone"},
        {"state": "gone"},
        {"task": "gone.task"},
        {"state": "draft"},
    ],
)
def test_what_this_code_does_not_know_is_left_alone_and_does_not_stop_the_rest(mailbox, unknown):
    strangers = [overdue_paper(ago=9 * HOUR) for _ in range(3)]
    Entry.objects.open().update(**unknown)
    due = set(Entry.objects.open().values_list("pk", "due_at"))
    known = overdue_paper()
    assert recovery.sweep(limit=2) == Sweep(rung=1)
    assert ids(mailbox.messages) == [pending(known).pk]
    assert due == set(Entry.objects.open().exclude(pk=pending(known).pk).values_list("pk", "due_at"))
    assert len(strangers) == 3


def test_the_clock_of_a_sweep_may_be_given(mailbox):
    paper = paper_in("checking")
    assert recovery.sweep(now=datetime.now(UTC) + HOUR) == Sweep(rung=1)
    assert is_due_in(pending(paper), HOUR, 2 * HOUR + 5 * SECOND)


@committing
def test_two_sweeps_at_once_ring_each_entry_once(mailbox):
    papers = [overdue_paper() for _ in range(20)]
    mailbox.messages.clear()
    barrier = threading.Barrier(4)

    def sweep():
        try:
            barrier.wait(10)
            return sum(recovery.sweep(limit=5).rung for _ in range(4))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(sweep) for _ in range(4)]
        rung = sum(future.result(30) for future in futures)
    assert rung == 20
    assert sorted(ids(mailbox.messages)) == sorted(pending(paper).pk for paper in papers)


# The scan


@committing
def test_rows_that_a_bulk_insert_put_to_work_are_adopted_and_rung(mailbox):
    Paper.objects.bulk_create([Paper(status="checking"), Paper(status="rejected"), Paper(status="draft")])
    assert recovery.scan() == Sweep(adopted=2)
    assert mailbox.tasks == ["papers.check"]
    for paper in Paper.objects.exclude(status="draft"):
        assert agree(paper)
    assert recovery.scan() == Sweep()
    assert recovery.scan(everything=True) == Sweep(adopted=1)
    assert recovery.scan(everything=True) == Sweep()


@pytest.mark.parametrize(
    "change",
    [
        {"status": "checking"},
        {"status": "checking", "status_epoch": 0},
        {"status": "checking", "status_epoch": 50},
        {"status": "scoring"},
        {"status": "rejected", "status_epoch": 0},
    ],
)
def test_a_raw_update_is_adopted_above_every_epoch(mailbox, change):
    paper = paper_in("rejected")
    raw(paper, **change)
    assert recovery.scan() == Sweep(adopted=1)
    status, epoch = where(paper)
    assert status == change["status"]
    assert epoch == max(change.get("status_epoch", 1), 1) + 1
    entry = pending(paper)
    assert (entry.trigger, entry.state, entry.epoch) == ("adopted", status, epoch)
    assert not paper.entries.exclude(pk=entry.pk).filter(left_at=None).exists()
    assert recovery.scan() == Sweep()


def test_a_raw_update_to_another_state_and_back_is_invisible(mailbox):
    paper = paper_in("checking")
    raw(paper, status="draft")
    raw(paper, status="checking")
    assert recovery.scan(everything=True) == Sweep()
    assert agree(paper)


def test_rows_and_entries_that_this_code_does_not_know_are_left_alone(mailbox):
    paper = paper_in("checking")
    raw(paper, status="nowhere")
    assert recovery.scan(everything=True) == Sweep()
    assert where(paper) == ("nowhere", 1)


def test_the_entry_of_a_row_that_is_gone_is_closed_by_a_full_scan(mailbox):
    gone, kept, poster = paper_in("draft"), paper_in("draft"), BigPoster.objects.create()
    journal = Journal.objects.create()
    entry = pending(gone)
    Paper.objects.filter(pk=gone.pk)._raw_delete("default")
    assert recovery.scan() == Sweep()
    assert Entry.objects.open().filter(pk=entry.pk).exists()
    assert recovery.scan(everything=True) == Sweep()
    entry.refresh_from_db()
    assert (entry.open, entry.due_at) == (None, None)
    assert agree(kept)
    assert poster.entries.filter(open=True).count() == 1
    assert journal.entries.filter(open=True).count() == 2


def test_orphans_are_found_in_batches_without_reading_every_row_for_every_entry(mailbox):
    papers = [paper_in("draft") for _ in range(7)]
    gone = [papers[number].pk for number in (1, 2, 6)]
    Paper.objects.filter(pk__in=gone)._raw_delete("default")
    with CaptureQueriesContext(connection) as queries:
        batches = list(recovery.orphans(Paper.status.field.binding, "default", batch=3))
    found = [int(entry.object) for entries in batches for entry in entries]
    assert sorted(found) == gone
    assert len(queries) == 2 * len(batches) == 6  # entries, and their rows
    assert not any("CAST(" in query["sql"].upper() or "::" in query["sql"] for query in queries)
    if connection.vendor == "sqlite":
        assert "SCAN" not in plans_of(queries)


def plans_of(queries):
    """How SQLite answers what was asked."""
    with connection.cursor() as cursor:
        asked = [cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}").fetchall() for query in queries]
    return str(asked)


def test_a_scan_closes_no_more_orphans_than_its_limit(mailbox):
    for _ in range(5):
        paper_in("draft")
    Paper.objects.all()._raw_delete("default")
    for left in (2, 0):
        recovery.scan(limit=3, everything=True)
        assert Entry.objects.open().count() == left


def test_orphans_of_every_kind_of_key_are_closed(mailbox):
    parcel = Parcel.objects.create()
    kept, gone = [Label.objects.create(parcel=parcel)], [Label.objects.create(parcel=Parcel.objects.create())]
    kept += [Country.objects.create(code="DE"), Paper.objects.create()]
    gone += [Country.objects.create(code="FR"), Paper.objects.create()]
    for row in gone:
        type(row).objects.filter(pk=row.pk)._raw_delete("default")
    recovery.scan_all(everything=True)
    assert [row.entries.open().count() for row in kept + gone] == [1, 1, 1, 0, 0, 0]


def test_an_orphan_whose_key_no_column_holds_is_closed(mailbox):
    paper = paper_in("draft")
    paper.entries.update(object="9" * 23)
    recovery.scan_all(everything=True)
    assert not Entry.objects.filter(object="9" * 23).open().exists()


def test_an_orphan_that_is_due_is_closed_by_its_claimant(mailbox):
    gone = overdue_paper()
    Paper.objects.filter(pk=gone.pk)._raw_delete("default")
    recovery.sweep()
    run(mailbox.messages[0].entry, task="papers.check", heartbeat=False)
    assert not Entry.objects.open().exists()
    assert recovery.sweep() == Sweep()


def test_fields_of_a_model_are_adopted_apart_and_a_childs_in_its_parents_table(mailbox):
    journal, poster = Journal.objects.create(), BigPoster.objects.create()
    raw(journal, print_status="printing")
    raw(Poster(pk=poster.pk), status="printing")
    assert recovery.scan() == Sweep(adopted=2)
    assert journal.entries.get(field="print_status", open=True).task == "papers.print"
    assert journal.entries.get(field="status", open=True).trigger == "created"
    assert poster.entries.get(open=True).task == "papers.print"


def test_a_scan_adopts_no_more_than_its_limit(mailbox):
    Paper.objects.bulk_create([Paper(status="checking") for _ in range(5)])
    assert recovery.scan(limit=3) == Sweep(adopted=3)
    assert recovery.scan(limit=3) == Sweep(adopted=2)


def test_a_full_scan_goes_on_to_the_end_in_batches(mailbox):
    Paper.objects.bulk_create([Paper(status="checking") for _ in range(5)])
    assert recovery.scan_all(batch=2) == Sweep(adopted=5)
    assert recovery.scan_all(batch=2) == Sweep()


def test_a_row_that_cannot_be_adopted_does_not_stop_the_scan(mailbox, monkeypatch, caplog):
    Paper.objects.bulk_create([Paper(status="checking") for _ in range(3)])
    bad = Paper.objects.order_by("pk")[1]
    known = protocol.opened

    def opened(subject, *args, **kwargs):
        if subject.pk == bad.pk:
            raise ValueError("nobody can open this")
        return known(subject, *args, **kwargs)

    monkeypatch.setattr(protocol, "opened", opened)
    assert recovery.scan() == Sweep(adopted=2)
    assert f"Could not adopt Paper {bad.pk}" in caplog.text
    assert where(bad) == ("checking", 0)
    monkeypatch.undo()
    assert recovery.scan_all() == Sweep(adopted=1)


def test_what_two_calls_did_adds_up():
    assert Sweep(rung=1, unsent=2) + Sweep(rung=3, adopted=4) == Sweep(rung=4, unsent=2, adopted=4)


# Databases


def test_every_database_with_the_table_is_swept():
    assert recovery.aliases() == ["default"]
    assert connection.alias == "default"


class Unreachable(DatabaseWrapper):
    def ensure_connection(self):
        raise OperationalError("connection refused")


@contextmanager
def unreachable_database(alias="away"):
    """A database of the project whose server cannot be reached."""
    settings = {
        **connections["default"].settings_dict,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": "/nowhere/at/all.sqlite3",
        "OPTIONS": {},
    }
    connections.settings[alias], connections[alias] = settings, Unreachable(settings, alias)
    try:
        yield
    finally:
        del connections[alias], connections.settings[alias]


def test_a_database_that_cannot_be_reached_is_left_out(caplog):
    with unreachable_database():
        assert recovery.aliases() == ["default"]
    assert "'away' cannot be reached" in caplog.text


def test_a_database_that_a_router_keeps_from_entries_is_not_swept(settings):
    settings.DATABASE_ROUTERS = [type("Router", (), {"allow_migrate": lambda *_, **__: False})()]
    assert recovery.aliases() == []


@committing
def test_a_database_whose_connection_broke_is_found_again_at_the_next_look():
    connection.ensure_connection()
    connection.connection.close()
    assert recovery.aliases() == []
    assert recovery.aliases() == ["default"]


def test_a_state_that_waits_for_a_person_is_not_pending(mailbox):
    paper = paper_in("draft")
    assert pending(paper).due_at is None
    review.to_state(paper, "discarded", reason="done")
    assert pending(paper).due_at is None
    assert recovery.sweep(now=datetime(2100, 1, 1, tzinfo=UTC)) == Sweep()


@contextmanager
def table_named(model, name):
    """The model's table under another name, which the model does not know."""
    before = model._meta.db_table
    quoted = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {quoted(before)} RENAME TO {quoted(name)}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {quoted(name)} RENAME TO {quoted(before)}")


@committing
@pytest.mark.parametrize("scan", [recovery.scan, recovery.scan_all])
def test_a_pipeline_whose_table_is_on_another_database_does_not_stop_the_scan(scan, mailbox):
    Journal.objects.bulk_create([Journal(status="checking")])
    with table_named(Paper, "papers_elsewhere"):
        assert Paper not in [binding.owner for binding in recovery.residents("default")]
        assert scan() == Sweep(adopted=1)


def test_a_pipeline_that_a_router_keeps_from_a_database_is_not_scanned(mailbox, settings):
    Paper.objects.bulk_create([Paper(status="checking")])
    keeps = {"allow_migrate": lambda self, db, app_label, model_name=None, **_: model_name != "paper"}
    settings.DATABASE_ROUTERS = [type("Router", (), keeps)()]
    assert recovery.scan() == Sweep()


@pytest.mark.parametrize("wait", [timedelta(), 2 * HOUR])
def test_without_a_grace_the_sweep_rings_all_the_same(wait, mailbox, settings):
    settings.STATEMACHINE_GRACE = timedelta()
    paper = overdue_paper(ago=wait)
    assert recovery.sweep() == Sweep(rung=1)
    assert ids(mailbox.messages) == [pending(paper).pk]
