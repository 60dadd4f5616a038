"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("onward", "transitions", "networkx", "numpy", "rustworkx", "scipy")


def described() -> dict[str, object]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "packages": dict(versions(PACKAGES)),
    }


def versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for package in packages:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"


def told(host: Mapping[str, object]) -> str:
    packages = host["packages"]
    assert isinstance(packages, dict)
    parts = [
        f"{host['python']} on {host['system']}, {host['processor']}, {host['cores']} cores, "
        f"load {host['load']} at the start",
        ", ".join(f"{name} {number}" for name, number in packages.items()),
    ]
    return "\n".join(parts)


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"
