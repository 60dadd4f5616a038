"""Reports as SARIF 2.1.0 (OASIS, 2020), which code hosts and editors show beside the code.

A rule is a property that was checked, a result is a finding, its code flow the path that shows it. What was
proved is a rule without a result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path as FilePath
from typing import Any
from urllib.parse import quote

from statemachine.graph import Finding, Path
from statemachine.verify.places import Place
from statemachine.verify.report import Report

__all__ = ["Verified", "as_sarif"]

_ROOT = "%SRCROOT%"


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A report, and what it is about.

    Attributes:
        report: The report.
        name: What the machine is called among the others.
        place: Where it is declared; None where that is not known.
    """

    report: Report
    name: str
    place: Place | None = None


def as_sarif(verified: Iterable[Verified]) -> dict[str, Any]:
    """The reports as one run, in the types of JSON.

    A file below the current folder is named as seen from there.
    """
    reports = tuple(verified)
    # A user's property may mean something else in another machine, so a rule is its name and its sentence.
    rules = list(dict.fromkeys(rule for each in reports for rule in each.report.checked))
    number = {rule: index for index, rule in enumerate(rules)}
    driver = {
        "name": "onward",
        **_version(),
        "rules": [{"id": name, "shortDescription": {"text": sentence}} for name, sentence in rules],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The folder in which verify was run."}}},
        "results": [result for each in reports for result in _results(each, number)],
    }
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }


def _version() -> dict[str, str]:
    try:
        return {"version": version("onward")}
    except PackageNotFoundError:  # run from its sources
        return {}


def _results(verified: Verified, number: dict[tuple[str, str], int]) -> Iterator[dict[str, Any]]:
    numbers = {name: number[name, sentence] for name, sentence in verified.report.checked}
    alike: Counter[str] = Counter()
    for finding in verified.report.findings:
        about = f"{verified.name}/{finding.property}/{finding.state}"
        alike[about] += 1
        result = {
            "ruleId": finding.property,
            "ruleIndex": numbers[finding.property],
            "level": finding.level,
            "message": {"text": " ".join(filter(None, (finding.msg, finding.hint)))},
            "locations": [_location(verified, finding.state)],
            # Stays the same when lines move, so that a finding that is known is not shown as a new one.
            "partialFingerprints": {"finding/v1": f"{about}/{alike[about]}"},
        }
        yield (
            result
            if finding.path is None
            else {**result, "codeFlows": [_flow(verified, finding, finding.path)]}
        )


def _flow(verified: Verified, finding: Finding, path: Path) -> dict[str, Any]:
    states = path.states if path.loop is None else (*path.states, path.end)
    steps = [
        {"location": {**_location(verified, state), "message": {"text": line}}}
        for state, line in zip(states, path.story, strict=True)
    ]
    return {
        "message": {"text": f"The shortest path against {finding.property}."},
        "threadFlows": [{"locations": steps}],
    }


def _location(verified: Verified, state: str) -> dict[str, Any]:
    """A state in the file of its machine; the machine where no state is named."""
    full = f"{verified.name}.{state}" if state else verified.name
    kind = "state" if state else "machine"
    logical = {"name": state or verified.name, "fullyQualifiedName": full, "kind": kind}
    place, location = verified.place, {"logicalLocations": [logical]}
    return location if place is None else {"physicalLocation": _physical(place, state), **location}


def _physical(place: Place, state: str) -> dict[str, Any]:
    line = place.line_of(state)
    region = {} if line is None else {"region": {"startLine": line}}
    return {"artifactLocation": _artifact(place.file.resolve()), **region}


def _artifact(file: FilePath) -> dict[str, str]:
    if file.is_relative_to(FilePath.cwd()):
        return {"uri": quote(file.relative_to(FilePath.cwd()).as_posix()), "uriBaseId": _ROOT}
    return {"uri": file.as_uri()}
