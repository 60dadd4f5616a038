"""``python -m integration.demo`` on generated repositories, against what git itself says of them."""

import signal
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest

pytest.importorskip("pygit2")
pytest.importorskip("rich")

from integration.demo.ledger import lines
from integration.onboarding.machine import onboarding
from tests.integration.demo.played import command, environment, git, log, newest, play, shortlog
from tests.integration.onboarding.repositories import Repository, grown


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    return grown(tmp_path_factory.mktemp("repositories") / "größe [bold]").path


@pytest.fixture(scope="module")
def played(repository, tmp_path_factory):
    """One run, from a folder inside the repository, with nothing said on the command line."""
    inside = repository / "a folder"
    inside.mkdir()
    return play(cache=tmp_path_factory.mktemp("cache"), cwd=inside)


def test_the_demo_onboards_the_repository_that_it_is_run_in(played, repository):
    assert played.code == 0, played.output
    assert played.json["teams"][0]["source"] == str(repository)
    assert played.json["teams"][0]["status"] == "complete"


def test_the_people_are_those_of_git_shortlog(played, repository):
    people = {person["email"]: person["commits"] for person in played.json["people"]}
    counted = shortlog(repository)
    # An address that is no UTF-8 cannot be compared: git prints its bytes.
    assert {email: n for email, n in people.items() if email.isascii()} == {
        email: n for email, n in counted.items() if email.isascii()
    }
    assert sum(people.values()) == sum(counted.values())


def test_the_changes_of_both_phases_are_those_of_git_log(played, repository):
    last = newest(repository)
    assert {change["sha"] for change in played.json["changes"]} == log(repository, last, 0, 90)
    for phase, days in {"phase_1": (0, 30), "phase_2": (31, 90)}.items():
        changes, merges = log(repository, last, *days), log(repository, last, *days, "--merges")
        assert played.json["counts"]["changes"][phase] == {"changes": len(changes), "merges": len(merges)}


def test_every_change_is_in_a_week(played):
    assert sum(week["changes"] for week in played.json["weeks"]) == len(played.json["changes"])
    assert played.json["insights"]
    assert played.json["summary"]


def test_every_state_and_step_is_entered_once_in_the_declared_order(played):
    entered = [(entry["state"], entry["step"], entry["task"]) for entry in played.json["entries"]]
    assert entered == [(line.state, line.step, line.task) for line in lines(onboarding.graph)]


def test_without_a_terminal_the_output_is_plain_lines(played):
    assert "\x1b" not in played.output
    assert "Traceback" not in played.output
    assert "Warning" not in played.output
    assert "Syncing members        sync_members" in played.output


def test_the_output_names_what_was_found_and_where_it_is_kept(played):
    for part in (
        "größe [bold]",
        "People",
        "Weeks",
        "Insights",
        "Summary",
        "Entries",
        "onboarding.",
        ".sqlite3",
    ):
        assert part in played.output


@pytest.mark.slow
def test_a_path_that_is_no_repository_fails_the_team_with_a_message(tmp_path):
    played = play(tmp_path, cache=tmp_path)
    assert played.code == 1
    assert played.json["teams"][0]["status"] == "failed"
    assert "cannot be read as a git repository" in played.json["teams"][0]["error"]
    assert "cannot be read as a git repository" in " ".join(played.output.split())
    assert "Traceback" not in played.output


@pytest.mark.slow
def test_an_empty_repository_fails_the_team_and_is_retried_once_it_has_a_commit(tmp_path):
    repository = Repository(tmp_path / "empty")
    failed = play(repository.path, cache=tmp_path)
    assert (failed.code, failed.json["teams"][0]["status"]) == (1, "failed")
    assert "has no commits to read" in failed.json["teams"][0]["error"]

    repository.commit("one\x1b[31m red [bold]", author=b"Evil\x1b]0;title\x07 <evil@example.org>")
    retried = play(repository.path, cache=tmp_path)
    assert retried.code == 0, retried.output
    assert retried.json["teams"][0]["id"] == failed.json["teams"][0]["id"]
    assert retried.json["counts"] == {
        "people": 1,
        "changes": {"phase_1": {"changes": 1, "merges": 0}, "phase_2": {"changes": 0, "merges": 0}},
    }
    assert "\x1b" not in retried.output


def wait_for(database, state):
    """Wait until the team is in a state, as its database says."""
    asked, until = "SELECT onboarding_pipeline_status FROM onboarding_team", time.monotonic() + 30
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        while connection.execute(asked).fetchone() != (state,):
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.fixture
def listening():
    """Start processes that hear an interrupt: those of a run that a shell put in the background do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
@pytest.mark.slow
def test_an_interrupted_run_says_so_and_the_next_one_goes_on(repository, tmp_path):
    database = tmp_path / "kept.sqlite3"
    # Nobody answers on this broker, so that there is all the time of the world to interrupt.
    alone = environment(tmp_path, BROKER_URL="filesystem://")
    asked = command(repository, "--database", database)
    process = subprocess.Popen(
        asked, cwd=tmp_path, env=alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        if "A new team" in line:
            break
    try:
        wait_for(database, "syncing_members")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, rest
    assert "goes on from there" in rest
    assert "Traceback" not in rest

    played = play(repository, "--database", database, cache=tmp_path)
    assert played.code == 0, played.output
    assert "goes on from there" in played.output
    assert played.json["teams"][0]["id"] == 1


@pytest.mark.slow
def test_a_file_that_is_no_database_is_refused_without_a_traceback(tmp_path):
    (tmp_path / "text.sqlite3").write_text("This is no database, whatever its name says. " * 9)
    played = play("--database", tmp_path / "text.sqlite3", cache=tmp_path)
    assert played.code == 1
    assert "The database cannot be used: file is not a database" in played.output
    assert "Traceback" not in played.output


@pytest.mark.slow
def test_killed_four_times_nothing_happens_twice_and_nothing_is_lost(repository, tmp_path):
    played = play(repository, "--kill", cache=tmp_path)
    assert played.code == 0, played.output
    assert played.json["violations"] == []
    assert len({(kill["state"], kill["task"]) for kill in played.json["kills"]}) == 4
    assert {kill["moment"] for kill in played.json["kills"]} == {
        "working",
        "uncommitted",
        "unsent",
        "unanswered",
    }
    assert all(kill["resumed_after_seconds"] for kill in played.json["kills"])
    assert len(played.json["entries"]) == len(lines(onboarding.graph))
    again = sum(entry["attempt"] - 1 for entry in played.json["entries"] if entry["task"])
    assert again == 2, "the two that were killed before their commit were claimed twice"
    assert len(git(repository, "log", "--format=%H", "HEAD")) == sum(
        person["commits"] for person in played.json["people"]
    )
