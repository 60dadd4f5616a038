"""What every test may use; and the figures of the proofs, told at the end of a run."""

import importlib.util
from collections import Counter

import pytest

# The core session has neither Django nor Celery: it collects tests/statemachine alone.
if importlib.util.find_spec("django") is not None:
    pytest_plugins = ["integration.testing", "tests.integration.plugin"]

FIGURES = pytest.StashKey[Counter]()


def pytest_configure(config):
    config.stash[FIGURES] = Counter()
    if config.pluginmanager.hasplugin("xdist"):
        config.pluginmanager.register(Gathering(config))


@pytest.fixture
def tally(request):
    """Add to a figure that the summary of the run prints: ``tally("crash points", 212)``."""

    def add(name, number=1):
        request.config.stash[FIGURES][name] += number

    return add


class Gathering:
    """Brings the figures of parallel workers together."""

    def __init__(self, config):
        self.config = config

    def pytest_testnodedown(self, node):
        self.config.stash[FIGURES].update(getattr(node, "workeroutput", {}).get("figures", {}))


def pytest_sessionfinish(session):
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["figures"] = dict(session.config.stash[FIGURES])


def pytest_terminal_summary(terminalreporter, config):
    figures = config.stash[FIGURES]
    if figures:
        terminalreporter.section("figures")
        for name in sorted(figures):
            terminalreporter.write_line(f"{figures[name]:>10,}  {name}")
