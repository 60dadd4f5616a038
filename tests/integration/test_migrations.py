"""Migrations of real projects, made and run by ``manage.py`` in a process of its own."""

import os
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from tests.processes import python

ROOT = Path(__file__).parents[2]

SETTINGS = """
from pathlib import Path

SECRET_KEY = "project"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["integration", "shop"]
STATEMACHINE_SWEEP = False
SILENCED_SYSTEM_CHECKS = ["statemachine.W008"]  # what is migrated here has no worker


def sqlite(name):
    options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA synchronous=OFF"}
    file = Path(__file__).with_name(name)
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": file, "OPTIONS": options}


DATABASES = {"default": sqlite("default.sqlite3"), "other": sqlite("other.sqlite3")}
"""

MACHINE = """
from statemachine import Enqueue, State, StateMachine


def machine(name):
    return StateMachine(
        name=name,
        states=[
            State("new", label="Just in", waits_for="the clerk"),
            State("packing", on_enter=Enqueue("shop.pack")),
            State("sent", final=True),
            State("torn", waits_for="the clerk"),
        ],
        transitions=[
            ["pack", ["new", "torn"], "packing"],
            ["advance", "packing", "sent"],
            ["fail", "packing", "torn"],
        ],
        initial="new",
    )
"""

HEAD = """
from django.db import models

from integration.models import StateField, StateMachineModel
from shop.machine import machine

"""

KINDS = {
    "two fields on a model": """
        class Order(StateMachineModel):
            status = StateField(machine("order"))
            billing = StateField(machine("billing"), methods="billing_", max_length=20, db_index=True)
    """,
    "an abstract parent": """
        class Packed(StateMachineModel):
            status = StateField(machine("packed"))

            class Meta:
                abstract = True


        class Order(Packed):
            pass


        class Gift(Packed):
            text = models.TextField()
    """,
    "multi-table inheritance and a proxy": """
        class Order(StateMachineModel):
            status = StateField(machine("order"))


        class Gift(Order):
            text = models.TextField()
            wrapping = StateField(machine("wrapping"), methods="wrapping_")


        class OrderProxy(Order):
            class Meta:
                proxy = True
    """,
}

PLAIN = """
from django.db import models


class Order(models.Model):
    status = models.CharField(max_length=30, default="new")
"""

ADOPTING = HEAD + dedent(
    """
    class Order(StateMachineModel):
        status = StateField(machine("order"))
    """
)


RUN = """
import importlib, sys, django
from django.core.management import call_command

django.setup()
code, *commands = sys.argv[1:]
for command in commands:
    call_command(*command.split())
    importlib.invalidate_caches()
if code:
    from integration.entries import Entry
    from shop.models import *

    exec(code)
"""


class Project:
    """A Django project in a folder, and processes that work on it."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "shop" / "migrations").mkdir(parents=True)
        self.write("settings.py", SETTINGS)
        self.write("shop/machine.py", MACHINE)
        for package in ("shop", "shop/migrations"):
            self.write(f"{package}/__init__.py", "")

    def write(self, path, text):
        (self.folder / path).write_text(text)

    def models(self, text):
        self.write("shop/models.py", text)

    def run(self, *commands, then=""):
        """Run management commands, and then code, in one process; returns what it printed."""
        done = subprocess.run(
            [*python(), "-W", "error", "-c", RUN, dedent(then), *commands],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}:{self.folder}",
                "DJANGO_SETTINGS_MODULE": "settings",
                "CELERY_BROKER_URL": "memory://",  # the usual one may be there, and somebody's
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_migrations_are_made_once_and_run(project, kind):
    project.models(HEAD + dedent(KINDS[kind]))
    told = project.run(
        "makemigrations shop",
        "makemigrations --check",
        "migrate",
        "check --fail-level WARNING --database default",
        then="Order.objects.create().pack(); assert Entry.objects.count() >= 2",
    )
    assert "No changes detected" in told


@pytest.mark.slow
def test_the_migration_of_a_state_field_needs_no_machine(project):
    project.models(HEAD + dedent(KINDS["two fields on a model"]))
    project.run("makemigrations shop")
    (migration,) = (project.folder / "shop/migrations").glob("0*.py")
    text = migration.read_text()
    assert "choices" not in text
    assert "integration" not in text.replace("Migration", "")
    assert "('status', models.CharField(default='new', max_length=64))" in text


@pytest.mark.slow
def test_another_state_or_label_makes_no_migration(project):
    project.models(ADOPTING)
    project.run("makemigrations shop")
    project.write("shop/machine.py", MACHINE.replace("Just in", "Fresh").replace('"sent"', '"delivered"'))
    assert "No changes detected" in project.run("makemigrations --check")


@pytest.mark.slow
def test_a_status_column_with_rows_becomes_a_state_field(project):
    project.models(PLAIN)
    project.run(
        "makemigrations shop",
        "migrate",
        then="for s in ('new', 'packing', 'sent', 'lost'): Order.objects.create(status=s)",
    )
    project.models(ADOPTING)
    project.run(
        "makemigrations shop",
        "makemigrations --check",
        "migrate",
        then="""
        from integration.recovery import scan

        assert list(Order.objects.values_list("status", "status_epoch").order_by("pk")) == [
            ("new", 0), ("packing", 0), ("sent", 0), ("lost", 0)
        ]
        new, packing, sent, lost = Order.objects.order_by("pk")
        assert new.pack()
        assert [e.state for e in new.entries] == ["new", "packing"]
        assert scan().adopted == 1
        packing.refresh_from_db()
        assert (packing.status, packing.status_epoch) == ("packing", 1)
        assert [e.task for e in packing.entries] == ["shop.pack"]
        assert scan(everything=True).adopted == 1
        assert [e.trigger for e in sent.entries] == ["adopted"]
        Order._meta.get_field("status").machine.to_state(lost, "new", reason="found again")
        assert [(e.trigger, e.source, e.state) for e in lost.entries.filter(open=True)] == [
            ("to_state", "lost", "new")
        ]
        """,
    )


@pytest.mark.slow
def test_code_from_before_the_epoch_column_still_inserts_rows(project):
    project.models(ADOPTING)
    project.run("makemigrations shop", "migrate")
    project.models(PLAIN)
    project.run(then="Order.objects.create(status='packing')")
    project.models(ADOPTING)
    assert "1 adopted" in project.run("statemachine recover --database default")


@pytest.mark.slow
def test_a_data_migration_sees_a_plain_column(project):
    project.models(ADOPTING)
    project.run("makemigrations shop")
    project.write(
        "shop/migrations/0002_data.py",
        dedent(
            """
            from django.db import migrations, models


            def rename(apps, schema_editor):
                Order = apps.get_model("shop", "Order")
                field = Order._meta.get_field("status")
                assert type(field) is models.CharField, field
                assert field.choices is None
                assert not hasattr(Order, "pack")
                order = Order.objects.create(status="packing")
                order.status = "torn"
                order.save()
                Order.objects.update(status="packing")
                Order.objects.create().delete()


            class Migration(migrations.Migration):
                dependencies = [("shop", "0001_initial")]
                operations = [migrations.RunPython(rename)]
            """
        ),
    )
    project.run(
        "migrate", then="assert Order.objects.get().status == 'packing'; assert not Entry.objects.exists()"
    )
    assert "1 adopted" in project.run("statemachine recover --database default")


@pytest.mark.slow
def test_a_row_of_another_database_has_its_entries_there(project):
    project.models(ADOPTING)
    project.run(
        "makemigrations shop",
        "migrate",
        "migrate --database other",
        then="""
        order = Order.objects.using("other").create()
        order.pack()
        assert not Entry.objects.exists()
        assert [e.state for e in order.entries] == ["new", "packing"]
        assert order.entries.db == "other"
        assert Order.objects.using("other").in_state("packing").get() == order
        assert not Order.objects.using("other").overdue().exists()

        # a copy in another database is a row of its own, stored with its entry or not at all
        order = Order.objects.using("other").get()
        order.save(using="default")
        assert [(e.state, e.epoch) for e in Entry.objects.using("default")] == [("packing", 1)]
        assert Order.objects.using("default").get().status == "packing"
        assert order.entries.db == "default"

        order.delete(using="default")
        assert not Entry.objects.using("default").exists()
        assert Entry.objects.using("other").count() == 2

        order = Order.objects.using("other").get()
        Order._meta.get_field("status").machine.to_state(order, "torn", reason="test")
        assert Order.objects.using("other").get().status == "torn"
        Order.objects.using("other").all().delete()
        assert not Entry.objects.using("other").exists()
        """,
    )


@pytest.mark.slow
def test_a_row_that_was_read_from_a_replica_is_fired_on_the_primary(project):
    router = """
    class Primary:
        def db_for_read(self, model, **hints): return "other"
        def db_for_write(self, model, **hints): return "default"
        def allow_relation(self, *args, **hints): return True
    """
    project.write("routers.py", dedent(router))
    project.write("settings.py", SETTINGS + '\nDATABASE_ROUTERS = ["routers.Primary"]\n')
    project.models(ADOPTING)
    project.run(
        "makemigrations shop",
        "migrate",
        then="""
        import shutil
        from django.conf import settings

        pk = Order.objects.create().pk
        shutil.copy(settings.DATABASES["default"]["NAME"], settings.DATABASES["other"]["NAME"])
        order = Order.objects.get(pk=pk)
        assert order._state.db == "other"
        order.pack()
        assert Order.objects.using("default").get().status == "packing"
        assert Order.objects.using("other").get().status == "new"
        assert Entry.objects.using("default").count() == 2
        """,
    )


@pytest.mark.django_db
def test_the_migrations_of_this_project_are_complete():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


@pytest.mark.django_db
def test_the_models_of_the_migrations_are_plain():
    state = MigrationLoader(connection).project_state(("papers", "0001_initial"))
    paper = state.apps.get_model("papers", "Paper")
    assert type(paper._meta.get_field("status")).__name__ == "CharField"
    assert type(paper._meta.get_field("status_epoch")).__name__ == "BigIntegerField"


@pytest.mark.django_db(transaction=True)
def test_the_entry_table_can_be_taken_away_and_brought_back():
    # Only this library's own: what depends on its table would be taken along.
    executor = MigrationExecutor(connection)
    executor.migrate([("statemachine", None)])
    assert "statemachine_entry" not in connection.introspection.table_names()
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())
    assert "statemachine_entry" in connection.introspection.table_names()
