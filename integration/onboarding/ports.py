"""What the onboarding needs from the outside world: a source of changes, and an analyst of them.

Values and protocols only. `adapters` holds the implementations; a test may pass any object of the same shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol, Self, get_args, runtime_checkable

__all__ = [
    "KINDS",
    "PHASE_1",
    "PHASE_2",
    "Analysis",
    "Analyst",
    "AnalystError",
    "AnalystUnavailable",
    "Change",
    "ChangeKind",
    "Contributor",
    "Evidence",
    "Insight",
    "Level",
    "Person",
    "PortError",
    "Source",
    "SourceError",
    "SourceRateLimited",
    "SourceUnavailable",
    "Window",
    "each_once",
]

ChangeKind = Literal["feature", "fix", "refactor", "performance", "docs", "test", "chore", "other"]
KINDS: tuple[ChangeKind, ...] = get_args(ChangeKind)

Level = Literal["good", "info", "warning"]
Evidence = Mapping[str, str | int | float | None]

PHASE_1 = (0, 30)
PHASE_2 = (31, 90)


class PortError(Exception):
    """The outside world did not do what was asked of it.

    Attributes:
        problem: What is wrong, as a sentence without its full stop.
        cause: Why, likewise; may be empty.
        remedy: What a person can do about it.
    """

    def __init__(self, problem: str, *, cause: str = "", remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        because = f"{self.problem}: {self.cause}." if self.cause else f"{self.problem}."
        return f"{because} {self.remedy}".rstrip()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__dict__))


def _rebuild(cls: type[PortError], values: dict[str, Any]) -> PortError:
    error = cls.__new__(cls, values["problem"])
    error.__dict__.update(values)
    return error


class SourceError(PortError):
    """The source cannot be read. Permanent: a person has to act before another try can succeed."""


class SourceUnavailable(SourceError):
    """The source cannot be read now; the same call may succeed later."""


class SourceRateLimited(SourceUnavailable):
    """The source asks to be left alone for a while.

    Attributes:
        retry_at: Aware instant before which another try is refused again.
    """

    def __init__(self, problem: str, *, cause: str = "", remedy: str = "", retry_at: datetime) -> None:
        super().__init__(problem, cause=cause, remedy=remedy)
        self.retry_at = retry_at


class AnalystError(PortError):
    """The analyst refuses the work. Permanent: a person has to act before another try can succeed."""


class AnalystUnavailable(AnalystError):
    """The analyst did not answer, or not usefully; the same call may succeed later.

    Attributes:
        retry_at: Aware instant before which another try is pointless; None when the analyst did not say.
    """

    def __init__(
        self, problem: str, *, cause: str = "", remedy: str = "", retry_at: datetime | None = None
    ) -> None:
        super().__init__(problem, cause=cause, remedy=remedy)
        self.retry_at = retry_at


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who writes changes.

    Attributes:
        name: How the person is shown; never empty.
        email: Who the person is: lower case, aliases already resolved. Empty when the source has none.
    """

    name: str
    email: str


def each_once(people: Iterable[Person]) -> tuple[Person, ...]:
    """Each address once, with the name that came first."""
    found: dict[str, Person] = {}
    for person in people:
        found.setdefault(person.email, person)
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Contributor:
    """A person and how many changes of the whole history are theirs."""

    person: Person
    commits: int


@dataclass(frozen=True, slots=True)
class Change:
    """One commit, or one merge of several.

    Every text is valid UTF-8 without NUL, so that any database stores it.

    Attributes:
        sha: The change's key within its source.
        kind: A merge's sizes repeat those of the commits it brings in.
        co_authors: Without the author, each once, in the order of the message.
        committed_at: Aware; what windows and weeks go by.
        additions: Lines; a binary file and a pure rename count none.
        files: How many files differ, binary and renamed ones included.
        paths: The first of them; fewer than `files` when there are very many.
        reviews: How many reviews are known of.
    """

    sha: str
    kind: Literal["merge", "commit"]
    author: Person
    co_authors: tuple[Person, ...]
    authored_at: datetime
    committed_at: datetime
    title: str
    body: str
    additions: int
    deletions: int
    files: int
    paths: tuple[str, ...] = ()
    reviews: int = 0

    @property
    def knows_every_path(self) -> bool:
        return len(self.paths) == self.files > 0


@dataclass(frozen=True, slots=True)
class Window:
    """Whole days of 24 hours before the newest change, `first_day` to `last_day`, both included.

    The newest change is at the end of day 0. A window is open at its start and closed at its end, so days
    0-30 are ``(newest - 31 d, newest]`` and days 31-90 are ``(newest - 91 d, newest - 31 d]``: windows that
    follow each other by number share no instant and leave none out.

    Raises:
        ValueError: The days are not in order, or `newest` has no time zone.
    """

    newest: datetime
    first_day: int
    last_day: int

    def __post_init__(self) -> None:
        if not 0 <= self.first_day <= self.last_day:
            raise ValueError(
                f"A window needs 0 <= first_day <= last_day, not {self.first_day} and {self.last_day}."
            )
        if self.newest.tzinfo is None:
            raise ValueError("A window's newest instant needs a time zone. Pass an aware datetime.")

    @classmethod
    def phase_1(cls, newest: datetime) -> Self:
        return cls(newest, *PHASE_1)

    @classmethod
    def phase_2(cls, newest: datetime) -> Self:
        return cls(newest, *PHASE_2)

    @property
    def start(self) -> datetime:
        """In UTC, where a day has 24 hours all year. Not part of the window."""
        return self.newest.astimezone(UTC) - timedelta(days=self.last_day + 1)

    @property
    def end(self) -> datetime:
        """In UTC. The last instant of the window."""
        return self.newest.astimezone(UTC) - timedelta(days=self.first_day)

    def __contains__(self, instant: datetime) -> bool:
        return self.start < instant <= self.end


@dataclass(frozen=True, slots=True)
class Analysis:
    """What an analyst says of one change.

    Attributes:
        sha: The change's.
        ai_tool: The tool's name; may be empty although `ai_assisted`, when the change does not name one.
        summary: One line.
    """

    sha: str
    kind: ChangeKind
    ai_assisted: bool
    ai_tool: str
    summary: str


@dataclass(frozen=True, slots=True)
class Insight:
    """One fact about the work of a team, in words and in numbers.

    Attributes:
        key: Stable, one insight per key.
        title: A few words.
        body: A sentence or two.
        evidence: The numbers that the words were made of; shares are 0 to 1. Serialises to JSON.
    """

    key: str
    title: str
    body: str
    level: Level = "info"
    evidence: Evidence = field(default_factory=dict)


@runtime_checkable
class Source(Protocol):
    """Where people and changes come from. One object is one look at it: make a new one for a new look.

    Every method raises `SourceError` when a person has to act, and `SourceUnavailable` when time may help.
    """

    def people(self) -> Iterator[Contributor]:
        """Each email once, the most active first."""

    def newest(self) -> datetime:
        """The instant of the newest change, from which windows are counted."""

    def changes(self, window: Window, skip: int = 0) -> Iterator[Change]:
        """The window's changes, oldest first, always in the same order.

        Args:
            window: Which of them.
            skip: How many to leave out at the start, because an interrupted run has stored them. Right only
                while the history is the same as in that run, so store by sha.
        """

    def count(self, window: Window) -> int:
        """How many changes `changes(window)` has; cheaper than to read them."""


@runtime_checkable
class Analyst(Protocol):
    """Who says what a change is, and puts numbers into words.

    Every method raises `AnalystError` when a person has to act, and `AnalystUnavailable` when time may help.
    """

    def analyse(self, changes: Sequence[Change]) -> list[Analysis]:
        """One analysis per change, in the order of `changes`. Pass tens, not thousands."""

    def summarise(self, insights: Sequence[Insight]) -> str:
        """A short paragraph of plain text; empty when there are no insights."""
