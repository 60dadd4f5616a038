"""The audit finds each violation where the tables are corrupted, and nothing after what is legal."""

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext, override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration import protocol, recovery
from integration.audit import Audit, audit
from integration.entries import Entry
from integration.invariants import INVARIANTS
from integration.protocol import later
from integration.stage import PermanentFailure
from statemachine import StateMachineError
from tests.integration.rows import LONG_AGO, answer, elapse, paper_in, pending, raw, trail
from tests.oddities.models import Label, Light, Parcel
from tests.papers.machine import review
from tests.papers.models import BigPoster, Journal, Paper

pytestmark = pytest.mark.django_db


def found(**options):
    """What the audit finds, by name and level; each finding is about a row of this test."""
    return {(finding.invariant, finding.level) for finding in audit(**options)}


def story():
    """A paper that was checked, scored and explained, and rejected in the end."""
    paper = paper_in("draft")
    paper.submit()
    answer(paper)
    answer(paper)
    review.to_state(paper.__class__.objects.get(pk=paper.pk), "rejected", reason="it is copied")
    assert trail(paper) == [
        "created draft",
        "submit checking",
        "advance scoring",
        "step scoring",
        "to_state rejected",
    ]
    return paper


def at(number, **columns):
    """A corruption: the columns of one entry of the story, the first being 0."""

    def corrupt(paper):
        pk = paper.entries.order_by("pk").values_list("pk", flat=True)[number]
        assert Entry.objects.filter(pk=pk).update(**columns) == 1

    return corrupt


def both(*corruptions):
    def corrupt(paper):
        for corruption in corruptions:
            corruption(paper)

    return corrupt


FAR = LONG_AGO + timedelta(days=36_500)


def row(**columns):
    return lambda paper: raw(paper, **columns)


VIOLATIONS = {
    "neither open nor left": (at(1, left_at=None), "open-is-not-left"),
    "open and left": (at(4, left_at=LONG_AGO), "open-is-not-left"),
    "left and due": (at(1, due_at=LONG_AGO), "left-is-not-due"),
    "left behind": (
        both(
            at(4, open=None, left_at=LONG_AGO, due_at=None),
            at(2, open=True, left_at=None, due_at=LONG_AGO),
            row(status="scoring", status_epoch=2),
        ),
        "open-is-last",
    ),
    "a gap between epochs": (at(0, epoch=-1), "epochs-by-one"),
    "a gap between steps": (at(3, step=2), "steps-in-order"),
    "an epoch without its first step": (
        both(at(4, epoch=4), at(3, epoch=3), row(status_epoch=4)),
        "steps-in-order",
    ),
    "a step that was fired": (at(3, trigger="advance"), "steps-in-order"),
    "a step to another state": (at(3, source="checking"), "steps-in-order"),
    "created from somewhere": (at(1, trigger="created"), "created-is-first"),
    "another source": (at(2, trigger="adopted", source="draft"), "source-is-where-it-was"),
    "an edge that nobody declared": (at(1, trigger="discard"), "edge-is-declared"),
    "an internal edge": (
        both(at(1, trigger="note", state="draft"), at(2, source="draft", trigger="to_state", reason="x")),
        "edge-is-declared",
    ),
    "a jump without a reason": (at(4, reason=" "), "jump-has-a-reason"),
    "a timer that rings nobody": (at(4, due_at=None), "pending-is-armed"),
    "a timer that rings in a hundred years": (at(4, due_at=FAR), "pending-is-armed"),
    "more strikes than claims": (at(2, attempt=1, strikes=2), "strikes-within-bounds"),
    "more strikes than a timer is allowed": (at(4, attempt=9, strikes=6), "strikes-within-bounds"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_each_violation_is_found_by_its_name(name, mailbox, bodies):
    paper = story()
    assert found() == set()
    corrupt, invariant = VIOLATIONS[name]
    corrupt(paper)
    assert {seen for seen, level in found() if level == "violation"} == {invariant}


def test_every_invariant_is_violated_by_a_test():
    only_notices = {"row-and-entry-agree", "entry-has-a-row", "known-here"}
    assert {name for _, name in VIOLATIONS.values()} == INVARIANTS.keys() - only_notices - {"one-open"}


@pytest.mark.django_db(transaction=True)
def test_a_second_open_entry_is_found(mailbox, bodies):
    (key,) = (key for key in Entry._meta.constraints if key.name == "statemachine_one_open")
    Entry._meta.constraints.remove(key)
    with connection.schema_editor() as editor:
        editor.remove_constraint(Entry, key)
    try:
        at(3, open=True, left_at=None, due_at=LONG_AGO)(story())
        assert found() == {("one-open", "violation")}
    finally:
        Entry.objects.all().delete()
        Entry._meta.constraints.insert(0, key)
        with connection.schema_editor() as editor:
            editor.add_constraint(Entry, key)


def test_a_history_may_begin_anywhere(mailbox, bodies):
    paper = story()
    for entry in paper.entries.order_by("pk")[:4]:
        entry.delete()
        assert found() == set()


def test_a_history_has_no_gap_in_its_middle(mailbox, bodies):
    story().entries.filter(trigger="advance").delete()
    assert found() == {("steps-in-order", "violation")}


def test_a_finding_says_where_what_and_what_to_do(mailbox, bodies):
    paper = story()
    at(4, due_at=None)(paper)
    (finding,) = audit()
    assert str(finding) == (
        f"papers.paper.status {paper.pk}, entry {pending(paper).pk}: "
        "pending-is-armed: it waits for its timer, and nobody is rung for it"
    )
    assert "to-state" in finding.hint


# What will be repaired, or belongs to another version of the code


NOTICES = {
    "a row moved by raw SQL": (row(status="scoring"), "row-and-entry-agree"),
    "a row with another epoch": (row(status_epoch=9), "row-and-entry-agree"),
    "a row put to work": (both(row(status="scoring"), at(4, state="scoring")), "row-and-entry-agree"),
    "a row whose entry was left": (at(4, open=None, left_at=LONG_AGO, due_at=None), "row-and-entry-agree"),
    "a row that is gone": (
        lambda paper: Paper.objects.filter(pk=paper.pk)._raw_delete("default"),
        "entry-has-a-row",
    ),
    "an unknown state of the row": (row(status="nowhere"), "known-here"),
    "an unknown state of both": (both(row(status="nowhere"), at(4, state="nowhere")), "known-here"),
    "an unknown trigger": (at(1, trigger="hand_in"), "known-here"),
    "an unknown pipeline": (at(0, model="gone.model"), "known-here"),
    "an unknown field": (at(0, field="gone"), "known-here"),
    "a key that is used again": (at(1, trigger="created", source=""), "created-is-first"),
    "more strikes than a task is allowed by now": (at(1, attempt=9, strikes=4), "strikes-within-bounds"),
    "more strikes than are allowed by now": (at(2, attempt=9, strikes=6), "strikes-within-bounds"),
    "a jump from where raw SQL had put the row": (at(4, source="draft"), "source-is-where-it-was"),
}


@pytest.mark.parametrize("name", NOTICES)
def test_what_is_repaired_or_not_known_here_is_a_notice(name, mailbox, bodies):
    paper = story()
    corrupt, invariant = NOTICES[name]
    corrupt(paper)
    assert found() == {(invariant, "notice")}


@pytest.mark.parametrize("object", ["one", "9" * 23])
def test_an_entry_whose_key_is_none_has_no_row(object, mailbox):
    paper_in("draft").entries.update(object=object)
    assert found() == {("entry-has-a-row", "notice")}


def test_an_open_entry_with_more_strikes_than_allowed_is_a_violation(mailbox):
    entries = paper_in("checking").entries.open()
    entries.update(attempt=9, strikes=3)
    assert found() == set()
    entries.update(strikes=4)
    assert found() == {("strikes-within-bounds", "violation")}


def test_an_unknown_task_is_a_notice(mailbox):
    paper_in("checking").entries.open().update(task="gone.task")
    (finding,) = audit()
    assert (
        finding.msg == "1 entries tell of the task 'gone.task' of 'checking', which this code does not know"
    )


def test_a_timer_that_was_declared_later_is_a_notice(mailbox):
    paper_in("rejected").entries.open().update(due_at=None, ready_at=F("entered_at"))
    assert found() == {("pending-is-armed", "notice")}


def test_a_timer_that_is_not_declared_any_more_is_a_notice(mailbox):
    paper_in("draft").entries.update(due_at=later(None), ready_at=later(None, timedelta(days=1)))
    assert found() == {("pending-is-armed", "notice")}


def test_an_entry_that_is_due_for_nothing_is_a_violation(mailbox):
    paper_in("draft").entries.update(due_at=later(None))
    assert found() == {("pending-is-armed", "violation")}


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("ready", "due", "is_late"),
    [
        (-HOUR, timedelta(), False),
        (-1000 * HOUR, HOUR, False),  # it was rung again and again
        (timedelta(), timedelta(days=36_500), True),
        (-1000 * HOUR, 48 * HOUR, True),
        (1000 * HOUR, 1000 * HOUR, False),  # the body waits until then
        (1000 * HOUR, 1001 * HOUR, False),
        (1000 * HOUR, 1048 * HOUR, True),
    ],
)
def test_an_entry_is_due_no_later_than_anything_can_have_made_it(ready, due, is_late, mailbox):
    paper_in("checking").entries.open().update(ready_at=later(None, ready), due_at=later(None, due))
    assert found() == ({("pending-is-armed", "violation")} if is_late else set())


def test_an_entry_may_wait_for_the_last_instant_of_all(mailbox):
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    paper_in("checking").entries.open().update(ready_at=last, due_at=last)
    assert found() == set()


def test_how_late_an_entry_may_be_due_follows_from_the_settings(mailbox):
    paper_in("checking").entries.open().update(due_at=later(None, 48 * HOUR))
    for name in ("STATEMACHINE_MAX_BACKOFF", "STATEMACHINE_GRACE"):
        with override_settings(**{name: 48 * HOUR}):
            assert found() == set()
    assert found() == {("pending-is-armed", "violation")}


def test_a_parked_entry_is_in_order(mailbox):
    for state in ("checking", "rejected"):
        paper_in(state).entries.open().update(due_at=None, error="nobody handles this")
    assert found() == set()


def test_rows_that_need_an_entry_and_have_none_are_a_notice(mailbox):
    Paper.objects.bulk_create(
        [Paper(status=state) for state in ("draft", "checking", "rejected", "published")]
    )
    read = audit()
    assert [finding.invariant for finding in read] == ["row-and-entry-agree"] * 2
    assert (read.rows, read.entries) == (4, 0)
    recovery.scan()
    assert found() == set()


def test_rows_in_an_unknown_state_are_counted_by_it(mailbox):
    Paper.objects.bulk_create([Paper(status="nowhere")] * 1)
    Paper.objects.bulk_create([Paper(status="nowhere")] * 1)
    (finding,) = audit()
    assert finding.msg == "2 rows are in the state 'nowhere', which this code does not know"


def test_a_former_name_of_a_state_is_that_state(mailbox, bodies, monkeypatch):
    paper = story()
    named = {**review.graph.named, "rated": review.graph["scoring"]}
    monkeypatch.setitem(review.graph.__dict__, "named", named)
    for number in (2, 3):
        at(number, state="rated")(paper)
    assert found() == set()
    at(3, source="rated")(paper)
    assert found() == set()


# What is read


def test_every_kind_of_key_and_table_is_read(mailbox):
    parcel = Parcel.objects.create()
    for create in (Journal, BigPoster, Light):
        create.objects.create()
    Label.objects.create(parcel=parcel)
    read = audit()
    assert list(read) == []
    assert (read.rows, read.entries) == (6, 6)


def test_the_fields_to_look_at_may_be_chosen(mailbox):
    paper_in("draft").entries.update(reason="x", trigger="to_state", due_at=later(None))
    Journal.objects.create()
    field = Journal._meta.get_field("print_status")
    read = audit(fields=[field])
    assert list(read) == []
    assert (read.rows, read.entries) == (1, 1)
    assert found(fields=[Paper._meta.get_field("status")]) == {("pending-is-armed", "violation")}


def test_a_history_that_goes_on_in_the_next_batch_is_one(mailbox, bodies):
    papers = [story(), story()]
    for batch in range(1, 12):
        read = Audit("default", None, batch=batch)
        assert list(read) == []
        assert (read.rows, read.entries) == (2, 10)
    raw(papers[0], status="draft")
    assert len(list(Audit("default", None, batch=2))) == 1


def test_tables_are_read_in_batches(mailbox):
    bindings = [Paper.status.field.binding]
    Paper.objects.bulk_create([Paper(status="checking") for _ in range(60)])
    recovery.scan()
    Paper.objects.bulk_create([Paper() for _ in range(60)])
    with CaptureQueriesContext(connection) as queries:
        read = Audit("default", bindings, batch=20)
        assert list(read) == []
    assert (read.rows, read.entries) == (120, 60)
    tables = 1 if connection.vendor == "sqlite" else len(queries) - 11
    assert len(queries) == tables + 3 * 2 + 1 + 3 + 1  # entries and their rows, and rows without any


@pytest.mark.parametrize(
    ("batch", "meanwhile"),
    [
        (1000, ["papers_paper"]),  # its row is read
        (1, ["papers_paper", "papers_paper", "statemachine_entry"]),  # what follows its open entry is read
    ],
)
def test_a_row_that_moves_meanwhile_is_no_false_alarm(batch, meanwhile, mailbox, bodies):
    paper = paper_in("checking")
    expected, looked = list(meanwhile), []

    def move(execute, sql, params, many, context):
        if expected and f'FROM "{expected[0]}"' in sql.replace("`", '"') and "WHERE" in sql:
            expected.pop(0)
            if not expected:
                answer(paper)
                looked.append(trail(paper))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(move):
        read = Audit("default", [Paper.status.field.binding], batch=batch)
        assert list(read) == []
    assert looked == [["created draft", "to_state checking", "advance scoring"]]


def test_the_librarys_own_entries_are_none_of_a_rows(mailbox):
    protocol.turn("sweep", every=timedelta(seconds=1), using="default")
    assert found() == set()


# What is legal


def _fail(stage):
    raise PermanentFailure("no luck")


def _stumble(stage):
    raise ValueError("no luck")


def _wait(stage):
    stage.wait(until=LONG_AGO)


def _work(body):
    def act(paper, bodies):
        bodies.update(dict.fromkeys(["papers.check", "papers.score", "papers.explain"], body))
        elapse(paper)
        if paper.entries.open().exists():  # a restored row may have none yet
            answer(paper)

    return act


def _fire(trigger):
    def act(paper, bodies):
        row = Paper.objects.get(pk=paper.pk)
        with suppress(StateMachineError):
            getattr(row, trigger)()

    return act


def _insert_again(paper, bodies):
    Paper.objects.filter(pk=paper.pk)._raw_delete("default")
    Paper.objects.create(pk=paper.pk)


def _restore_in(state):
    def act(paper, bodies):
        (epoch,) = Paper.objects.values_list("status_epoch", flat=True)
        Paper.objects.filter(pk=paper.pk)._raw_delete("default")
        recovery.scan_all(everything=True)
        Paper.objects.bulk_create([Paper(pk=paper.pk, status=state, status_epoch=epoch)])

    return act


LEGAL = {
    "work": _work(lambda stage: None),
    "fail": _work(_fail),
    "stumble": _work(_stumble),
    "wait": _work(_wait),
    **{f"fire {trigger}": _fire(trigger) for trigger in ("submit", "revise", "discard", "note", "advance")},
    **{
        f"jump to {state.name}": lambda paper, bodies, to=state.name: review.to_state(
            Paper.objects.get(pk=paper.pk), to, reason="because"
        )
        for state in review.graph
    },
    "move by raw SQL": lambda paper, bodies: raw(paper, status="scoring"),
    "restore an older epoch": lambda paper, bodies: raw(paper, status="checking", status_epoch=0),
    "scan": lambda paper, bodies: recovery.scan(everything=True),
    "insert again": _insert_again,
    "restore a draft": _restore_in("draft"),
    "restore as rejected": _restore_in("rejected"),
}


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(acts=st.lists(st.sampled_from(sorted(LEGAL)), min_size=3, max_size=12))
def test_after_whatever_is_legal_the_audit_finds_no_violation(acts, mailbox, bodies):
    Paper.objects.all().delete()
    Entry.objects.all().delete()
    paper = paper_in("draft")
    for act in acts:
        LEGAL[act](paper, bodies)
    assert [str(finding) for finding in audit() if finding.level == "violation"] == []


def test_every_invariant_is_in_the_reference():
    page = Path(__file__).parents[2] / "docs/reference/command.md"
    told = re.findall(r"^\| `([a-z-]+)` \| ", page.read_text(encoding="utf-8").split("### audit")[1], re.M)
    assert told == list(INVARIANTS)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="schemas are PostgreSQL's")
def test_a_table_of_another_schema_is_read(mailbox, monkeypatch):
    paper = paper_in("checking")
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA elsewhere")
        cursor.execute("CREATE TABLE elsewhere.paper AS TABLE papers_paper")
    monkeypatch.setattr(Paper._meta, "db_table", 'elsewhere"."paper')
    for field in Paper._meta.concrete_fields:
        monkeypatch.delitem(field.__dict__, "cached_col", raising=False)
    assert list(audit()) == []
    paper.entries.filter(open=True).update(due_at=None)
    assert found() == {("pending-is-armed", "violation")}
