"""What may be asked of the demo on the command line."""

from __future__ import annotations

import argparse
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from integration.demo import places

__all__ = ["Options", "parsed"]

ELSEWHERE = re.compile(r"^github:|^[a-z][a-z0-9+.-]+://|^[\w.-]+@[\w.-]+:", re.IGNORECASE)

ABOUT = """\
Onboard a team from a git repository: its people, the changes of its last 91
days, what kind they are, weekly metrics and insights. Each state of the pipeline
is a Celery task; by default the worker is a thread of this process and the
database a file, so that no server is needed."""

MORE = f"""\
what a run does:
  It goes on with the newest team of the same repository in the database, unless
  that one is complete: an interrupted team is resumed where it stopped, a failed
  one is retried. Otherwise, and with --new, it begins a new team. --kill always
  begins new ones.

environment:
  DATABASE_URL   postgresql://USER@HOST/NAME, mariadb://USER@HOST/NAME or
                 sqlite:////FILE; by default a file for each repository in
                 {places.folder()}.
                 MariaDB takes jose@ and josé@ for one address unless the
                 database was created with COLLATE utf8mb4_bin.
  BROKER_URL     redis://HOST or amqp://USER:PASSWORD@HOST; then no worker is
                 started, and the work is left to an ordinary one:
                 celery -A integration.demo worker
  GITHUB_TOKEN   for a repository on GitHub
  ANALYST_MODEL, ANALYST_API_KEY
                 for --analyst
  NO_COLOR       no colours

exit code: 0 complete, 1 failed, 2 bad usage, 130 interrupted."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was asked.

    Attributes:
        source: The repository, as the team keeps it.
        database_url: Where the team is kept.
        chosen: Whether the database was named by the user's environment, which a worker then shares.
        analyst: An OpenAI-compatible endpoint; rules when empty.
        new: Begin a new team in any case.
        kill: Kill the worker several times.
        seed: Chooses where; None for another choice each time.
        json: The file to write everything to.
    """

    source: str
    database_url: str
    chosen: bool
    analyst: str = ""
    new: bool = False
    kill: bool = False
    seed: int | None = None
    json: Path | None = None


def parsed(arguments: Sequence[str] | None) -> Options:
    """Read the command line; what cannot be used ends the process with code 2 and a message."""
    parser = _parser()
    given = parser.parse_args(arguments)
    source = _source(given.repository)
    try:
        source.encode()
        url, chosen = _database(given.database, source)
        places.database(url)
    except UnicodeEncodeError:
        parser.error(f"the path {source!r} is not valid UTF-8, so the database cannot keep it")
    except ValueError as error:
        parser.error(str(error))
    if given.kill and not hasattr(signal, "SIGKILL"):
        parser.error("--kill needs a system that has SIGKILL")
    if given.json is not None and (given.json.is_dir() or not given.json.absolute().parent.is_dir()):
        parser.error(f"--json: {str(given.json)!r} is no file in a folder that exists")
    return Options(
        source=source,
        database_url=url,
        chosen=chosen,
        analyst=given.analyst,
        new=given.new,
        kill=given.kill,
        seed=given.seed,
        json=given.json,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m integration.demo",
        description=ABOUT,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("repository", nargs="?", help="a local repository, or github:owner/name; default: the one you are in")
    add("--database", type=Path, metavar="FILE", help="keep everything in this SQLite file")
    add("--new", action="store_true", help="begin a new team, also when there is one to go on with")
    add("--kill", action="store_true", help="kill the worker in the middle of several stages, and check")
    add("--seed", type=int, metavar="N", help="kill at the same places as another run with this number")
    add("--json", type=Path, metavar="PATH", help="write everything that was found, and how it went")
    add("--analyst", default="", metavar="URL", help="let an OpenAI-compatible endpoint judge the changes")
    return parser


def _source(given: str | None) -> str:
    if given is None:
        return str(places.repository(Path.cwd()))
    if ELSEWHERE.match(given) and not Path(given).exists():
        return given
    return str(Path(given).expanduser().resolve())


def _database(file: Path | None, source: str) -> tuple[str, bool]:
    if file is not None:
        return places.sqlite_url(file.expanduser()), False
    url = os.environ.get("DATABASE_URL", "")
    return (url, True) if url else (places.default_url(source), False)
