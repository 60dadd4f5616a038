"""Rows, entries and messages of the code before: under former names, or of what this code does not know."""

import json
from datetime import timedelta

import pytest
from django.core import serializers
from django.db import connection, models
from django.db.models import Count, Q

from integration import recovery, stage, status
from integration.audit import audit
from integration.binding import message_of
from integration.body import put_back
from integration.entries import Entry
from integration.models import AssignmentRefused
from integration.protocol import adopt, later
from integration.stage import Outcome
from statemachine import DeclarationError, Enqueue, StaleState, State
from tests.integration.rows import answer, elapse, paper_in, pending, raw, subject_of, trail, where
from tests.oddities.models import Envelope, Letter
from tests.papers.machine import review
from tests.papers.models import Paper

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def stored(row):
    """The status as the database has it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT status FROM oddities_letter WHERE id = %s", [row.pk])
        return cursor.fetchone()[0]


def letter_of_old_code(state="sort", *, task=None, entry_state=None):
    """A row and its open entry, as the code before the deploy wrote them."""
    letter = Letter.objects.create()
    machine = Letter._meta.get_field("status").machine
    today = machine.graph.named[state].name
    if today != "written":
        machine.to_state(letter, today, reason="the test begins here")
    raw(letter, status=state)
    letter.entries.filter(open=True).update(state=entry_state or state)
    if task is not None:
        letter.entries.filter(open=True).update(task=task)
    assert stored(letter) == state
    return Letter.objects.get(pk=letter.pk)


@pytest.fixture
def did(monkeypatch):
    """What the letters' tasks were run for, by today's names."""
    done = []
    for task in ("oddities.sort", "oddities.stamp"):
        monkeypatch.setitem(stage.bodies, task, lambda stage, task=task: done.append((task, stage.row.pk)))
    return done


# A row that holds a former name


@pytest.mark.parametrize("name", ["sort", "order", "sorting"])
def test_a_former_name_reads_as_todays(name):
    letter = letter_of_old_code(name)
    assert letter.status == "sorting"
    assert letter.is_sorting()
    assert "inside" in letter.state.tags
    assert Letter.objects.values_list("status", flat=True).get() == "sorting"
    assert Letter.objects.only("pk").get().status == "sorting"
    letter.refresh_from_db()
    assert letter.status == "sorting"


@pytest.mark.parametrize("name", ["sort", "order", "sorting"])
def test_a_row_is_found_by_every_name_of_its_state(name):
    letter = letter_of_old_code(name)
    Envelope.objects.create(letter=letter)
    other = Letter.objects.create()
    assert list(Letter.objects.in_state("sorting")) == [letter]
    assert list(Letter.objects.tagged("inside")) == [letter]
    for asked in ("sort", "order", "sorting"):
        assert list(Letter.objects.filter(status=asked)) == [letter]
        assert list(Letter.objects.filter(Q(status__in=[asked, "lost"]))) == [letter]
        assert list(Letter.objects.exclude(status=asked)) == [other]
        assert list(Letter.objects.exclude(status__in=[asked])) == [other]
        assert Envelope.objects.filter(letter__status=asked).count() == 1
        assert Letter.objects.aggregate(n=Count("pk", filter=Q(status=asked)))["n"] == 1
    assert Letter.objects.filter(status=models.F("status")).count() == 2
    assert Letter.objects.filter(status__in=Letter.objects.values("status")).count() == 2
    assert Letter.objects.get_or_create(status="sorting")[0] == letter
    assert not Letter.objects.filter(status="nonsense").exists()


def test_a_machine_without_former_names_asks_the_database_as_before():
    field = Paper._meta.get_field("status")
    assert field.get_lookup("exact") is models.CharField().get_lookup("exact")
    assert 'status" = ' in str(Paper.objects.filter(status="draft").query).replace("`", '"')
    assert field.get_db_converters(connection) == models.CharField().get_db_converters(connection)


def test_the_code_of_today_names_states_by_todays_names():
    with pytest.raises(DeclarationError, match="'sort' is no state of letter"):
        Letter.objects.in_state("sort")
    letter = letter_of_old_code()
    with pytest.raises(DeclarationError, match="'sort' is no state of letter"):
        Letter._meta.get_field("status").machine.to_state(letter, "sort", reason="a test")


@pytest.mark.parametrize("name", ["new", "written"])
def test_a_row_under_a_former_name_is_fired_and_writes_todays(name):
    letter = letter_of_old_code(name)
    assert letter.may_post()
    letter.post()
    assert stored(letter) == "sorting"
    assert where(letter) == ("sorting", 1)
    assert [entry.source for entry in letter.entries.all()] == ["", "written"]
    assert pending(letter).task == "oddities.sort"


def test_a_row_under_a_former_name_is_moved_by_hand_once():
    letter = letter_of_old_code()
    stale = Letter.objects.get(pk=letter.pk)
    machine = Letter._meta.get_field("status").machine
    machine.to_state(letter, "lost", reason="a test", expect="sort")
    assert (stored(letter), letter.status) == ("lost", "lost")
    with pytest.raises(StaleState):
        machine.to_state(stale, "written", reason="a test")


def test_an_instance_of_old_code_is_fired_too():
    letter = letter_of_old_code("new")
    letter.__dict__["status"] = "new"  # as a pickle of the old code brings it
    letter.post()
    assert where(letter) == ("sorting", 1)


def test_a_status_of_old_code_that_was_loaded_without_its_epoch_is_no_stale_one():
    letter_of_old_code("new")
    letter = Letter.objects.only("status").get()
    letter.__dict__["status"] = "new"
    letter.post()
    assert where(letter) == ("sorting", 1)


def test_a_body_sees_todays_name_of_an_entry_of_old_code():
    letter = letter_of_old_code()
    binding = Letter._meta.get_field("status").binding
    put_back(letter, pending(letter), binding)
    assert pending(letter).state == "sort"
    assert letter.status == "sorting"


def test_what_a_row_is_called_anew_is_no_assignment():
    letter = letter_of_old_code()
    letter.status = "order"
    letter.__dict__["status"] = "sort"
    letter.status = "sorting"
    letter.save()
    assert stored(letter) == "sort"
    with pytest.raises(AssignmentRefused):
        letter.status = "done"


def test_a_row_that_is_created_under_a_former_name_has_todays():
    letter = Letter.objects.create(status="sort")
    assert (stored(letter), pending(letter).state) == ("sorting", "sorting")


def test_a_fixture_of_old_code_is_loaded_under_todays_name():
    data = json.dumps([{"model": "oddities.letter", "pk": 9, "fields": {"status": "sort"}}])
    for loaded in serializers.deserialize("json", data):
        loaded.save()
    assert Letter.objects.get(pk=9).status == "sorting"


def test_a_former_name_is_in_no_migration():
    _, path, _, kwargs = Letter._meta.get_field("status").deconstruct()
    assert path == "django.db.models.CharField"
    assert "formerly" not in str(kwargs)
    assert type(Letter._meta.get_field("status").clone()) is models.CharField


# An entry that holds a former name


@pytest.mark.parametrize("entry_state", ["sort", "order", "sorting"])
@pytest.mark.parametrize("task", ["oddities.order", "oddities.sort"])
@pytest.mark.parametrize("rung", ["oddities.order", "oddities.sort"])
def test_work_that_old_code_began_is_finished_under_todays_names(did, entry_state, task, rung):
    letter = letter_of_old_code(task=task, entry_state=entry_state)
    assert answer(letter, task=rung) is Outcome.FINISHED
    assert pending(letter).task == "oddities.stamp"
    assert answer(letter) is Outcome.FINISHED
    assert did == [("oddities.sort", letter.pk), ("oddities.stamp", letter.pk)]
    assert stored(letter) == "delivered"


def test_the_second_step_of_old_code_is_not_the_first_again(did):
    letter = letter_of_old_code(task="oddities.mark")
    assert answer(letter, task="oddities.mark") is Outcome.FINISHED
    assert did == [("oddities.stamp", letter.pk)]
    assert stored(letter) == "delivered"


def test_a_message_to_another_step_is_dropped_by_whatever_name(did):
    letter = letter_of_old_code(task="oddities.order")
    assert answer(letter, task="oddities.mark") is Outcome.DROPPED
    assert answer(letter, task="oddities.stamp") is Outcome.DROPPED
    assert answer(letter, task="") is Outcome.DROPPED
    assert not did


def test_an_entry_of_old_code_is_rung_at_todays_task_and_queue(mailbox):
    letter = letter_of_old_code(task="oddities.order")
    elapse(letter)
    mailbox.messages.clear()
    assert recovery.sweep().rung == 1
    assert [(message.task, message.queue) for message in mailbox.messages] == [("oddities.sort", "sorters")]
    assert message_of(pending(letter), "default").entry == pending(letter).pk


def test_a_timer_of_old_code_fires():
    letter = letter_of_old_code("gone")
    elapse(letter)
    assert answer(letter) is Outcome.FINISHED
    assert (stored(letter), trail(letter)[-1]) == ("delivered", "drop delivered")


def test_a_stage_of_old_code_that_is_out_of_attempts_is_given_up(did):
    letter = letter_of_old_code(task="oddities.order")
    letter.entries.filter(open=True).update(strikes=99)
    assert answer(letter) is Outcome.GIVEN_UP
    assert where(letter)[0] == "lost"


@pytest.mark.parametrize("row", ["sort", "order", "sorting"])
@pytest.mark.parametrize("entry", ["sort", "order", "sorting"])
def test_two_names_of_a_state_agree(row, entry):
    letter = letter_of_old_code(row, entry_state=entry)
    binding = Letter._meta.get_field("status").binding
    assert not recovery.disagreeing(binding, "default").exists()
    assert adopt(subject_of(letter), binding.states) is None
    assert not list(status.strangers())


@pytest.mark.parametrize("state", ["sort", "order", "gone"])
def test_a_row_of_old_code_without_an_entry_is_adopted_under_todays_name(mailbox, state):
    letter = letter_of_old_code(state)
    letter.entries.all().delete()
    assert recovery.scan().adopted == 1
    today = {"gone": "lost"}.get(state, "sorting")
    assert (stored(letter), pending(letter).state) == (today, today)
    assert where(letter) == (today, pending(letter).epoch)
    assert recovery.scan().adopted == 0


def test_a_row_of_old_code_in_work_without_a_task_is_adopted(mailbox):
    letter = letter_of_old_code(task="")
    assert recovery.scan().adopted == 1
    assert pending(letter).task == "oddities.sort"


def test_entries_of_old_code_are_known_and_others_stand_out():
    letter_of_old_code(task="oddities.mark")
    letter_of_old_code(task="oddities.taken_out")
    assert [(found.state, found.task) for found in status.strangers()] == [("sort", "oddities.taken_out")]


# A declaration that changed under rows that are there


@pytest.fixture
def declare():
    """Declare a state of the papers anew, as a deploy does, for as long as the test lasts."""
    before = dict(review.states)

    def declare(name, **options):
        review.states[name] = State(name, **options)
        review._graph = None

    yield declare
    review.states.update(before)
    review._graph = None


def test_a_task_that_is_given_to_an_occupied_state_begins(
    mailbox, declare, bodies, runs, django_capture_on_commit_callbacks
):
    paper = paper_in("draft")
    declare("draft", on_enter=Enqueue("papers.check"), done="submit", failed="submit")
    with django_capture_on_commit_callbacks(execute=True):
        assert recovery.scan().adopted == 1
    assert trail(paper) == ["created draft", "adopted draft"]
    assert mailbox.tasks == ["papers.check"]
    assert answer(paper) is Outcome.FINISHED
    assert runs == [("papers.check", paper.pk, 1)]
    assert where(paper)[0] == "checking"


def test_a_timer_that_is_given_to_an_occupied_state_counts_from_the_entry(declare):
    paper, fresh = paper_in("draft"), paper_in("draft")
    paper.entries.filter(open=True).update(entered_at=later(None, -2 * DAY))
    declare("draft", waits_for="the author", after=(DAY, "submit"))
    assert recovery.scan().adopted == 2
    assert recovery.scan().adopted == 0
    assert trail(paper) == ["created draft"]
    assert pending(paper).due_at == pending(paper).ready_at == pending(paper).entered_at + DAY
    assert answer(fresh) is Outcome.DROPPED
    assert answer(paper) is Outcome.FINISHED
    assert where(paper)[0] == "checking"


def test_a_timer_that_was_taken_out_rings_no_more_and_may_be_given_back(declare):
    paper, after = paper_in("rejected"), review.states["rejected"].after
    declare("rejected", waits_for="the author")
    elapse(paper)
    assert answer(paper) is Outcome.DROPPED
    assert pending(paper).due_at is None
    assert recovery.scan().adopted == 0
    declare("rejected", waits_for="the author", after=after)
    assert recovery.scan().adopted == 1
    assert pending(paper).due_at == pending(paper).entered_at + after[0]


def test_the_sweep_rings_a_timer_that_was_taken_out_so_that_it_is_disarmed(mailbox, declare):
    paper = paper_in("rejected")
    declare("rejected", waits_for="the author")
    elapse(paper)
    assert list(status.strangers()) == []
    assert recovery.sweep().rung == 1
    assert [message.entry for message in mailbox.messages] == [pending(paper).pk]
    assert answer(paper) is Outcome.DROPPED
    assert status.health()
    assert list(audit()) == []


def test_a_parked_timer_is_not_armed_again_by_a_scan():
    paper = paper_in("rejected")
    paper.entries.filter(open=True).update(due_at=None, error="'discard': a guard refused")
    assert recovery.scan(everything=True).adopted == 0
    assert adopt(subject_of(paper), review.graph.named) is None
    assert pending(paper).due_at is None


def test_a_timer_that_is_armed_is_left_as_it_is(declare):
    paper = paper_in("rejected")
    before = pending(paper).due_at
    declare("rejected", waits_for="the author", after=(DAY, "discard"))
    assert recovery.scan().adopted == 0
    assert adopt(subject_of(paper), review.graph.named) is None
    assert pending(paper).due_at == before


def test_rows_of_an_unknown_state_are_left_and_the_rest_is_swept_scanned_and_answered(
    mailbox, bodies, django_capture_on_commit_callbacks
):
    unknown, known, bare = paper_in("checking"), paper_in("checking"), paper_in("checking")
    raw(unknown, status="of_newer_code")
    unknown.entries.filter(open=True).update(state="of_newer_code", task="papers.newer")
    bare.entries.all().delete()
    for paper in (unknown, known):
        elapse(paper)
    mailbox.messages.clear()
    with django_capture_on_commit_callbacks(execute=True):
        assert recovery.sweep().rung == 1
        assert recovery.scan(everything=True).adopted == 1
    assert sorted(mailbox.tasks) == ["papers.check"] * 2
    entry = pending(unknown)
    assert stage.run(entry.pk, task="papers.newer") is Outcome.DROPPED
    assert Entry.objects.get(pk=entry.pk).attempt == 0
    assert where(unknown) == ("of_newer_code", 1)
    assert answer(known) is Outcome.FINISHED
