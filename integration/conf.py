"""The settings, ``STATEMACHINE_*``, with their defaults. Durations are `timedelta`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta

from django.conf import settings

__all__ = ["Conf", "conf"]


@dataclass(frozen=True, kw_only=True)
class Conf:
    """What a project may set.

    Attributes:
        grace: How long a message may go unanswered before it is sent again; at least.
        lease: How long a claim lasts without a sign of life.
        max_attempts: Failed attempts until a stage is given up.
        backoff: The wait after the first failed attempt, doubled by each one.
        max_backoff: The longest wait between two attempts, and between two messages.
        sweep: Whether workers sweep by themselves.
        sweep_every: How often a worker looks for overdue entries.
        adopt_every: How often it looks for rows without an agreeing entry.
        publish_timeout: How long a dead broker may hold up a caller, once; then the circuit opens.
        circuit: How long the circuit stays open: nothing is sent, the sweep sends it later.
        unanswered: How long an entry may be ready until it counts as unanswered, which is shown as a fault.
    """

    grace: timedelta = timedelta(seconds=10)
    lease: timedelta = timedelta(minutes=1)
    max_attempts: int = 5
    backoff: timedelta = timedelta(seconds=10)
    max_backoff: timedelta = timedelta(hours=1)
    sweep: bool = True
    sweep_every: timedelta = timedelta(seconds=5)
    adopt_every: timedelta = timedelta(minutes=5)
    publish_timeout: timedelta = timedelta(seconds=1)
    circuit: timedelta = timedelta(seconds=5)
    unanswered: timedelta = timedelta(minutes=5)


def conf() -> Conf:
    """The settings as they are now; read at each call, so that a test may override them."""
    names = {field.name: f"STATEMACHINE_{field.name.upper()}" for field in fields(Conf)}
    return Conf(**{name: getattr(settings, key) for name, key in names.items() if hasattr(settings, key)})
