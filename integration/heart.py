"""The heartbeat: it extends a lease beside a body that is busy with something else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import Error, connections

from integration import protocol
from integration.protocol import Token

__all__ = ["Heart"]

logger = logging.getLogger("statemachine")


class Heart:
    """Extends a lease until it is stopped, the runtime is over, or the token is lost.

    Attributes:
        lost: Whether the token was found superseded. An error of the database does not mean that.
    """

    def __init__(self, token: Token, *, using: str, lease: timedelta, max_runtime: timedelta) -> None:
        self.token, self.using, self.lease = token, using, lease
        self.until = time.monotonic() + max_runtime.total_seconds()
        self.lost = False
        self._stopped, self._pauses = threading.Event(), 0
        self._thread = threading.Thread(target=self._run, name=f"heart-{token.entry}", daemon=True)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beat while the block runs; afterwards the thread has ended, unless the database holds it up."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join(self.lease.total_seconds())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Skip beats while a transaction runs on a database with one writer, where they would fail it.

        It does not wait for a beat that is under way: the block may hold the lock that the beat waits for.
        """
        alone = not connections[self.using].features.has_select_for_update
        self._pauses += alone
        try:
            yield
        finally:
            self._pauses -= alone

    def _run(self) -> None:
        try:
            while not self._stopped.wait(self.lease.total_seconds() / 3):
                if time.monotonic() >= self.until or not (self._pauses or self._beat()):
                    return
        finally:
            connections[self.using].close()

    def _beat(self) -> bool:
        try:
            held = protocol.extend(self.token, using=self.using, lease=self.lease)
        except Error as error:  # the next beat tries again; the lease may last that long
            logger.warning("Could not extend the lease of entry %s: %s", self.token.entry, error)
            connections[self.using].close()
            return True
        self.lost = not held
        return held
