"""The servers of a storm: of its own where the machine has the programs, so that they can be restarted."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg

PATIENCE = 30.0
USUAL = {
    "postgresql": "postgresql://postgres@127.0.0.1:5432/postgres",
    "redis": "redis://127.0.0.1:6379/9",
    "amqp": "amqp://guest:guest@127.0.0.1:5672//",
}
PORTS = {"postgresql": 5432, "redis": 6379, "amqp": 5672}


@dataclass
class Server:
    """A server that others may use as well: it is never restarted."""

    url: str

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "127.0.0.1", parts.port or PORTS[parts.scheme]


class OwnServer(Server):
    """A server of the storm's own, in a folder that goes with it."""

    def __init__(self, url: str, command: list[str], *, user: str | None, cwd: Path) -> None:
        super().__init__(url)
        self._command, self._user, self._cwd = command, user, cwd
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self._cwd / "output").open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                user=self._user,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(self._answers, f"{self._command[0]} answers at {self.address}")

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            told = (self._cwd / "output").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self._command[0]} ended with {self._process.returncode}: {told}")
        return answers(self)

    def stop(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def crash(self) -> None:
        """Stop as a crash does, and start again."""
        # SIGQUIT is PostgreSQL's immediate shutdown: its children go too, and recovery follows.
        self.stop(signal.SIGQUIT if self.url.startswith("postgresql") else signal.SIGKILL)
        self.start()


def through(url: str, port: int) -> str:
    """The URL, by way of a proxy at a port."""
    parts = urlsplit(url)
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    return urlunsplit(parts._replace(netloc=f"{login}127.0.0.1:{port}"))


def answers(server: Server) -> bool:
    if server.url.startswith("postgresql"):
        try:
            psycopg.connect(server.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True
    try:
        socket.create_connection(server.address, 1).close()
    except OSError:
        return False
    return True


def wait_until(happened: object, what: str, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience:.0f} s, in vain, until {what}")
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str | None:
    """A program of PostgreSQL or Redis; distributions keep PostgreSQL's off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


def unprivileged() -> str | None:
    """Whom to run PostgreSQL as, which refuses root; None for ourselves.

    Raises:
        KeyError: We are root, and there is nobody else to be.
    """
    if os.geteuid() != 0:
        return None
    return pwd.getpwnam("postgres").pw_name


@contextlib.contextmanager
def postgresql() -> Iterator[Server]:
    """A server of our own, or else the one at POSTGRESQL_URL."""
    initdb, postgres = program("initdb"), program("postgres")
    try:
        user = unprivileged()
    except KeyError:
        initdb = None
    if initdb is None or postgres is None:
        yield shared("postgresql")
        return
    with folder(user) as place:
        data, port = place / "data", free_port()
        quiet = {"user": user, "cwd": place, "check": True, "capture_output": True}
        subprocess.run([initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-N"], **quiet)
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(place),
            "fsync": "off",  # the machine does not crash, only the server does
            "max_connections": 200,
            "shared_buffers": "32MB",
        }
        command = [postgres, "-D", str(data), *(f"--{name}={value}" for name, value in settings.items())]
        yield from running(f"postgresql://postgres@127.0.0.1:{port}/postgres", command, user, place)


@contextlib.contextmanager
def redis() -> Iterator[Server]:
    """A server of our own, which forgets everything when it crashes, or else the one at REDIS_URL."""
    server = program("redis-server")
    if server is None:
        yield shared("redis")
        return
    with folder(None) as place:
        port = free_port()
        command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        yield from running(f"redis://127.0.0.1:{port}/0", command, None, place)


@contextlib.contextmanager
def amqp() -> Iterator[Server]:
    """The server at AMQP_URL; only queues of our own on it are touched."""
    yield shared("amqp")


def shared(name: str) -> Server:
    server = Server(os.environ.get(f"{name.upper()}_URL", USUAL[name]))
    if not answers(server):
        raise SystemExit(
            f"No {name} answers at {server.address[0]}:{server.address[1]}, and none can be started here. "
            f"Start one, or set {name.upper()}_URL."
        )
    return server


def running(url: str, command: list[str], user: str | None, place: Path) -> Iterator[Server]:
    server = OwnServer(url, command, user=user, cwd=place)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGKILL if url.startswith("redis") else signal.SIGQUIT)


@contextlib.contextmanager
def folder(user: str | None) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="onward-chaos-"))
    try:
        if user is not None:
            shutil.chown(place, user)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def database(server: Server) -> Iterator[str]:
    """A database of our own; yields its URL."""
    name = f"onward_chaos_{os.getpid()}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(server.url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
