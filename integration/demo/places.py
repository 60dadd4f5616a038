"""Where the demo keeps things, and what its URLs mean. No Django: the settings are made from this."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

__all__ = ["database", "default_url", "described", "folder", "log_file", "repository", "sqlite_url"]

ENGINES = {
    "sqlite": "sqlite3",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mariadb": "mysql",
    "mysql": "mysql",
}
NAMES = {"sqlite3": "SQLite", "postgresql": "PostgreSQL", "mysql": "MariaDB"}


def folder() -> Path:
    """The user's cache, or the machine's temporary folder where there is none that can be written."""
    choices = [
        Path(_cache()).expanduser() / "onward-demo",
        Path(tempfile.gettempdir()) / f"onward-demo-{_user()}",
    ]
    for choice in choices[:-1]:
        if _usable(choice):
            return choice
    choices[-1].mkdir(mode=0o700, parents=True, exist_ok=True)
    return choices[-1]


def _cache() -> str:
    given = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return given or ("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _usable(choice: Path) -> bool:
    try:
        choice.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return False
    return os.access(choice, os.W_OK)


def repository(start: Path) -> Path:
    """The repository that a folder is in; the folder itself when it is in none."""
    return next((place for place in (start, *start.parents) if _is_repository(place)), start)


def _is_repository(place: Path) -> bool:
    bare = (place / "HEAD").is_file() and (place / "objects").is_dir() and (place / "refs").is_dir()
    return bare or (place / ".git").exists()


def default_url(source: str) -> str:
    """A database for each source, so that the interrupted work of one does not hold up another."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).name)[:40].strip("-.")
    digest = sha256(source.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return sqlite_url(folder() / f"{name or 'repository'}-{digest}.sqlite3")


def sqlite_url(file: Path) -> str:
    return f"sqlite:///{quote(str(file.absolute()))}"


def database(url: str) -> dict[str, Any]:
    """Django's settings of a database.

    Raises:
        ValueError: The URL names no database that the library is made for.
    """
    parts = urlsplit(url)
    engine = ENGINES.get(parts.scheme.partition("+")[0])
    if engine is None or not parts.path.strip("/") or not _has_a_port(parts):
        kinds = "sqlite:////FILE, postgresql://USER@HOST/NAME or mariadb://USER@HOST/NAME"
        raise ValueError(f"DATABASE_URL is none that can be used; give {kinds}")
    options = dict(parse_qsl(parts.query))
    if engine == "sqlite3":
        return _sqlite(unquote(parts.path[1:]), options)
    if engine == "mysql":
        options = {"charset": "utf8mb4", **options}
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "NAME": unquote(parts.path[1:]),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "OPTIONS": options,
    }


def _has_a_port(parts: SplitResult) -> bool:
    """Whether the port is a number, or left out."""
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def _sqlite(name: str, options: dict[str, str]) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": name,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            **options,
        },
    }


def described(settings: dict[str, Any]) -> str:
    """A database in a few words, without its password."""
    kind = NAMES[settings["ENGINE"].rpartition(".")[2]]
    if kind == "SQLite":
        return f"{kind}, {settings['NAME']}"
    port = f":{settings['PORT']}" if settings["PORT"] else ""
    return f"{kind}, {settings['NAME']} at {settings['HOST'] or 'this machine'}{port}"


def log_file(settings: dict[str, Any]) -> Path:
    """Beside the database's file, or in the demo's folder."""
    if settings["ENGINE"].endswith("sqlite3"):
        return Path(settings["NAME"]).with_suffix(".log")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", settings["NAME"])
    return folder() / f"{name}.log"
