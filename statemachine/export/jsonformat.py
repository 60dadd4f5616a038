"""A graph as JSON, and back: `load` gives a graph that is equal to the one that was written.

What has its default value is left out. A duration is written as ISO 8601 has it. Of the arguments of a task
a list is a tuple, since only that can be declared.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError
from statemachine.graph import Edge, Graph, StateValue
from statemachine.logic import Fairness, Property

__all__ = ["VERSION", "as_dict", "from_dict", "is_json", "load", "to_json"]

VERSION = 1


def to_json(graph: Graph) -> str:
    """Write a graph as JSON, for people to read too.

    Raises:
        DeclarationError: An argument of a task is nothing that JSON has.
    """
    return json.dumps(as_dict(graph), indent=2) + "\n"


def as_dict(graph: Graph) -> dict[str, Any]:
    """What `to_json` writes, as dicts and lists.

    Raises:
        DeclarationError: An argument of a task is nothing that JSON has.
    """
    return {"version": VERSION, **_write(graph, "")}


def load(text: str) -> Graph:
    """Read a graph that was written as JSON.

    Raises:
        DeclarationError: It is no JSON, of another version, or something in it is not as it must be: the
            message says where.
    """
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        if isinstance(error, DeclarationError):
            raise
        raise DeclarationError(f"This is no JSON: {error}.", hint='Write it with export("json").') from error
    return from_dict(found)


def from_dict(found: Any) -> Graph:
    """Read what `as_dict` gives.

    Raises:
        DeclarationError: Something in it is not as it must be: the message says where.
    """
    if not isinstance(found, dict) or "version" not in found:
        raise DeclarationError(
            "This is JSON, but no graph: it has no version.", hint='Write it with export("json").'
        )
    version = found["version"]
    if version != VERSION or isinstance(version, bool | float):
        raise DeclarationError(
            f"The graph is of version {version!r}, and only version {VERSION} is known here.",
            hint="Read it with the version of this library that wrote it, or a later one.",
        )
    graph: Graph = _read(Graph, {key: value for key, value in found.items() if key != "version"}, "")
    return graph


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DeclarationError(f"An object has {twice!r} twice.", hint="Delete one of them.")
    return found


def _finite(number: str) -> float:
    """Python would read ``NaN`` and ``Infinity``, and take ``1e999`` for the latter."""
    if not math.isfinite(float(number)):
        raise DeclarationError(f"{number} is no number of JSON.", hint="Write a finite number.")
    return float(number)


# Values


@dataclass(frozen=True)
class Kind:
    """How a field is written and read; both are told where, for their complaints."""

    write: Callable[[Any, str], Any]
    read: Callable[[Any, str], Any]


def _wrong(place: str, expected: str, found: object) -> DeclarationError:
    shown = json.dumps(found, default=repr)
    shown = shown if len(shown) <= 60 else f"{shown[:60]}…"
    return DeclarationError(
        f"{place or 'The graph'} must be {expected}, and is {shown}.", hint="Correct it there."
    )


def _typed(kind: type, expected: str) -> Kind:
    def read(found: Any, place: str) -> Any:
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise _wrong(place, expected, found)
        return found

    return Kind(lambda value, place: value, read)


def _optional(kind: Kind) -> Kind:
    return Kind(
        lambda value, place: None if value is None else kind.write(value, place),
        lambda found, place: None if found is None else kind.read(found, place),
    )


def _listed(kind: Kind) -> Kind:
    def read(found: Any, place: str) -> tuple[Any, ...]:
        if not isinstance(found, list):
            raise _wrong(place, "a list", found)
        return tuple(kind.read(item, f"{place}[{index}]") for index, item in enumerate(found))

    def write(value: Iterable[Any], place: str) -> list[Any]:
        return [kind.write(item, f"{place}[{index}]") for index, item in enumerate(value)]

    return Kind(write, read)


def _write_duration(value: timedelta, place: str) -> str:
    """Such as ``P30D`` or ``PT1H30M``; exact, to the microsecond."""
    left = abs(value)
    minutes, seconds = divmod(left.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{left.microseconds:06}".rstrip("0") if left.microseconds else ""
    parts = {"H": str(hours), "M": str(minutes), "S": f"{seconds}{fraction}"}
    time = "".join(f"{number}{unit}" for unit, number in parts.items() if number != "0")
    days = f"{left.days}D" if left.days else ""
    sign = "-" if value < timedelta() else ""
    return f"{sign}P{days}T{time}" if time else f"{sign}P{days or 'T0S'}"


_DURATION = re.compile(
    r"(-?)P(?!$)(?:([0-9]{1,9})D)?(?:T(?!$)(?:([0-9]{1,9})H)?(?:([0-9]{1,9})M)?"
    r"(?:([0-9]{1,9})(?:\.([0-9]{1,6}))?S)?)?"
)


def _read_duration(found: Any, place: str) -> timedelta:
    parts = _DURATION.fullmatch(found) if isinstance(found, str) else None
    if parts is None:
        raise _wrong(place, "a duration such as 'P30D' or 'PT1H30M'", found)
    sign, days, hours, minutes, seconds, fraction = parts.groups(default="0")
    try:
        given = timedelta(
            days=int(days),
            hours=int(hours),
            minutes=int(minutes),
            seconds=int(seconds),
            microseconds=int(fraction.ljust(6, "0")),
        )
    except OverflowError as error:
        raise _wrong(place, "a duration below a million years", found) from error
    return -given if sign == "-" else given


def _write_argument(value: Any, place: str) -> Any:
    """Raises: DeclarationError: JSON has nothing that would be read back as an equal value."""
    if isinstance(value, tuple):
        return [_write_argument(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if (
        value is None
        or isinstance(value, str | bool | int)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    raise DeclarationError(
        f"{place} is {value!r}, which is nothing that JSON has.",
        hint="Use strings, finite numbers, True, False, None, and tuples of them.",
    )


def is_json(value: Any) -> bool:
    """Whether an argument of a task can be written as JSON, and read back as an equal value."""
    try:
        _write_argument(value, "")
    except DeclarationError:
        return False
    return True


def _read_argument(found: Any, place: str) -> Any:
    if isinstance(found, dict):
        raise _wrong(place, "a string, a number, true, false, null, or a list of them", found)
    if isinstance(found, list):
        return tuple(_read_argument(item, f"{place}[{index}]") for index, item in enumerate(found))
    return found


def _write_kwargs(value: tuple[tuple[str, Any], ...], place: str) -> dict[str, Any]:
    return {name: _write_argument(argument, f"{place}.{name}") for name, argument in value}


def _read_kwargs(found: Any, place: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise _wrong(place, "an object", found)
    return {name: _read_argument(argument, f"{place}.{name}") for name, argument in found.items()}


def _read_timer(found: Any, place: str) -> tuple[timedelta, str]:
    if not (isinstance(found, list) and len(found) == 2):
        raise _wrong(place, "a list of a duration and a trigger", found)
    return _read_duration(found[0], f"{place}[0]"), _TEXT.read(found[1], f"{place}[1]")


def _write_fair(value: Fairness | tuple[str, ...], place: str) -> str | list[str]:
    return value.value if isinstance(value, Fairness) else list(value)


def _read_fair(found: Any, place: str) -> Fairness | tuple[str, ...]:
    if found == Fairness.IN_THE_END.value:
        return Fairness.IN_THE_END
    if not isinstance(found, list):
        raise _wrong(place, f"{Fairness.IN_THE_END.value!r} or a list of triggers", found)
    return tuple(_TEXT.read(trigger, f"{place}[{index}]") for index, trigger in enumerate(found))


def _value(cls: type) -> Kind:
    return Kind(_write, lambda found, place: _read(cls, found, place))


_TEXT = Kind(
    lambda value, place: str(value), _typed(str, "a string").read
)  # a label may be translated lazily
_FLAG = _typed(bool, "true or false")
_NUMBER = _optional(_typed(int, "a whole number"))
_NAMES = _listed(_TEXT)
_DURATION_KIND = Kind(_write_duration, _read_duration)
_TIMER = Kind(lambda value, place: [_write_duration(value[0], place), value[1]], _read_timer)

# Objects


def _write(value: Any, place: str) -> dict[str, Any]:
    defaults, written = _DEFAULTS[type(value)], {}
    for name, kind in FIELDS[type(value)].items():
        given = getattr(value, name)
        if name not in defaults or given != defaults[name]:
            written[name] = kind.write(given, f"{place}.{name}".lstrip("."))
    return written


def _read(cls: type, found: Any, place: str) -> Any:
    if not isinstance(found, dict):
        raise _wrong(place, "an object", found)
    fields = FIELDS[cls]
    for name in found:
        if name not in fields:
            close = difflib.get_close_matches(name, fields, n=1)
            raise DeclarationError(
                f"{place or 'The graph'} has {name!r}, which is not known.",
                hint=f"Did you mean {close[0]!r}?" if close else f"Known are: {', '.join(fields)}.",
            )
    missing = [name for name in fields if name not in found and name not in _DEFAULTS[cls]]
    if missing:
        raise DeclarationError(
            f"{place or 'The graph'} has no {missing[0]!r}, which must be there.", hint="Add it."
        )
    values = {name: fields[name].read(found[name], f"{place}.{name}".lstrip(".")) for name in found}
    try:
        return cls(**values)
    except DeclarationError as error:
        raise DeclarationError(f"{place or 'The graph'}: {error.msg}", hint=error.hint) from error


# The format

FIELDS: Mapping[type, Mapping[str, Kind]] = {
    Graph: {
        "name": _TEXT,
        "initial": _TEXT,
        "goals": _NAMES,
        "states": _listed(_value(StateValue)),
        "edges": _listed(_value(Edge)),
        "keeps": _NAMES,
        "properties": _listed(_value(Property)),
    },
    StateValue: {
        "name": _TEXT,
        "label": _TEXT,
        "tags": _NAMES,
        "phase": _optional(_TEXT),
        "final": _FLAG,
        "waits_for": _TEXT,
        "after": _optional(_TIMER),
        "done": _TEXT,
        "failed": _TEXT,
        "stamps": _TEXT,
        "steps": _listed(_value(Enqueue)),
        "formerly": _NAMES,
    },
    Edge: {
        "trigger": _TEXT,
        "source": _TEXT,
        "dest": _TEXT,
        "guards": _NAMES,
        "internal": _FLAG,
        "writes": _NAMES,
        "wildcard": _FLAG,
    },
    Enqueue: {
        "task": _TEXT,
        "kwargs": Kind(_write_kwargs, _read_kwargs),
        "lease": _optional(_DURATION_KIND),
        "max_attempts": _NUMBER,
        "backoff": _optional(_DURATION_KIND),
        "max_runtime": _DURATION_KIND,
        "queue": _optional(_TEXT),
        "priority": _NUMBER,
        "formerly": _NAMES,
    },
    Property: {
        "formula": Kind(lambda value, place: str(value), _TEXT.read),
        "name": _TEXT,
        "fair": _optional(Kind(_write_fair, _read_fair)),
    },
}
"""What each value is made of, in the order in which it is written."""


def _defaults(cls: type) -> Mapping[str, Any]:
    given = inspect.signature(cls).parameters.values()
    # The arguments of a task are none by default, whatever stands for that.
    return {p.name: () if p.name == "kwargs" else p.default for p in given if p.default is not p.empty}


_DEFAULTS: Mapping[type, Mapping[str, Any]] = {cls: _defaults(cls) for cls in FIELDS}
"""What each field is when it is not given; what must be given is not there."""
