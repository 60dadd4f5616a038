"""Write a graph for other programs: as JSON, which can be read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from statemachine.errors import DeclarationError
from statemachine.export.jsonformat import load, to_json
from statemachine.graph import Graph

__all__ = ["FORMATS", "export", "load"]

FORMATS: Mapping[str, Callable[[Graph], str]] = {"json": to_json}


def export(graph: Graph, format: str) -> str:
    """Write a graph as ``json``.

    Raises:
        DeclarationError: The format is unknown, or cannot say what the graph says.
    """
    if format not in FORMATS:
        raise DeclarationError(
            f"{format!r} is no format of an export.", hint=f"Choose one of {', '.join(map(repr, FORMATS))}."
        )
    return FORMATS[format](graph)
