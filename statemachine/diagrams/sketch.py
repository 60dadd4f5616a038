"""What is to be shown of a graph, whatever the format."""

from __future__ import annotations

import heapq
import re
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from itertools import count
from typing import Literal, TypeVar

from statemachine.graph import Edge, Graph, Path, StateValue

__all__ = [
    "ARROWS",
    "FAINT",
    "FONTS",
    "FRAME",
    "INK",
    "STATES",
    "Arrow",
    "Kind",
    "Line",
    "Sketch",
    "happy_path",
    "printable",
    "wrapped",
]

Kind = Literal["goal", "failure", "final", "working", "waiting", "plain"]
Line = Literal["happy", "failure", "aside", "internal"]
Direction = Literal["LR", "TB"]
_T = TypeVar("_T")
# Source, destination, and whether it is internal.
Ends = tuple[str, str, bool]

# Fill and border of a state, colour of an arrow, of letters, of small letters, of the frame of a phase.
STATES: Mapping[Kind, tuple[str, str]] = {
    "goal": ("#dcfce7", "#16a34a"),
    "failure": ("#fee2e2", "#dc2626"),
    "final": ("#f1f5f9", "#64748b"),
    "working": ("#eef2ff", "#6366f1"),
    "waiting": ("#fef9c3", "#ca8a04"),
    "plain": ("#ffffff", "#64748b"),
}
ARROWS: Mapping[Line, str] = {
    "happy": "#4338ca",
    "failure": "#f87171",
    "aside": "#94a3b8",
    "internal": "#94a3b8",
}
INK, FAINT, FRAME = "#0f172a", "#64748b", "#cbd5e1"
# Graphviz knows how wide these letters are where no fonts are installed.
FONTS = "Helvetica,Arial,sans-serif"

# From this many on, arrows that say the same about one state are a fan: only the middle one says it.
_FAN = 3
# A fan of so many is a thicket: only its middle arrow is drawn, and the states at its other ones say so.
_THICKET = 9
# What goes from left to right up to so many states would be wider than a page beyond.
_ABREAST = 6
_WIDTH = 16
_SMALL_WIDTH, _ARROW_WIDTH = 44, 28


def happy_path(graph: Graph) -> Path:
    """The shortest path to the first goal that can be reached, along which as little as possible goes wrong.

    Failures are avoided first, then edges that are not the end of a stage's work, then guards, then length.
    Only the initial state when no goal can be reached.
    """
    entered = _entered(graph)
    edges: list[Edge] = []
    at = next((goal for goal in graph.goals if goal in entered), graph.initial)
    while edge := entered[at]:
        edges.append(edge)
        at = edge.source
    return Path(graph.initial, tuple(reversed(edges)))


def _entered(graph: Graph) -> dict[str, Edge | None]:
    """Every reachable state with the edge by which the cheapest path enters it (Dijkstra 1959)."""
    failures, tie = graph.failure_edges(), count()
    found: dict[str, Edge | None] = {}
    # Of equal costs, what was declared first comes first.
    queue: list[tuple[tuple[int, ...], int, str, Edge | None]] = [
        ((0, 0, 0, 0), next(tie), graph.initial, None)
    ]
    while queue:
        cost, _, name, by = heapq.heappop(queue)
        if name in found:
            continue
        found[name] = by
        for edge in graph.outgoing[name]:
            step = (edge in failures, _is_aside(graph[name], edge), bool(edge.guards), 1)
            total = tuple(a + b for a, b in zip(cost, step, strict=True))
            heapq.heappush(queue, (total, next(tie), edge.dest, edge))
    return found


def _is_aside(state: StateValue, edge: Edge) -> bool:
    if state.works:
        return edge.trigger != state.done
    return state.after is not None and edge.trigger == state.after[1]


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """What is drawn between two states: all edges between them in one arrow.

    Attributes:
        edges: What it stands for; never empty.
        label: Its lines.
        both: It has two heads: an edge back is part of it.
        holds: It keeps its states in order from left to right; the others go where there is room.
    """

    source: str
    dest: str
    line: Line
    edges: tuple[Edge, ...]
    label: tuple[str, ...]
    both: bool = False
    holds: bool = False

    @property
    def lines(self) -> list[str]:
        """The label, broken into lines that keep the drawing narrow."""
        said = [" / ".join(self.label)] if self.both and self.label else self.label
        return [line for text in said for line in wrapped(text, _ARROW_WIDTH)]

    def with_back(self, back: Arrow) -> Arrow:
        label = tuple(dict.fromkeys(self.label + back.label))
        return replace(self, edges=self.edges + back.edges, label=label, both=True)


class Sketch:
    """What is to be shown of a graph, whatever the format."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.happy = happy_path(graph)

    @cached_property
    def main(self) -> Mapping[str, int]:
        """The states of the happy path, each with its position on it."""
        return {state: position for position, state in enumerate(self.happy.states)}

    @property
    def direction(self) -> Direction:
        """Where the happy path leads: from left to right, or from top to bottom when it is long."""
        return "LR" if len(self.main) <= _ABREAST else "TB"

    @cached_property
    def kinds(self) -> Mapping[str, Kind]:
        return {state.name: self._kind(state) for state in self.graph}

    def _kind(self, state: StateValue) -> Kind:
        if state.name in self.graph.goals:
            return "goal"
        if state.name in self._failed_into:
            return "failure"
        if state.final:
            return "final"
        if state.works:
            return "working"
        return "waiting" if state.waits_for or state.after else "plain"

    def framed(self, phase: str) -> list[StateValue]:
        """What is drawn within the frame of a phase: its states, but for those that failures lead to."""
        return [state for state in self.graph if state.phase == phase and self.kinds[state.name] != "failure"]

    @property
    def unframed(self) -> list[StateValue]:
        return [state for state in self.graph if state.phase is None or self.kinds[state.name] == "failure"]

    def small_print(self, state: StateValue) -> list[str]:
        """What is said below the label: its phase where no frame says it, and who works or is waited for."""
        phase = [state.phase] if state.phase and self.kinds[state.name] == "failure" else []
        if state.works:
            # The modules that tasks are in are left out: they make the drawing wide.
            said = phase + [str(step)[step.task.rfind(".") + 1 :] for step in state.steps]
        else:
            said = phase + ([f"waits for {state.waits_for}"] if state.waits_for else [])
        said += self._thicket.get(state.name, [])
        return [line for text in said for line in wrapped(text, _SMALL_WIDTH)]

    @cached_property
    def arrows(self) -> tuple[Arrow, ...]:
        """In order of the first edge of each; those of a thicket are not among them."""
        return tuple(
            replace(arrow, label=()) if arrow in self._silent else arrow
            for arrow in self._all_arrows
            if arrow not in self._hidden
        )

    @cached_property
    def _all_arrows(self) -> list[Arrow]:
        return self._held(self._paired(self._joined()))

    def _joined(self) -> dict[Ends, Arrow]:
        """One arrow for all edges from one state to another."""
        between: dict[Ends, list[Edge]] = defaultdict(list)
        for edge in self.graph.edges:
            between[edge.source, edge.dest, edge.internal].append(edge)
        return {ends: self._arrow(tuple(edges)) for ends, edges in between.items()}

    def _arrow(self, edges: tuple[Edge, ...]) -> Arrow:
        label = tuple(dict.fromkeys(self._says(edge) for edge in edges))
        return Arrow(
            source=edges[0].source, dest=edges[0].dest, line=self._line(edges), edges=edges, label=label
        )

    def _line(self, edges: tuple[Edge, ...]) -> Line:
        if any(edge in self._on_happy_path for edge in edges):
            return "happy"
        if any(edge in self._failures for edge in edges):
            return "failure"
        return "internal" if edges[0].internal else "aside"

    @cached_property
    def _on_happy_path(self) -> frozenset[Edge]:
        return frozenset(self.happy.edges)

    @cached_property
    def _failures(self) -> frozenset[Edge]:
        return self.graph.failure_edges()

    def _says(self, edge: Edge) -> str:
        after = self.graph[edge.source].after
        timer = f" after {_spoken(after[0])}" if after and after[1] == edge.trigger else ""
        # The guards of a fan say of each state that it is that state.
        guarded = edge.guards and self._alike[_fan(edge, self._failed_into)] < _FAN
        guards = f" [{' and '.join(edge.guards)}]" if guarded else ""
        return f"{edge.trigger}{timer}{guards}"

    @cached_property
    def _alike(self) -> Counter[tuple[str, str, str]]:
        """How many edges do the same to or from a state that failures lead to."""
        return Counter(_fan(edge, self._failed_into) for edge in self.graph.edges)

    @cached_property
    def _failed_into(self) -> frozenset[str]:
        return frozenset(edge.dest for edge in self._failures).difference(self.main)

    def _paired(self, joined: Mapping[Ends, Arrow]) -> Iterator[Arrow]:
        """Draw a failure and the way back from it as one arrow with two heads."""
        ways_back = {
            (arrow.dest, arrow.source, False)
            for arrow in joined.values()
            if arrow.line == "failure" and arrow.source != arrow.dest
        }
        ways_back = {ends for ends in ways_back if ends in joined and joined[ends].line == "aside"}
        for (source, dest, internal), arrow in joined.items():
            if (dest, source, internal) in ways_back:
                yield arrow.with_back(joined[dest, source, False])
            elif (source, dest, internal) not in ways_back:
                yield arrow

    def _held(self, arrows: Iterable[Arrow]) -> list[Arrow]:
        """Let the happy path, and one arrow into each other state, say what is left and what is right."""
        held = [replace(arrow, holds=arrow.line == "happy") for arrow in arrows]
        entering: dict[str, list[int]] = defaultdict(list)
        for index, arrow in enumerate(held):
            if arrow.dest not in self.main and arrow.source != arrow.dest:
                entering[arrow.dest].append(index)
        for state, indexes in entering.items():
            from_main = [index for index in indexes if held[index].source in self.main]
            from_main.sort(key=lambda index: self.main[held[index].source])
            from_main = from_main or indexes[:1]
            # What fails belongs below the middle of what it may befall, an end to the right of all.
            ends = self.graph[state].final and state not in self._failed_into
            anchor = from_main[-1] if ends else _middle(from_main)
            held[anchor] = replace(held[anchor], holds=True)
        return held

    @cached_property
    def _fans(self) -> list[list[Arrow]]:
        """Arrows that say the same about one state that failures lead to."""
        fans: dict[tuple[object, ...], list[Arrow]] = defaultdict(list)
        for arrow in self._all_arrows:
            if arrow.line == "failure":
                fans["into", arrow.dest, arrow.label].append(arrow)
            elif arrow.line == "aside" and arrow.source in self._failed_into:
                fans["from", arrow.source, arrow.label].append(arrow)
        return [fan for fan in fans.values() if len(fan) >= _FAN]

    @cached_property
    def _silent(self) -> frozenset[Arrow]:
        """All of a fan but the middle arrow, which speaks for it."""
        return frozenset(arrow for fan in self._fans for arrow in fan if arrow != _middle(fan))

    @cached_property
    def _hidden(self) -> frozenset[Arrow]:
        return frozenset(
            arrow
            for fan in self._fans
            if len(fan) >= _THICKET
            for arrow in fan
            if arrow != _middle(fan) and not arrow.holds
        )

    @cached_property
    def _thicket(self) -> Mapping[str, list[str]]:
        """What states say in place of an arrow to the state that many failures lead to."""
        said: dict[str, list[str]] = defaultdict(list)
        for arrow in (arrow for arrow in self._all_arrows if arrow in self._hidden):
            into = arrow.dest in self._failed_into
            here, there = (arrow.source, arrow.dest) if into else (arrow.dest, arrow.source)
            sign = "\N{RIGHTWARDS ARROW}" if into else "\N{LEFTWARDS ARROW}"
            said[here].append(f"{' / '.join(arrow.label)} {sign} {self.graph[there].label or there}")
        return said


def _fan(edge: Edge, hubs: frozenset[str]) -> tuple[str, str, str]:
    return ("from", edge.source, edge.trigger) if edge.source in hubs else ("into", edge.dest, edge.trigger)


def _middle(items: Sequence[_T]) -> _T:
    return items[(len(items) - 1) // 2]


def _spoken(delay: timedelta) -> str:
    """The two largest units of a duration: ``30 days``, ``1 hour 30 minutes``."""
    minutes, seconds = divmod(int(delay.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    units = {"day": days, "hour": hours, "minute": minutes, "second": seconds}
    parts = [f"{n} {unit}" if n == 1 else f"{n} {unit}s" for unit, n in units.items() if n]
    return " ".join(parts[:2]) or str(delay)


def wrapped(text: str, width: int = _WIDTH) -> list[str]:
    """Break into lines that keep the drawing narrow; a long word stays whole."""
    lines = [
        textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
        for line in text.splitlines()
    ]
    return [part for line in lines for part in line] or [text]


def printable(text: str) -> str:
    """Replace what no XML may contain, and so no SVG."""
    return re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
