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

from integration.testing.running import Stages, StagesMixin, inline_stages

__all__ = ["Stages", "StagesMixin", "inline_stages", "stages"]


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
