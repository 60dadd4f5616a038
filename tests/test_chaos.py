"""The storm, for a few seconds; and the proxy through which everything in it passes."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chaos.proxy import Proxy
from tests.services import address

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 10


class Echo:
    """A server that repeats what it is told, in capitals."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self):
        return self.socket.getsockname()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection):
        with connection:
            while said := connection.recv(100):
                connection.sendall(said.upper())

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


@pytest.fixture
def proxy():
    with closing(Echo()) as echo, closing(Proxy(*echo.address)) as proxy:
        yield proxy


def connected(proxy):
    return closing(socket.create_connection(("127.0.0.1", proxy.port), PATIENCE))


def asked(connection, said):
    """What it answers; empty when the connection was cut instead."""
    try:
        connection.sendall(said)
        return connection.recv(100)
    except ConnectionError:
        return b""


def test_what_passes_the_proxy_arrives(proxy):
    with connected(proxy) as one, connected(proxy) as other:
        assert asked(one, b"hello") == b"HELLO"
        assert asked(other, b"there") == b"THERE"


def test_a_cut_ends_every_connection_and_lets_new_ones_through(proxy):
    with connected(proxy) as one, connected(proxy) as other:
        assert asked(one, b"a") + asked(other, b"b") == b"AB"
        assert proxy.cut() == 2
        assert asked(one, b"a") + asked(other, b"b") == b""
    with connected(proxy) as again:
        assert asked(again, b"again") == b"AGAIN"


def test_a_proxy_that_is_down_refuses_until_it_heals(proxy):
    proxy.go_down()
    with connected(proxy) as refused:
        assert asked(refused, b"hello") == b""
    proxy.heal()
    with connected(proxy) as let:
        assert asked(let, b"hello") == b"HELLO"


def test_a_held_proxy_delivers_when_it_heals(proxy):
    with connected(proxy) as held:
        assert asked(held, b"hello") == b"HELLO"
        proxy.hold()
        held.sendall(b"late")
        held.settimeout(0.1)
        with pytest.raises(TimeoutError):
            held.recv(100)
        proxy.heal()
        held.settimeout(PATIENCE)
        assert held.recv(100) == b"LATE"


def test_one_reply_is_lost_with_its_connection(proxy):
    proxy.lose_reply(b"COMMIT")
    with connected(proxy) as one:
        assert asked(one, b"begin") == b"BEGIN"
        assert asked(one, b"commit") == b""
    with connected(proxy) as again:
        assert asked(again, b"commit") == b"COMMIT"
    assert proxy.lost == 1


@pytest.fixture
def folder():
    """For everything that a storm writes; PostgreSQL, which is not run as root, must come through."""
    with tempfile.TemporaryDirectory(prefix="onward-tests-chaos-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def storm(folder, broker, *options):
    address("postgresql"), address(broker)
    command = [sys.executable, "-m", "chaos", "--broker", broker, "--json", str(folder / "json"), *options]
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def left_behind(folder, process):
    """Files of a storm that is over, and processes that name it or them."""
    listed = subprocess.run(["ps", "-A", "-o", "args="], capture_output=True, text=True, check=True)
    names = (f"chaos-{process.pid}", str(folder))
    processes = [line for line in listed.stdout.splitlines() if any(name in line for name in names)]
    return processes + [str(path) for path in folder.iterdir() if path.name != "json"]


@pytest.mark.services
@pytest.mark.parametrize("broker", ["redis", "amqp"])
def test_a_few_seconds_of_storm_lose_nothing_and_do_nothing_twice(folder, broker, tally):
    with storm(folder, broker, "--seconds", "8", "--at-once", "10", "--drain", "90") as process:
        told, _ = process.communicate(timeout=150)
    assert process.returncode == 0, told
    figures = json.loads((folder / "json").read_text())
    assert figures["transitions"] == figures["expected_transitions"] > 0
    assert left_behind(folder, process) == []
    tally("faults in a storm", sum(figures["faults"].values()))


@pytest.mark.services
def test_a_storm_that_is_interrupted_leaves_nothing_behind(folder):
    from chaos.servers import wait_until  # it needs PostgreSQL's driver

    with storm(folder, "redis") as process:
        wait_until(lambda: list(folder.glob("*/early.ready")), "a worker is up", patience=60)
        assert left_behind(folder, process)
        process.terminate()
        assert process.wait(60) != 0
    assert left_behind(folder, process) == []
