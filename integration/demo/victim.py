"""The processes that ``--kill`` kills: the demo itself, or an ordinary worker where there is a broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from integration.demo import settings
from integration.demo.crash import VARIABLE, Point
from integration.demo.options import Options

__all__ = ["COMMAND", "Victim", "output", "victim"]

COMMAND = "celery -A integration.demo worker"
OPTIONS = "--without-mingle --without-gossip --without-heartbeat --concurrency 1 --loglevel WARNING"
PATIENCE = 10.0


def output() -> Path:
    """Where the processes write what they would have shown."""
    return Path(settings.LOG_FILE).with_suffix(".output")


class Victim:
    """A process, with all that it starts."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL, to it and to its children: nobody can catch it or tidy up."""
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """Ask a worker to answer its last message and end; the demo need not be waited for."""
        if not settings.IN_PROCESS:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)


@contextmanager
def victim(options: Options, point: Point | None) -> Iterator[Victim]:
    """Start one, which stands still at the point; nothing of it outlives the block."""
    environment = {**os.environ, VARIABLE: point.dumps() if point is not None else ""}
    with output().open("ab") as log:
        process = subprocess.Popen(
            _command(options),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    started = Victim(process)
    try:
        yield started
    finally:
        if _group_lives(process.pid):
            started.kill()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _command(options: Options) -> list[str]:
    if not settings.IN_PROCESS:
        # A name of its own: RabbitMQ keeps a killed worker's exclusive queue until it notices its death.
        name = f"--hostname=demo-{uuid4().hex[:8]}@%h"
        return [sys.executable, "-m", *COMMAND.split(), *OPTIONS.split(), name]
    analyst = ["--analyst", options.analyst] if options.analyst else []
    return [sys.executable, "-m", "integration.demo", *analyst, "--", options.source]
