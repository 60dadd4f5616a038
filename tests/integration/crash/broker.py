"""A broker in the test's hand: it delivers again what was not acknowledged."""

from contextlib import suppress
from functools import partial

from django.db import connections

from integration import stage
from integration.entries import Entry
from tests.integration.crash.actor import acting


def refuse():
    raise ConnectionResetError("the broker hung up")


class Broker:
    """A publisher, and the messages that it was given.

    Attributes:
        waiting: Messages to deliver.
        held: Messages that were delivered, and not acknowledged.
        sent: Every message that was ever published.
        early: Messages of entries that were not committed when they were sent.
    """

    def __init__(self):
        self.waiting, self.held, self.sent, self.early = [], [], [], []
        self.watch = connections.create_connection("default")
        self.watch.inc_thread_sharing()

    def publish(self, message):
        come_to(f"publish to {message.task}", partial(self._accept, message))

    def _accept(self, message):
        if self.attempt_of(message.entry) is None:
            self.early.append(message)
        self.waiting.append(message)
        self.sent.append(message)

    def attempt_of(self, entry):
        """The attempt of an entry that everybody sees; None where nobody does."""
        with self.watch.cursor() as cursor:
            cursor.execute(f"SELECT attempt FROM {Entry._meta.db_table} WHERE id = %s", [entry])
            found = cursor.fetchone()
        return found and found[0]

    def deliver(self, message, *, late=True, heartbeat=False):
        """Hand a message to a worker, which acknowledges it afterwards, or else before."""
        self.waiting.remove(message)
        self.held.append(message)
        if not late:
            self._acknowledge(message)
        try:
            return self.answer(message, heartbeat=heartbeat)
        finally:
            if late:
                self._acknowledge(message)

    def answer(self, message, *, heartbeat=False):
        task = "" if message.task == "statemachine.timer" else message.task
        return stage.run(message.entry, using=message.using, task=task, heartbeat=heartbeat)

    def _acknowledge(self, message):
        with suppress(ConnectionResetError):  # a worker logs it, and goes on
            come_to("acknowledge", partial(self.held.remove, message))

    def take_back(self):
        """A worker is gone: what it did not acknowledge waits again."""
        self.waiting += self.held
        self.held.clear()

    def close(self):
        self.watch.close()


def come_to(point, happen):
    actor = acting()
    return happen() if actor is None else actor.come_to(point, happen, refuse)
