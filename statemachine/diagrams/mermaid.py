"""A sketch as a Mermaid flowchart, which GitHub, GitLab and most wikis render.

A flowchart and no state diagram: the arrows of that one are all alike.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from statemachine.diagrams.sketch import (
    ARROWS,
    FRAME,
    INK,
    STATES,
    Arrow,
    Kind,
    Line,
    Sketch,
    printable,
    wrapped,
)
from statemachine.graph import StateValue

__all__ = ["to_mermaid"]

_LINES: Mapping[Line, str] = {"happy": "==>", "failure": "-.->", "aside": "-->", "internal": "-.->"}


def to_mermaid(sketch: Sketch) -> str:
    ids = {state.name: _id(index, state.name) for index, state in enumerate(sketch.graph)}
    lines = [f"flowchart {sketch.direction}"]
    for number, phase in enumerate(sketch.graph.phases):
        lines.append(f'  subgraph phase{number} ["{_entities(phase)}"]')
        lines += [f"  {_state(sketch, state, ids)}" for state in sketch.framed(phase)]
        lines.append("  end")
    lines += [_state(sketch, state, ids) for state in sketch.unframed]
    lines += ["  start(( ))", f"  start --> {ids[sketch.graph.initial]}"]
    lines += [_arrow(arrow, ids) for arrow in sketch.arrows]
    lines += _styles(sketch, ids)
    return "\n".join(lines) + "\n"


def _id(index: int, name: str) -> str:
    """The name where Mermaid can read it; the prefix keeps it from being a word of Mermaid's, such as end."""
    return f"s_{name}" if re.fullmatch(r"[a-zA-Z0-9_]+", name) else f"s{index}"


def _state(sketch: Sketch, state: StateValue, ids: Mapping[str, str]) -> str:
    lines = [_entities(line) for line in wrapped(state.label or state.name)]
    lines += [f"<small>{_entities(line)}</small>" for line in sketch.small_print(state)]
    label = f'"{"<br/>".join(lines)}"'
    return f"  {ids[state.name]}[[{label}]]" if state.final else f"  {ids[state.name]}({label})"


def _arrow(arrow: Arrow, ids: Mapping[str, str]) -> str:
    head = _LINES[arrow.line]
    shaft = f"<{head}" if arrow.both else head
    label = "<br/>".join(map(_entities, arrow.lines))
    said = f'|"{label}"|' if label else ""
    return f"  {ids[arrow.source]} {shaft}{said} {ids[arrow.dest]}"


def _styles(sketch: Sketch, ids: Mapping[str, str]) -> Iterator[str]:
    yield f"  style start fill:{INK},stroke:{INK}"
    for number, _ in enumerate(sketch.graph.phases):
        yield f"  style phase{number} fill:none,stroke:{FRAME}"
    members: dict[Kind, list[str]] = defaultdict(list)
    for name, kind in sketch.kinds.items():
        members[kind].append(ids[name])
    for kind, (fill, border) in STATES.items():
        if members[kind]:
            yield f"  classDef {kind} fill:{fill},stroke:{border},color:{INK}"
            yield f"  class {','.join(members[kind])} {kind}"
    for line, colour in ARROWS.items():
        # The first link is the one from the start.
        numbers = [str(n) for n, arrow in enumerate(sketch.arrows, 1) if arrow.line == line]
        if numbers:
            yield f"  linkStyle {','.join(numbers)} stroke:{colour}"


def _entities(text: str) -> str:
    """Write as Mermaid's entities what it might read as its own syntax, as HTML or as Markdown."""
    return re.sub(_SYNTAX, lambda match: f"#{ord(match[0])};", printable(text).replace("\n", " "))


# All but words, a hyphen or an underscore that is not within one, and what is a command anywhere on a line.
_SYNTAX = re.compile(r"[^\w\s,()/-]|(?<![^\W_])[-_]|[-_](?![^\W_])|(?<=direction)\s")
