"""The processes of a storm: started, started again when they end, and ended for good with it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from chaos.servers import wait_until

ROOT = Path(__file__).resolve().parents[1]
QUIET = ["--without-mingle", "--without-gossip", "--loglevel", "WARNING"]


class Member:
    """A process that is to run, with all that it starts: a group of its own."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], logs: Path) -> None:
        self.name, self._command, self._log = name, list(command), logs / f"{name}.log"
        self._ready = logs / f"{name}.ready"
        # What a killed process leaves in its temporary folder goes with the logs.
        here = {"CHAOS_READY": str(self._ready), "TMPDIR": str(logs)}
        self._environment = {**os.environ, **environment, **here}
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int:
        return self._processes[-1].pid

    @property
    def runs(self) -> bool:
        return bool(self._processes) and self._processes[-1].poll() is None

    @property
    def ready(self) -> bool:
        """Whether it runs, and has said that it is up."""
        return self.runs and self._ready.exists() and self._ready.read_text() == str(self.pid)

    def start(self) -> None:
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                # A name of its own each time: a broker may remember a killed one for a while.
                [part.replace("%i", str(len(self._processes))) for part in self._command],
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)

    @property
    def groups(self) -> list[int]:
        """Those of all its lives: orphans of earlier ones may be left."""
        return [process.pid for process in self._processes]

    def children(self) -> list[int]:
        """What belongs to its group, but for itself."""
        return [pid for pid in groups().get(self.pid, []) if pid != self.pid]

    def kill(self, *, orphan: bool = False) -> None:
        """SIGKILL, to all of it, or to the parent alone: its children find out for themselves."""
        os.kill(self.pid, signal.SIGKILL) if orphan else self._kill_group(self._processes[-1])
        self._processes[-1].wait()

    def terminate(self) -> None:
        if self.runs:
            self._processes[-1].terminate()

    def end(self) -> None:
        """Leave nothing of it, orphans of earlier lives included."""
        alive = groups()
        for process in self._processes:
            if process.poll() is None or process.pid in alive:
                self._kill_group(process)
            process.wait()

    def _kill_group(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def groups() -> dict[int, list[int]]:
    """The processes of this machine that run, by their group."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pgid=,pid=,stat="], capture_output=True, text=True, check=True
    )
    found: dict[int, list[int]] = {}
    for line in listed.stdout.splitlines():
        group, pid, state = line.split()
        if not state.startswith("Z"):
            found.setdefault(int(group), []).append(int(pid))
    return found


class Fleet:
    """Workers of two kinds, and a sweeper."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = list(members)
        self.deaths = 0

    @property
    def workers(self) -> list[Member]:
        """Those that are up."""
        return [member for member in self.members if member.name != "sweeper" and member.ready]

    @property
    def sweepers(self) -> list[Member]:
        return [member for member in self.members if member.name == "sweeper" and member.runs]

    def keep_running(self) -> None:
        """Start what has ended."""
        for member in self.members:
            if not member.runs:
                self.deaths += 1
                member.start()

    def pool_child(self) -> int | None:
        """A child of some worker's pool."""
        children = [pid for member in self.workers for pid in member.children()]
        return random.choice(children) if children else None

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal to a process of the fleet. False: it is none, or none any more."""
        alive = groups()
        if any(pid in alive.get(group, []) for member in self.members for group in member.groups):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                return True
        return False

    def tell_stacks(self) -> None:
        """Let the workers log where each of their threads is, as Celery does on SIGUSR1."""
        for member in self.workers:
            os.kill(member.pid, signal.SIGUSR1)
        time.sleep(2)

    def stop(self, patience: float = 10.0) -> None:
        """Ask everything to end, and end what does not."""
        for member in self.members:
            member.terminate()
        end = time.monotonic() + patience
        while any(member.runs for member in self.members) and time.monotonic() < end:
            time.sleep(0.05)
        for member in self.members:
            member.end()


def worker(name: str, *, pool: str, concurrency: int, acks_late: bool, logs: Path) -> Member:
    options = [
        "--pool",
        pool,
        "--concurrency",
        str(concurrency),
        "--hostname",
        f"{name}-%i@chaos-{os.getpid()}",
    ]
    return Member(
        name,
        [sys.executable, "-m", "celery", "-A", "chaos.project", "worker", *QUIET, *options],
        {"CHAOS_ACKS_LATE": str(int(acks_late))},
        logs,
    )


def sweeper(logs: Path) -> Member:
    command = [sys.executable, "-m", "django", "statemachine", "recover", "--loop", "--every", "0.5"]
    return Member("sweeper", command, {"CHAOS_SWEEPS": "1"}, logs)


@contextlib.contextmanager
def fleet(logs: Path) -> Iterator[Fleet]:
    """All of them, running; nothing of them outlives the block."""
    started = Fleet(
        [
            worker("early", pool="prefork", concurrency=2, acks_late=False, logs=logs),
            worker("late", pool="prefork", concurrency=2, acks_late=True, logs=logs),
            worker("threads", pool="threads", concurrency=3, acks_late=True, logs=logs),
            sweeper(logs),
        ]
    )
    try:
        started.keep_running()
        started.deaths = 0
        wait_until(lambda: len(started.workers) == 3, "the workers are up", patience=120)
        yield started
        started.stop()
    finally:
        for member in started.members:
            member.end()
