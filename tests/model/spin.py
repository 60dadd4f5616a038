"""Running spin on an exported model."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE = 300
MISSING = [program for program in ("spin", "gcc") if shutil.which(program) is None]

needs_spin = pytest.mark.skipif(
    bool(MISSING) and "ONWARD_EXPECT_SPIN" not in os.environ,
    reason=f"{' and '.join(MISSING)} is not installed",
)


@dataclass(frozen=True)
class Verdict:
    """What spin found out.

    Attributes:
        holds: Whether no run breaks the claim, and every state was seen.
        states: How many states of the model, and of the claim beside it, were told apart.
        unreached: The lines of the model of which something was never done.
    """

    holds: bool
    states: int
    unreached: frozenset[str]


def check(model: str, claim: str, folder: Path, **sizes: int | str) -> Verdict:
    """Ask spin for one claim; the others are left out, for they take a compiler most of the time."""
    (folder / "model.pml").write_text(alone(model, claim), encoding="utf-8")
    defined = [f"-D{name}={value}" for name, value in sizes.items()]
    _run(["spin", *defined, "-a", "model.pml"], folder)
    _run(["gcc", "-w", "-o", "pan", "pan.c"], folder)
    fair = ["-f"] if "<>" in claim_of(model, claim) else []
    told = _run(["./pan", "-a", *fair, "-m1000000", "-w20"], folder)
    errors = re.search(r"errors: (\d+)", told)
    states = re.search(r"(\d+) states, stored", told)
    assert errors, told
    assert states, told
    holds = errors[1] == "0"
    assert not (holds and "Search not completed" in told), told
    lines = model.splitlines()
    unreached = re.findall(r"^\tmodel\.pml:(\d+), state", told, re.MULTILINE)
    return Verdict(
        holds=holds,
        states=int(states[1]),
        unreached=frozenset(lines[int(number) - 1].strip() for number in unreached),
    )


def claims(model: str) -> list[str]:
    return re.findall(r"^ltl (\w+)", model, re.MULTILINE)


def claim_of(model: str, claim: str) -> str:
    found = re.search(rf"^ltl {claim} {{.*?}}$", model, re.MULTILINE | re.DOTALL)
    assert found, f"there is no claim {claim}"
    return found[0]


def alone(model: str, claim: str) -> str:
    others = [claim_of(model, other) for other in claims(model) if other != claim]
    for other in others:
        model = model.replace(other, "")
    return model


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    # spin answers 0 to some errors, and says so.
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert not re.search(r"^spin: .*[Ee]rror", told, re.MULTILINE), told
    return told
