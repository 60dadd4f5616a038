"""``manage.py statemachine``."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections
from django.db.backends.dummy.base import DatabaseWrapper as DummyWrapper

from integration import protocol
from integration.entries import Entry
from integration.management.arguments import duration
from statemachine.diagrams import draw
from statemachine.diagrams.kept import keep
from statemachine.export import export
from tests.integration.test_recovery import unreachable_database
from tests.papers import machine
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
    with pytest.raises(CommandError, match=r"^Not everything holds of papers\.Journal\.print_status: "):
        manage("verify", "papers.Journal.print_status")


def test_verify_can_be_read_by_programs(manage):
    told = json.loads(manage("verify", "papers.Paper", "--format", "json"))
    assert told == [{"field": "papers.Paper.status", **review.verify().as_dict()}]
    assert len(json.loads(manage("verify", "--format", "json"))) > 2


def test_verify_points_code_hosts_at_the_lines_of_its_findings(manage, capsys):
    with pytest.raises(CommandError, match=r"^Not everything holds of papers\.Paper\.status"):
        manage("verify", "papers.Paper", "--format", "sarif", "--property", "AG ~rejected")
    (result,) = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    location = result["locations"][0]
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "papers.Paper.status.rejected"
    place = location["physicalLocation"]
    assert place["artifactLocation"]["uri"].endswith("tests/papers/machine.py")
    line = Path(machine.__file__).read_text().splitlines()[place["region"]["startLine"] - 1]
    assert line.strip().startswith('State("rejected", ')


def test_verify_checks_the_properties_that_are_asked_for(manage):
    assert "EF published" in manage("verify", "papers.Paper", "--property", "EF published")
    with pytest.raises(CommandError, match=r"^Not everything holds of papers\.Paper\.status: "):
        manage("verify", "papers.Paper", "--property", "reachable", "--property", "AF published")
    with pytest.raises(CommandError, match=r"'publisht'"):
        manage("verify", "papers.Paper", "--property", "EF publisht")


# draw


def kept(format):
    """What the command draws: the drawing, with its declaration."""
    return keep(draw(review.graph, format), review.graph, format)


@pytest.mark.parametrize("format", ["mermaid", "dot"])
def test_draw_prints_the_drawing(manage, format):
    assert manage("draw", "papers.Paper.status", "--format", format).strip() == kept(format).strip()


def test_draw_is_mermaid_unless_told_otherwise(manage):
    assert manage("draw", "papers.Paper").strip() == kept("mermaid").strip()


def test_draw_writes_a_file(manage, tmp_path):
    assert manage("draw", "papers.Paper", "--output", tmp_path / "paper.mmd") == ""
    assert (tmp_path / "paper.mmd").read_text() == kept("mermaid")


def test_draw_takes_the_format_from_the_suffix(manage, tmp_path):
    manage("draw", "papers.Paper", "--output", tmp_path / "paper.dot")
    assert (tmp_path / "paper.dot").read_text() == kept("dot")
    with pytest.raises(CommandError, match="does not say which format"):
        manage("draw", "papers.Paper", "--output", tmp_path / "paper.pdf")


def test_draw_writes_a_png_to_a_file_and_never_prints_it(manage, tmp_path):
    manage("draw", "papers.Paper", "--output", tmp_path / "paper.png")
    assert (tmp_path / "paper.png").read_bytes().startswith(b"\x89PNG\r\n")
    with pytest.raises(CommandError, match=r"A PNG is no text, .* --output FILE\.png"):
        manage("draw", "papers.Paper", "--format", "png")


def test_draw_says_why_a_file_cannot_be_written(manage, tmp_path):
    with pytest.raises(CommandError, match=r"paper\.mmd: No such file or directory\. Choose another"):
        manage("draw", "papers.Paper", "--output", tmp_path / "nowhere" / "paper.mmd")


def test_draw_with_check_fails_when_a_file_shows_something_else(manage, tmp_path):
    file = tmp_path / "paper.svg"
    manage("draw", "papers.Paper", "--output", file)
    assert manage("draw", "papers.Paper", "--check", file) == f"{file} shows what is declared.\n"
    with pytest.raises(CommandError, match=r"(?s)does not show what is declared:.*state 'printed' is new"):
        manage("draw", "papers.Journal.print_status", "--check", file)


def test_draw_with_check_says_why_it_cannot_be_asked(manage, tmp_path):
    with pytest.raises(CommandError, match=r"paper\.svg: No such file or directory"):
        manage("draw", "papers.Paper", "--check", tmp_path / "paper.svg")
    with pytest.raises(CommandError, match=r"not allowed with argument"):
        manage("draw", "papers.Paper", "--check", "a.svg", "--output", "a.svg")


# export


def test_export_prints_json_unless_told_otherwise(manage):
    assert manage("export", "papers.Paper") == export(review.graph, "json")


def test_export_writes_a_file(manage, tmp_path):
    assert manage("export", "papers.Paper", "--output", tmp_path / "paper.json") == ""
    assert (tmp_path / "paper.json").read_text() == export(review.graph, "json")
    with pytest.raises(CommandError, match="does not say which format"):
        manage("export", "papers.Paper", "--output", tmp_path / "paper.txt")


# status


def test_status_is_a_table_of_where_the_rows_stand(manage):
    overdue(Paper.objects.create(status="checking"))
    Paper.objects.create(status="checking")
    Paper.objects.create()
    lines = [line.split() for line in manage("status").splitlines()]
    assert lines[0] == [
        "model",
        "field",
        "state",
        "rows",
        "overdue",
        "unanswered",
        "parked",
        "oldest",
        "longest",
    ]
    assert {tuple(line[:7]) for line in lines[1:-1]} == {
        ("papers.paper", "status", "checking", "2", "1", "1", "0"),
        ("papers.paper", "status", "draft", "1", "0", "0", "0"),
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


def test_status_tells_of_unanswered_entries_and_of_the_last_sweep(manage):
    overdue(Paper.objects.create(status="checking"))
    assert manage("status").splitlines()[-1] == "No worker has swept here yet."
    protocol.turn("sweep", every=timedelta(seconds=5), using="default")
    lines = [line.split() for line in manage("status").splitlines()]
    assert lines[1][3:7] == ["1", "1", "1", "0"]
    assert re.fullmatch(r"\d{4}d", lines[1][8])
    assert re.fullmatch(r"A worker swept \ds ago\.", " ".join(lines[2]))


def test_status_with_check_fails_when_work_is_left_undone(manage):
    Paper.objects.create(status="checking")
    manage("status", "--check")
    overdue(Paper.objects.get())
    assert "checking" in manage("status")
    with pytest.raises(CommandError, match=r"^'default' is not well\. 1 entries are unanswered"):
        manage("status", "--check")


def test_status_can_be_read_by_programs(manage):
    paper = overdue(Paper.objects.create(status="checking"))
    Paper.objects.create(status="scoring").entries.update(due_at=None, error="help")
    told = json.loads(manage("status", "--format", "json"))
    assert told.keys() == {"health", "standings", "parked", "strangers"}
    assert (told["health"]["using"], told["health"]["unanswered"], told["health"]["every"]) == (
        "default",
        1,
        5.0,
    )
    assert told["health"]["longest"] == "2020-01-01T00:00:00+00:00"
    assert len(told["health"]["problems"]) == 3
    assert [(shown["state"], shown["rows"]) for shown in told["standings"]] == [
        ("checking", 1),
        ("scoring", 1),
    ]
    assert [shown["error"] for shown in told["parked"]] == ["help"]
    paper.entries.update(task="gone.task")
    assert json.loads(manage("status", "--format", "json"))["strangers"][0]["task"] == "gone.task"


# audit


def test_audit_says_what_was_read(manage):
    Paper.objects.create(status="checking")
    assert manage("audit") == "default: 1 row and 1 entry read: 0 violations, 0 notices\n"


def test_audit_fails_on_a_violation_and_says_what_to_do(manage, capsys):
    paper = Paper.objects.create(status="checking")
    Paper.objects.create(status="scoring")
    Entry.objects.update(due_at=None)
    with pytest.raises(
        CommandError, match=r"^Rows and entries on 'default' break what the protocol promises"
    ):
        manage("audit", "papers.Paper.status")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"violation: papers.paper.status {paper.pk}, entry ")
    assert lines[1].startswith("  Hint: Find out what wrote it")
    assert lines[2].startswith("violation: ")
    assert lines[3] == "default: 2 rows and 2 entries read: 2 violations, 0 notices"


def test_audit_passes_with_notices_and_shows_the_first_of_them(manage):
    Paper.objects.bulk_create([Paper(status="checking") for _ in range(25)])
    lines = manage("audit").splitlines()
    assert len([line for line in lines if line.startswith("notice: papers.paper.status ")]) == 20
    assert len([line for line in lines if line.startswith("  Hint: ")]) == 1
    assert lines[-2:] == [
        "notice: row-and-entry-agree: 5 more",
        "default: 25 rows and 0 entries read: 0 violations, 25 notices",
    ]


def test_audit_looks_at_the_fields_that_are_named(manage):
    Paper.objects.create(status="checking")
    Entry.objects.update(due_at=None)
    assert manage("audit", "papers.Journal.status", "papers.Poster").endswith(
        "0 rows and 0 entries read: 0 violations, 0 notices\n"
    )


def test_audit_can_be_read_by_programs(manage, capsys):
    paper = Paper.objects.create(status="checking")
    Entry.objects.update(due_at=None)
    with pytest.raises(CommandError):
        manage("audit", "--format", "json")
    told = json.loads(capsys.readouterr().out)
    (finding,) = told.pop("findings")
    assert told == {"database": "default", "rows": 1, "entries": 1}
    assert (finding["invariant"], finding["object"]) == ("pending-is-armed", str(paper.pk))


# prune


def test_prune_deletes_old_history(manage):
    paper = Paper.objects.create()
    paper.submit()
    paper.entries.filter(open=None).update(left_at="2020-01-01T00:00:00Z")
    assert manage("prune", "--older-than", "90d", "--dry-run") == "default: 1 entry would be deleted\n"
    assert paper.entries.count() == 2
    assert manage("prune", "--older-than", "90d", "--batch", 1) == "default: 1 entry deleted\n"
    assert manage("prune", "--older-than", "90d") == "default: 0 entries deleted\n"


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("45", timedelta(seconds=45)),
        ("1.5s", timedelta(seconds=1.5)),
        (".5", timedelta(seconds=0.5)),
    ],
)
def test_a_duration_is_a_number_with_a_unit(text, given):
    assert duration(text) == given


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
def test_recover_fails_for_a_database_that_cannot_be_reached_after_the_others(mailbox, capsys):
    with pytest.raises(CommandError, match=r"^Not recovered: away\. See above"):
        call_command("statemachine", "recover")
    out, err = capsys.readouterr()
    assert out == "default: 0 rung, 0 adopted\n"
    assert err.startswith("away: OperationalError: ")


@pytest.mark.django_db(transaction=True)
def test_recover_passes_over_a_database_that_is_none(manage, mailbox):
    settings = {**connections["default"].settings_dict, "ENGINE": "django.db.backends.dummy"}
    connections.settings["none"], connections["none"] = settings, DummyWrapper(settings, "none")
    try:
        assert manage("recover") == "default: 0 rung, 0 adopted\n"
    finally:
        del connections["none"], connections.settings["none"]


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


@pytest.mark.parametrize("every", ["0", "-1", "soon", "inf", "nan", "1w", "40000d", "9" * 20 + "d"])
def test_recover_wants_a_duration(manage, every):
    with pytest.raises(
        CommandError, match="is no duration above 0, such as 90d, 12h, 30m, or 45 for seconds"
    ):
        manage("recover", f"--every={every}")


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
        (["draw", "papers.Paper", "--format", "pdf"], r"invalid choice: 'pdf'"),
        (
            ["status", "--database", "nowhere"],
            r"'nowhere' is no database of this project\. Choose one of: default",
        ),
        (["recover", "--database", "nowhere"], r"'nowhere' is no database"),
        (["audit", "--database", "nowhere"], r"'nowhere' is no database"),
        (["audit", "papers.Journal"], r"papers\.Journal has: status, print_status\. Name one of them\."),
        (["prune"], r"required: --older-than"),
        (["prune", "--older-than", "1d", "--batch", "0"], r"'0' is no number above 0"),
        (["prune", "--older-than", "1d", "--batch", "all"], r"'all' is no number above 0"),
        (["prune", "--older-than", "1d", "--database", "nowhere"], r"'nowhere' is no database"),
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


@pytest.mark.django_db(transaction=True)  # not every database can undo a change of its tables
def test_a_database_without_the_entry_table_is_named(manage):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE statemachine_entry RENAME TO taken_away")
    try:
        with pytest.raises(
            CommandError, match=r"'default' has no entry table\. Run manage\.py migrate --database"
        ):
            manage("status")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE taken_away RENAME TO statemachine_entry")
