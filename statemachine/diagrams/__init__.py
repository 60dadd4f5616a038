"""Draw a graph as Mermaid, DOT, SVG or PNG: the happy path straight, failures apart, phases as boxes.

`sketch` decides what is shown, in terms of no format; one module for each format writes it down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, overload

from statemachine.diagrams.dot import to_dot, to_svg
from statemachine.diagrams.mermaid import to_mermaid
from statemachine.diagrams.png import to_png
from statemachine.diagrams.sketch import Sketch, happy_path
from statemachine.errors import DeclarationError
from statemachine.graph import Graph

__all__ = ["FORMATS", "draw", "happy_path"]

FORMATS: Mapping[str, Callable[[Sketch], str | bytes]] = {
    "mermaid": to_mermaid,
    "dot": to_dot,
    "svg": to_svg,
    "png": to_png,
}


@overload
def draw(graph: Graph, format: Literal["mermaid", "dot", "svg"] = "mermaid") -> str: ...
@overload
def draw(graph: Graph, format: Literal["png"]) -> bytes: ...
@overload
def draw(graph: Graph, format: str) -> str | bytes: ...
def draw(graph: Graph, format: str = "mermaid") -> str | bytes:
    """Draw a graph as ``mermaid``, ``dot``, ``svg`` or ``png``, which alone is bytes and no text.

    The same graph gives the same drawing.

    Raises:
        DeclarationError: The format is unknown, or what draws SVG or PNG is not installed.
    """
    if format not in FORMATS:
        raise DeclarationError(
            f"{format!r} is no format of a diagram.", hint=f"Choose one of {', '.join(map(repr, FORMATS))}."
        )
    return FORMATS[format](Sketch(graph))
