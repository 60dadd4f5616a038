"""How much memory a contender takes at its peak, beyond what it was given: in a process of its own.

``python -m benchmarks.memory COMPARISON KIND SIZE CONTENDER`` prints the bytes.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.contenders import Here

ROOT = Path(__file__).resolve().parents[1]
STATUS = Path("/proc/self/status")
FORGET_PEAK = "5"
"""Written to clear_refs, it makes today's resident memory the peak; see proc_pid_clear_refs(5)."""


def peak(comparison: str, kind: str, size: int, name: str) -> int | None:
    """Bytes; None where the system does not tell, or where the contender runs elsewhere."""
    if not STATUS.exists():
        return None
    command = [sys.executable, "-m", "benchmarks.memory", comparison, kind, str(size), name]
    said = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, text=True, check=True).stdout
    return int(said) if said.strip() else None


def risen(contender: Here) -> int:
    """How far the process's resident memory rises while the contender does its work once."""
    given = contender.prepare()
    gc.collect()
    Path("/proc/self/clear_refs").write_text(FORGET_PEAK)
    before = _resident("VmRSS")
    contender.call(given)
    return max(0, _resident("VmHWM") - before)


def _resident(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def main(comparison: str, kind: str, size: str, name: str) -> None:
    from benchmarks.comparisons import COMPARISONS

    with ExitStack() as stack:
        contenders = COMPARISONS[comparison].contenders(kind, int(size), stack)
        contender = next((one for one in contenders if one.name == name), None)
        if isinstance(contender, Here):
            print(risen(contender))


if __name__ == "__main__":
    main(*sys.argv[1:])
