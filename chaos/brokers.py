"""What the storm does to the messages of its own queue, behind the workers' backs."""

from __future__ import annotations

import json
import time
from typing import Any, Protocol
from uuid import uuid4

from chaos.servers import Server

PATIENCE = 0.3


class Thief(Protocol):
    """Takes messages from the queue, as a worker would."""

    def drop(self) -> bool:
        """Lose a message. False: there was none."""

    def double(self) -> bool:
        """Deliver a message twice. False: there was none."""

    def waiting(self) -> int:
        """How many messages nobody has taken."""

    def clean(self) -> None:
        """Delete the queue, with what is in it."""


class RedisThief:
    def __init__(self, server: Server, queue: str) -> None:
        self._server, self._queue, self._prefix = server, f"{queue}:{queue}", f"{queue}:"

    def _client(self) -> Any:
        import redis

        return redis.Redis.from_url(self._server.url, socket_timeout=5)

    def _take(self) -> bytes | None:
        with self._client() as client:
            taken = client.brpop([self._queue], timeout=PATIENCE)
        return taken[1] if taken else None

    def drop(self) -> bool:
        return self._take() is not None

    def double(self) -> bool:
        taken = self._take()
        if taken is None:
            return False
        copy = json.loads(taken)
        copy["properties"]["delivery_tag"] = str(uuid4())
        with self._client() as client:
            client.rpush(self._queue, taken, json.dumps(copy))
        return True

    def waiting(self) -> int:
        with self._client() as client:
            return int(client.llen(self._queue))

    def clean(self) -> None:
        with self._client() as client:
            for key in client.scan_iter(f"{self._prefix}*"):
                client.delete(key)


class AmqpThief:
    def __init__(self, server: Server, queue: str) -> None:
        self._server, self._queue = server, queue

    def _connection(self) -> Any:
        from kombu import Connection

        return Connection(self._server.url, connect_timeout=5)

    def _take(self, channel: Any) -> Any:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            message = channel.basic_get(self._queue, no_ack=False)
            if message is not None:
                return message
            time.sleep(0.01)
        return None

    def drop(self) -> bool:
        with self._connection() as connection:
            message = self._take(connection.default_channel)
            if message is not None:
                connection.default_channel.basic_ack(message.delivery_tag)
        return message is not None

    def double(self) -> bool:
        with self._connection() as connection:
            channel = connection.default_channel
            message = self._take(channel)
            if message is None:
                return False
            channel.basic_publish(message, exchange="", routing_key=self._queue)
            channel.basic_reject(message.delivery_tag, requeue=True)
        return True

    def waiting(self) -> int:
        with self._connection() as connection:
            return int(connection.default_channel.queue_declare(self._queue, passive=True).message_count)

    def clean(self) -> None:
        with self._connection() as connection:
            connection.default_channel.queue_delete(self._queue)
            connection.default_channel.exchange_delete(self._queue)


def thief(server: Server, queue: str) -> Thief:
    return RedisThief(server, queue) if server.url.startswith("redis") else AmqpThief(server, queue)
