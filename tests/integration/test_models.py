"""`StateMachineModel`: what ``save()`` writes, what a new row opens, and what is left when a row goes."""

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.core import serializers
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.models.signals import post_save

from integration import protocol, recovery
from integration.audit import audit
from integration.entries import Entry
from integration.fields import AssignmentRefused
from integration.protocol import Subject, Token
from statemachine import StaleState, TransitionNotAllowed
from tests.integration.rows import rolled_back
from tests.oddities.models import Book, Country, Express, Hidden, Label, Light, Locked, Parcel, Shelf
from tests.papers.models import BigPoster, Journal, Leaflet, Paper, Poster, PosterProxy, Remark

pytestmark = pytest.mark.django_db
committed = pytest.mark.django_db(transaction=True)

T = datetime(2020, 1, 1, tzinfo=UTC)
LEASE = timedelta(minutes=1)


def rung(mailbox):
    """The entries that were sent, in order."""
    return [message.entry for message in mailbox.messages]


def raw(model, **columns):
    """Rows of a model, as SQL sees them."""
    return models.QuerySet(model).filter(**columns)


def raw_delete(row):
    raw(type(row), pk=row.pk)._raw_delete("default")


def stored(row):
    return raw(type(row), pk=row.pk).values_list("status", "status_epoch").get()


def opened(row):
    return list(row.entries.open().values_list("state", "epoch"))


# save() of an existing row


def moved_behind_its_back():
    """A stale instance of a row that is in 'checking', epoch 1."""
    stale = Paper.objects.create()
    Paper.objects.get(pk=stale.pk).submit()
    return stale


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"force_update": True},
        {"update_fields": ["status"]},
        {"update_fields": ["status", "status_epoch", "title"]},
        {"using": "default"},
    ],
)
def test_saving_a_stale_copy_does_not_move_its_row_back(options):
    stale = moved_behind_its_back()
    stale.save(**options)
    assert stored(stale) == ("checking", 1)


def test_saving_a_stale_copy_writes_its_other_columns():
    stale = moved_behind_its_back()
    stale.title = "New"
    stale.save()
    assert Paper.objects.get(pk=stale.pk).title == "New"


def test_asave_does_not_move_a_row_back():
    stale = moved_behind_its_back()
    async_to_sync(stale.asave)()
    assert stored(stale) == ("checking", 1)


def test_saving_a_child_or_a_proxy_does_not_move_the_parents_row():
    for model in (BigPoster, PosterProxy):
        stale = model.objects.create()
        model.objects.get(pk=stale.pk).start()
        stale.save()
        assert stored(Poster.objects.get(pk=stale.pk)) == ("printing", 1)


def test_an_epoch_that_is_assigned_is_not_saved():
    paper = Paper.objects.create()
    paper.status_epoch = 40
    paper.save()
    assert stored(paper) == ("draft", 0)


def test_a_row_made_up_with_an_existing_key_does_not_move_it():
    paper = Paper.objects.create()
    Paper(pk=paper.pk, status="published").save()
    assert stored(paper) == ("draft", 0)
    assert paper.entries.count() == 1


def test_saving_opens_no_second_entry():
    paper = Paper.objects.create()
    paper.save()
    paper.save(update_fields=["title"])
    assert opened(paper) == [("draft", 0)]


@pytest.mark.parametrize("update_fields", [["status"], ["status_epoch"], ["title"]])
def test_saving_some_columns_of_a_row_that_is_gone_is_an_error_as_always(update_fields):
    paper = Paper.objects.create()
    raw_delete(paper)
    with pytest.raises(DatabaseError), transaction.atomic():
        paper.save(update_fields=update_fields)


def test_saving_a_row_that_is_gone_stores_it_again_with_an_entry():
    paper = Paper.objects.create(status="rejected")
    raw_delete(paper)
    paper.save()
    assert stored(paper) == ("rejected", 1)
    assert opened(paper) == [("rejected", 1)]


def test_an_existing_row_is_saved_in_one_query(django_assert_num_queries):
    paper = Paper.objects.create()
    with django_assert_num_queries(1):
        paper.save()


def test_update_or_create_cannot_move_a_row():
    paper = Paper.objects.create()
    with pytest.raises(AssignmentRefused):
        Paper.objects.update_or_create(pk=paper.pk, defaults={"status": "published"})
    assert stored(paper) == ("draft", 0)


def test_update_or_create_with_the_equal_status_passes():
    paper = Paper.objects.create()
    Paper.objects.update_or_create(pk=paper.pk, defaults={"status": "draft", "title": "New"})
    assert Paper.objects.get(pk=paper.pk).title == "New"


def test_update_or_create_and_get_or_create_open_the_entry_of_a_new_row():
    for create in (Paper.objects.update_or_create, Paper.objects.get_or_create):
        paper, created = create(title=create.__name__, defaults={"status": "rejected"})
        assert created
        assert opened(paper) == [("rejected", 0)]


# Creating


def test_a_new_row_has_an_entry():
    paper = Paper.objects.create()
    (entry,) = paper.entries
    assert (entry.trigger, entry.state, entry.epoch, entry.task) == ("created", "draft", 0, "")


def test_acreate_opens_the_entry():
    async def create():
        return await Paper.objects.acreate(status="rejected")

    paper = async_to_sync(create)()
    assert opened(paper) == [("rejected", 0)]


@committed
def test_a_row_created_in_a_working_state_is_enqueued_after_the_commit(mailbox):
    with transaction.atomic():
        paper = Paper.objects.create(status="checking")
        assert rung(mailbox) == []
    assert rung(mailbox) == [paper.entries.get().pk]


@committed
def test_a_row_created_in_autocommit_is_enqueued_after_its_post_save_receivers(mailbox):
    told = []

    def receiver(instance, created, **kwargs):
        told.append((created, list(rung(mailbox))))
        Remark.objects.create(paper=instance, text="from post_save")

    post_save.connect(receiver, sender=Paper)
    try:
        Paper.objects.create(status="checking")
    finally:
        post_save.disconnect(receiver, sender=Paper)
    assert told == [(True, [])]
    assert len(rung(mailbox)) == 1


@committed
def test_a_creation_that_is_rolled_back_leaves_no_entry_and_enqueues_nothing(mailbox):
    with rolled_back():
        Paper.objects.create(status="checking")
    assert (Paper.objects.count(), Entry.objects.count(), rung(mailbox)) == (0, 0, [])


@committed
def test_a_savepoint_that_is_rolled_back_drops_the_dispatch(mailbox):
    with transaction.atomic():
        kept = Paper.objects.create(status="checking")
        with rolled_back():
            Paper.objects.create(status="checking")
    assert rung(mailbox) == [kept.entries.get().pk]


@committed
def test_a_creation_in_autocommit_is_one_transaction():
    key = {"model": "oddities.country", "field": "status", "object": "AA"}
    Entry.objects.create(**key, state="new", epoch=2**63 - 1, entered_at=T, ready_at=T)
    with pytest.raises((DatabaseError, OverflowError)):  # there is no epoch after that one
        Country.objects.create(code="AA")
    assert not raw(Country).exists()


@committed
def test_storing_a_row_again_that_is_gone_is_one_transaction():
    paper = Paper.objects.create()
    raw_delete(paper)
    Entry.objects.update(epoch=2**63 - 1)
    with pytest.raises((DatabaseError, OverflowError)):
        paper.save()
    assert not raw(Paper).exists()


@pytest.mark.parametrize("status", ["nowhere", "", None, models.F("title"), 7])
@committed
def test_a_row_cannot_be_created_in_a_state_that_nobody_declared(status):
    with pytest.raises(
        TransitionNotAllowed,
        match=r"A new Paper cannot begin in status=.*not declared\. Declared are: draft,",
    ):
        Paper.objects.create(status=status)
    assert (raw(Paper).count(), Entry.objects.count()) == (0, 0)


def test_the_outer_transaction_is_usable_after_a_creation_that_was_refused():
    with pytest.raises(TransitionNotAllowed):
        Paper.objects.create(status="nowhere")
    assert Paper.objects.create().pk


def test_a_row_that_begins_in_a_stamped_state_is_stamped():
    country = Country.objects.create(code="DE")
    assert country.begun_at == Country.objects.get(pk="DE").begun_at is not None


def test_a_stamp_that_a_new_row_brings_along_is_kept():
    country = Country.objects.create(code="DE", begun_at=T)
    assert Country.objects.get(pk="DE").begun_at == country.begun_at == T


def test_force_insert_opens_the_entry():
    paper = Paper(pk=77)
    paper.save(force_insert=True)
    assert opened(paper) == [("draft", 0)]


def test_a_copy_without_a_key_is_a_new_row():
    paper = Paper.objects.create()
    paper.submit()
    first = paper.pk
    paper.pk = None
    paper.save()
    assert paper.pk != first
    assert stored(paper) == ("checking", 1)
    assert opened(paper) == [("checking", 1)]


def test_a_copy_as_the_docs_of_django_make_it_is_a_new_row():
    paper = Paper.objects.create()
    paper.submit()
    paper.pk, paper._state.adding = None, True
    paper.status = "draft"
    paper.save()
    assert opened(paper) == [("draft", 1)]
    assert paper.submit()


def test_a_copy_of_a_child_without_a_key_is_a_new_row():
    poster = BigPoster.objects.create()
    poster.start()
    poster.pk = poster.id = None
    poster._state.adding = True
    poster.save()
    assert BigPoster.objects.count() == 2
    assert opened(poster) == [("printing", 1)]


@committed
def test_a_copy_without_a_key_is_stored_with_its_entry_or_not_at_all():
    paper = Paper.objects.create()
    paper.pk, paper.__dict__["status"] = None, "nowhere"
    with pytest.raises(TransitionNotAllowed):
        paper.save()
    assert raw(Paper).count() == 1


# Fixtures


def test_a_fixture_is_stored_as_it_is_and_opens_nothing():
    paper = Paper.objects.create()
    paper.submit()
    data = serializers.serialize("json", [*Paper.objects.all(), *Entry.objects.all()])
    Paper.objects.all().delete()
    for loaded in serializers.deserialize("json", data):
        loaded.save()
    paper = Paper.objects.get()
    assert stored(paper) == ("checking", 1)
    assert opened(paper) == [("checking", 1)]


def test_a_fixture_puts_an_existing_row_back():
    paper = Paper.objects.create()
    data = serializers.serialize("json", [paper])
    paper.submit()
    for loaded in serializers.deserialize("json", data):
        loaded.save()
    assert stored(paper) == ("draft", 0)


def test_loaddata_without_entries_is_adopted_by_the_scan(tmp_path):
    fixture = tmp_path / "papers.json"
    fixture.write_text(json.dumps([{"model": "papers.paper", "pk": 5, "fields": {"status": "checking"}}]))
    call_command("loaddata", fixture, verbosity=0)
    assert recovery.scan().adopted == 1
    assert opened(Paper.objects.get(pk=5)) == [("checking", 1)]


def test_a_row_that_came_from_a_fixture_is_saved_as_any_other():
    data = serializers.serialize("json", [Paper.objects.create()])
    (loaded,) = serializers.deserialize("json", data)
    loaded.save()
    Paper.objects.get(pk=loaded.object.pk).submit()
    loaded.object.save()
    assert stored(loaded.object) == ("checking", 1)


# Deleting


def test_deleting_a_row_deletes_its_entries():
    paper = Paper.objects.create()
    paper.submit()
    paper.delete()
    assert not Entry.objects.exists()


def test_deleting_a_queryset_deletes_the_entries_of_its_rows_only():
    keep, *_ = [Paper.objects.create() for _ in range(3)]
    Paper.objects.exclude(pk=keep.pk).delete()
    assert list(Entry.objects.values_list("object", flat=True)) == [str(keep.pk)]


def test_a_cascade_deletes_the_entries():
    shelf = Shelf.objects.create()
    Book.objects.create(shelf=shelf)
    shelf.delete()
    assert not Entry.objects.exists()


@pytest.mark.parametrize("model", [BigPoster, PosterProxy, Leaflet, Journal])
def test_deleting_any_kind_of_model_deletes_the_entries(model):
    model.objects.create().delete()
    model.objects.create()
    model.objects.all().delete()
    assert not Entry.objects.exists()


def test_deleting_a_parent_deletes_the_entries_of_a_childs_own_column():
    express = Express.objects.create()
    assert Entry.objects.count() == 2
    Parcel.objects.get(pk=express.pk).delete()
    assert not Entry.objects.exists()


def test_deleting_a_child_and_keeping_its_parent_keeps_the_parents_entries():
    express = Express.objects.create()
    express.delete(keep_parents=True)
    assert list(Entry.objects.values_list("model", flat=True)) == ["oddities.parcel"]


def test_a_deletion_that_is_rolled_back_keeps_the_entries():
    paper = Paper.objects.create()
    with rolled_back():
        paper.delete()
    assert Entry.objects.count() == 1


def leave_orphans(code):
    """Entries of a row that was deleted behind Django's back, with epochs 0 to 2."""
    country = Country.objects.create(code=code)
    country.start()
    country._meta.get_field("status").machine.to_state(country, "new", reason="test")
    raw_delete(country)


def test_orphans_do_not_stand_in_the_way_of_a_new_row_with_the_same_key():
    leave_orphans("DE")
    country = Country.objects.create(code="DE")
    assert stored(country) == ("new", country.status_epoch) == ("new", 3)
    assert opened(country) == [("new", 3)]
    assert country.start()


def test_orphans_do_not_stand_in_the_way_of_a_row_that_bypassed_save():
    leave_orphans("DE")
    Country.objects.bulk_create([Country(code="DE")])
    with pytest.raises(StaleState):
        Country.objects.get(pk="DE").start()
    country = Country.objects.get(pk="DE")
    assert country.start()
    assert stored(country) == ("working", 4)


def test_closed_orphans_do_not_stand_in_the_way_of_a_row_that_bypassed_save():
    leave_orphans("DE")
    Entry.objects.update(open=None)
    Country.objects.bulk_create([Country(code="DE")])
    with pytest.raises(StaleState):
        Country.objects.get(pk="DE").start()
    assert Country.objects.get(pk="DE").start()


def test_a_row_put_back_in_another_state_of_its_closed_entrys_epoch_is_adopted_before_it_is_fired():
    country = Country.objects.create(code="DE")
    raw_delete(country)
    recovery.scan_all(everything=True)
    Country.objects.bulk_create([Country(code="DE", status="broken")])
    with pytest.raises(StaleState):
        Country.objects.get(pk="DE").start()
    assert opened(country) == [("broken", 1)]
    Country._meta.get_field("status").machine.fire(Country.objects.get(pk="DE"), "start")
    assert list(audit()) == []


def test_a_row_put_back_where_its_closed_entry_was_is_fired_at_once():
    country = Country.objects.create(code="DE")
    raw_delete(country)
    recovery.scan_all(everything=True)
    Country.objects.bulk_create([Country(code="DE")])
    assert Country.objects.get(pk="DE").start()
    assert list(audit()) == []


# Rows that bypassed save


def test_a_bulk_created_row_can_be_fired_right_away():
    Paper.objects.bulk_create([Paper()])
    paper = Paper.objects.get()
    paper.submit()
    assert list(paper.entries.values_list("epoch", "trigger", "state")) == [
        (0, "adopted", "draft"),
        (1, "submit", "checking"),
    ]


@committed
def test_bulk_created_rows_in_a_working_state_are_adopted_and_rung(mailbox):
    Paper.objects.bulk_create([Paper(status="checking"), Paper()])
    assert recovery.scan().adopted == 1
    assert rung(mailbox) == [Entry.objects.get().pk]


def test_a_raw_update_is_adopted():
    paper = Paper.objects.create()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE papers_paper SET status = 'checking'")
    assert recovery.scan().adopted == 1
    paper.refresh_from_db()
    assert opened(paper) == [("checking", 1)]
    assert paper.status_epoch == 1


@committed
def test_a_fire_that_meets_a_raw_update_adopts_the_row_and_rings_its_task(mailbox):
    book = Book.objects.create()
    raw(Book).update(status="working")
    with pytest.raises(StaleState):
        Book.objects.get().cancel()
    assert opened(book) == [("working", 1)]
    assert rung(mailbox) == [book.entries.get(open=True).pk]
    assert Book.objects.get().cancel()


def test_a_raw_insert_by_code_that_does_not_know_the_epoch_is_adopted():
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO papers_leaflet (name, status) VALUES ('old', 'printing')")
    assert recovery.scan().adopted == 1
    assert opened(Leaflet.objects.get()) == [("printing", 1)]


# Firing


def test_a_row_that_is_not_stored_cannot_be_fired():
    with pytest.raises(TransitionNotAllowed, match="This Paper is not stored yet"):
        Paper(pk=3).submit()


def test_a_fire_that_fails_leaves_row_memory_and_outer_transaction_as_they_were():
    light = Light.objects.create()
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError):
            light.crash()
        assert (light.colour, light.colour_epoch, light.went_at) == ("red", 0, None)
        shelf = Shelf.objects.create()
    assert Light.objects.values_list("colour", "colour_epoch", "went_at").get() == ("red", 0, None)
    assert light.entries.count() == 1
    assert shelf.pk


def test_what_a_callback_changed_besides_is_the_callers():
    light = Light.objects.create()
    with pytest.raises(ZeroDivisionError):
        light.crash()
    assert light.note == "exploding"


def test_a_fire_that_every_guard_refuses_writes_nothing(django_assert_num_queries):
    light = Light.objects.create()
    with django_assert_num_queries(2):  # the savepoint
        assert light.refuse() is False
    assert (light.colour, light.entries.count()) == ("red", 1)


def test_a_failed_fire_in_autocommit_leaves_the_row_as_it_was(transactional_db):
    light = Light.objects.create()
    with pytest.raises(ZeroDivisionError):
        light.crash()
    assert Light.objects.values_list("colour", "colour_epoch").get() == ("red", 0)


def test_a_stale_fire_leaves_memory_as_it_was():
    stale = moved_behind_its_back()
    with pytest.raises(StaleState) as lost:
        stale.submit()
    assert str(lost.value) == (
        f"Paper {stale.pk} is no longer 'draft' (epoch 0), so 'submit' was not applied: another process "
        "moved it first. Call refresh_from_db() and look again."
    )
    assert (stale.status, stale.status_epoch) == ("draft", 0)


@committed
def test_a_fire_is_rung_after_the_callbacks_that_were_registered_before_it(mailbox):
    order = []
    paper = Paper.objects.create()
    with transaction.atomic():
        transaction.on_commit(lambda: order.append(list(rung(mailbox))))
        paper.submit()
        transaction.on_commit(lambda: order.append(list(rung(mailbox))))
    assert order == [[], [paper.entries.get(open=True).pk]]


@committed
def test_a_fire_that_is_rolled_back_enqueues_nothing(mailbox):
    paper = Paper.objects.create()
    with rolled_back():
        paper.submit()
    assert rung(mailbox) == []
    assert stored(paper) == ("draft", 0)


def test_a_child_is_fired_in_its_parents_table():
    poster = BigPoster.objects.create()
    poster.start()
    assert stored(Poster.objects.get(pk=poster.pk)) == ("printing", 1)
    assert poster.entries.filter(model="papers.poster").count() == poster.entries.count() == 2


def test_a_child_with_a_column_of_its_own_moves_the_two_apart():
    express = Express.objects.create()
    express.start()
    express.handover_start()
    express.refresh_from_db()
    assert (express.status, express.status_epoch) == ("working", 1)
    assert (express.handover, express.handover_epoch) == ("working", 1)
    assert express.entries.count() == 4


def test_parent_child_and_proxy_share_their_history():
    poster = BigPoster.objects.create()
    PosterProxy.objects.get(pk=poster.pk).start()
    assert Poster.objects.get(pk=poster.pk).entries.count() == poster.entries.count() == 2


def test_a_uuid_is_named_as_the_database_prints_it():
    journal = Journal.objects.create()
    journal.review_submit()
    raw(Journal).update(status="scoring")
    assert recovery.scan().adopted == 1
    assert journal.entries.open().get(field="status").state == "scoring"


def test_a_primary_key_that_is_a_foreign_key_is_fired_adopted_and_deleted():
    label = Label.objects.create(parcel=Parcel.objects.create())
    label.start()
    raw(Label).update(status="broken")
    assert recovery.scan().adopted == 1
    label.refresh_from_db()
    assert label.start()
    assert Label.objects.overdue().count() == 0
    label.parcel.delete()
    assert not Entry.objects.exists()


def test_a_base_manager_that_hides_rows_and_refuses_updates_is_not_asked():
    row = Hidden.objects.create(hidden=True)
    row.start()
    assert stored(row) == ("working", 1)
    raw(Hidden).update(status="broken")
    assert recovery.scan().adopted == 1


# The token of a stage


def held(row):
    """A row that a stage holds, and its token."""
    row.submit()
    entry = row.entries.open().get()
    claimed = protocol.claim(entry, using="default", lease=LEASE, worker="test")
    token = Token(entry.pk, claimed.attempt)
    row._meta.get_field("status").binding.lend(row, token)
    return row


def test_the_holder_of_a_token_may_advance():
    assert held(Paper.objects.create()).advance()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda row: pickle.loads(pickle.dumps(row))])
def test_a_copy_of_a_row_does_not_inherit_its_token(duplicate):
    copied = duplicate(held(Paper.objects.create()))
    assert not copied.may_advance()
    with pytest.raises(TransitionNotAllowed, match="whose task alone fires 'advance'"):
        copied.advance()


def test_a_row_read_again_has_no_token():
    row = held(Paper.objects.create())
    assert not Paper.objects.get(pk=row.pk).may_advance()


def test_a_token_is_of_no_use_to_a_row_that_was_given_another_key():
    row = held(Paper.objects.create())
    row.pk = Paper.objects.create(status="checking").pk
    assert not row.may_advance()


# entries


def test_entries_are_the_history_oldest_first():
    paper = Paper.objects.create(status="rejected")
    paper.discard()
    assert [entry.state for entry in paper.entries] == ["rejected", "discarded"]


def test_entries_of_two_fields_are_those_of_both():
    assert {entry.field for entry in Journal.objects.create().entries} == {"status", "print_status"}


def test_a_row_that_is_not_stored_has_no_entries(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert list(Paper().entries) == []


def test_a_row_is_known_by_its_model_field_and_key():
    row = Locked.objects.create()
    subject = row._meta.get_field("status").binding.subject(row)
    assert subject == Subject(owner=Locked, pk=row.pk, field="status", using="default")


def test_a_row_has_at_most_one_open_entry():
    paper = Paper.objects.create()
    entry = paper.entries.get()
    entry.pk, entry.epoch = None, 9
    with pytest.raises(IntegrityError), transaction.atomic():
        entry.save(force_insert=True)
