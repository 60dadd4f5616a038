"""``manage.py statemachine``."""

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from integration.entries import Entry
from integration.management.commands.statemachine import age
from statemachine.diagrams import draw
from tests.integration.test_recovery import unreachable_database
from tests.papers.machine import printing, review
from tests.papers.models import Journal, Paper

pytestmark = pytest.mark.django_db


@pytest.fixture
def manage(capsys):
    """Run a verb; returns what it printed."""

    def run(*arguments):
        call_command("statemachine", *map(str, arguments), no_color=True)
        return capsys.readouterr().out

    return run


def overdue(row):
    row.entries.open().update(ready_at="2020-01-01T00:00:00Z", due_at="2020-01-01T00:00:00Z")
    return row


# verify


def test_verify_prints_the_report_of_a_field(manage):
    told = manage("verify", "papers.Paper")
    assert told.startswith("papers.Paper.status\nreview: 6 states, 6 reachable, 8 edges\n")
    assert told.endswith("\n0 errors, 0 warnings\n")


def test_verify_prints_every_field_once(manage):
    told = manage("verify")
    assert told.count("papers.Poster.status\n") == 1
    assert "papers.BigPoster" not in told
    assert "papers.Journal.print_status\n" in told


def test_verify_takes_one_of_several_fields(manage):
    assert manage("verify", "papers.Journal.print_status").count("reachable,") == 1


def test_verify_fails_on_an_error_finding(manage, monkeypatch):
    monkeypatch.setitem(printing.states["printed"].__dict__, "final", False)
    monkeypatch.setattr(printing, "_graph", None)
    with pytest.raises(CommandError, match=r"^Rows of papers\.Journal\.print_status can get stuck or lost"):
        manage("verify", "papers.Journal.print_status")


# draw


@pytest.mark.parametrize("format", ["mermaid", "dot"])
def test_draw_prints_the_drawing(manage, format):
    assert (
        manage("draw", "papers.Paper.status", "--format", format).strip()
        == draw(review.graph, format).strip()
    )


def test_draw_is_mermaid_unless_told_otherwise(manage):
    assert manage("draw", "papers.Paper").strip() == draw(review.graph, "mermaid").strip()


def test_draw_writes_a_file(manage, tmp_path):
    assert manage("draw", "papers.Paper", "--output", tmp_path / "paper.mmd") == ""
    assert (tmp_path / "paper.mmd").read_text() == draw(review.graph, "mermaid")


def test_draw_takes_the_format_from_the_suffix(manage, tmp_path):
    manage("draw", "papers.Paper", "--output", tmp_path / "paper.dot")
    assert (tmp_path / "paper.dot").read_text() == draw(review.graph, "dot")
    with pytest.raises(CommandError, match="does not say which format"):
        manage("draw", "papers.Paper", "--output", tmp_path / "paper.png")


def test_draw_says_why_a_file_cannot_be_written(manage, tmp_path):
    with pytest.raises(CommandError, match="cannot be written: No such file or directory"):
        manage("draw", "papers.Paper", "--output", tmp_path / "nowhere" / "paper.mmd")


# status


def test_status_is_a_table_of_where_the_rows_stand(manage):
    overdue(Paper.objects.create(status="checking"))
    Paper.objects.create(status="checking")
    Paper.objects.create()
    lines = [line.split() for line in manage("status").splitlines()]
    assert lines[0] == ["model", "field", "state", "rows", "overdue", "parked", "oldest"]
    assert {tuple(line[:6]) for line in lines[1:]} == {
        ("papers.paper", "status", "checking", "2", "1", "0"),
        ("papers.paper", "status", "draft", "1", "0", "0"),
    }


def test_status_names_what_waits_for_a_person(manage):
    paper = Paper.objects.create(status="checking")
    Entry.objects.update(due_at=None, error="ValueError: no luck; 'fail': every guard refused")
    told = manage("status")
    assert "parked: papers.paper " + str(paper.pk) + ": checking (epoch 0): ValueError: no luck" in told


def test_status_names_what_no_code_here_answers(manage):
    Paper.objects.create(status="checking")
    Entry.objects.update(task="gone.task")
    assert "no code here answers papers.paper.status in 'checking', task 'gone.task': 1 rows\n" in manage(
        "status"
    )


def test_status_of_nothing_says_so(manage):
    assert manage("status") == "No row has an open entry.\n"


@pytest.mark.parametrize(
    ("ago", "told"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=59), "59s"),
        (timedelta(seconds=60), "1m"),
        (timedelta(hours=23, minutes=59), "23h"),
        (timedelta(days=400), "400d"),
        (timedelta(seconds=-5), "0s"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(ago, told):
    now = datetime(2020, 1, 1, tzinfo=UTC)
    assert age(now - ago, now) == told


# recover


@pytest.fixture
def unreachable():
    with unreachable_database():
        yield


@pytest.mark.django_db(transaction=True)
def test_recover_rings_what_is_overdue_and_adopts_rows(manage, mailbox):
    late = overdue(Paper.objects.create(status="checking"))
    Paper.objects.bulk_create([Paper(status="scoring")])
    mailbox.messages.clear()
    assert manage("recover") == "default: 1 rung, 1 adopted\n"
    assert [message.task for message in mailbox.messages] == ["papers.score", "papers.check"]
    assert mailbox.messages[1].entry == late.entries.get().pk


@pytest.mark.django_db(transaction=True)
def test_recover_with_all_rows_adopts_those_that_wait_for_nothing(manage, mailbox):
    Paper.objects.bulk_create([Paper(), Paper(status="published")])
    assert manage("recover", "--database", "default") == "default: 0 rung, 0 adopted\n"
    assert manage("recover", "--all-rows") == "default: 0 rung, 2 adopted\n"


@pytest.mark.django_db(transaction=True)
def test_recover_sweeps_until_nothing_is_due(manage, mailbox, monkeypatch):
    rows = [Paper(status="checking") for _ in range(3)]
    Paper.objects.bulk_create(rows)
    manage("recover")
    for paper in Paper.objects.all():
        overdue(paper)
    monkeypatch.setattr("integration.management.commands.statemachine._LIMIT", 2)
    assert manage("recover") == "default: 3 rung, 0 adopted\n"


@pytest.mark.django_db(transaction=True)
def test_recover_adopts_until_nothing_is_left(manage, mailbox, monkeypatch):
    monkeypatch.setattr("integration.management.commands.statemachine._LIMIT", 2)
    Paper.objects.bulk_create([Paper(status="checking") for _ in range(5)])
    assert manage("recover") == "default: 0 rung, 5 adopted\n"


@pytest.mark.usefixtures("unreachable")
def test_status_looks_at_no_other_database(manage):
    assert manage("status") == "No row has an open entry.\n"


@pytest.mark.usefixtures("unreachable")
@pytest.mark.django_db(transaction=True)
def test_recover_leaves_out_a_database_that_cannot_be_reached(manage, mailbox):
    assert manage("recover") == "default: 0 rung, 0 adopted\n"


@pytest.mark.usefixtures("unreachable")
def test_a_database_that_cannot_be_reached_is_named(manage):
    with pytest.raises(CommandError, match="'away' cannot be reached: "):
        manage("status", "--database", "away")


@pytest.mark.django_db(transaction=True)
def test_recover_says_when_the_broker_does_not_answer(manage, mailbox, capsys):
    overdue(Paper.objects.create(status="checking"))
    mailbox.away = True
    call_command("statemachine", "recover")
    out, err = capsys.readouterr()
    assert out == "default: 0 rung, 0 adopted, 1 could not be sent\n"
    assert "The broker does not answer" in err


@pytest.mark.django_db(transaction=True)
def test_recover_in_a_loop_ends_at_a_signal(manage, mailbox):
    before = signal.getsignal(signal.SIGTERM)
    told = threading.Timer(1, os.kill, [os.getpid(), signal.SIGTERM])
    told.start()
    assert manage("recover", "--loop", "--every", "0.2").startswith("default: 0 rung, 0 adopted\n" * 2)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.django_db(transaction=True)
def test_recover_in_a_loop_outlives_a_database_that_is_away(mailbox, capsys):
    told = threading.Timer(1, os.kill, [os.getpid(), signal.SIGINT])
    told.start()

    def away(execute, sql, params, many, context):
        if "papers_paper" in sql and not passed:
            passed.append(sql)
            raise OperationalError("the server closed the connection")
        return execute(sql, params, many, context)

    passed = []
    with connection.execute_wrapper(away):
        call_command("statemachine", "recover", "--loop", "--every", "0.2")
    out, err = capsys.readouterr()
    assert "OperationalError: the server closed the connection; tried again" in err
    assert "default: 0 rung, 0 adopted\n" in out


@pytest.mark.slow
def test_a_process_that_recovers_in_a_loop_exits_cleanly(tmp_path):
    root = Path(__file__).parents[2]
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "database")}
    settings = f"from tests.settings import *\nDATABASES = {{'default': {database}}}\n"
    (tmp_path / "settings.py").write_text(settings)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{root}:{tmp_path}",
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONUNBUFFERED": "1",
    }
    django = [sys.executable, "-m", "django"]
    subprocess.run([*django, "migrate", "--run-syncdb", "-v0"], env=environment, check=True, timeout=120)
    command = [*django, "statemachine", "recover", "--loop", "--every", "60"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "default: 0 rung, 0 adopted\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("every", ["0", "-1", "soon", "inf", "nan"])
def test_recover_wants_a_duration(manage, every):
    with pytest.raises(CommandError, match="is no number of seconds above 0"):
        manage("recover", "--every", every)


# to-state


def test_to_state_moves_a_row_and_keeps_who_and_why(manage):
    paper = Paper.objects.create()
    told = manage("to-state", "papers.Paper", paper.pk, "rejected", "--reason", "spam", "--by", "ada")
    assert told == f"Paper {paper.pk}: draft -> rejected\n"
    entry = paper.entries.get(open=True)
    assert (entry.state, entry.trigger, entry.reason, entry.by) == ("rejected", "to_state", "spam", "ada")


def test_to_state_is_by_the_command_unless_told_otherwise(manage):
    paper = Paper.objects.create()
    manage("to-state", "papers.Paper", paper.pk, "rejected", "--reason", "spam")
    assert paper.entries.get(open=True).by == "manage.py"


def test_to_state_leaves_a_state_that_nobody_knows(manage):
    Paper.objects.bulk_create([Paper(status="forgotten")])
    paper = Paper.objects.get()
    assert "forgotten -> draft" in manage(
        "to-state", "papers.Paper", paper.pk, "draft", "--reason", "renamed"
    )


def test_to_state_names_one_of_several_fields(manage):
    journal = Journal.objects.create()
    manage("to-state", "papers.Journal", journal.pk, "jammed", "--field", "print_status", "--reason", "paper")
    journal.refresh_from_db()
    assert (journal.status, journal.print_status) == ("draft", "jammed")


def test_to_state_refuses_a_row_that_is_not_where_it_is_expected(manage):
    paper = Paper.objects.create()
    with pytest.raises(CommandError, match=r"is in 'draft', so nothing was done.* --expect draft"):
        manage("to-state", "papers.Paper", paper.pk, "rejected", "--reason", "x", "--expect", "checking")
    paper.refresh_from_db()
    assert paper.status == "draft"


# Bad input


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["verify", "papers.Nothing"],
            r"'papers\.Nothing' is no model\. Name one of: .*papers\.Paper\.status",
        ),
        (["verify", "nothing"], r"'nothing' is no model\. Name one of: "),
        (["verify", "papers.Remark"], r"papers\.Remark has: none\. Choose a model that has one\."),
        (["draw", "papers.Journal"], r"papers\.Journal has: status, print_status\. Name one of them\."),
        (["draw", "papers.Paper.state"], r"papers\.Paper has: status\. Name one of them\."),
        (["draw", "papers.Paper", "--format", "png"], r"invalid choice: 'png'"),
        (
            ["status", "--database", "nowhere"],
            r"'nowhere' is no database of this project\. Choose one of: default",
        ),
        (["recover", "--database", "nowhere"], r"'nowhere' is no database"),
        (["to-state", "papers.Paper", "1", "draft"], r"required: --reason"),
        (
            ["to-state", "papers.Paper", "1", "draft", "--reason", "x"],
            r"There is no Paper '1' on 'default'\. Give the",
        ),
        (["to-state", "papers.Paper", "one", "draft", "--reason", "x"], r"There is no Paper 'one'"),
        (
            ["to-state", "papers.Journal", "1", "draft", "--reason", "x", "--field", "status"],
            r"There is no Journal '1'",
        ),
        (["to-state", "papers.Journal", "1", "draft", "--reason", "x"], r"does not name one state field"),
        ([], r"required: VERB"),
        (["delete"], r"invalid choice: 'delete'"),
    ],
)
def test_bad_input_is_told_with_what_to_do(manage, arguments, told):
    with pytest.raises(CommandError, match=told):
        manage(*arguments)


def test_to_state_names_the_states_that_there_are(manage):
    paper = Paper.objects.create()
    with pytest.raises(CommandError, match=r"'nowhere' .*state of review.*draft, checking"):
        manage("to-state", "papers.Paper", paper.pk, "nowhere", "--reason", "x")


def test_to_state_wants_a_reason_that_says_something(manage):
    paper = Paper.objects.create()
    with pytest.raises(CommandError, match="needs a reason"):
        manage("to-state", "papers.Paper", paper.pk, "rejected", "--reason", "")


def test_a_database_without_the_entry_table_is_named(manage):
    with connection.schema_editor() if connection.vendor != "sqlite" else connection.cursor() as editor:
        editor.execute("ALTER TABLE statemachine_entry RENAME TO taken_away")
    try:
        with pytest.raises(
            CommandError, match=r"'default' has no entry table\. Run manage\.py migrate --database"
        ):
            manage("status")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE taken_away RENAME TO statemachine_entry")
