"""`StateField`: what may write the column, and what the column is elsewhere."""

import copy
import pickle

import django
import pytest
from asgiref.sync import async_to_sync
from django import forms
from django.core.exceptions import ValidationError
from django.db import connection, models
from django.test.utils import CaptureQueriesContext, isolate_apps

from integration.binding import bindings
from integration.entries import Entry
from integration.fields import AssignmentRefused, EpochField
from integration.models import StateField, StateMachineModel
from statemachine import DeclarationError, StaleState, StateMachine, TransitionNotAllowed
from tests.oddities.models import Colour, Light, Locked, LockedChild, Shelf, pipeline
from tests.papers.machine import printing, review
from tests.papers.models import BigPoster, Journal, Leaflet, Paper, Poster, PosterProxy

pytestmark = pytest.mark.django_db


class PaperForm(forms.ModelForm):
    class Meta:
        model = Paper
        fields = ["title", "status"]


# Assigning


def test_a_new_row_begins_in_the_initial_state():
    assert Paper().status == "draft"
    assert Paper().status_epoch == 0


def test_the_constructor_takes_any_state():
    assert Paper(status="rejected").status == "rejected"


def test_a_row_that_is_not_stored_may_be_assigned():
    paper = Paper()
    paper.status = "rejected"
    assert paper.status == "rejected"


def test_assigning_another_value_to_a_stored_row_is_refused():
    paper = Paper.objects.create()
    with pytest.raises(AssignmentRefused) as refused:
        paper.status = "published"
    assert str(refused.value) == (
        "Paper.status of a stored row cannot be assigned: it would move from 'draft' to 'published' without "
        "its transition. Fire a trigger, or call to_state(row, 'published', reason=…)."
    )
    assert paper.status == "draft"


def test_a_refused_assignment_tells_its_values():
    paper = Paper.objects.create()
    with pytest.raises(TransitionNotAllowed) as refused:
        paper.status = "published"
    assert (refused.value.row, refused.value.state) == (f"Paper {paper.pk}", "draft")


def test_assigning_the_equal_value_passes():
    paper = Paper.objects.create()
    paper.status = "draft"
    assert paper.status == "draft"


def test_assigning_a_member_of_an_enum_is_assigning_its_value():
    light = Light.objects.create(colour=Colour.RED)
    light.colour = Colour.RED
    assert type(light.colour) is str
    with pytest.raises(AssignmentRefused, match="from 'red' to 'green'"):
        light.colour = Colour.GREEN


@pytest.mark.parametrize("model", [Leaflet, Poster, BigPoster, PosterProxy])
def test_an_inherited_field_refuses_as_well(model):
    row = model.objects.create()
    with pytest.raises(AssignmentRefused, match=rf"{model.__name__}\.status of a stored row"):
        row.status = "printed"


def test_an_expression_is_another_value():
    paper = Paper.objects.create()
    with pytest.raises(AssignmentRefused):
        paper.status = models.F("title")


def test_a_refused_assignment_can_be_pickled():
    paper = Paper.objects.create()
    with pytest.raises(AssignmentRefused) as refused:
        paper.status = "published"
    error = pickle.loads(pickle.dumps(refused.value))
    assert (str(error), error.state, error.field) == (str(refused.value), "draft", "status")
    assert error.message_dict == refused.value.message_dict


# Loading


def test_refresh_from_db_brings_what_another_process_wrote():
    paper = Paper.objects.create()
    Paper.objects.get(pk=paper.pk).submit()
    paper.refresh_from_db()
    assert (paper.status, paper.status_epoch) == ("checking", 1)


def test_refresh_from_db_of_the_one_column_brings_it():
    paper = Paper.objects.create()
    Paper.objects.get(pk=paper.pk).submit()
    paper.refresh_from_db(fields=["status"])
    assert paper.status == "checking"


def test_after_a_refresh_assignments_are_refused_again():
    paper = Paper.objects.create()
    paper.refresh_from_db()
    with pytest.raises(AssignmentRefused):
        paper.status = "published"


def test_a_refresh_that_fails_leaves_the_assignment_refused():
    paper = Paper.objects.create()
    models.QuerySet(Paper).filter(pk=paper.pk)._raw_delete("default")
    with pytest.raises(Paper.DoesNotExist):
        paper.refresh_from_db()
    with pytest.raises(AssignmentRefused):
        paper.status = "published"


def test_a_deferred_status_is_read_when_it_is_asked_for(django_assert_num_queries):
    pk = Paper.objects.create(status="rejected").pk
    paper = Paper.objects.only("title").get(pk=pk)
    with django_assert_num_queries(1):
        assert paper.status == "rejected"


def test_a_loaded_row_reads_its_status_without_a_query(django_assert_num_queries):
    Paper.objects.create()
    paper = Paper.objects.get()
    with django_assert_num_queries(0):
        assert (paper.status, paper.status_epoch, paper.is_draft()) == ("draft", 0, True)


def test_a_row_with_a_deferred_status_can_be_fired():
    pk = Paper.objects.create().pk
    paper = Paper.objects.only("title").get(pk=pk)
    paper.submit()
    assert (paper.status, paper.status_epoch) == ("checking", 1)


def test_a_stale_row_whose_epoch_was_deferred_is_told_where_it_was():
    pk = Paper.objects.create().pk
    paper = Paper.objects.defer("status_epoch").get(pk=pk)
    paper.status_epoch = 4
    Paper.objects.get(pk=pk).submit()
    with pytest.raises(StaleState, match=r"no longer 'draft' \(epoch 4\)"):
        paper.submit()


def test_a_deferred_status_and_epoch_are_read_at_once(django_assert_num_queries):
    pk = Paper.objects.create(worth=False, status="rejected").pk
    paper = Paper.objects.defer("status", "status_epoch").get(pk=pk)
    with django_assert_num_queries(3):  # both columns, and the savepoint around a guard that refuses
        assert paper.revise() is False
        assert paper.status_epoch == 0


@pytest.mark.skipif(django.VERSION < (6, 1), reason="fetch modes are new in Django 6.1")
def test_peers_are_fetched_together():
    Paper.objects.create()
    Paper.objects.create(status="rejected")
    papers = list(Paper.objects.only("title").fetch_mode(models.FETCH_PEERS).order_by("pk"))
    assert [paper.status for paper in papers] == ["draft", "rejected"]


@pytest.mark.django_db(transaction=True)
def test_arefresh_from_db_passes():
    paper = Paper.objects.create()
    Paper.objects.get(pk=paper.pk).submit()
    async_to_sync(paper.arefresh_from_db)()
    assert paper.status == "checking"


def test_copies_keep_the_status():
    paper = Paper.objects.create(status="rejected")
    for copied in (copy.copy(paper), copy.deepcopy(paper), pickle.loads(pickle.dumps(paper))):
        assert (copied.status, copied.status_epoch, copied.pk) == ("rejected", 0, paper.pk)


# Forms


def test_a_form_shows_a_refused_assignment_beside_the_field():
    paper = Paper.objects.create()
    form = PaperForm({"title": "New", "status": "published"}, instance=paper)
    assert not form.is_valid()
    assert list(form.errors) == ["status"]
    assert "it would move from 'draft' to 'published'" in form.errors["status"][0]


def test_a_form_with_the_equal_status_is_saved():
    paper = Paper.objects.create()
    form = PaperForm({"title": "New", "status": "draft"}, instance=paper)
    assert form.is_valid(), form.errors
    form.save()
    paper.refresh_from_db()
    assert (paper.title, paper.status) == ("New", "draft")


def test_a_form_of_a_page_that_is_stale_is_an_error_and_no_move():
    paper = Paper.objects.create()
    paper.submit()
    form = PaperForm({"title": "New", "status": "draft"}, instance=Paper.objects.get(pk=paper.pk))
    assert not form.is_valid()


def test_a_form_of_a_new_row_chooses_its_first_state():
    form = PaperForm({"title": "New", "status": "rejected"})
    assert form.is_valid(), form.errors
    assert form.save().entries.get().state == "rejected"


def test_a_refused_assignment_is_a_validation_error():
    paper = Paper.objects.create()
    with pytest.raises(ValidationError) as refused:
        paper.status = "published"
    assert list(refused.value.message_dict) == ["status"]


# The column


def test_choices_are_the_states_and_their_labels():
    field = Paper._meta.get_field("status")
    assert field.choices[0] == ("draft", "Draft")
    assert [name for name, _ in field.choices] == [state.name for state in review.graph]


def test_the_display_is_the_label():
    assert Paper().get_status_display() == "Draft"
    assert Light().get_colour_display() == "Red"


def test_the_display_of_a_state_that_nobody_knows_is_its_name():
    assert Paper(status="forgotten").get_status_display() == "forgotten"


@pytest.mark.parametrize("model", [Paper, Leaflet, Poster])
def test_in_migrations_the_column_is_a_plain_char_field(model):
    field = model._meta.get_field("status")
    _, path, args, kwargs = field.deconstruct()
    assert (path, args) == ("django.db.models.CharField", [])
    assert kwargs == {"default": field.machine.initial, "max_length": 64}


def test_a_clone_is_a_plain_char_field_without_choices():
    clone = Paper._meta.get_field("status").clone()
    assert type(clone) is models.CharField
    assert clone.choices is None


def test_the_epoch_is_a_big_integer_that_the_database_fills_in_as_well():
    _, path, _, kwargs = Paper._meta.get_field("status_epoch").deconstruct()
    assert path == "django.db.models.BigIntegerField"
    assert kwargs == {"default": 0, "db_default": 0, "editable": False}


def test_the_epoch_is_added_to_concrete_models_only():
    owners = {
        f.model for model in (Leaflet, Poster, BigPoster) for f in model._meta.fields if type(f) is EpochField
    }
    assert owners == {Leaflet, Poster}


def test_options_of_a_char_field_are_passed_on():
    field = StateField(printing, max_length=20, db_index=True, verbose_name="where", default="jammed")
    assert field.deconstruct()[3] == {
        "max_length": 20,
        "db_index": True,
        "verbose_name": "where",
        "default": "jammed",
    }


# Declaring


@isolate_apps("tests.oddities")
def test_a_child_cannot_have_the_machine_of_its_parents_column():
    machine = pipeline("shared")

    class Parent(StateMachineModel):
        status = StateField(machine)

        class Meta:
            app_label = "oddities"

    with pytest.raises(
        DeclarationError, match=r"Child\.other has the machine that Parent is bound to already"
    ):

        class Child(Parent):
            other = StateField(machine, methods="other_")

            class Meta:
                app_label = "oddities"


@isolate_apps("tests.oddities")
def test_a_column_that_is_written_with_the_status_must_be_in_the_same_table():
    machine = StateMachine(
        name="stamped",
        states=["new", "done"],
        transitions=[{"trigger": "go", "source": "new", "dest": "done", "writes": "note"}],
        initial="new",
    )

    class Parent(models.Model):
        note = models.TextField()

        class Meta:
            app_label = "oddities"

    with pytest.raises(DeclarationError, match="names 'note', which is no column of Child's own table"):

        class Child(StateMachineModel, Parent):
            status = StateField(machine)

            class Meta:
                app_label = "oddities"


@isolate_apps("tests.oddities")
@pytest.mark.parametrize("word", ["adopted", "created", "step"])
def test_a_trigger_is_not_called_what_entries_say_where_none_was_fired(word):
    with pytest.raises(
        DeclarationError, match=f"The trigger '{word}' of new --{word}--> done is what entries"
    ):

        class Logged(StateMachineModel):
            status = StateField(
                StateMachine(
                    name="logged", states=["new", "done"], transitions=[[word, "new", "done"]], initial="new"
                )
            )

            class Meta:
                app_label = "oddities"


@isolate_apps("tests.oddities")
def test_a_class_of_another_registry_is_left_out_of_the_sweep():
    class Elsewhere(StateMachineModel):
        status = StateField(pipeline("elsewhere"))

        class Meta:
            app_label = "oddities"

    assert ("oddities.elsewhere", "status") not in bindings
    assert ("oddities.locked", "status") in bindings


# lock=True


def elsewhere(row, trigger):
    getattr(type(row).objects.get(pk=row.pk), trigger)()


def test_a_locking_field_fires_from_where_the_row_is():
    row = Locked.objects.create(status="broken")
    stale = Locked.objects.get(pk=row.pk)
    pipeline_of(row).to_state(row, "new", reason="test")
    stale.start()
    assert (stale.status, stale.status_epoch) == ("working", 2)


def pipeline_of(row):
    return type(row)._meta.get_field("status").machine


def test_a_locking_field_cannot_skip_a_stage_that_began_meanwhile():
    row = Locked.objects.create()
    elsewhere(row, "start")
    with pytest.raises(TransitionNotAllowed, match="whose task alone fires 'advance'"):
        row.advance()


def test_a_locking_field_reads_a_child_as_a_child():
    row = LockedChild.objects.create(size=3)
    LockedChild.objects.filter(pk=row.pk).update(size=4)
    row.start()
    assert (row.status, row.size) == ("working", 4)


def test_a_locking_field_of_a_row_that_is_gone_is_stale():
    row = Locked.objects.create()
    Locked.objects.filter(pk=row.pk).delete()
    with pytest.raises(StaleState):
        row.start()


# What is written with the status


def test_writes_and_stamps_go_into_the_statement_of_the_status():
    light = Light.objects.create()
    light.shelf, light.note = Shelf.objects.create(), "unsaved"
    with CaptureQueriesContext(connection) as queries:
        light.go()
    table = connection.ops.quote_name("oddities_light")
    (update,) = [q["sql"] for q in queries if f"UPDATE {table}" in q["sql"]]
    assert all(column in update for column in ("colour", "went_at", "changed_at", "shelf_id"))
    assert "note" not in update


def test_what_an_edge_does_not_write_stays_in_memory_unsaved():
    light = Light.objects.create()
    light.shelf, light.note = Shelf.objects.create(), "unsaved"
    light.go()
    stored = Light.objects.get(pk=light.pk)
    assert (light.note, stored.note) == ("unsaved", "")
    assert stored.shelf == light.shelf


def test_an_auto_now_column_that_an_edge_writes_is_the_time_of_the_edge():
    light = Light.objects.create()
    before = light.changed_at
    light.go()
    assert Light.objects.get(pk=light.pk).changed_at == light.changed_at > before


def test_a_stamp_is_the_databases_instant_of_entry():
    light = Light.objects.create()
    light.go()
    assert light.went_at == Light.objects.get(pk=light.pk).went_at
    assert abs(light.went_at - Entry.objects.get(open=True).entered_at).total_seconds() < 1


def test_journal_fields_are_written_apart():
    journal = Journal.objects.create()
    journal.review_submit()
    journal.print_start()
    stored = Journal.objects.get(pk=journal.pk)
    assert (stored.status, stored.status_epoch) == ("checking", 1)
    assert (stored.print_status, stored.print_status_epoch) == ("printing", 1)
