"""Dispatched stages run inline, in the test's own process and transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from integration.dispatch import Message
    from integration.inline import Inline
    from integration.stage import Outcome

__all__ = ["Stages", "StagesMixin", "commit_callbacks", "inline_stages"]

logger = logging.getLogger("statemachine")


class Stages:
    """The stages that a test dispatches."""

    def __init__(self, inline: Inline) -> None:
        self._inline = inline

    def run(self, *, using: str = "default") -> list[tuple[Message, Outcome]]:
        """Run what was dispatched, and what that dispatches, until nothing is left.

        Inside a ``TestCase`` nothing is ever committed, so this also calls the ``on_commit`` callbacks
        that were registered, as ``captureOnCommitCallbacks(execute=True)`` does. Backoffs count as
        elapsed; waits and timers do not.

        Returns:
            Each message with what became of it, since the last call.
        """
        commit_callbacks(using)
        outcomes, self._inline.outcomes = self._inline.outcomes, []
        return outcomes


def commit_callbacks(using: str) -> None:
    from django.db import connections

    connection = connections[using]
    while connection.in_atomic_block and connection.run_on_commit:
        callbacks: list[Any] = connection.run_on_commit
        connection.run_on_commit = []
        for _, callback, robust in callbacks:
            _call(callback, robust)


def _call(callback: Any, robust: bool) -> None:
    try:
        callback()
    except Exception:
        if not robust:
            raise
        logger.exception("A robust on_commit callback failed.")


@contextmanager
def inline_stages() -> Iterator[Stages]:
    """Carry messages inline while the context lasts."""
    from integration.dispatch import set_publisher
    from integration.inline import Inline

    inline = Inline()
    before = set_publisher(inline)
    try:
        yield Stages(inline)
    finally:
        set_publisher(before)


class StagesMixin:
    """For ``TestCase`` and ``TransactionTestCase``: ``self.run_stages()`` runs what was dispatched."""

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.stages = self.enterContext(inline_stages())  # type: ignore[attr-defined]

    def run_stages(self, *, using: str = "default") -> list[tuple[Message, Outcome]]:
        return self.stages.run(using=using)  # type: ignore[no-any-return]
