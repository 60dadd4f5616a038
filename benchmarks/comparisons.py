"""What there is to compare, by the names that the command line knows."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.comparison import Comparison
from benchmarks.verify import VERIFY

COMPARISONS: Mapping[str, Comparison] = {comparison.name: comparison for comparison in [VERIFY]}
