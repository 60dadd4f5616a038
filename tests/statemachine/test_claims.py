"""Properties that are asked of a report by name, or in temporal logic; and the report as JSON has it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from statemachine.errors import DeclarationError
from statemachine.graph import Edge, Graph, StateValue
from statemachine.logic import AF, AG, Property, always, eventually, leads_to, tag
from statemachine.verify import PROPERTIES, verify

PAPERS = Graph(
    name="papers",
    states=(
        StateValue(name="draft", waits_for="the author"),
        StateValue(name="shown", tags=("visible",), waits_for="the reader"),
        StateValue(name="done", tags=("visible",), final=True),
        StateValue(name="lost", waits_for="nobody"),
    ),
    edges=(
        Edge(trigger="show", source="draft", dest="shown"),
        Edge(trigger="finish", source="shown", dest="done"),
        Edge(trigger="hide", source="shown", dest="draft", guards=("is_bad",)),
        Edge(trigger="lose", source="shown", dest="lost"),
    ),
    initial="draft",
    goals=("done",),
)
KEPT = "AG(visible -> AG visible)"


def names(*properties: Any) -> list[tuple[str, str]]:
    return list(verify(PAPERS, properties).checked)


def test_all_that_is_built_in_is_checked_unless_something_is_asked_for() -> None:
    assert [name for name, _ in verify(PAPERS).checked] == list(PROPERTIES)
    assert verify(PAPERS, []).checked == ()


def test_a_name_a_text_a_formula_and_a_property_can_be_asked_for_in_any_order() -> None:
    assert names(KEPT, "can-be-left", AG(AF("done")), always("visible", name="seen")) == [
        (KEPT, "asked for"),
        ("can-be-left", PROPERTIES["can-be-left"][0]),
        ("AG AF done", "asked for"),
        ("seen", "AG visible"),
    ]


def test_the_finding_against_a_formula_tells_its_shortest_story() -> None:
    [finding] = verify(PAPERS, [KEPT]).against(KEPT)
    assert (finding.property, finding.level, finding.state) == (KEPT, "error", "draft")
    assert finding.path is not None
    assert finding.path.states == ("draft", "shown", "draft")
    assert finding.msg == "visible holds in 'shown'; visible does not hold in 'draft'."
    assert "3. hide() moves it to 'draft'" in str(verify(PAPERS, [KEPT]))


def test_a_formula_that_holds_is_proved() -> None:
    assert verify(PAPERS, ["EF done", AG(tag("visible") >> ~tag("visible")) | ~AF("lost")]).ok
    assert str(verify(PAPERS, ["EF done"])) == (
        "papers: 4 states, 4 reachable, 4 edges\nproved  EF done: asked for\n0 errors, 0 warnings"
    )


def test_what_a_graph_declares_is_asked_for_by_its_name() -> None:
    own = replace(PAPERS, properties=(always("visible", name="always-visible"), Property("EF done")))
    assert [f.property for f in verify(own, ["always-visible"]).findings] == ["always-visible"]
    assert verify(own, ["EF done"]).checked == (("EF done", "declared"),)
    with pytest.raises(DeclarationError, match="Did you mean 'always-visible'"):
        verify(own, ["always-visibly"])


def test_what_is_assumed_to_be_fair_decides() -> None:
    assert not verify(PAPERS, ["AF(done | lost)"]).ok
    assert verify(PAPERS, [eventually("done | lost"), leads_to("shown", "done | lost")]).ok


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("can-be-lift", "There is no property 'can-be-lift'. Did you mean 'can-be-left'?"),
        ("no-such-thing-at-all", "There is no property 'no-such-thing-at-all'. There are: reachable, "),
        ("AG(", "AG("),
        ("", "''"),
        ("EF don", "'don'"),
    ],
)
def test_what_is_neither_a_name_nor_a_formula_of_this_graph_is_refused(asked: str, told: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        verify(PAPERS, [asked])
    assert told in str(raised.value)


def test_a_report_is_plain_data_with_a_version() -> None:
    report = verify(PAPERS, ["can-be-left", "reachable", "AF done"]).as_dict()

    assert json.loads(json.dumps(report)) == report
    assert {key: value for key, value in report.items() if key not in ("checked", "findings")} == {
        "version": 1,
        "name": "papers",
        "ok": False,
        "states": 4,
        "edges": 4,
        "reachable": 4,
    }
    assert [(c["property"], c["verdict"]) for c in report["checked"]] == [
        ("can-be-left", "refuted"),
        ("reachable", "proved"),
        ("AF done", "refuted"),
    ]
    left, for_ever = report["findings"]
    assert left == {
        "property": "can-be-left",
        "level": "error",
        "msg": "'lost' is a dead end: no edge leaves it, and it is neither final nor a goal.",
        "hint": "Declare an edge that leaves 'lost', or mark it with final=True.",
        "state": "lost",
        "path": {
            "start": "draft",
            "edges": [
                {"trigger": "show", "source": "draft", "dest": "shown", "guards": []},
                {"trigger": "lose", "source": "shown", "dest": "lost", "guards": []},
            ],
            "loop": None,
        },
    }
    assert for_ever["path"]["loop"] is not None
    assert for_ever["path"]["edges"][-1]["guards"] in ([], ["is_bad"])


def test_a_finding_without_a_path_says_so() -> None:
    alone = Graph(
        name="alone",
        states=(StateValue(name="a", final=True), StateValue(name="b", final=True)),
        edges=(),
        initial="a",
        goals=("a",),
    )
    [finding] = verify(alone, ["reachable"]).as_dict()["findings"]
    assert finding["path"] is None
