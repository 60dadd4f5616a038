"""What the acts of the protocol send to the database: on PostgreSQL a single statement each."""

from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.db.models.signals import post_save, pre_save

from integration import protocol, recovery
from integration.entries import Entry
from integration.protocol import Cause, Token
from statemachine import StaleState
from tests.integration.rows import agree, answer, elapse, paper_in, pending, raw, subject_of, trail, where
from tests.oddities.models import Drawer
from tests.papers.machine import review
from tests.papers.models import Paper

pytestmark = pytest.mark.django_db(transaction=True)
on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="one statement on PostgreSQL")

LEASE = timedelta(seconds=30)


@contextmanager
def statements():
    """The statements of the block, as they are sent."""
    sent = []

    def record(execute, sql, params, many, context):
        sent.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(record):
        yield sent


def claim(row):
    held = protocol.claim(pending(row), using="default", lease=LEASE, worker="w")
    return Token(held.pk, held.attempt)


def step(paper, token):
    state = review.graph.by_name["scoring"]
    with transaction.atomic():
        protocol.next_step(subject_of(paper), token, state=state, enqueue=state.steps[1], step=1, epoch=1)


def move(paper, token):
    state, cause = review.graph.by_name["published"], Cause(trigger="test")
    with transaction.atomic():
        protocol.move(subject_of(paper), source=("scoring",), epoch=1, dest=state, cause=cause, token=token)


@on_postgresql
def test_a_transition_is_one_statement(mailbox):
    paper = Paper.objects.create()
    with statements() as sent:
        paper.submit()
    assert len(sent) == 1
    assert trail(paper) == ["created draft", "submit checking"]
    assert agree(paper)


@on_postgresql
def test_a_jump_is_one_statement_and_the_epoch_that_it_must_exceed(mailbox):
    paper = Paper.objects.create()
    with statements() as sent:
        review.to_state(paper, "scoring", reason="a test")
    assert len(sent) == 2
    assert agree(paper)


@on_postgresql
@pytest.mark.parametrize(
    "act",
    [
        move,
        step,
        lambda paper, token: protocol.extend(token, using="default", lease=LEASE, progress=[1, 2]),
        lambda paper, token: protocol.release(token, using="default", delay=LEASE, error="no"),
        lambda paper, token: protocol.park(token, using="default", error="no"),
    ],
    ids=["move", "next step", "extend", "release", "park"],
)
def test_what_the_holder_of_a_token_does_is_one_statement(mailbox, act):
    paper = paper_in("scoring")
    token = claim(paper)
    with statements() as sent:
        act(paper, token)
    assert len(sent) == 1


@on_postgresql
def test_a_claim_is_one_statement_that_is_committed_at_once(mailbox):
    paper = paper_in("checking")
    entry = pending(paper)
    with statements() as sent:
        held = protocol.claim(entry, using="default", lease=LEASE, worker="w")
    assert len(sent) == 1
    assert list(Entry.objects.filter(pk=held.pk).values()) == [
        {field.attname: getattr(held, field.attname) for field in Entry._meta.concrete_fields}
    ]


@on_postgresql
def test_a_stage_is_five_statements_and_a_savepoint(mailbox, bodies):
    paper = paper_in("checking")
    with statements() as sent:
        answer(paper)
    verbs = [sql.split()[0] for sql, _ in sent[1:]]  # the test looked for the entry
    # Read the entry, claim it, read the row, ask whether the token holds; and in a transaction move the row.
    assert verbs == ["SELECT", "UPDATE", "SELECT", "SELECT", "SAVEPOINT", "WITH", "RELEASE"]
    assert where(paper) == ("scoring", 2)


@on_postgresql
def test_a_sweep_takes_a_batch_of_a_pipeline_in_one_statement(mailbox):
    for _ in range(7):
        elapse(paper_in("checking"))
    entries = Entry.objects.using("default").filter(model="papers.paper")
    with statements() as sent:
        taken = protocol.take(entries, limit=5)
    assert len(sent) == 1
    assert len(taken) == 5
    assert len(protocol.take(entries, limit=5)) == 2


@on_postgresql
def test_the_sweep_reads_its_index_and_not_the_history(mailbox):
    template = pending(paper_in("draft"))
    history = range(4000)
    Entry.objects.bulk_create(
        Entry(**_columns(template, object=f"left {number}", open=None)) for number in history
    )
    for _ in range(40):
        elapse(paper_in("checking"))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE statemachine_entry")
    with statements() as sent:
        assert recovery.sweep(limit=5).rung >= 5
    plans = [_explain(sql, params) for sql, params in sent if "SKIP LOCKED" in sql]
    assert plans
    assert all("Index Scan using statemachine_due" in plan for plan in plans)


@on_postgresql
def test_the_sweep_does_not_read_the_timers_that_are_not_due(mailbox):
    template = pending(paper_in("rejected"))
    timers = (Entry(**_columns(template, object=f"waiting {number}")) for number in range(4000))
    Entry.objects.bulk_create(timers)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE statemachine_entry")
    with statements() as sent:
        recovery.sweep()
    plans = [_explain(sql, params) for sql, params in sent if "SKIP LOCKED" in sql]
    assert plans
    # What the index is not searched for would be asked of each entry in it.
    assert all("due_at <= " in plan.partition("Index Cond:")[2].partition("\n")[0] for plan in plans)


def _columns(entry, **others):
    columns = {field.attname: getattr(entry, field.attname) for field in Entry._meta.concrete_fields}
    return {**columns, "id": None, **others}


def _explain(sql, params):
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", params)
        return "\n".join(line for (line,) in cursor.fetchall())


# What is the same on every database


@pytest.mark.parametrize("inside", [None, {"spoons": [1, 2]}, "%s {0} 'quoted'"])
def test_a_transition_writes_columns_of_any_name_and_type(mailbox, inside):
    drawer = Drawer.objects.create(opened=4)
    drawer.width = Decimal("12.50")
    drawer.pull(inside=inside, reason="100 % {odd} 'reasons'", by="%s")
    stored = Drawer.objects.get()
    assert (stored.status, stored.opened, stored.inside) == ("open", 5, inside)
    assert (stored.width, stored.opened_at is None) == (Decimal("12.50"), False)
    entry = pending(drawer)
    assert (entry.reason, entry.by, entry.source) == ("100 % {odd} 'reasons'", "%s", "shut")
    assert (entry.progress, entry.checkpoint, entry.traceparent) == (None, None, "")
    assert entry.due_at - entry.entered_at > timedelta(hours=23)
    assert agree(drawer)


def test_a_row_with_a_key_that_no_row_can_have_is_stale(mailbox):
    paper = Paper.objects.create()
    paper.pk = 10**30
    with pytest.raises(StaleState):
        paper.submit()
    assert paper.status == "draft"


def test_a_claim_refuses_an_outer_transaction(mailbox):
    paper = paper_in("checking")
    entry = pending(paper)
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        protocol.claim(entry, using="default", lease=LEASE, worker="w")
    assert pending(paper).attempt == 0


def test_no_signal_of_djangos_tells_of_an_entry(mailbox, bodies):
    told = []

    def listen(sender, **kwargs):
        told.append(sender)

    for signal in (pre_save, post_save):
        signal.connect(listen, sender=Entry)
    try:
        paper = Paper.objects.create()
        paper.submit()
        answer(paper)
        raw(paper, status="rejected")
        protocol.adopt(subject_of(paper), review.graph.by_name)
    finally:
        for signal in (pre_save, post_save):
            signal.disconnect(listen, sender=Entry)
    assert trail(paper)[-1] == "adopted rejected"
    assert told == []
