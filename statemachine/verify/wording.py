"""Words that several findings share."""

from __future__ import annotations

from collections.abc import Iterable

from statemachine.graph import StateValue

__all__ = ["count", "either", "some", "tasks"]

_NAMED = 4


def either(names: Iterable[str]) -> str:
    """Name a few: a list of all of a thousand goals in each of a thousand findings helps nobody."""
    return " or ".join(_few(list(dict.fromkeys(map(repr, names)))))


def some(things: Iterable[object]) -> str:
    *shown, last = _few([str(thing) for thing in things])
    return f"{', '.join(shown)} and {last}" if shown else last


def _few(names: list[str]) -> list[str]:
    if len(names) <= _NAMED:
        return names
    return [*names[:_NAMED], count(len(names) - _NAMED, "other")]


def tasks(state: StateValue) -> str:
    return ", ".join(repr(step.task) for step in state.steps)


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
