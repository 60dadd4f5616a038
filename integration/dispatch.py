"""Ringing: a message is a doorbell. It may be lost, so it never fails its caller."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from django.db import transaction

from integration.conf import conf

__all__ = ["Message", "Publisher", "circuit", "publish", "publish_all", "publisher", "ring", "set_publisher"]

logger = logging.getLogger("statemachine")


@dataclass(frozen=True, kw_only=True)
class Message:
    """What is sent: an entry's id, and how to address it.

    Attributes:
        entry: The entry's id; all that the claimant needs.
        using: The alias of the entry's database.
        task: The task to send it to.
        queue: The declared queue, if any.
        priority: The declared priority, if any.
    """

    entry: int
    using: str
    task: str
    queue: str | None = None
    priority: int | None = None


class Publisher(Protocol):
    """What carries messages to workers."""

    def publish(self, message: Message) -> None:
        """Send one message, or raise. It must give up within the publish timeout."""
        ...


class Silent:
    """Carries nothing: the sweep of a process that can will ring."""

    def publish(self, message: Message) -> None:
        raise ConnectionError("no publisher is registered in this process")


class Circuit:
    """Opens when a publish failed, so that a dead broker costs its timeout once and not for each caller.

    It has no lock: a child that is forked while another thread holds one would wait for ever.
    """

    def __init__(self) -> None:
        self._closed_from = 0.0
        self.failures = 0

    @property
    def is_open(self) -> bool:
        return time.monotonic() < self._closed_from

    def failed(self) -> None:
        self.failures += 1
        self._closed_from = time.monotonic() + conf().circuit.total_seconds()

    def reset(self) -> None:
        self._closed_from = 0.0


circuit = Circuit()
_publisher: Publisher = Silent()


def set_publisher(new: Publisher) -> Publisher:
    """Carry messages with another publisher; returns the one before."""
    global _publisher
    before, _publisher = _publisher, new
    circuit.reset()
    return before


def publisher() -> Publisher:
    return _publisher


def publish(message: Message) -> bool:
    """Send a message now. Whether it was sent; a failure is logged, and the sweep sends it later."""
    if circuit.is_open:
        logger.debug("The circuit is open: entry %s is left to the sweep.", message.entry)
        return False
    try:
        _publisher.publish(message)
    except Exception as error:  # the broker's clients raise what they like, and the row is saved
        circuit.failed()
        logger.warning(
            "Could not send entry %s to %s (%s: %s); the sweep will.",
            message.entry,
            message.task,
            type(error).__name__,
            error,
        )
        return False
    return True


def publish_all(messages: Iterable[Message]) -> list[Message]:
    """Send messages in order; returns those that could not be sent."""
    return [message for message in messages if not publish(message)]


def ring(message: Message) -> None:
    """Send a message once the transaction on its database is committed; never if it is rolled back."""

    def after_commit() -> None:
        publish(message)

    transaction.on_commit(after_commit, using=message.using)
