"""The arithmetic: medians, how far repeats lie apart, ratios, and how time grows with size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, quantiles
from typing import Literal

Clock = Literal["cpu", "wall"]

NOISY_SPREAD = 0.1
"""Half of the repeats lie further apart than this part of their median."""

NOISY_WAIT = 1.2
"""So many times as long as it computed, a computation took: something else had the processor."""


@dataclass(frozen=True)
class Sample:
    """One repeat, in seconds: as a clock on the wall saw it, and of a processor's time."""

    wall: float
    cpu: float


@dataclass(frozen=True, kw_only=True)
class Series:
    """The repeats of one contender.

    Attributes:
        samples: In the order in which they were taken.
        clock: Which of the two times counts.
    """

    samples: tuple[Sample, ...]
    clock: Clock

    @property
    def seconds(self) -> float:
        return median(self._times)

    @property
    def spread(self) -> float:
        """The width of the middle half of the repeats, as a part of the median; 0 of a single repeat."""
        if len(self.samples) < 2:
            return 0.0
        low, _, high = quantiles(self._times, n=4, method="inclusive")
        return (high - low) / self.seconds

    @property
    def waited(self) -> float:
        """How many times as long as it computed it took, in the median."""
        return median(sample.wall / sample.cpu if sample.cpu else 1.0 for sample in self.samples)

    @property
    def noisy(self) -> bool:
        """Whether other processes stood in the way: read such a figure with care, or take it again."""
        return self.spread > NOISY_SPREAD or (self.clock == "cpu" and self.waited > NOISY_WAIT)

    @property
    def _times(self) -> list[float]:
        return [getattr(sample, self.clock) for sample in self.samples]


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """The power of the size that the time grows with, by least squares on logarithms; 1 is linear.

    Args:
        points: Sizes and times. None is returned for fewer than two sizes.
    """
    xs, ys = [math.log(size) for size, _ in points], [math.log(time) for _, time in points]
    if len(set(xs)) < 2:
        return None
    middle, level = fmean(xs), fmean(ys)
    across = sum((x - middle) ** 2 for x in xs)
    return sum((x - middle) * (y - level) for x, y in zip(xs, ys, strict=True)) / across
