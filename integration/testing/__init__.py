"""For the tests of a project: dispatched stages run inline, in the test's own process and transaction.

With pytest, name this module in ``conftest.py`` and ask for the fixture::

    pytest_plugins = ["integration.testing"]

    def test_a_paper_is_published(db, stages):
        paper = Paper.objects.create()
        paper.submit()
        stages.run()

With Django's test classes, inherit `StagesMixin` and call ``self.run_stages()``.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from integration.testing.running import Stages, StagesMixin, inline_stages

if TYPE_CHECKING:
    from integration.testing.driving import Stuck, fail_at, redeliver_at, run_to_completion
    from integration.testing.pipeline import pipeline_test

__all__ = [
    "Stages",
    "StagesMixin",
    "Stuck",
    "fail_at",
    "inline_stages",
    "pipeline_test",
    "redeliver_at",
    "run_to_completion",
    "stages",
]


def __getattr__(name: str) -> Any:
    """What needs the models is imported when it is asked for: a plugin is loaded before there are any."""
    if name == "pipeline_test":
        from integration.testing import pipeline

        return pipeline.pipeline_test
    if name not in ("Stuck", "fail_at", "redeliver_at", "run_to_completion"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from integration.testing import driving

    return getattr(driving, name)


try:
    import pytest
except ImportError:  # Django's test classes need no pytest
    pass
else:

    @pytest.fixture
    def stages() -> Iterator[Stages]:
        """Dispatched stages, run inline."""
        with inline_stages() as running:
            yield running
