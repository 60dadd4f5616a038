"""Whether the settings of the library are known, and of the right kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields
from datetime import timedelta
from difflib import get_close_matches

from django.conf import settings
from django.core import checks

from integration.conf import Conf

__all__ = ["look"]

_PREFIX = "STATEMACHINE_"

# Of no time a claim would not last, a loop not rest, and a socket not connect.
_POSITIVE = ("lease", "sweep_every", "publish_timeout")


def look() -> Iterator[checks.CheckMessage]:
    known = {_PREFIX + field.name.upper(): field for field in fields(Conf)}
    for name in sorted({name for name in dir(settings) if name.startswith(_PREFIX)}):
        if name in known:
            yield from _kind(name, getattr(settings, name), known[name])
        else:
            yield _unknown(name, list(known))


def _kind(name: str, value: object, field: Field[object]) -> Iterator[checks.CheckMessage]:
    wanted, right = _wanted(value, field)
    if not right:
        msg = f"{name} is {value!r}, and must be {wanted}."
        yield checks.Error(
            msg,
            hint=f"The default is {field.default!s}: leave it out, or correct it.",
            id="statemachine.E009",
        )


def _wanted(value: object, field: Field[object]) -> tuple[str, bool]:
    """What a setting must be, judged by its default, and whether it is."""
    if isinstance(field.default, bool):
        return "True or False", isinstance(value, bool)
    if isinstance(field.default, timedelta):
        least = timedelta(microseconds=field.name in _POSITIVE)
        wanted = "a positive timedelta" if least else "a timedelta that is not negative"
        return wanted, isinstance(value, timedelta) and value >= least
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return "a whole number, at least 1", whole


def _unknown(name: str, known: list[str]) -> checks.CheckMessage:
    close = get_close_matches(name, known, n=1)
    return checks.Warning(
        f"{name} is no setting, and does nothing.",
        hint=f"Did you mean {close[0]}?" if close else f"There are: {', '.join(known)}.",
        id="statemachine.W012",
    )
