"""transitions' own tests, run against `StateMachine`: all pass, but for what differs on purpose.

TRANSITIONS_SDIST names the unpacked source distribution of transitions, whose wheel has no tests.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

SDIST = os.environ.get("TRANSITIONS_SDIST", "")
EXPECTED = os.environ.get("ONWARD_EXPECT_UPSTREAM") == "1"
PLUGIN = Path(__file__).parent / "upstream"
FILES = ["test_core", "test_add_remove", "test_enum", "test_states", "test_factory"]
KINDS = ("failure", "error", "skipped")
LEAST = 90

DEVIATIONS = {
    "test_core.TestTransitions.test_may_transition_with_invalid_state": (
        "names a destination that is not declared: refused when it is declared"
    ),
    "test_core.TestTransitions.test_new_state_in_enter_callback": (
        "fires the row inside its own on_enter: refused"
    ),
    "test_core.TestTransitions.test_on_exception_callback": (
        "expects the new state after an exception: the row is as it was"
    ),
    "test_core.TestTransitions.test_queued": "queued=True: refused, one queue for all rows",
    "test_core.TestTransitions.test_queued_errors": "queued=True: refused, one queue for all rows",
    "test_core.TestTransitions.test_queued_remove": "queued=True: refused, one queue for all rows",
    "test_core.TestTransitions.test_state_callable_callbacks": (
        "names a function that does not exist: refused when it is bound"
    ),
    "test_enum.TestEnumsAsStates.test_if_enum_has_string_behavior": (
        "is_YELLOW: a member whose value is a string is known by its value"
    ),
}
"""What transitions' tests expect and `StateMachine` does otherwise, with the reason."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What became of each of transitions' tests, and why, by its name."""
    if not SDIST:
        missing = "TRANSITIONS_SDIST names no unpacked source distribution of transitions"
        (pytest.fail if EXPECTED else pytest.skip)(missing)
    found = dict(run(tmp_path_factory.mktemp("upstream")))
    kinds = Counter(kind for kind, _ in found.values())
    print(f"{len(found)} of transitions' own tests:", *(f"{n} {kind}" for kind, n in sorted(kinds.items())))
    return found


def run(folder):
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "upstream_machine", "-p", "no:cacheprovider"]
    command += ["-c", os.devnull, "--rootdir", SDIST, "--junit-xml", str(report), "-o", "junit_family=xunit1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    paths = [str(PLUGIN), SDIST, *filter(None, sys.path)]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    files = [f"tests/{name}.py" for name in FILES]
    ran = subprocess.run([*command, *files], cwd=SDIST, env=environment, capture_output=True, text=True)
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname').removeprefix('tests.')}.{case.get('name')}"
        kind = next((child.tag for child in case if child.tag in KINDS), "passed")
        yield name, (kind, "".join(f"{child.get('message')}\n{child.text}" for child in case))


def of_kind(results, *kinds):
    return {name for name, (kind, _) in results.items() if kind in kinds}


def test_exactly_what_differs_on_purpose_fails(results):
    failed = of_kind(results, "failure", "error")
    told = "\n\n".join(f"{name}: {results[name][1]}" for name in sorted(failed - DEVIATIONS.keys()))
    assert failed == DEVIATIONS.keys(), told


def test_everything_else_passes_or_lacks_graphviz(results):
    reasons = {results[name][1] for name in of_kind(results, "skipped")}
    assert all("graphviz" in reason for reason in reasons), reasons
    assert len(of_kind(results, "passed")) >= LEAST


def test_every_file_is_run(results):
    assert {name.partition(".")[0] for name in of_kind(results, "passed")} == set(FILES)
