"""`RenameState`: rows and entries move together, and whoever is at work meanwhile goes on."""

from functools import cache
from textwrap import dedent
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.db import migrations
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter
from django.db.models import Q

from integration import recovery, stage
from integration.audit import audit
from integration.entries import Entry
from integration.operations import RenameState
from integration.protocol import claim
from integration.stage import Outcome
from statemachine import LeaseLost
from tests.integration.rows import agree, answer, paper_in, pending, raw, trail
from tests.integration.test_deploys import letter_of_old_code, stored
from tests.integration.test_migrations import ADOPTING, Project
from tests.oddities import tasks  # noqa: F401  (declares the bodies)
from tests.oddities.models import Express, Letter, Parcel
from tests.papers.models import Journal, Paper

django_db = pytest.mark.django_db


@cache
def project_state():
    """The models as migrations see them; made once, because it takes a while."""
    return ProjectState.from_apps(apps)


def run(operation, *, backwards=False, alias="default"):
    """What the migration executor does with an operation, without a schema editor's own transaction."""
    state = project_state()
    move = operation.database_backwards if backwards else operation.database_forwards
    move("papers", SimpleNamespace(connection=SimpleNamespace(alias=alias)), state, state)


def rename(old="sort", new="sorting", **options):
    return RenameState("oddities", "letter", "status", old=old, new=new, **options)


def states(row):
    return [(entry.source, entry.state) for entry in row.entries.order_by("epoch", "step")]


@django_db
def test_a_row_and_its_entries_get_the_new_name_and_keep_their_place():
    letter, other = letter_of_old_code(), Letter.objects.create()
    before = pending(letter)
    run(rename())
    after = pending(letter)
    assert stored(letter) == "sorting"
    assert after.state == "sorting"
    kept = ("pk", "epoch", "step", "attempt", "strikes", "ready_at", "due_at", "task")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert states(other) == [("", "written")]
    assert agree(letter)
    assert not list(audit())


@django_db
def test_the_past_is_renamed_too_and_no_other_field_or_model(bodies):
    letter, paper, journal = Letter.objects.create(), paper_in("checking"), Journal.objects.create()
    letter.post()
    letter.entries.filter(state="sorting").update(state="sort")
    raw(letter, status="sort")
    machine = Letter._meta.get_field("status").machine
    machine.to_state(Letter.objects.get(), "lost", reason="a test")
    letter.entries.filter(open=True).update(source="sort")
    Entry.objects.filter(model="papers.paper").update(source="sort")
    run(rename())
    assert states(letter) == [("", "written"), ("written", "sorting"), ("sorting", "lost")]
    assert set(paper.entries.values_list("source", flat=True)) == {"sort"}
    journal.review_submit()
    run(RenameState("papers", "journal", "print_status", old="waiting", new="checking"))
    assert sorted(journal.entries.values_list("field", "state")) == [
        ("print_status", "checking"),
        ("status", "checking"),
        ("status", "draft"),
    ]


@django_db
def test_it_may_be_repeated_and_taken_back():
    letter = letter_of_old_code()
    run(rename())
    run(rename())
    assert (stored(letter), pending(letter).state) == ("sorting", "sorting")
    run(rename(), backwards=True)
    assert (stored(letter), pending(letter).state) == ("sort", "sort")
    run(rename(old="sorting", new="sort"))
    assert states(letter)[-1] == ("written", "sort")


@django_db
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_every_batch_size_comes_to_the_end(size):
    letters = [letter_of_old_code() for _ in range(5)]
    Entry.objects.filter(state="written").update(state="sort", source="sort")  # all left
    run(rename(batch_size=size))
    assert [stored(letter) for letter in letters] == ["sorting"] * 5
    assert not Entry.objects.filter(Q(state="sort") | Q(source="sort")).exists()


@django_db
def test_a_running_stage_goes_on_under_code_that_knows_both_names(monkeypatch):
    letter = letter_of_old_code(task="oddities.mark")
    monkeypatch.setitem(stage.bodies, "oddities.stamp", lambda stage: run(rename()))
    assert answer(letter) is Outcome.FINISHED
    assert trail(letter)[-1] == "advance delivered"
    assert not list(audit())


@django_db
def test_a_stage_that_old_code_runs_is_superseded_and_done_again_by_new_code(bodies, runs):
    """The papers' code knows one name of the state: to it the row went somewhere unknown."""
    paper = paper_in("checking")

    def body(stage):
        run(RenameState("papers", "paper", "status", old="checking", new="of_newer_code"))
        with pytest.raises(LeaseLost), stage.finish():
            pass

    bodies["papers.check"] = body
    assert answer(paper) is Outcome.SUPERSEDED
    assert Paper.objects.values_list("status", "status_epoch").get() == ("of_newer_code", 1)
    assert pending(paper).state == "of_newer_code"
    assert pending(paper).due_at is not None
    assert recovery.scan(everything=True).adopted == 0


@django_db
def test_a_child_of_multi_table_inheritance_means_its_parents_column():
    child, parent = Express.objects.create(), Parcel.objects.create()
    run(RenameState("oddities", "express", "status", old="new", new="fresh"))
    run(RenameState("oddities", "Express", "handover", old="new", new="offered"))
    assert set(Parcel.objects.values_list("status", flat=True)) == {"fresh"}
    assert Express.objects.values_list("handover", flat=True).get() == "offered"
    assert sorted(child.entries.values_list("model", "field", "state")) == [
        ("oddities.express", "handover", "offered"),
        ("oddities.parcel", "status", "fresh"),
    ]
    assert parent.entries.get().state == "fresh"


@django_db
def test_a_primary_key_that_is_no_number_is_found_in_the_entries():
    journal = Journal.objects.create()
    run(RenameState("papers", "journal", "status", old="draft", new="begun"))
    assert sorted(journal.entries.values_list("field", "state")) == [
        ("print_status", "waiting"),
        ("status", "begun"),
    ]


@django_db
def test_an_entry_that_a_worker_claims_meanwhile_keeps_its_claim():
    letter = letter_of_old_code()
    entry = pending(letter)
    letter.entries.filter(open=True).update(attempt=3, strikes=2, worker="w")
    run(rename())
    after = pending(letter)
    assert (after.attempt, after.strikes, after.worker, after.state) == (3, 2, "w", "sorting")
    assert claim(entry, using="default", lease=after.ready_at - after.ready_at, worker="x") is None


@django_db
def test_a_router_keeps_it_from_a_database(settings):
    class Nowhere:
        def allow_migrate(self, alias, app_label, model_name=None, **hints):
            return model_name != "letter"

    letter = letter_of_old_code()
    settings.DATABASE_ROUTERS = [Nowhere()]
    run(rename())
    assert stored(letter) == "sort"


@pytest.mark.parametrize(("old", "new"), [("", "a"), ("a", ""), ("a", "a")])
def test_what_renames_nothing_is_refused(old, new):
    with pytest.raises(ValueError, match="renames nothing: pass the name that is stored as old"):
        rename(old, new)


def test_it_says_what_it_does_and_can_be_written_down():
    operation = rename(batch_size=7, elidable=True)
    assert operation.describe() == "Rename the state 'sort' of oddities.letter.status to 'sorting'"
    assert operation.migration_name_fragment == "rename_letter_sort_to_sorting"
    migration = type("Migration", (migrations.Migration,), {"operations": [operation]})("m", "oddities")
    text, namespace = MigrationWriter(migration).as_string(), {}
    exec(text, namespace)
    (copy,) = namespace["Migration"].operations
    assert (copy.app_label, copy.model_name, copy.field_name) == ("oddities", "letter", "status")
    assert (copy.old, copy.new, copy.batch_size, copy.elidable) == ("sort", "sorting", 7, True)
    other = migrations.RunSQL("SELECT 1")
    assert operation.reduce(other, "oddities") == [other]
    assert rename().reduce(other, "oddities") is False


MACHINE = """
from statemachine import Enqueue, State, StateMachine

order = StateMachine(
    name="order",
    states=[
        State("new", waits_for="the clerk"),
        State({packing}, on_enter=Enqueue("shop.pack")),
        State("sent", final=True),
        State("torn", waits_for="the clerk"),
    ],
    transitions=[
        ["pack", ["new", "torn"], {name!r}],
        ["advance", {name!r}, "sent"],
        ["fail", {name!r}, "torn"],
    ],
    initial="new",
)


def machine(name):
    return order
"""


@pytest.mark.slow
def test_a_project_renames_a_state_forwards_and_backwards(tmp_path):
    project = Project(tmp_path)
    project.models(ADOPTING)
    project.write("shop/machine.py", MACHINE.format(packing="'packing'", name="packing"))
    project.run(
        "makemigrations shop",
        "migrate",
        "migrate --database other",
        then="""
        for using in ("default", "other"):
            Order(status="packing").save(using=using)
        """,
    )
    project.write(
        "shop/machine.py", MACHINE.format(packing="'wrapping', formerly='packing'", name="wrapping")
    )
    project.write(
        "shop/migrations/0002_wrapping.py",
        dedent(
            """
            from django.db import migrations

            from integration.operations import RenameState


            class Migration(migrations.Migration):
                atomic = False
                dependencies = [("shop", "0001_initial"), ("statemachine", "0001_initial")]
                operations = [RenameState("shop", "order", "status", old="packing", new="wrapping")]
            """
        ),
    )
    told = """
    from django.db import connections

    for using in ("default", "other"):
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT status FROM shop_order")
            print(cursor.fetchall(), [e.state for e in Entry.objects.using(using)])
    print(Order.objects.get().status, Order.objects.in_state("wrapping").count())
    """
    old, new = "[('packing',)] ['packing']\n", "[('wrapping',)] ['wrapping']\n"
    assert project.run(then=told) == f"{old}{old}wrapping 1\n"
    assert project.run("makemigrations --check shop", "migrate -v0", then=told).endswith(
        f"{new}{old}wrapping 1\n"
    )
    assert "CANNOT BE WRITTEN AS SQL" in project.run("sqlmigrate shop 0002")
    assert project.run("migrate -v0 --database other", then=told).endswith(f"{new}{new}wrapping 1\n")
    assert project.run("migrate -v0 shop 0001", then=told).endswith(f"{old}{new}wrapping 1\n")
