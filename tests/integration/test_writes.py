"""What each write does to the row, to its entry, and to the instance: the table of docs/reference/rows.md.

Each line of the table is a test. What a cell says is looked up here, so that neither can drift.
"""

import copy
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.core import serializers
from django.core.management import call_command
from django.db import connection, models, transaction
from django.forms import modelform_factory

from integration import recovery
from integration.binding import holding
from integration.entries import Entry
from integration.models import AssignmentRefused
from integration.protocol import Subject, Token
from tests.integration.rows import agree, paper_in, pending, raw, subject_of
from tests.oddities.models import Book, Shelf
from tests.papers.machine import review
from tests.papers.models import BigPoster, Journal, Leaflet, Paper, PosterProxy

pytestmark = pytest.mark.django_db

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rows.md"


# What there is


@dataclass(frozen=True)
class Seen:
    """A row as it is stored, its entries, and what the instance says."""

    row: dict | None
    entries: list
    memory: tuple


def owner_of(row):
    return type(row)._meta.get_field("status").model


def look(row):
    owner, pk = owner_of(row), row.__dict__.get("_pk", row.pk)
    stored = models.QuerySet(owner).filter(pk=pk).values().first()
    entries = Subject(owner=owner, pk=pk, field="status", using="default").entries
    entries = list(entries.values("pk", "trigger", "state", "epoch", "open", "attempt"))
    return Seen(stored, entries, (row.__dict__.get("status"), row.__dict__.get("status_epoch")))


def where(seen):
    return seen.row["status"], seen.row["status_epoch"]


def opened(seen):
    return [entry for entry in seen.entries if entry["open"]]


@dataclass(frozen=True)
class Written:
    """A write, and what was there before and after it.

    Attributes:
        row: The instance that the line tells of: a new one, where one was made.
        result: What the write returned, if not an instance.
        error: What it raised.
        rung: The entries whose messages were sent after the commit.
    """

    before: Seen
    after: Seen
    row: object
    is_new: bool
    result: object
    error: Exception | None
    rung: set


# What a cell of the table says

ROW = {
    "nothing": lambda it: it.after.row == it.before.row,
    "status and epoch": lambda it: (
        it.after.row["status"] != it.before.row["status"]
        and it.after.row["status_epoch"] == it.before.row["status_epoch"] + 1
    ),
    "inserted": lambda it: it.is_new and it.after.row is not None,
    "the other columns": lambda it: (
        where(it.after) == where(it.before) and it.after.row["title"] == "written" != it.before.row["title"]
    ),
    "as it says": lambda it: (
        it.after.row["status"] == "scoring" and it.after.row["status_epoch"] == it.before.row["status_epoch"]
    ),
    "deleted": lambda it: it.after.row is None,
}
ENTRY = {
    "nothing": lambda it: it.after.entries == it.before.entries,
    "left, and the next one opened": lambda it: (
        not any(entry["open"] for entry in it.after.entries if entry["pk"] == opened(it.before)[0]["pk"])
        and [(entry["state"], entry["epoch"]) for entry in opened(it.after)] == [where(it.after)]
    ),
    "opened": lambda it: [entry["trigger"] for entry in it.after.entries] == ["created"] and agree(it.row),
    "rung": lambda it: {entry["pk"] for entry in opened(it.after)} == it.rung != set(),
    "none, until it is adopted": lambda it: (
        not any((entry["state"], entry["epoch"]) == where(it.after) for entry in opened(it.after))
        and recovery.scan().adopted == 1
        and agree_when_adopted(it.row)
    ),
    "deleted": lambda it: it.after.entries == [],
    "an orphan, until it is closed": lambda it: (
        len(opened(it.after)) == 1
        and recovery.scan(everything=True) is not None
        and not Entry.objects.filter(open=True).exists()
    ),
}
INSTANCE = {
    "as the row": lambda it: it.after.memory == where(it.after),
    "unchanged": lambda it: it.after.memory == it.before.memory,
    "stale": lambda it: it.after.memory == it.before.memory != where(it.after),
    "other changes stay unsaved": lambda it: it.row.title == "unsaved" != it.after.row["title"],
    "`False`": lambda it: it.result is False,
    "the error": lambda it: isinstance(it.error, ZeroDivisionError),
    "`AssignmentRefused`": lambda it: isinstance(it.error, AssignmentRefused),
    "without a key": lambda it: it.row.pk is None,
    "without the stage's token": lambda it: "_statemachine_tokens" not in it.row.__dict__,
    "an error beside the field": lambda it: it.result == ["status"],
    "none": lambda it: True,
}


def agree_when_adopted(row):
    [entry] = look(row).entries[-1:]
    return entry["trigger"] == "adopted" and (entry["state"], entry["epoch"]) == where(look(row))


# The writes

WRITES = {}


def checking():
    paper = Paper.objects.create()
    paper.submit()
    return paper


def stale():
    """A copy that was read before its row was moved."""
    paper = Paper.objects.create()
    Paper.objects.get(pk=paper.pk).submit()
    return paper


def write(line, make=checking):
    def declare(act):
        WRITES.setdefault(line, []).append((act, make))
        return act

    return declare


def poster(model):
    return lambda: model.objects.create()


@write("a trigger, `machine.fire`", make=lambda: paper_in("rejected"))
def _(row):
    row.title = "unsaved"
    assert row.discard()


@write("a trigger, `machine.fire`", make=lambda: paper_in("rejected"))
def _(row):
    row.title = "unsaved"
    assert review.fire(row, "discard")


@write("a trigger whose guards refuse", make=lambda: paper_in("rejected", worth=False))
def _(row):
    return row.revise()


@write("a trigger that raises")
def _(row):
    with holding(subject_of(row), Token(pending(row).pk, 0)):
        Paper.keep_error, kept = (lambda self, event: 1 / 0), Paper.keep_error
        try:
            row.fail()
        finally:
            Paper.keep_error = kept


@write("`machine.to_state`")
def _(row):
    row.title = "unsaved"
    review.to_state(row, "draft", reason="a test")


@write("a trigger of a proxy, of a child, or of an abstract model's heir", make=poster(PosterProxy))
@write("a trigger of a proxy, of a child, or of an abstract model's heir", make=poster(BigPoster))
@write("a trigger of a proxy, of a child, or of an abstract model's heir", make=poster(Leaflet))
def _(row):
    assert row.start()


@write("`save()` of a new row, `create()`")
def _(row):
    new = Paper(status="checking")
    new.save()
    return new


@write("`save()` of a new row, `create()`")
def _(row):
    return Paper.objects.create(status="checking")


@write("`save()` of a new row, `create()`", make=poster(Leaflet))
def _(row):
    return BigPoster.objects.create(status="printing")


@write("`save()` of a copy without a key")
def _(row):
    duplicate = Paper.objects.get(pk=row.pk)
    duplicate.pk, duplicate._state.adding = None, True
    duplicate.save()
    return duplicate


@write("`save()` of an existing row")
def _(row):
    row.title = "written"
    row.save()


@write("`save()` of an existing row")
def _(row):
    made_up = Paper(pk=row.pk, title="written", status="published", status_epoch=9)
    made_up.save()


@write("`save()` of a stale copy", make=stale)
def _(row):
    row.title = "written"
    row.save()


@write("`save(update_fields=…)`")
def _(row):
    row.title = "written"
    row.save(update_fields=["title", "status", "status_epoch"])


@write("`save(update_fields=…)` of the status alone")
def _(row):
    row.title = "unsaved"
    row.save(update_fields=["status"])


@write("assigning another status to a stored row")
def _(row):
    row.status = "published"


@write("assigning the same status")
def _(row):
    row.status = "checking"


@write("`update()` of other columns")
def _(row):
    Paper.objects.filter(pk=row.pk).update(title="written")


@write("`update()` or `bulk_update` of a status")
def _(row):
    Paper.objects.filter(pk=row.pk).update(status="published")


@write("`update()` or `bulk_update` of a status")
def _(row):
    Paper.objects.bulk_update([row], ["status"])


@write("`bulk_update` of other columns")
def _(row):
    row.title = "written"
    Paper.objects.bulk_update([row], ["title"])


@write("`bulk_create`")
def _(row):
    return Paper.objects.bulk_create([Paper(pk=row.pk + 1, status="checking")])[0]


@write("`bulk_create` that updates a status where there is a conflict")
def _(row):
    Paper.objects.bulk_create([row], update_conflicts=True, update_fields=["status"], unique_fields=["id"])


@write("`get_or_create`, `update_or_create` of a new row")
def _(row):
    return Paper.objects.get_or_create(title="another", defaults={"status": "checking"})[0]


@write("`get_or_create`, `update_or_create` of a new row")
def _(row):
    return Paper.objects.update_or_create(title="another", defaults={"status": "checking"})[0]


@write("`get_or_create` of an existing row")
def _(row):
    assert not Paper.objects.get_or_create(pk=row.pk, defaults={"status": "published"})[1]


@write("`update_or_create` of an existing row")
def _(row):
    Paper.objects.update_or_create(pk=row.pk, defaults={"title": "written", "status": "checking"})


@write("`update_or_create` of an existing row with another status")
def _(row):
    Paper.objects.update_or_create(pk=row.pk, defaults={"title": "written", "status": "published"})


@write("`get`, `in_bulk`, `iterator`, `values`, `select_for_update`")
def _(row):
    assert Paper.objects.in_bulk([row.pk])[row.pk].status == "checking"
    assert [one.status for one in Paper.objects.iterator()] == ["checking"]
    assert list(Paper.objects.values("status")) == [{"status": "checking"}]
    with transaction.atomic():
        return Paper.objects.select_for_update().get(pk=row.pk)


@write("`defer`, `only`, when the status is asked for")
def _(row):
    deferred = Paper.objects.defer("status", "status_epoch").get(pk=row.pk)
    assert (deferred.status, deferred.status_epoch) == ("checking", 1)
    return deferred


@write("`defer`, `only`, when the status is asked for")
def _(row):
    deferred = Paper.objects.only("title").get(pk=row.pk)
    assert deferred.status == "checking"
    assert deferred.status_epoch == 1
    return deferred


@write("a trigger of a row whose status was deferred", make=lambda: paper_in("rejected"))
def _(row):
    deferred = Paper.objects.only("worth").get(pk=row.pk)
    assert deferred.discard()
    return deferred


@write("`refresh_from_db()`", make=stale)
def _(row):
    row.refresh_from_db()


@write("`refresh_from_db()`", make=stale)
def _(row):
    row.refresh_from_db(fields=["status"])


def _lent(row):
    binding = type(row)._meta.get_field("status").binding
    binding.lend(row, Token(pending(row).pk, 0))
    return row


@write("`copy`, `deepcopy`, `pickle`, and `save()` of what they made")
def _(row):
    duplicate = copy.copy(_lent(row))
    duplicate.title = "written"
    duplicate.save()
    return duplicate


@write("`copy`, `deepcopy`, `pickle`, and `save()` of what they made")
def _(row):
    duplicate = copy.deepcopy(_lent(row))
    duplicate.title = "written"
    duplicate.save()
    return duplicate


@write("`copy`, `deepcopy`, `pickle`, and `save()` of what they made")
def _(row):
    duplicate = pickle.loads(pickle.dumps(_lent(row)))
    duplicate.title = "written"
    duplicate.save()
    return duplicate


@write("a form with another status")
def _(row):
    form = modelform_factory(Paper, fields=["title", "status"])(
        {"title": "written", "status": "published"}, instance=Paper.objects.get(pk=row.pk)
    )
    assert not form.is_valid()
    return list(form.errors)


@write("a form with the same status, or without it")
def _(row):
    form = modelform_factory(Paper, fields=["title", "status"])(
        {"title": "written", "status": "checking"}, instance=row
    )
    form.save()


@write("a form with the same status, or without it")
def _(row):
    modelform_factory(Paper, fields=["title"])({"title": "written"}, instance=row).save()


@write("a form of a new row")
def _(row):
    form = modelform_factory(Paper, fields=["title", "status"])({"title": "new", "status": "checking"})
    return form.save()


def _fixture(row, folder, **values):
    path = folder / "rows.json"
    [text] = [serializers.serialize("json", [row])]
    for name, value in values.items():
        text = re.sub(rf'"{name}": ("?)[^,"}}]*("?)', f'"{name}": {value}', text)
    path.write_text(text)
    return path


@write("`loaddata`, or a serializer's `save()`, of a new row")
def _(row, folder):
    call_command("loaddata", _fixture(row, folder, pk=row.pk + 1), verbosity=0)
    return Paper.objects.get(pk=row.pk + 1)


@write("`loaddata`, or a serializer's `save()`, of a new row")
def _(row, folder):
    for loaded in serializers.deserialize("json", _fixture(row, folder, pk=row.pk + 1).read_text()):
        loaded.save()
    return loaded.object


@write("`loaddata`, or a serializer's `save()`, of an existing row")
def _(row, folder):
    call_command("loaddata", _fixture(row, folder, status='"scoring"'), verbosity=0)


@write("raw SQL, or another manager's `update()`, of a status")
def _(row):
    raw(row, status="scoring")


@write("raw SQL, or another manager's `update()`, of a status")
def _(row):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE papers_paper SET status = 'scoring' WHERE id = %s", [row.pk])


@write("a raw `INSERT`")
def _(row):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO papers_paper (id, title, worth, error, status, status_epoch) "
            "SELECT id + 1, title, worth, error, status, 0 FROM papers_paper WHERE id = %s",
            [row.pk],
        )
    return Paper.objects.get(pk=row.pk + 1)


@write("a raw `DELETE`")
def _(row):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM papers_paper WHERE id = %s", [row.pk])


@write("`delete()` of a row")
@write("`delete()` of a row", make=poster(BigPoster))
@write("`delete()` of a row", make=poster(PosterProxy))
@write("`delete()` of a row", make=poster(Journal))
def _(row):
    row._pk = row.pk
    row.delete()


@write("`delete()` of a queryset, a cascade")
def _(row):
    Paper.objects.filter(pk=row.pk).delete()


@write("`delete()` of a queryset, a cascade", make=lambda: Book.objects.create(shelf=Shelf.objects.create()))
def _(row):
    row.shelf.delete()


# The table


def table():
    """The lines below the heading: the write, and what the other three cells say."""
    section = PAGE.read_text().split("## What each write does\n")[1].strip().split("\n\n")[0]
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines()[2:]]
    return {cells[0]: cells[1:] for cells in lines}


TABLE = table()


def test_the_table_and_the_tests_are_of_the_same_writes():
    assert list(TABLE) == list(WRITES)


@pytest.mark.parametrize("line", TABLE)
def test_a_line_says_what_there_is_afterwards_in_words_that_are_known(line):
    row, entry, instance = TABLE[line]
    for cell, words in ((row, ROW), (entry, ENTRY), (instance, INSTANCE)):
        assert set(cell.split("; ")) <= set(words)


CASES = [(line, act, make) for line, acts in WRITES.items() for act, make in acts]


@pytest.mark.parametrize(("line", "act", "make"), CASES, ids=[line for line, *_ in CASES])
def test_a_write_does_what_its_line_says(
    line, act, make, tmp_path, mailbox, django_capture_on_commit_callbacks
):
    row = make()
    before, result, error = look(row), None, None
    pk, arguments = row.pk, [row, tmp_path][: act.__code__.co_argcount]
    with django_capture_on_commit_callbacks(execute=True):
        try:
            with transaction.atomic():
                result = act(*arguments)
        except (AssignmentRefused, ZeroDivisionError) as raised:
            error = raised
    told = result if isinstance(result, models.Model) else row
    is_new = told is not row and (owner_of(told), told.pk) != (owner_of(row), pk)
    rung = {message.entry for message in mailbox.messages}
    it = Written(before, look(told), told, is_new, result, error, rung)
    for cell, words in zip(TABLE[line], (ROW, ENTRY, INSTANCE), strict=True):
        for said in cell.split("; "):
            assert words[said](it), (said, it)
    if error is not None:
        assert "`AssignmentRefused`" in TABLE[line][2] or "the error" in TABLE[line][2]
