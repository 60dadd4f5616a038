"""Write a graph for other programs: as JSON, which can be read back, or as a model for spin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from statemachine.errors import DeclarationError
from statemachine.export.jsonformat import load, to_json
from statemachine.export.promela import to_promela
from statemachine.graph import Graph

__all__ = ["FORMATS", "SUFFIXES", "export", "format_of", "load"]

SUFFIXES: Mapping[str, str] = {".json": "json", ".pml": "promela"}
FORMATS: Mapping[str, Callable[[Graph], str]] = {"json": to_json, "promela": to_promela}


def export(graph: Graph, format: str) -> str:
    """Write a graph as ``json`` or ``promela``. The same graph gives the same text.

    Raises:
        DeclarationError: The format is unknown, or cannot say what the graph says.
    """
    if format not in FORMATS:
        raise DeclarationError(
            f"{format!r} is no format of an export.", hint=f"Choose one of {', '.join(map(repr, FORMATS))}."
        )
    return FORMATS[format](graph)


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
