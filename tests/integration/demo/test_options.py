"""What may be asked for, where things are kept, and how strangers' texts are shown."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("rich")

from integration.demo import places
from integration.demo.options import parsed
from integration.demo.words import clean, duration, plural


@pytest.fixture(autouse=True)
def _nothing_is_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_default_is_the_repository_around_the_folder(tmp_path, monkeypatch):
    (tmp_path / "project" / ".git").mkdir(parents=True)
    (tmp_path / "project" / "src").mkdir()
    monkeypatch.chdir(tmp_path / "project" / "src")
    assert parsed([]).source == str(tmp_path / "project")


def test_a_bare_repository_is_found_too(tmp_path, monkeypatch):
    for name in ("objects", "refs"):
        (tmp_path / name).mkdir()
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    monkeypatch.chdir(tmp_path / "refs")
    assert parsed([]).source == str(tmp_path)


def test_outside_of_any_repository_the_default_is_the_folder_itself(tmp_path):
    assert places.repository(tmp_path) in (tmp_path, *tmp_path.parents)


@pytest.mark.parametrize("address", ["github:owner/name", "https://github.com/owner/name"])
def test_an_address_is_kept_as_it_is(address):
    assert parsed([address]).source == address


def test_a_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parsed(["some/where"]).source == str(tmp_path / "some" / "where")


def test_every_repository_has_a_database_of_its_own(tmp_path):
    urls = {parsed([str(tmp_path / name / "same")]).database_url for name in ("a", "b")}
    assert len(urls) == 2
    assert all(url.startswith(f"sqlite:///{tmp_path / 'cache'}") for url in urls)


def test_the_environment_chooses_the_database_and_the_option_wins(monkeypatch, tmp_path):
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@here/mine")
    assert parsed([]).database_url == "postgresql://me@here/mine"
    assert parsed([]).chosen
    chosen = parsed(["--database", str(tmp_path / "my file.sqlite3")])
    assert places.database(chosen.database_url)["NAME"] == str(tmp_path / "my file.sqlite3")
    assert not chosen.chosen


@pytest.mark.parametrize(
    ("url", "engine", "name"),
    [
        ("sqlite:////srv/a%20b.sqlite3", "sqlite3", "/srv/a b.sqlite3"),
        ("postgresql://u:p%40ss@h:5/n?sslmode=require", "postgresql", "n"),
        ("postgres://u@h/n", "postgresql", "n"),
        ("mariadb://u@h/n", "mysql", "n"),
        ("mysql+pymysql://u@h/n", "mysql", "n"),
    ],
)
def test_a_url_becomes_django_settings(url, engine, name):
    made = places.database(url)
    assert made["ENGINE"] == f"django.db.backends.{engine}"
    assert made["NAME"] == name


def test_a_url_may_carry_a_password_and_options_and_the_description_has_no_password():
    made = places.database("postgresql://u:p%40ss@h:5/n?sslmode=require")
    assert (made["USER"], made["PASSWORD"], made["HOST"], made["PORT"]) == ("u", "p@ss", "h", "5")
    assert made["OPTIONS"] == {"sslmode": "require"}
    assert places.described(made) == "PostgreSQL, n at h:5"


@pytest.mark.parametrize("url", ["oracle://u@h/n", "postgresql://u@h", "nonsense", "postgresql://u@h:port/n"])
def test_a_url_of_no_known_database_is_bad_usage(url, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SystemExit) as ended:
        parsed([])
    assert ended.value.code == 2
    assert "DATABASE_URL" in capsys.readouterr().err


def test_a_file_in_a_folder_that_is_not_there_is_bad_usage(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed(["--json", str(tmp_path / "no" / "x.json")])
    assert ended.value.code == 2
    assert "no file in a folder that exists" in capsys.readouterr().err


def test_a_path_that_no_database_can_keep_is_bad_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        parsed([os.fsdecode(b"bad\xff")])
    assert ended.value.code == 2
    assert "is not valid UTF-8" in capsys.readouterr().err


def test_without_a_cache_that_can_be_written_the_temporary_folder_is_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert places.folder().parent == tmp_path
    assert places.folder().is_dir()


def test_the_log_of_a_file_is_beside_it_and_that_of_a_server_in_the_folder(tmp_path):
    file = places.database(places.sqlite_url(tmp_path / "x.sqlite3"))
    assert places.log_file(file) == tmp_path / "x.log"
    server = places.database("postgresql://u@h/..%2Fetc")
    assert places.log_file(server).parent == Path(tmp_path / "cache" / "onward-demo")


def test_a_strangers_text_cannot_command_the_terminal():
    assert clean("a\x1b[31m\n b\u202e\x07") == "a\ufffd[31m b\ufffd\ufffd"
    assert clean("abcdef", 4) == "abc…"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0.00 s"),
        (0.123, "0.12 s"),
        (12.34, "12.3 s"),
        (185, "3:05 min"),
        (7200, "2 h"),
        (400_000, "4 days"),
    ],
)
def test_a_duration_is_said_in_the_unit_that_fits(seconds, said):
    assert duration(timedelta(seconds=seconds)) == said


def test_one_is_not_many():
    assert [plural(n, "person", "people") for n in (0, 1, 2)] == ["0 people", "1 person", "2 people"]
