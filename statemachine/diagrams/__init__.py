"""Draw a graph as Mermaid, DOT or SVG: the happy path straight, failures apart, phases as boxes.

`sketch` decides what is shown, in terms of no format; one module for each format writes it down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from statemachine.diagrams.dot import to_dot, to_svg
from statemachine.diagrams.mermaid import to_mermaid
from statemachine.diagrams.sketch import Sketch, happy_path
from statemachine.errors import DeclarationError
from statemachine.graph import Graph

__all__ = ["FORMATS", "draw", "happy_path"]

FORMATS: Mapping[str, Callable[[Sketch], str]] = {"mermaid": to_mermaid, "dot": to_dot, "svg": to_svg}


def draw(graph: Graph, format: str = "mermaid") -> str:
    """Draw a graph as ``mermaid``, ``dot`` or ``svg``. The same graph gives the same text.

    Raises:
        DeclarationError: The format is unknown, or what draws SVG is not installed.
    """
    if format not in FORMATS:
        raise DeclarationError(
            f"{format!r} is no format of a diagram.", hint=f"Choose one of {', '.join(map(repr, FORMATS))}."
        )
    return FORMATS[format](Sketch(graph))
