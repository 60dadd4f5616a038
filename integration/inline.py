"""Stages that run where they are dispatched, for eager mode and tests."""

from __future__ import annotations

import threading
from collections import deque

from integration.dispatch import Message, Ran
from integration.stage import Outcome, run

__all__ = ["Inline"]


class Inline:
    """A publisher that runs stages where they are dispatched: in order, without recursion.

    For eager mode and tests. A backoff counts as elapsed; a wait does not, or it would spin. What is raised
    past the stage is raised again when the other stages have run.

    Args:
        keep: Whether to keep the outcomes, for somebody who takes them.
    """

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._local = threading.local()
        self.outcomes: list[tuple[Message, Outcome]] = []

    def publish(self, message: Message) -> None:
        queue = self._local.__dict__.setdefault("queue", deque())
        queue.append((message, False))
        if not self._local.__dict__.get("draining"):
            self._drain(queue)

    def _drain(self, queue: deque[tuple[Message, bool]]) -> None:
        self._local.draining, first = True, None
        try:
            while queue:
                message, elapsed = queue.popleft()
                try:
                    outcome = self._run(message, elapsed)
                except (Exception, SystemExit) as error:  # of this row; the others have done nothing
                    first = first or error
                    continue
                if self._keep:
                    self.outcomes.append((message, outcome))
                if outcome is Outcome.BACKING_OFF:
                    queue.append((message, True))
        finally:
            self._local.draining = False
            queue.clear()
        if isinstance(first, Exception):
            raise Ran(f"{type(first).__name__}: {first}") from first
        if first is not None:
            raise first

    def _run(self, message: Message, elapsed: bool) -> Outcome:
        task = "" if message.task == "statemachine.timer" else message.task
        return run(message.entry, using=message.using, task=task, heartbeat=False, elapsed=elapsed)
