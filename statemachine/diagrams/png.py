"""A sketch as PNG: its SVG, in dots. The letters are those of one font, so every machine draws the same."""

from __future__ import annotations

import math
import re
from importlib.resources import files

from statemachine.diagrams.dot import to_svg
from statemachine.diagrams.sketch import FONTS, Sketch
from statemachine.errors import DeclarationError

__all__ = ["to_png"]

# It has about the widths that Graphviz takes for granted, and no fresh machine has any of the usual ones.
_FONT = "Source Sans Pro"
_FONT_FILE = "files/SourceSansPro-Regular.ttf"

_POINTS, _DOTS = 72, 144
# More dots would take gigabytes of memory, and many viewers show no longer side.
_MOST, _LONGEST = 64_000_000, 65_000


def to_png(sketch: Sketch) -> bytes:
    """Letters that the font lacks, such as Chinese ones, are taken from the fonts of the machine."""
    try:
        import resvg_py

        font = files("font_source_sans_pro") / _FONT_FILE
    except ImportError as error:
        raise DeclarationError(
            "Drawing PNG needs resvg and a font, which are not installed.",
            hint='Run pip install "onward[diagrams]", or draw "svg", "mermaid" or "dot".',
        ) from error
    drawing = to_svg(sketch)
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=drawing.replace(f'font-family="{FONTS}"', f'font-family="{_FONT}"'),
            font_files=[str(font)],
            dpi=min(_DOTS, _POINTS * _scale(drawing)),
        )
    )


def _scale(drawing: str) -> float:
    """How many dots a point may be."""
    sides = re.search(r'<svg width="(\d+)pt" height="(\d+)pt"', drawing)
    width, height = map(int, sides.groups()) if sides else (1, 1)
    return min(math.sqrt(_MOST / (width * height)), _LONGEST / max(width, height))
