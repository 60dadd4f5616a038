"""Words that several findings share."""

from __future__ import annotations

from collections.abc import Iterable

from statemachine.graph import StateValue

__all__ = ["count", "either", "tasks"]

_NAMED = 4


def either(names: Iterable[str]) -> str:
    """Name a few: a list of all of a thousand goals in each of a thousand findings helps nobody."""
    unique = list(dict.fromkeys(names))
    shown = [repr(name) for name in unique[:_NAMED]]
    if len(unique) > _NAMED:
        shown.append(count(len(unique) - _NAMED, "other"))
    return " or ".join(shown)


def tasks(state: StateValue) -> str:
    return ", ".join(repr(step.task) for step in state.steps)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
