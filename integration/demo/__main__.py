"""``python -m integration.demo``: see ``--help``."""

from __future__ import annotations

import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from integration.demo.options import Options, parsed

__all__ = ["main"]

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # names are written in every script; terminals are not
    options = parsed(arguments)
    if absent := _absent(options):
        print(
            f'{absent} is not installed. Install what the demo needs: pip install "onward[demo]"',
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _configure(options)
        return _act(options)
    except KeyboardInterrupt:
        print("\nStopped. The same command on the same database goes on from there.", file=sys.stderr)
        return INTERRUPTED


def _absent(options: Options) -> str:
    """The package without which nothing would be seen or read."""
    needed = ["rich"] if options.source.startswith(("github:", "http")) else ["rich", "pygit2"]
    return next((name for name in needed if importlib.util.find_spec(name) is None), "")


def _interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


def _configure(options: Options) -> None:
    import django

    os.environ["DATABASE_URL"] = options.database_url
    os.environ["DJANGO_SETTINGS_MODULE"] = "integration.demo.settings"
    if options.kill:
        os.environ["ONWARD_DEMO_KILL"] = ""
    django.setup()
    logging.captureWarnings(True)


def _act(options: Options) -> int:
    from django.core.exceptions import ImproperlyConfigured
    from django.db import DatabaseError, InterfaceError
    from rich.console import Console

    from integration.demo import kill, play, settings

    console = Console(highlight=False)
    try:
        return kill.kill(options, console) if options.kill else play.play(options, console)
    except (DatabaseError, InterfaceError, ImproperlyConfigured) as error:
        return _refused("The database cannot be used", error)
    except OSError as error:
        return _refused("A file cannot be written, or a server not be reached", error)
    except play.WorkerDied as error:
        return _refused("The worker ended by itself", error, f"See {settings.LOG_FILE}")


def _refused(problem: str, error: Exception, remedy: str = "") -> int:
    cause = " ".join(str(error).split())
    print(f"{problem}: {cause}" if cause else f"{problem}.", remedy, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
