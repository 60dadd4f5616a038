"""Reports as SARIF, and where a machine is declared."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from statemachine.__main__ import main
from statemachine.export import export
from statemachine.graph import Edge, Graph, StateValue
from statemachine.verify import PROPERTIES, Report, verify
from statemachine.verify.places import Place, place_of
from statemachine.verify.sarif import Verified, as_sarif

STUCK = Graph(
    name="stuck",
    states=(
        StateValue(name="draft", waits_for="the author"),
        StateValue(name="done", final=True),
        StateValue(name="lost", waits_for="nobody"),
        StateValue(name="forgotten"),
    ),
    edges=(
        Edge(trigger="submit", source="draft", dest="done"),
        Edge(trigger="note", source="draft", dest="draft", internal=True),
        Edge(trigger="lose", source="draft", dest="lost"),
    ),
    initial="draft",
    goals=("done",),
)
DECLARED = """\
from statemachine import State, StateMachine
words = ["lost"]
review = StateMachine(
    name="review",
    states=[
        State("draft", waits_for="the author"),
        State("lost", waits_for="the author"),
        State("done", final=True),
    ],
    transitions=[["submit", "draft", "done"], ["lose", "draft", "lost"]],
    initial="draft",
    goal="done",
)
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with modules of machines that are imported anew by each test."""
    (tmp_path / "stuck machines").mkdir()
    (tmp_path / "stuck machines" / "declares.py").write_text(DECLARED)
    (tmp_path / "borrows.py").write_text("from declares import review\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "stuck machines"), *sys.path])
    yield tmp_path
    for name in ("declares", "borrows"):
        sys.modules.pop(name, None)


def check_sarif(document: dict[str, Any]) -> list[dict[str, Any]]:
    """What the standard demands of the parts that are used here. Returns the results."""
    assert document["version"] == "2.1.0"
    assert set(document) == {"$schema", "version", "runs"}
    (run,) = document["runs"]
    assert set(run) == {"tool", "columnKind", "originalUriBaseIds", "results"}
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"]
    assert len({json.dumps(rule) for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) == {"id", "shortDescription"}
        assert set(rule["shortDescription"]) == {"text"}
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note", "none")
        assert result["message"]["text"]
        assert all(isinstance(value, str) for value in result["partialFingerprints"].values())
        flows = [place for flow in result.get("codeFlows", ()) for place in steps(flow)]
        for location in (*result["locations"], *flows):
            check_location(location, set(run["originalUriBaseIds"]))
    return list(run["results"])


def steps(flow: dict[str, Any]) -> list[dict[str, Any]]:
    assert flow["threadFlows"]
    assert all(thread["locations"] for thread in flow["threadFlows"])
    return [step["location"] for thread in flow["threadFlows"] for step in thread["locations"]]


def check_location(location: dict[str, Any], bases: set[str]) -> None:
    assert set(location) <= {"physicalLocation", "logicalLocations", "message"}
    for logical in location["logicalLocations"]:
        assert set(logical) == {"name", "fullyQualifiedName", "kind"}
    if "physicalLocation" in location:
        artifact = location["physicalLocation"]["artifactLocation"]
        assert re.fullmatch(r"[\w./%:~-]+", artifact["uri"])  # a URI has no spaces
        assert artifact.get("uriBaseId", "%SRCROOT%") in bases
        assert artifact["uri"].startswith("file:///") == ("uriBaseId" not in artifact)
        assert location["physicalLocation"].get("region", {"startLine": 1})["startLine"] >= 1


def sarif_of(report: Report, *, name: str = "stuck", place: Place | None = None) -> dict[str, Any]:
    return as_sarif([Verified(report=report, name=name, place=place)])


def test_each_finding_is_a_result_and_each_property_a_rule() -> None:
    report = verify(STUCK)
    document = sarif_of(report)
    results = check_sarif(document)
    assert [(r["ruleId"], r["level"], r["message"]["text"]) for r in results] == [
        (f.property, f.level, f"{f.msg} {f.hint}") for f in report.findings
    ]
    assert {r["level"] for r in results} == {"error", "warning"}
    rules = document["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(PROPERTIES)
    assert rules[0]["shortDescription"]["text"] == PROPERTIES["reachable"][0]
    assert json.loads(json.dumps(document)) == document


def test_the_path_of_a_finding_is_a_flow_that_tells_its_story() -> None:
    lost, never = (
        next(r for r in check_sarif(sarif_of(verify(STUCK, [asked]))) if "codeFlows" in r)
        for asked in ("can-be-left", "AG(lost -> AF done)")
    )
    assert [place["message"]["text"] for place in steps(lost["codeFlows"][0])] == [
        "starts in 'draft'",
        "lose() moves it to 'lost'",
    ]
    told = steps(never["codeFlows"][0])
    assert [place["message"]["text"] for place in told] == [
        "starts in 'draft'",
        "lose() moves it to 'lost'",
        "stays there for ever",
    ]
    assert told[-1]["logicalLocations"][0]["fullyQualifiedName"] == "stuck.lost"


def test_a_finding_without_a_path_has_no_flow_and_one_without_a_file_only_a_name() -> None:
    (result,) = check_sarif(sarif_of(verify(STUCK, ["reachable"])))
    assert "codeFlows" not in result
    assert result["locations"] == [
        {
            "logicalLocations": [
                {"name": "forgotten", "fullyQualifiedName": "stuck.forgotten", "kind": "state"}
            ]
        }
    ]


def test_reports_of_several_machines_share_the_rules_that_mean_the_same() -> None:
    reports = [Verified(report=verify(STUCK), name=name) for name in ("a", "b")]
    renamed = [Report(**{**vars(verify(STUCK)), "checked": (("reachable", "otherwise"),), "findings": ()})]
    document = as_sarif([*reports, *(Verified(report=report, name="c") for report in renamed)])
    results = check_sarif(document)
    rules = document["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [*PROPERTIES, "reachable"]
    prints = [result["partialFingerprints"]["finding/v1"] for result in results]
    assert len(set(prints)) == len(prints) == 2 * len(verify(STUCK).findings)


def test_findings_that_are_alike_keep_apart() -> None:
    hidden = [Edge(trigger="submit", source="draft", dest=dest) for dest in ("lost", "forgotten")]
    graph = Graph(**{**vars_of(STUCK), "edges": (*STUCK.edges, *hidden)})
    found = check_sarif(sarif_of(verify(graph, ["edge-can-be-taken"])))
    assert [result["partialFingerprints"]["finding/v1"] for result in found] == [
        "stuck/edge-can-be-taken/draft/1",
        "stuck/edge-can-be-taken/draft/2",
    ]


def vars_of(graph: Graph) -> dict[str, Any]:
    return {name: getattr(graph, name) for name in ("name", "states", "edges", "initial", "goals")}


def test_a_finding_points_at_the_line_that_declares_its_state(capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("declares", "borrows"):
        assert main(["verify", f"{module}:review", "--format", "sarif", "--property", "can-be-left"]) == 1
        (result,) = check_sarif(json.loads(capsys.readouterr().out))
        assert result["locations"][0]["physicalLocation"] == {
            "artifactLocation": {"uri": "stuck%20machines/declares.py", "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": 7},
        }
        lines = [p["physicalLocation"]["region"]["startLine"] for p in steps(result["codeFlows"][0])]
        assert lines == [6, 7]


def test_a_machine_that_no_statement_names_is_in_its_module_or_its_exported_file(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "stuck.scxml").write_text(export(STUCK, "scxml"))
    asked = {"stuck.scxml": "stuck.scxml", "declares:review.graph": "stuck%20machines/declares.py"}
    for machine, uri in asked.items():
        assert main(["verify", machine, "--format", "sarif"]) == 1
        for result in check_sarif(json.loads(capsys.readouterr().out)):
            assert result["locations"][0]["physicalLocation"] == {
                "artifactLocation": {"uri": uri, "uriBaseId": "%SRCROOT%"}
            }


def test_a_file_outside_the_current_folder_is_named_in_full(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(import_module("declares").review)
    assert place is not None
    assert (place.line, place.line_of("lost"), place.line_of("other")) == (3, 7, 3)
    (directory / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    results = check_sarif(sarif_of(verify(STUCK), place=place))
    expected = {"uri": f"{directory.as_uri()}/stuck%20machines/declares.py"}
    assert results[0]["locations"][0]["physicalLocation"]["artifactLocation"] == expected


def test_a_source_that_is_gone_or_edited_meanwhile_hinders_no_report(directory: Path) -> None:
    review = import_module("declares").review
    file = directory / "stuck machines" / "declares.py"
    file.write_text("review = (")
    assert place_of(review) is None
    file.unlink()
    assert place_of(review) is None
    assert place_of(object()) is None


def test_a_report_in_which_everything_is_proved_has_no_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "declares:review", "--format", "sarif", "--property", "EF done"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert check_sarif(document) == []
    assert [rule["id"] for rule in document["runs"][0]["tool"]["driver"]["rules"]] == ["EF done"]
