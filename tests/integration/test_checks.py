"""The system checks: each id fires, and a project in order is clean."""

import os
import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery, _state
from django.apps import apps
from django.core.checks import run_checks
from django.core.checks.registry import registry
from django.core.management import call_command
from django.db import OperationalError, connections, models
from django.db.backends.dummy import base as dummy
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test.utils import isolate_apps
from kombu import Queue

from integration.body import bodies
from integration.checks import (
    NUMBERS,
    check_databases,
    check_fields,
    check_graphs,
    check_settings,
    check_workers,
)
from integration.entries import Entry
from integration.models import StateField, StateMachineModel
from integration.protocol import later
from statemachine import Enqueue, State, StateMachine
from statemachine.verify import PROPERTIES
from tests import processes
from tests.oddities.models import Letter, pipeline
from tests.papers.models import Paper

ROOT = Path(__file__).resolve().parents[2]


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
    "W108": lambda: machine(
        [State("new", after=(timedelta(days=1), "ring")), DONE],
        [{"trigger": "ring", "source": "new", "dest": "done", "conditions": "perhaps"}],
    ),
    "E110": lambda: machine([WORKING, DONE], [["advance", "new", "done"], ["fail", "new", "="]]),
    "W110": lambda: machine(
        [WORKING, State("again", on_enter=Enqueue("oddities.work")), DONE],
        [["advance", "new", "again"], ["advance", "again", "new"], ["fail", ["new", "again"], "done"]],
    ),
    "W111": lambda: machine([WAITING, "done"], [GO, ["reopen", "done", "new"]]),
    "E112": lambda: machine([State("new", waits_for="a person", tags="shown"), DONE], [GO], keeps="shown"),
    "E100": lambda: machine([WAITING, DONE], [GO], properties="AG new"),
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
    assert {number[1:] for number in BAD_GRAPHS} == {"100", *(str(number) for number in NUMBERS.values())}


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
        "no-hot-loop": 110,
        "goal-is-an-end": 111,
        "tag-is-kept": 112,
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


def test_a_former_name_that_the_column_could_not_hold_is_an_error(isolated):
    model_of(StateField(pipeline("renamed", formerly="brand_new"), max_length=7))
    (message,) = check_fields([isolated.get_app_config("oddities")])
    assert message.id == "statemachine.E003"
    assert message.msg.endswith("too short for: brand_new.")


def test_a_stamp_that_is_no_instant_is_an_error(isolated):
    model_of(StateField(pipeline("stamped", stamps="begun")), begun=models.CharField(max_length=50))
    (message,) = check_fields([isolated.get_app_config("oddities")])
    assert message.id == "statemachine.E007"
    assert message.msg == "'new' stamps 'begun', which is no DateTimeField: no row could enter it."


class Apart:
    """A router that keeps the library's table to a database of its own."""

    def allow_migrate(self, db, app_label, **hints):
        return app_label != "statemachine" or db == "apart"


def test_rows_whose_database_may_have_no_entries_are_an_error(isolated, settings):
    model_of(StateField(pipeline("apart")))
    assert found(check_fields, isolated) == set()
    settings.DATABASE_ROUTERS = [Apart()]
    (message,) = check_fields([isolated.get_app_config("oddities")])
    assert message.id == "statemachine.E008"
    assert message.msg == "Rows are written to 'default', where a router lets no entry table be."


# Names


def child_of(parent, name="Child", bases=(), proxy=False, **columns):
    meta = type("Meta", (Meta,), {"proxy": proxy})
    return type(name, (*bases, parent), {"__module__": __name__, "Meta": meta, **columns})


class Eager:
    def advance(self):
        return "now"


HIDING = {
    "a method of a child": lambda parent: child_of(parent, advance=lambda self: True),
    "a method of a proxy": lambda parent: child_of(parent, proxy=True, may_start=lambda self: True),
    "a mixin of a child": lambda parent: child_of(parent, bases=(Eager,)),
    "a field of a child": lambda parent: child_of(parent, cancel=models.BooleanField(default=False)),
    "a foreign key's column in a child": lambda parent: child_of(
        parent, is_done=models.ForeignKey("self", models.CASCADE, null=True, related_name="+")
    ),
    "a manager of a child": lambda parent: child_of(parent, start=models.Manager()),
    "what another model calls its relation": lambda parent: model_of_relation(parent, related_name="advance"),
    "what another model calls its relation to a child": lambda parent: model_of_relation(
        child_of(parent), related_name="is_working"
    ),
    "what was assigned afterwards": lambda parent: setattr(parent, "fail", property(lambda self: True)),
}


def model_of_relation(to, related_name):
    relation = models.ForeignKey(to, models.CASCADE, related_name=related_name)
    return type("Relating", (models.Model,), {"__module__": __name__, "Meta": Meta, "to": relation})


@pytest.mark.parametrize("what", HIDING)
def test_what_hides_a_method_of_the_machine_is_an_error(what, isolated):
    parent = model_of(StateField(pipeline("hidden")))
    assert found(check_fields, isolated) == set()
    HIDING[what](parent)
    (message,) = check_fields([isolated.get_app_config("oddities")])
    assert message.id == "statemachine.E006"
    assert 'methods="status_"' in message.hint


def test_what_hides_a_method_is_told_once_however_many_models_inherit_it(isolated):
    parent = model_of(StateField(pipeline("told")))
    child = child_of(parent, advance=lambda self: True)
    child_of(child, "Grandchild")
    child_of(child, "Proxy", proxy=True)
    (message,) = check_fields([isolated.get_app_config("oddities")])
    assert message.msg == (
        "Child.advance is a function that hides the method of the machine: stages and timers do not call it."
    )


def test_a_prefix_makes_room_for_what_the_model_has(isolated):
    child_of(model_of(StateField(pipeline("prefixed"), methods="status_")), advance=lambda self: True)
    assert found(check_fields, isolated) == set()


# Workers


@pytest.fixture
def app():
    """A Celery application of the project, as a worker would be started with."""
    before = _state.default_app
    app = Celery("project", broker="memory://", set_as_current=False)
    app.conf.imports = ["tests.oddities.tasks"]
    app.set_default()
    yield app
    before.set_default()


def working(task="oddities.work", **options):
    return machine([State("new", on_enter=Enqueue(task, **options)), DONE], [["advance", "new", "done"]])


def of_workers(isolated):
    return list(check_workers([isolated.get_app_config("oddities")]))


def test_a_task_that_no_worker_registers_is_a_warning(app, isolated):
    model_of(StateField(working("oddities.misspelt")))
    (message,) = of_workers(isolated)
    assert message.id == "statemachine.W006"
    assert message.msg == (
        "'new' runs 'oddities.misspelt', which no worker of this configuration registers: "
        "its rows would wait for ever."
    )
    assert '@stage_task("oddities.misspelt")' in message.hint


def test_what_a_worker_imports_is_imported_to_see_its_tasks(app, isolated, tmp_path, monkeypatch):
    (tmp_path / "imported_late.py").write_text(
        'from integration.tasks import stage_task\n\n@stage_task("oddities.late")\ndef late(stage): ...\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))
    model_of(StateField(working("oddities.late")))
    app.conf.imports = ["imported_late"]
    try:
        assert of_workers(isolated) == []
    finally:
        bodies.pop("oddities.late", None)


def test_to_import_what_a_worker_imports_does_not_run_the_checks_again(app, isolated, monkeypatch):
    ran = []

    def count(**kwargs):
        ran.append("the checks")
        return []

    count.tags = ()
    monkeypatch.setattr(registry, "registered_checks", {count})
    model_of(StateField(working()))
    assert of_workers(isolated) == []
    assert ran == []
    app.loader.import_default_modules()  # as a worker does
    assert ran == ["the checks"]


def test_a_module_that_is_found_late_is_found(app, isolated, tmp_path, monkeypatch):
    """What ``autodiscover_tasks`` will import is imported, too."""
    asked = []
    app.autodiscover_tasks(lambda: asked.append("packages") or ["tests.oddities"])
    model_of(StateField(working()))
    assert of_workers(isolated) == []
    assert asked


def test_a_plain_celery_task_is_an_error(app, isolated):
    @app.task(name="oddities.plain")
    def plain(paper_id): ...

    model_of(StateField(working("oddities.plain")))
    (message,) = of_workers(isolated)
    assert message.id == "statemachine.E005"
    assert message.hint == 'Declare it with @stage_task("oddities.plain") of integration.tasks.'


def test_modules_that_a_worker_could_not_import_are_one_warning(app, isolated):
    app.conf.imports = ["tests.no_such_module"]
    model_of(StateField(working("oddities.misspelt")))
    (message,) = of_workers(isolated)
    assert message.id == "statemachine.W007"
    assert message.msg == (
        "What a worker imports cannot be imported here: "
        "ModuleNotFoundError: No module named 'tests.no_such_module'"
    )


def test_a_process_without_a_celery_application_is_one_warning(app, isolated, monkeypatch):
    monkeypatch.setattr(_state, "default_app", None)  # Celery makes one up
    monkeypatch.setattr(_state._tls, "current_app", None)
    model_of(StateField(working()))
    (message,) = of_workers(isolated)
    assert message.id == "statemachine.W008"
    app.set_default()
    assert of_workers(isolated) == []


def test_nothing_is_asked_of_workers_where_nothing_is_sent(app, isolated):
    app.conf.imports = ["tests.no_such_module"]
    model_of(StateField(machine([WAITING, DONE], [GO])))
    assert of_workers(isolated) == []


def test_a_publisher_that_cannot_tell_is_not_asked(app, isolated, mailbox):
    model_of(StateField(working("oddities.misspelt")))
    assert of_workers(isolated) == []


def test_a_queue_that_is_never_made_is_a_warning(app, isolated):
    model_of(StateField(working(queue="nightly")))
    assert of_workers(isolated) == []
    app.conf.task_create_missing_queues = False
    (message,) = of_workers(isolated)
    assert message.id == "statemachine.W009"
    assert message.hint == "Declare the queue in task_queues. Declared are: celery."
    app.conf.task_queues = [Queue("nightly")]
    del app.amqp
    assert of_workers(isolated) == []


def test_a_runtime_that_nothing_bounds_is_a_warning(app, isolated):
    model_of(StateField(working(max_runtime=timedelta.max)))
    (message,) = of_workers(isolated)
    assert message.id == "statemachine.W010"
    assert "a body that hangs keeps its row for so long" in message.msg


@pytest.mark.parametrize("limit", ["task_time_limit", "task_soft_time_limit"])
def test_a_time_limit_bounds_a_long_runtime(app, isolated, limit):
    app.conf[limit] = 3600
    model_of(StateField(working(max_runtime=timedelta(days=2))))
    assert of_workers(isolated) == []


def test_a_day_is_not_questioned(app, isolated):
    model_of(StateField(working(max_runtime=timedelta(days=1))))
    assert of_workers(isolated) == []


def test_a_lease_that_outlasts_the_runtime_is_a_warning(app, isolated, settings):
    model_of(StateField(working(lease=timedelta(hours=2))))
    (message,) = of_workers(isolated)
    assert message.id == "statemachine.W011"
    assert "claims 'oddities.work' for 2:00:00 at once, longer than its max_runtime of 1:00:00" in message.msg


def test_the_default_lease_counts_where_a_task_gives_none(app, isolated, settings):
    settings.STATEMACHINE_LEASE = timedelta(hours=2)
    model_of(StateField(working()))
    assert [message.id for message in of_workers(isolated)] == ["statemachine.W011"]


def test_a_sweep_that_nobody_does_is_a_warning(app, isolated, settings):
    model_of(StateField(machine([State("new", after=(timedelta(days=1), "go")), DONE], [GO])))
    settings.STATEMACHINE_SWEEP = False
    (message,) = of_workers(isolated)
    assert message.id == "statemachine.W013"
    app.conf.beat_schedule = {"sweep": {"task": "statemachine.sweep", "schedule": 5.0}}
    assert of_workers(isolated) == []
    app.conf.update(beat_schedule={}, beat_scheduler="django_celery_beat.schedulers:DatabaseScheduler")
    assert of_workers(isolated) == []


# Settings


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("LEASE", 60, "a positive timedelta"),
        ("LEASE", timedelta(), "a positive timedelta"),
        ("SWEEP_EVERY", timedelta(seconds=-1), "a positive timedelta"),
        ("GRACE", timedelta(seconds=-1), "a timedelta that is not negative"),
        ("MAX_ATTEMPTS", 0, "a whole number, at least 1"),
        ("MAX_ATTEMPTS", True, "a whole number, at least 1"),
        ("SWEEP", "no", "True or False"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_an_error(settings, name, value, wanted):
    setattr(settings, f"STATEMACHINE_{name}", value)
    (message,) = check_settings()
    assert message.id == "statemachine.E009"
    assert message.msg == f"STATEMACHINE_{name} is {value!r}, and must be {wanted}."


def test_no_pause_is_a_pause(settings):
    settings.STATEMACHINE_GRACE = settings.STATEMACHINE_CIRCUIT = timedelta()
    assert check_settings() == []


def test_a_setting_that_does_not_exist_is_a_warning_that_names_its_like(settings):
    settings.STATEMACHINE_LEASES = timedelta(seconds=1)
    (message,) = check_settings()
    assert message.id == "statemachine.W012"
    assert message.hint == "Did you mean STATEMACHINE_LEASE?"


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


@pytest.mark.django_db
def test_rows_in_what_is_no_state_are_a_warning():
    for status in ("draft", "draft", "draft", "checking"):
        Paper.objects.create(status=status)
    Entry.objects.all().delete()
    rows = models.QuerySet(Paper).order_by("pk")
    assert check_databases(["default"]) == []
    for row, status in zip(rows, ("gone", "gone", "lost", "checking"), strict=True):
        rows.filter(pk=row.pk).update(status=status)
    (warning,) = check_databases(["default"])
    assert warning.id == "statemachine.W014"
    assert warning.msg == (
        "Rows on 'default' hold what is no state of papers.paper.status: 'gone' (2), 'lost' (1)."
    )
    assert str(warning.obj) == "papers.Paper.status"


@pytest.mark.django_db
def test_the_middle_of_a_large_table_is_read_when_an_end_holds_what_is_no_state(monkeypatch):
    monkeypatch.setattr("integration.checks.databases._LOOKED_AT", 2)
    models.QuerySet(Paper).bulk_create([Paper() for _ in range(7)])
    rows, keys = (
        models.QuerySet(Paper),
        list(models.QuerySet(Paper).order_by("pk").values_list("pk", flat=True)),
    )
    rows.filter(pk__in=keys[2:5]).update(status="gone")
    assert check_databases(["default"]) == []
    for end in (keys[1], keys[5]):
        rows.filter(pk=end).update(status="lost")
        (warning,) = check_databases(["default"])
        assert warning.msg.endswith(": 'gone' (3), 'lost' (1).")
        rows.filter(pk=end).update(status="draft")


def test_a_database_that_cannot_be_reached_is_a_warning(monkeypatch):
    def refuse(alias):
        raise OperationalError("connection refused")

    monkeypatch.setattr("integration.recovery.holds", refuse)
    (warning,) = check_databases(["default"])
    assert warning.id == "statemachine.W015"
    assert warning.msg == "The database 'default' cannot be reached: connection refused"


@pytest.mark.django_db
def test_rows_that_hold_a_former_name_are_in_a_state():
    Letter.objects.create()
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE oddities_letter SET status = 'new'")
    assert check_databases(["default"]) == []


@pytest.mark.django_db
def test_a_default_that_is_empty_is_not_read():
    empty = {**connections["default"].settings_dict, "ENGINE": "django.db.backends.dummy"}
    connections["empty"] = dummy.DatabaseWrapper(empty, "empty")
    try:
        assert check_databases(["empty"]) == []
    finally:
        del connections["empty"]


def test_databases_are_looked_at_only_when_asked():
    assert check_databases() == []


# The whole


@pytest.mark.django_db
def test_the_papers_are_clean():
    ours = ("statemachine", "onboarding", "papers", "oddities")
    configs = [config for config in apps.get_app_configs() if config.label in ours]
    assert len(configs) == len(ours)
    assert run_checks(app_configs=configs, databases=["default"]) == []


def test_the_demo_is_clean(tmp_path):
    checked = subprocess.run(
        [*processes.python(), "-m", "django", "check", "--settings", "integration.demo.settings"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/demo.sqlite3"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert checked.stdout == "System check identified no issues (0 silenced).\n", checked.stderr


def test_the_checks_are_registered():
    ours = {check_fields, check_graphs, check_workers, check_settings, check_databases}
    assert ours <= registry.registered_checks


IDS = re.compile(r"statemachine\.([EW]\d{3})")


def test_every_id_is_in_the_reference_and_fires_in_a_test():
    import integration.checks

    folder = Path(integration.checks.__file__).parent
    given = {id for module in folder.glob("*.py") for id in IDS.findall(module.read_text())}
    page = (ROOT / "docs/reference/checks.md").read_text()
    told = re.findall(r"^\| `statemachine\.([EW]\d{3})`(?:, `([EW]\d{3})`)?", page, re.MULTILINE)
    listed = {id for ids in told for id in ids if id}
    of_graphs = {id for id in listed if id[1] == "1"}
    assert listed - of_graphs == given
    assert of_graphs == set(BAD_GRAPHS)
    asserted = set(IDS.findall(Path(__file__).read_text()))
    assert given <= asserted
