"""A broker that a test holds in its hand: messages arrive when it says so, as often as it says so."""

from contextlib import contextmanager

from integration import stage
from integration.dispatch import set_publisher
from integration.testing.running import commit_callbacks


class Mailbox:
    def __init__(self):
        self.messages = []
        self.broken = False

    def publish(self, message):
        if self.broken:
            raise ConnectionError("the broker is away")
        self.messages.append(message)

    def commit(self):
        """Let what waits for the commit happen, although a test case never commits."""
        commit_callbacks("default")
        return self.messages

    def deliver(self):
        """Hand the oldest message to a worker; what became of it."""
        self.commit()
        return self.hand(self.messages.pop(0))

    def hand(self, message):
        """Hand a message to a worker, also one that was handed before."""
        return stage.run(message.entry, using=message.using, task=message.task, heartbeat=False, elapsed=True)

    def deliver_all(self):
        while self.commit():
            self.deliver()


@contextmanager
def mailbox():
    box = Mailbox()
    before = set_publisher(box)
    try:
        yield box
    finally:
        set_publisher(before)


@contextmanager
def bodies(**replaced):
    """Let tasks of the onboarding do something else: ``sync_history=body``."""
    names = {f"onboarding.{name}": body for name, body in replaced.items()}
    before = dict(stage.bodies)
    stage.bodies.update(names)
    try:
        yield
    finally:
        stage.bodies.clear()
        stage.bodies.update(before)
