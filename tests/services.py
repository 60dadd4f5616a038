"""Where the servers are that some tests talk to, and what it means when one is not there."""

import os
import socket
from urllib.parse import urlsplit

import pytest

USUAL = {
    "postgresql": "postgresql://postgres@127.0.0.1:5432/postgres",
    "mariadb": "mariadb://root@127.0.0.1:3306/mysql",
    "redis": "redis://127.0.0.1:6379/9",
    "amqp": "amqp://guest:guest@127.0.0.1:5672//",
}
PORTS = {"postgresql": 5432, "mariadb": 3306, "redis": 6379, "amqp": 5672}


def address(name):
    """The service's URL. A service that does not answer skips the test, or fails it where it is expected."""
    url = os.environ.get(f"{name.upper()}_URL", USUAL[name])
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or PORTS[name]), 3).close()
    except OSError as error:
        reason = f"{name} does not answer at {parts.hostname}:{parts.port}: {error}"
        if name in os.environ.get("ONWARD_EXPECT_SERVICES", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)
    return url


def transport_options(url, queue):
    """What keeps this queue's keys apart from all others on a Redis, so that they can be deleted."""
    return {"global_keyprefix": f"{queue}:"} if url.startswith("redis") else {}
