"""The demo as a person runs it: in a process of its own, with nothing of the tests' environment."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import integration

ROOT = Path(integration.__file__).parents[1]
OURS = ("DATABASE_URL", "BROKER_URL", "DJANGO_SETTINGS_MODULE", "COLUMNS", "FORCE_COLOR", "NO_COLOR")


@dataclass(frozen=True)
class Played:
    """What a run of the demo left."""

    code: int
    output: str
    json: dict


def environment(cache, **more):
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    paths = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache), "PYTHONWARNINGS": "default"}
    return {**kept, **paths, **_bytecode(), "PYTHONIOENCODING": "utf-8", **more}


def _bytecode():
    """Where Python is told to keep none, every one of our processes would compile all of Django."""
    if not sys.dont_write_bytecode:
        return {}
    folder = Path(tempfile.gettempdir()) / f"onward-tests-{os.getuid()}" / "bytecode"
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder)}


def command(*arguments):
    return [sys.executable, "-m", "integration.demo", *map(str, arguments)]


def play(*arguments, cache, cwd=None, **more):
    """Run the demo to its end, with ``--json``."""
    document = Path(cache) / "demo.json"
    done = subprocess.run(
        command(*arguments, "--json", document),
        cwd=cwd or cache,
        env=environment(cache, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=150,
        check=False,
    )
    output = done.stdout.decode(errors="replace")
    found = json.loads(document.read_text(encoding="utf-8")) if document.exists() else {}
    return Played(done.returncode, output, found)


def shortlog(repository):
    """Commits by address in lower case, as git counts them."""
    people = Counter()
    for line in git(repository, "shortlog", "-sne", "HEAD"):
        count, _, who = line.partition("\t")
        people[who.rpartition("<")[2].rstrip(">").lower()] += int(count)
    return dict(people)


def log(repository, newest, first_day, last_day, *options):
    """The commits of the days before the newest, as git selects them."""
    start = newest - timedelta(days=last_day + 1) + timedelta(seconds=1)
    end = newest - timedelta(days=first_day)
    between = (f"--since-as-filter={start.isoformat()}", f"--until={end.isoformat()}")
    return set(git(repository, "log", "--format=%H", *between, *options, "HEAD"))


def newest(repository):
    return datetime.fromisoformat(
        max(git(repository, "log", "--format=%cI", "HEAD"), key=datetime.fromisoformat)
    )


def git(repository, *arguments):
    done = subprocess.run(["git", "-C", repository, *arguments], capture_output=True, check=True)
    return done.stdout.decode(errors="replace").splitlines()
