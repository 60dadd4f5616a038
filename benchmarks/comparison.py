"""`Comparison`: a floor, ours and peers on the same cases, in turns, so that what slows one slows all."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from benchmarks.contenders import Contender, Role
from benchmarks.figures import Clock, Sample, Series, slope

ENOUGH = 0.02
"""Seconds that a repeat lasts at least: shorter calls are repeated within it."""

LINEAR_FROM = 1_000
"""Below this size fixed costs hide how time grows."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared.

    Attributes:
        name: What it is called on the command line.
        title: What is measured, in a line.
        unit: What the sizes count.
        clock: ``cpu`` where all only compute, so that a busy machine disturbs little; otherwise ``wall``.
        kinds: The kinds of cases; each is a table.
        sizes: Of each kind.
        contenders: Those of a case, by kind and size; what must be ended is given to the stack.
        peak: Whether the memory of the largest case is measured too.
        notes: What a reader of the figures has to know, a sentence each.
    """

    name: str
    title: str
    unit: str
    clock: Clock
    kinds: tuple[str, ...]
    sizes: tuple[int, ...]
    contenders: Callable[[str, int, ExitStack], Iterable[Contender]]
    peak: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one contender in one case; `peak` in bytes, None where it was not measured."""

    name: str
    role: Role
    series: Series
    number: int
    peak: int | None = None

    @property
    def seconds(self) -> float:
        return self.series.seconds


@dataclass(frozen=True, kw_only=True)
class Result:
    """One case, measured."""

    kind: str
    size: int
    rows: tuple[Row, ...] = field(default=())

    def of(self, role: Role) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.role == role)

    def against(self, row: Row, role: Role) -> float | None:
        """How many times as long as the first of a role a row takes; None where either stands apart."""
        others = self.of(role)
        if not others or row.role == "apart" or row == others[0]:
            return None
        return row.seconds / others[0].seconds


class Disagreement(Exception):
    """Contenders that do not find the same are not doing the same work: their times say nothing."""


def measured(comparison: Comparison, *, repeats: int, peak: Peak | None = None) -> Iterator[Result]:
    """Run a comparison, case by case.

    Raises:
        Disagreement: A contender's answer differs from the first one's.
    """
    for kind in comparison.kinds:
        for size in comparison.sizes:
            with ExitStack() as stack:
                contenders = list(comparison.contenders(kind, size, stack))
                rows = list(_rows(comparison, contenders, f"{kind}, {size:,}", repeats))
            if peak and comparison.peak and size == max(comparison.sizes):
                rows = [replace(row, peak=peak(kind, size, row.name)) for row in rows]
            yield Result(kind=kind, size=size, rows=tuple(rows))
            del contenders
            gc.unfreeze()


Peak = Callable[[str, int, str], int | None]
"""The memory that a contender of a case takes at its peak."""


def _rows(comparison: Comparison, contenders: Sequence[Contender], case: str, repeats: int) -> Iterator[Row]:
    check_answers(contenders, case)
    numbers = [calls_for(contender.sample(1)) for contender in contenders]
    rounds = [_round(contenders, numbers, first=number) for number in range(repeats)]
    for index, (contender, number) in enumerate(zip(contenders, numbers, strict=True)):
        samples = tuple(samples[index] for samples in rounds)
        series = Series(samples=samples, clock=comparison.clock)
        yield Row(name=contender.name, role=contender.role, series=series, number=number)


def check_answers(contenders: Sequence[Contender], case: str) -> None:
    """Have everybody answer once, which also warms up what is warm later on.

    Raises:
        Disagreement: An answer differs from the first one.
    """
    answers = [(contender.name, contender.answer()) for contender in contenders]
    told = [(name, answer) for name, answer in answers if answer is not None]
    for name, answer in told[1:]:
        if answer != told[0][1]:
            raise Disagreement(f"{case}: {name} finds {answer!r}, but {told[0][0]} finds {told[0][1]!r}.")


def calls_for(sample: Sample) -> int:
    """How many calls make a repeat that is long enough, by a sample of a single one."""
    return max(1, min(1_000, round(ENOUGH / max(sample.cpu, sample.wall, 1e-9))))


def _round(contenders: Sequence[Contender], numbers: Sequence[int], *, first: int) -> list[Sample]:
    """One repeat of each, in their order; each round begins with the next of them, to favour none."""
    samples: dict[int, Sample] = {}
    for step in range(len(contenders)):
        index = (first + step) % len(contenders)
        samples[index] = contenders[index].sample(numbers[index])
    return [samples[index] for index in range(len(contenders))]


def growth(results: Sequence[Result], name: str) -> float | None:
    """The power of the size that a contender's time grows with."""
    return slope(
        [
            (result.size, row.seconds)
            for result in results
            for row in result.rows
            if row.name == name and result.size >= LINEAR_FROM
        ]
    )
