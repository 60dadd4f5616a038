"""Write a graph for other programs: as JSON or SCXML, which can be read back, or as a model for
spin or TLC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from statemachine.errors import DeclarationError
from statemachine.export.fromscxml import load_scxml
from statemachine.export.jsonformat import load, to_json
from statemachine.export.promela import to_promela
from statemachine.export.scxml import to_scxml
from statemachine.export.tla import to_tla
from statemachine.graph import Graph

__all__ = ["FORMATS", "READABLE", "SUFFIXES", "export", "format_of", "load", "load_scxml", "read"]

SUFFIXES: Mapping[str, str] = {".json": "json", ".pml": "promela", ".scxml": "scxml", ".tla": "tla"}
FORMATS: Mapping[str, Callable[[Graph], str]] = {
    "json": to_json,
    "promela": to_promela,
    "scxml": to_scxml,
    "tla": to_tla,
}
READABLE = (".json", ".scxml")
"""The suffixes of the files that `read` understands."""


def export(graph: Graph, format: str) -> str:
    """Write a graph as ``json``, ``promela``, ``scxml`` or ``tla``. The same graph gives the same text.

    Raises:
        DeclarationError: The format is unknown, or cannot say what the graph says.
    """
    if format not in FORMATS:
        raise DeclarationError(
            f"{format!r} is no format of an export.", hint=f"Choose one of {', '.join(map(repr, FORMATS))}."
        )
    return FORMATS[format](graph)


def read(file: Path) -> Graph:
    """Read a graph from a file: as SCXML after its suffix, otherwise as JSON.

    Raises:
        DeclarationError: It is not of that format, or not as it must be: the message names the file.
        OSError: It cannot be read.
    """
    try:
        if file.suffix == ".scxml":
            return load_scxml(file.read_bytes())
        return load(file.read_text(encoding="utf-8"))
    except ValueError as error:  # the bytes of the file may be no text
        raise DeclarationError(f"{file}: {error}") from error


def format_of(file: Path | None) -> str:
    """Raises: DeclarationError: No format has that suffix."""
    if file is None:
        return "json"
    if SUFFIXES.get(file.suffix.lower()) not in FORMATS:
        raise DeclarationError(
            f"The suffix of {str(file)!r} does not say which format to write.",
            hint=f"End it in {', '.join(s for s, format in SUFFIXES.items() if format in FORMATS)}, "
            "or pass --format.",
        )
    return SUFFIXES[file.suffix.lower()]
