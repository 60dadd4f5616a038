"""What a person sees: the demo on a terminal of 80 columns, and on ones that can do less."""

import os
import pty
import re
import subprocess
import unicodedata
from io import StringIO

import pytest

pytest.importorskip("pygit2")
pytest.importorskip("rich")

from rich.console import Console

from integration.demo.show import Journal, Screen, screen
from tests.integration.demo.played import command, environment
from tests.integration.onboarding.repositories import grown

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(arguments, cache, **more):
    """What the demo writes to a terminal, and its exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        cwd=cache,
        env=environment(cache, TERM="xterm-256color", COLUMNS="80", LINES="50", **more),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return written.decode(), process.wait(30)


def _read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""


def width(text):
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


@pytest.mark.slow
def test_on_a_terminal_a_board_of_all_stages_is_drawn_within_80_columns(tmp_path):
    repository = grown(tmp_path / "repository").path
    written, code = on_a_terminal([repository, "--database", tmp_path / "x.sqlite3"], tmp_path)
    shown = ESCAPE.sub("", written).replace("\r", "\n").splitlines()
    assert code == 0, written
    assert any(line.startswith("· Complete") for line in shown)
    assert any(line.startswith("★ Complete") for line in shown)
    assert any("Background: analysing" in line and line.startswith("✓") for line in shown)
    assert [line for line in shown if width(line) > 80 and str(tmp_path) not in line] == []


@pytest.mark.parametrize(
    ("console", "kind"),
    [
        (Console(file=StringIO(), force_terminal=True, _environ={"TERM": "xterm"}), Screen),
        (Console(file=StringIO(), force_terminal=True, _environ={"TERM": "dumb"}), Journal),
        (Console(file=StringIO(), _environ={}), Journal),
    ],
    ids=["moves", "dumb", "none"],
)
def test_a_board_is_drawn_where_one_can_be_and_lines_elsewhere(console, kind):
    assert type(screen(console)) is kind
