"""Stages that run where they are dispatched, for eager mode and tests."""

from __future__ import annotations

import threading
from collections import deque

from integration.dispatch import Message
from integration.stage import Outcome, run

__all__ = ["Inline"]


class Inline:
    """A publisher that runs stages where they are dispatched: in order, without recursion.

    For eager mode and tests. A backoff counts as elapsed; a wait does not, or it would spin.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self.outcomes: list[tuple[Message, Outcome]] = []

    def publish(self, message: Message) -> None:
        queue = self._local.__dict__.setdefault("queue", deque())
        queue.append((message, False))
        if not self._local.__dict__.get("draining"):
            self._drain(queue)

    def _drain(self, queue: deque[tuple[Message, bool]]) -> None:
        self._local.draining = True
        try:
            while queue:
                message, elapsed = queue.popleft()
                outcome = self._run(message, elapsed)
                self.outcomes.append((message, outcome))
                if outcome is Outcome.BACKING_OFF:
                    queue.append((message, True))
        finally:
            self._local.draining = False
            queue.clear()

    def _run(self, message: Message, elapsed: bool) -> Outcome:
        task = "" if message.task == "statemachine.timer" else message.task
        return run(message.entry, using=message.using, task=task, heartbeat=False, elapsed=elapsed)
