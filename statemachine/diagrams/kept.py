"""The declaration, kept in the file of a drawing where no viewer shows it, and compared with today's.

A picture cannot be read back, and its text differs from version to version. So the file of a drawing ends
in a comment, a PNG in a text chunk: the graph, and a digest of the picture. `check` compares the graphs, so
that it tells what changed in the words of the declaration, and the digest, so that a picture that somebody
edited is not trusted.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent

from statemachine.diagrams import draw
from statemachine.difference import Change, difference
from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError
from statemachine.export.jsonformat import as_dict, is_json, load
from statemachine.graph import Graph

__all__ = ["Comparison", "check", "keep"]

_COMMENTS: Mapping[str, tuple[str, str]] = {"mermaid": ("%%", ""), "dot": ("//", ""), "svg": ("<!--", " -->")}
# Base64 and hexadecimal digits mean nothing in any of the formats; JSON might.
_KEPT = re.compile(r"(?:%%|//|<!--) declaration ([0-9a-f]{64}) ([A-Za-z0-9+/=]+)(?: -->)?[ \t]*\r?\n?")
_BLOCK = re.compile(r"^ *```mermaid[ \t]*\r?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_KEYWORD = b"declaration\0"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a file shows, compared with what is declared. Prints as a text for people.

    Attributes:
        file: The file of the drawing.
        changes: What became different since it was drawn.
        intact: The picture is as it was drawn.
        current: It would be drawn the same today. Whether it would is not known, and so it is True, where
            what draws its format is not installed.
    """

    file: Path
    changes: tuple[Change, ...]
    intact: bool
    current: bool

    @property
    def ok(self) -> bool:
        """Whether the file shows what is declared; perhaps not as it would be drawn today."""
        return self.intact and not self.changes

    def __str__(self) -> str:
        if self.changes:
            changes = "".join(f"\n  {change}" for change in self.changes)
            return f"{self.file} does not show what is declared:{changes}\nDraw it again."
        if not self.intact:
            return f"{self.file} is not as it was drawn: somebody or something edited it.\nDraw it again."
        if not self.current:
            return (
                f"{self.file} shows what is declared. It would look otherwise today, "
                "since another version drew it."
            )
        return f"{self.file} shows what is declared."


def keep(drawing: str | bytes, graph: Graph, format: str) -> str | bytes:
    """Add its graph to a drawing. An argument of a task that JSON has not is kept as its ``repr``."""
    document = json.dumps(as_dict(_plain(graph)), separators=(",", ":")).encode()
    kept = f"{_digest(drawing)} {base64.b64encode(zlib.compress(document, 9)).decode()}"
    if isinstance(drawing, bytes):
        end = drawing.rindex(b"IEND") - 4
        return drawing[:end] + _chunk(b"tEXt", _KEYWORD + kept.encode()) + drawing[end:]
    before, after = _COMMENTS[format]
    return f"{drawing}{before} declaration {kept}{after}\n"


def check(graph: Graph, file: Path, format: str) -> Comparison:
    """Compare the file of a drawing with a graph.

    Of the drawings in a Markdown file, that of the graph's name is compared.

    Raises:
        DeclarationError: There is no such drawing in the file, or no declaration is kept in it.
        OSError: The file cannot be read.
    """
    found = _of_that_name(list(_kept(file, format)), graph, file)
    return Comparison(
        file=file,
        changes=difference(found.graph, load(json.dumps(as_dict(_plain(graph))))),
        intact=_digest(found.picture) == found.digest,
        current=_digest(_drawn_today(graph, format) or found.picture) == _digest(found.picture),
    )


def _drawn_today(graph: Graph, format: str) -> str | bytes | None:
    try:
        return draw(graph, format)
    except DeclarationError:
        return None


@dataclass(frozen=True, kw_only=True)
class _Kept:
    picture: str | bytes
    digest: str
    graph: Graph


def _of_that_name(found: list[_Kept], graph: Graph, file: Path) -> _Kept:
    if not found:
        raise DeclarationError(
            f"{file} does not say which declaration it shows: it was drawn by an older version, by hand, or "
            "not by the command draw.",
            hint="Draw it again, with --output.",
        )
    named = [kept for kept in found if kept.graph.name == graph.name] if len(found) > 1 else found
    if len(named) != 1:
        names = ", ".join(repr(kept.graph.name) for kept in found)
        raise DeclarationError(
            f"{file} has {len(found)} drawings, and not one of {graph.name!r}, but of: {names}.",
            hint="Leave one of that name in the file.",
        )
    return named[0]


def _kept(file: Path, format: str) -> Iterator[_Kept]:
    content = file.read_bytes()
    if format == "png":
        yield from _kept_in_png(content, file)
        return
    text = content.decode("utf-8-sig", errors="replace")
    blocks = [match[1] for match in _BLOCK.finditer(text)] if file.suffix.lower() == ".md" else [text]
    for block in map(dedent, blocks):
        for match in list(_KEPT.finditer(block))[-1:]:
            picture = block[: match.start()] + block[match.end() :]
            yield _Kept(picture=picture, digest=match[1], graph=_graph(match[2], file))


def _kept_in_png(content: bytes, file: Path) -> Iterator[_Kept]:
    picture, kept = b"", b""
    for kind, chunk in _chunks(content):
        if kind == b"tEXt" and chunk[8:].startswith(_KEYWORD):
            kept = chunk[8 + len(_KEYWORD) : -4]
        else:
            picture += chunk
    if kept:
        digest, _, document = kept.decode(errors="replace").partition(" ")
        yield _Kept(picture=content[:8] + picture, digest=digest, graph=_graph(document, file))


def _graph(document: str, file: Path) -> Graph:
    try:
        return load(zlib.decompress(base64.b64decode(document, validate=True)).decode())
    except (ValueError, zlib.error) as error:
        raise DeclarationError(
            f"The declaration that {file} keeps cannot be read: {error}", hint="Draw it again."
        ) from error


def _digest(drawing: str | bytes) -> str:
    """Of a text without the ends of its lines: those are changed by more programs than people."""
    if isinstance(drawing, str):
        drawing = "\n".join(line.rstrip() for line in drawing.strip().splitlines()).encode()
    return hashlib.sha256(drawing).hexdigest()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kind of each chunk, and the whole of it."""
    at = 8
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at:end]
        at = end


def _plain(graph: Graph) -> Graph:
    """The graph with arguments that can be kept."""
    states = (replace(state, steps=tuple(map(_plain_step, state.steps))) for state in graph.states)
    return replace(graph, states=tuple(states))


def _plain_step(step: Enqueue) -> Enqueue:
    kwargs = tuple((name, value if is_json(value) else repr(value)) for name, value in step.kwargs)
    return replace(step, kwargs=kwargs)
