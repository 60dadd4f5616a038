"""`StateQuerySet`: rows by where they are, and updates that would move them."""

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, models

from integration.entries import Entry
from integration.fields import AssignmentRefused
from integration.models import StateQuerySet
from integration.recovery import scan
from statemachine import DeclarationError
from tests.oddities.models import Book, Colour, Express, Hidden, Label, Light, Parcel, Shelf
from tests.papers.models import BigPoster, Journal, Paper, Poster, PosterProxy

pytestmark = pytest.mark.django_db


def overdue(row):
    row.entries.open().update(due_at="2020-01-01T00:00:00Z")
    return row


# Finding


def test_in_state_finds_the_rows_of_any_of_the_states():
    draft, rejected, _ = [
        Paper.objects.create(status=status) for status in ("draft", "rejected", "published")
    ]
    assert set(Paper.objects.in_state("draft", "rejected")) == {draft, rejected}


def test_in_state_takes_members_of_an_enum():
    light = Light.objects.create()
    assert Light.objects.in_state(Colour.RED).get() == light


def test_in_state_of_a_state_that_is_not_declared_is_an_error_and_not_an_empty_list():
    with pytest.raises(DeclarationError, match="'nowhere'"):
        Paper.objects.in_state("nowhere")


def test_in_state_of_nothing_is_nothing():
    Paper.objects.create()
    assert not Paper.objects.in_state().exists()


def test_tagged_finds_the_rows_of_states_with_the_tag():
    published = Paper.objects.create(status="published")
    Paper.objects.create()
    assert Paper.objects.tagged("visible").get() == published
    assert not Paper.objects.tagged("unheard of").exists()


def test_overdue_finds_rows_whose_open_entry_was_not_answered():
    late = overdue(Paper.objects.create(status="checking"))
    Paper.objects.create(status="checking")
    Paper.objects.create()
    assert Paper.objects.overdue().get() == late


def test_an_entry_that_was_left_is_not_overdue():
    paper = overdue(Paper.objects.create(status="rejected"))
    Entry.objects.update(open=None)
    assert paper not in Paper.objects.overdue()


@pytest.mark.parametrize("model", [Poster, BigPoster, PosterProxy])
def test_overdue_finds_parents_children_and_proxies(model):
    row = overdue(BigPoster.objects.create(status="printing"))
    assert model.objects.overdue().get().pk == row.pk


def test_overdue_finds_keys_that_are_no_numbers():
    journal = Journal.objects.create()
    journal.review_submit()
    overdue(journal)
    assert Journal.objects.overdue("status").get() == journal
    label = Label.objects.create(parcel=Parcel.objects.create(), status="working")
    overdue(label)
    assert Label.objects.overdue().get() == label


def test_a_model_with_two_fields_wants_to_know_which():
    with pytest.raises(ValueError, match="Journal has the state fields status, print_status: pass field="):
        Journal.objects.in_state("draft")
    journal = Journal.objects.create()
    assert Journal.objects.in_state("draft", field="status").get() == journal
    assert Journal.objects.in_state("waiting", field="print_status").get() == journal


def test_a_child_is_asked_for_either_of_its_fields():
    express = Express.objects.create()
    express.handover_start()
    assert Express.objects.in_state("working", field="handover").get() == express
    assert not Express.objects.in_state("working", field="status").exists()


def test_a_field_that_there_is_not_is_named_with_those_that_there_are():
    with pytest.raises(ValueError, match="Paper has the state fields status"):
        Paper.objects.in_state("draft", field="state")


def test_the_rows_of_another_row_can_be_asked_by_state():
    shelf = Shelf.objects.create()
    book = Book.objects.create(shelf=shelf, status="broken")
    Book.objects.create(status="broken")
    books = StateQuerySet(Book).filter(shelf=shelf)
    assert books.in_state("broken").get() == books.tagged("red").get() == book
    assert Shelf.objects.filter(books__in=Book.objects.in_state("broken")).get() == shelf


def test_questions_can_be_chained():
    paper = overdue(Paper.objects.create(status="checking"))
    assert Paper.objects.filter(worth=True).in_state("checking").overdue().exclude(title="").get() == paper


def test_a_manager_that_hides_rows_hides_them_here_too():
    Hidden.objects.create(hidden=True)
    assert not Hidden.objects.in_state("new").exists()


# Updating


@pytest.mark.parametrize(
    "columns", [{"status": "published"}, {"status_epoch": 4}, {"title": "x", "status": "draft"}]
)
def test_update_of_a_status_or_epoch_is_refused(columns):
    paper = Paper.objects.create()
    with pytest.raises(
        AssignmentRefused, match=r"would move rows of Paper without their transition\. Fire a trigger"
    ):
        Paper.objects.filter(pk=paper.pk).update(**columns)
    paper.refresh_from_db()
    assert (paper.title, paper.status, paper.status_epoch) == ("A paper", "draft", 0)


def test_update_of_other_columns_passes():
    Paper.objects.create()
    assert Paper.objects.update(title="New") == 1


def test_update_by_an_expression_is_refused():
    with pytest.raises(AssignmentRefused):
        Paper.objects.update(status=models.F("title"))


def test_aupdate_is_refused():
    async def update():
        await Paper.objects.aupdate(status="published")

    with pytest.raises(AssignmentRefused):
        async_to_sync(update)()


@pytest.mark.parametrize("model", [BigPoster, PosterProxy, Express])
def test_update_of_an_inherited_status_is_refused(model):
    with pytest.raises(AssignmentRefused):
        model.objects.update(status="done")


def test_bulk_update_of_a_status_is_refused():
    paper = Paper.objects.create()
    with pytest.raises(AssignmentRefused):
        Paper.objects.bulk_update([paper], ["status"])


def test_bulk_update_of_other_columns_passes():
    paper = Paper.objects.create()
    paper.title = "New"
    assert Paper.objects.bulk_update([paper], ["title"]) == 1


def test_a_bulk_create_that_would_update_a_status_is_refused():
    paper = Paper.objects.create()
    again = Paper(pk=paper.pk, status="published")
    with pytest.raises(AssignmentRefused, match=r"bulk_create\(status=…\)"):
        Paper.objects.bulk_create(
            [again], update_conflicts=True, update_fields=["status"], unique_fields=["id"]
        )


def test_a_bulk_create_that_updates_other_columns_passes():
    paper = Paper.objects.create()
    again = Paper(pk=paper.pk, status="published", title="New")
    target = {"unique_fields": ["id"]} if connection.features.supports_update_conflicts_with_target else {}
    Paper.objects.bulk_create([again], update_conflicts=True, update_fields=["title"], **target)
    paper.refresh_from_db()
    assert (paper.title, paper.status) == ("New", "draft")


def test_an_update_through_a_foreign_manager_passes_and_is_adopted():
    book = Book.objects.create(shelf=Shelf.objects.create())
    assert book.shelf.books.update(status="working") == 1  # Book.plain comes first, and knows no states
    assert scan().adopted == 1
    assert book.entries.get(open=True).state == "working"


def test_a_refused_update_of_many_rows_can_be_shown():
    with pytest.raises(AssignmentRefused) as refused:
        Paper.objects.update(status="published")
    assert refused.value.messages == [refused.value.msg]
