"""`Report`: what was checked, and what did not hold."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import indent
from typing import Any

from statemachine.graph import Finding, Path
from statemachine.verify.search import Level
from statemachine.verify.wording import count

__all__ = ["Report"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was checked, how much there was of it, and what did not hold. Prints as a text for people.

    Attributes:
        name: What the machine is called.
        states: How many states are declared.
        edges: How many edges are declared.
        reachable: How many states a run can be in.
        checked: The properties, each as its name and its sentence.
        findings: By property, then in order of declaration.
    """

    name: str
    states: int
    edges: int
    reachable: int
    checked: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no row can get stuck or lost: warnings are allowed."""
        return not self.of_level("error")

    def of_level(self, level: Level) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == level)

    def against(self, name: str) -> tuple[Finding, ...]:
        """The findings against one property; empty when it is proved."""
        return tuple(finding for finding in self.findings if finding.property == name)

    def as_dict(self) -> dict[str, Any]:
        """The report in the types of JSON, with a version; keys may be added, and keep their meaning."""
        return {
            "version": 1,
            "name": self.name,
            "ok": self.ok,
            "states": self.states,
            "edges": self.edges,
            "reachable": self.reachable,
            "checked": [
                {"property": name, "sentence": sentence, "verdict": _verdict(self.against(name)).strip()}
                for name, sentence in self.checked
            ],
            "findings": [_finding_as_dict(finding) for finding in self.findings],
        }

    def __str__(self) -> str:
        size = f"{count(self.states, 'state')}, {self.reachable} reachable, {count(self.edges, 'edge')}"
        parts = [f"{self.name}: {size}"]
        for name, sentence in self.checked:
            findings = self.against(name)
            parts.append(f"{_verdict(findings)} {name}: {sentence}")
            parts += [indent(str(finding), "    ") for finding in findings]
        errors, warnings = len(self.of_level("error")), len(self.of_level("warning"))
        parts.append(f"{count(errors, 'error')}, {count(warnings, 'warning')}")
        return "\n".join(parts)


def _verdict(findings: tuple[Finding, ...]) -> str:
    if not findings:
        return "proved "
    return "refuted" if any(finding.level == "error" for finding in findings) else "doubted"


def _finding_as_dict(finding: Finding) -> dict[str, Any]:
    return {
        "property": finding.property,
        "level": finding.level,
        "msg": finding.msg,
        "hint": finding.hint,
        "state": finding.state,
        "path": None if finding.path is None else _path_as_dict(finding.path),
    }


def _path_as_dict(path: Path) -> dict[str, Any]:
    edges = [
        {"trigger": edge.trigger, "source": edge.source, "dest": edge.dest, "guards": list(edge.guards)}
        for edge in path.edges
    ]
    return {"start": path.start, "edges": edges, "loop": path.loop}
