"""The system checks: each id fires, and a project in order is clean."""

from datetime import timedelta

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.checks.registry import registry
from django.core.management import call_command
from django.db import connections, models
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test.utils import isolate_apps

from integration.checks import NUMBERS, check_databases, check_fields, check_graphs
from integration.entries import Entry
from integration.models import StateField, StateMachineModel
from integration.protocol import later
from statemachine import Enqueue, State, StateMachine
from statemachine.verify import PROPERTIES
from tests.oddities.models import pipeline
from tests.papers.models import Paper


class Meta:
    app_label = "oddities"


@pytest.fixture
def isolated():
    with isolate_apps("tests.oddities") as registry:
        yield registry


def model_of(field, bases=(StateMachineModel,), **columns):
    """A throwaway model with a field; call it in an isolated registry."""
    return type("Throwaway", bases, {"__module__": __name__, "Meta": Meta, "status": field, **columns})


def found(check, isolated):
    return {message.id for message in check([isolated.get_app_config("oddities")])}


def machine(states, transitions, **options):
    return StateMachine(
        name="bad", states=states, transitions=transitions, **{"initial": "new", "goal": "done", **options}
    )


WAITING = State("new", waits_for="a person")
WORKING = State("new", on_enter=Enqueue("oddities.work"))
DONE = State("done", final=True)
GO = ["go", "new", "done"]

BAD_GRAPHS = {
    "E101": lambda: machine(
        [WAITING, DONE, State("lost", waits_for="a person")], [GO, ["go", "lost", "done"]]
    ),
    "E102": lambda: machine(
        [WAITING, DONE, State("loop", waits_for="a person")],
        [GO, ["turn", "new", "loop"], ["turn", "loop", "="]],
    ),
    "E103": lambda: machine([WORKING, DONE], [["fail", "new", "done"]]),
    "E104": lambda: machine([WORKING, DONE], [["advance", "new", "done"]]),
    "W104": lambda: machine(
        [WORKING, DONE],
        [
            ["advance", "new", "done"],
            {"trigger": "fail", "source": "new", "dest": "done", "conditions": "perhaps"},
        ],
    ),
    "E105": lambda: machine(
        [WAITING, DONE, State("end", waits_for="a person")], [GO, ["stop", "new", "end"]]
    ),
    "W106": lambda: machine([WAITING, DONE], [GO, ["back", "done", "new"]]),
    "W107": lambda: machine(["new", DONE], [GO]),
    "E108": lambda: machine([State("new", after=(timedelta(days=1), "ring")), DONE], [GO]),
    "W109": lambda: machine(
        [WAITING, DONE, State("other", final=True)], [GO, ["go", "new", "other"], ["stay", "new", "other"]]
    ),
}


@pytest.mark.parametrize("number", BAD_GRAPHS)
def test_a_property_that_does_not_hold_has_an_id(number, isolated):
    model_of(StateField(BAD_GRAPHS[number]()), perhaps=lambda self, event: True)
    assert f"statemachine.{number}" in found(check_graphs, isolated)


def test_every_property_has_an_id_that_fires():
    assert NUMBERS.keys() == PROPERTIES.keys()
    assert {number[1:] for number in BAD_GRAPHS} == {str(number) for number in NUMBERS.values()}


def test_the_ids_are_stable():
    assert NUMBERS == {
        "reachable": 101,
        "can-reach-goal": 102,
        "finished-stage-moves-on": 103,
        "stage-can-be-given-up": 104,
        "can-be-left": 105,
        "final-is-an-end": 106,
        "names-who-moves-it": 107,
        "timer-can-fire": 108,
        "edge-can-be-taken": 109,
    }


def test_a_finding_shows_the_way_there_and_what_to_do(isolated):
    field = StateField(BAD_GRAPHS["E103"]())
    model_of(field)
    (message,) = (
        m for m in check_graphs([isolated.get_app_config("oddities")]) if m.id == "statemachine.E103"
    )
    assert message.msg.startswith("finished-stage-moves-on: 'new' runs 'oddities.work'")
    assert "1. starts in 'new'" in message.msg
    assert "Declare an edge of 'advance' from 'new'" in message.hint
    assert str(message.obj) == "oddities.Throwaway.status"


def test_a_graph_in_order_has_no_findings(isolated):
    model_of(StateField(pipeline("good")))
    assert found(check_graphs, isolated) == found(check_fields, isolated) == set()


def test_a_model_that_is_no_state_machine_model_is_an_error(isolated):
    model_of(StateField(pipeline("plain")), bases=(models.Model,))
    assert found(check_fields, isolated) == {"statemachine.E001"}


def test_a_composite_primary_key_is_an_error(isolated):
    model_of(
        StateField(pipeline("composite")),
        a=models.IntegerField(),
        b=models.IntegerField(),
        pk=models.CompositePrimaryKey("a", "b"),
    )
    assert found(check_fields, isolated) == {"statemachine.E002"}


def test_a_column_that_is_too_short_is_an_error_that_names_the_length(isolated):
    model_of(StateField(pipeline("short"), max_length=6))
    (message,) = check_fields([isolated.get_app_config("oddities")])
    assert message.id == "statemachine.E003"
    assert message.msg == "The column holds 6 characters, which is too short for: working."
    assert message.hint == "Pass max_length=7, or shorten the names."


def test_a_primary_key_that_an_entry_cannot_hold_is_an_error(isolated):
    model_of(StateField(pipeline("long")), code=models.CharField(max_length=200, primary_key=True))
    (message,) = check_fields([isolated.get_app_config("oddities")])
    assert message.id == "statemachine.E004"
    assert message.msg == "The primary key can have 200 characters, and an entry holds 190."


def test_a_trigger_that_an_entry_cannot_hold_is_an_error(isolated):
    model_of(StateField(machine([WAITING, DONE], [["g" * 101, "new", "done"]])))
    assert found(check_fields, isolated) == {"statemachine.E004"}


def test_an_inherited_column_is_checked_once(isolated):
    parent = model_of(StateField(pipeline("parent"), max_length=6))
    type("Child", (parent,), {"__module__": __name__, "Meta": Meta})
    type("Proxy", (parent,), {"__module__": __name__, "Meta": type("M", (Meta,), {"proxy": True})})
    assert len(check_fields([isolated.get_app_config("oddities")])) == 1


# Databases


@pytest.mark.django_db
def test_sqlite_without_immediate_transactions_is_a_warning(tmp_path):
    options = {
        **connections["default"].settings_dict,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "deferred.sqlite3"),
    }
    connections["deferred"] = DatabaseWrapper({**options, "OPTIONS": {}}, "deferred")
    try:
        (warning,) = check_databases(["deferred"])
    finally:
        connections["deferred"].close()
        del connections["deferred"]
    assert warning.id == "statemachine.W001"
    assert '["transaction_mode"] = "IMMEDIATE"' in warning.hint


@pytest.mark.django_db
def test_parked_entries_are_a_warning():
    Paper.objects.create(status="checking")
    assert check_databases(["default"]) == []
    Entry.objects.update(due_at=None, error="nobody handles this")
    (warning,) = check_databases(["default"])
    assert warning.id == "statemachine.W002"


@pytest.mark.django_db
def test_entries_that_no_code_answers_are_a_warning():
    Paper.objects.create(status="checking")
    Entry.objects.update(state="gone")
    (warning,) = check_databases(["default"])
    assert warning.id == "statemachine.W003"
    assert "no code here answers papers.paper.status in 'gone'" in warning.msg


@pytest.mark.django_db
def test_entries_that_nobody_takes_are_a_warning():
    Paper.objects.create(status="checking")
    Entry.objects.update(ready_at=later(None, -timedelta(hours=2)))
    (warning,) = check_databases(["default"])
    assert warning.id == "statemachine.W004"
    assert warning.msg == "1 entries on 'default' are unanswered, the longest for 2h."
    assert "Start a worker" in warning.hint


@pytest.mark.django_db(transaction=True)  # not every database can undo a change of its tables
def test_a_column_that_is_missing_yet_is_a_warning_and_stops_no_migration():
    with connections["default"].cursor() as cursor:
        cursor.execute("ALTER TABLE statemachine_entry RENAME COLUMN ready_at TO taken_away")
    try:
        (warning,) = check_databases(["default"])
        call_command("migrate", "statemachine", verbosity=0)
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute("ALTER TABLE statemachine_entry RENAME COLUMN taken_away TO ready_at")
    assert warning.id == "statemachine.W005"
    assert warning.msg.startswith("The entries on 'default' cannot be read: ")
    assert warning.hint == "Run manage.py migrate --database default."


def test_databases_are_looked_at_only_when_asked():
    assert check_databases() == []


# The whole


@pytest.mark.django_db
def test_the_papers_are_clean():
    configs = [apps.get_app_config(label) for label in ("statemachine", "papers", "oddities")]
    assert run_checks(app_configs=configs, databases=["default"]) == []


def test_the_checks_are_registered():
    assert {check_fields, check_graphs, check_databases} <= registry.registered_checks
