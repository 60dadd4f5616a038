"""A commit object as bytes, and what it says.

libgit2 refuses a whole commit when its author line is malformed, and old histories have such lines.
This reads what is there, as git does: nothing in here raises for any input.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

__all__ = ["Glance", "RawCommit", "Signature", "readable", "trailers"]

# A day inside what datetime can hold, so that no time zone pushes an instant over the edge.
LAST_INSTANT = int(datetime(9999, 12, 30, tzinfo=UTC).timestamp())

# Python calls these encodings; in a commit's header they can only be an attempt at mischief.
NOT_OF_TEXTS = {"unicode-escape", "raw-unicode-escape", "punycode", "idna", "undefined"}

TIME = re.compile(rb"(\d+) ([+-]\d{4})\s*$")
PARENT = re.compile(rb"^parent ([0-9a-f]{40,64})$", re.M)
TRAILER = re.compile(r"^([A-Za-z][A-Za-z-]*):[ \t]*(.*?)[ \t]*$", re.M)
ADDRESS = re.compile(r"^(?P<name>[^<>]*)<(?P<email>[^<>\s]+@[^<>\s]+)>$")


@dataclass(frozen=True, slots=True)
class Signature:
    """Who and when, as recorded: no mailmap, any case, maybe empty."""

    name: str
    email: str
    at: datetime

    @classmethod
    def parse(cls, line: bytes, encoding: str = "") -> Signature:
        """Read ``Name <email> seconds +zzzz``; what is missing becomes empty, a missing time 1970."""
        who, _, _ = line.rpartition(b">")
        name, _, email = (who or TIME.sub(b"", line)).partition(b"<")
        return cls(readable(name, encoding).strip(), readable(email, encoding).strip(" <>"), instant(line))


@dataclass(frozen=True, slots=True)
class RawCommit:
    """The parts of a commit object.

    Attributes:
        tree: Object id in hex.
        parents: Object ids in hex, the first parent first.
    """

    tree: str
    parents: tuple[str, ...]
    author: Signature
    committer: Signature
    title: str
    body: str

    @classmethod
    def parse(cls, data: bytes) -> RawCommit:
        head, _, message = data.partition(b"\n\n")
        headers = _headers(head)
        encoding = headers.get(b"encoding", b"").decode("ascii", "replace")
        title, body = _split(readable(message, encoding))
        return cls(
            tree=headers.get(b"tree", b"").decode("ascii", "replace"),
            parents=tuple(parent.decode() for parent in PARENT.findall(head)),
            author=Signature.parse(headers.get(b"author", b""), encoding),
            committer=Signature.parse(headers.get(b"committer", b""), encoding),
            title=title,
            body=body,
        )


def _headers(head: bytes) -> dict[bytes, bytes]:
    """The first line of each header; continuation lines, as of signatures, begin with a space."""
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        headers.setdefault(key, value)
    return headers


def _split(message: str) -> tuple[str, str]:
    """The title is the first paragraph on one line, as git shows it."""
    title, _, body = message.lstrip("\n").partition("\n\n")
    return " ".join(title.split()), body.strip()


@dataclass(frozen=True, slots=True)
class Glance:
    """The little that a walk over a whole history needs of each commit, undecoded: three times as fast.

    Attributes:
        seconds: The committer's time since 1970, within what datetime can hold.
        author: The line without its time, which makes it equal for all commits of one author.
    """

    parents: tuple[str, ...]
    seconds: int
    author: bytes
    encoding: bytes

    @classmethod
    def at(cls, data: bytes) -> Glance:
        head = b"\n" + data.partition(b"\n\n")[0]
        author = _line(head, b"author")
        return cls(
            parents=tuple(parent.decode() for parent in PARENT.findall(head)),
            seconds=_seconds(_line(head, b"committer")),
            author=author[: author.rfind(b">") + 1] or author,
            encoding=_line(head, b"encoding"),
        )


def _line(head: bytes, key: bytes) -> bytes:
    return head.partition(b"\n" + key + b" ")[2].partition(b"\n")[0]


def instant(line: bytes) -> datetime:
    """The time that ends a signature line, in its own time zone."""
    return datetime.fromtimestamp(_seconds(line), UTC).astimezone(_zone(line))


def _seconds(line: bytes) -> int:
    found = TIME.search(line)
    # More than 18 digits are no time, and Python refuses to convert thousands of them.
    return min(int(found[1][:18]), LAST_INSTANT) if found else 0


def _zone(line: bytes) -> timezone:
    found = TIME.search(line)
    digits = int(found[2]) if found else 0
    hours, minutes = divmod(abs(digits), 100)
    offset = timedelta(hours=hours, minutes=minutes)
    # Some histories record zones such as +9959; no such place exists, and datetime refuses a day or more.
    if offset > timedelta(hours=14):
        return UTC
    return timezone(-offset if digits < 0 else offset)


def readable(raw: bytes, encoding: str = "") -> str:
    """Decode as declared, else as UTF-8, else with replacement characters. No NUL, no surrogate."""
    text = _decoded(raw, encoding)
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _decoded(raw: bytes, encoding: str) -> str:
    for name in (encoding, "utf-8"):
        try:
            if codecs.lookup(name).name not in NOT_OF_TEXTS:
                return raw.decode(name)
        except (LookupError, UnicodeError, ValueError):
            continue
    return raw.decode("utf-8", "replace")


def trailers(body: str, key: str) -> Iterator[tuple[str, str]]:
    """Name and address of each ``Key: Name <address>`` line of a body; lines without an address are left out.

    Any line counts, not only the last paragraph: tools and merge buttons put them where they like.
    """
    for found in TRAILER.finditer(body):
        if found[1].lower() == key.lower() and (who := ADDRESS.match(found[2])):
            yield who["name"].strip(), who["email"]
