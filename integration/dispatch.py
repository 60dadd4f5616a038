"""Ringing: a message is a doorbell. It may be lost, so it never fails its caller."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from django.db import transaction

from integration.conf import conf

__all__ = [
    "BrokerDown",
    "Message",
    "Publisher",
    "Ran",
    "Sending",
    "circuit",
    "publish",
    "publish_all",
    "publisher",
    "ring",
    "send",
    "set_publisher",
]

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


class BrokerDown(ConnectionError):
    """Raised by a publisher that cannot reach its broker, so that no other message can be sent either."""


class Ran(Exception):
    """Raised by a publisher that ran the stage itself, from its error: it was not for want of sending."""


class Publisher(Protocol):
    """What carries messages to workers."""

    def publish(self, message: Message) -> None:
        """Send one message, or raise. It must give up within the publish timeout.

        Raises:
            OSError: The broker cannot be reached, as `BrokerDown` says; nothing is sent for a while.
            Ran: The stage was run here, and raised its cause.
            Exception: This message cannot be sent; others may.
        """
        ...


class Sending(Enum):
    """What became of a message: sent, impossible to send, or kept back while the broker is away."""

    SENT = "sent"
    FAILED = "failed"
    SKIPPED = "skipped"


class Silent:
    """Carries nothing: the sweep of a process that can will ring."""

    def publish(self, message: Message) -> None:
        raise ConnectionError("no publisher is registered in this process")


class Circuit:
    """Opens when the broker could not be reached, so that a dead one costs its timeout only once.

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


def send(message: Message) -> Sending:
    """Send a message now. A failure is logged, and the sweep sends it later.

    Only a broker that cannot be reached opens the circuit: a message that cannot be sent, for its queue say,
    must not hold up the others.
    """
    if circuit.is_open:
        logger.debug("The circuit is open: entry %s is left to the sweep.", message.entry)
        return Sending.SKIPPED
    try:
        _publisher.publish(message)
    except Ran as ran:
        raise ran.__cause__ or ran from None
    except Exception as error:  # the broker's clients raise what they like, and the row is saved
        down = isinstance(error, OSError)
        if down:
            circuit.failed()
        logger.warning(
            "Could not send entry %s to %s (%s: %s); the sweep will.",
            message.entry,
            message.task,
            type(error).__name__,
            error,
        )
        return Sending.SKIPPED if down else Sending.FAILED  # it is not the message that is to blame
    return Sending.SENT


def publish(message: Message) -> bool:
    """Whether a message was sent, as `send` does."""
    return send(message) is Sending.SENT


def publish_all(messages: Iterable[Message]) -> dict[Sending, list[Message]]:
    """Send messages in order; returns them by what became of them."""
    became: dict[Sending, list[Message]] = {sending: [] for sending in Sending}
    for message in messages:
        became[send(message)].append(message)
    return became


def ring(message: Message) -> None:
    """Send a message once the transaction on its database is committed; never if it is rolled back."""

    def after_commit() -> None:
        publish(message)

    transaction.on_commit(after_commit, using=message.using)
