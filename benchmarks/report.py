"""The figures, as a table for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from textwrap import fill

from benchmarks.comparison import LINEAR_FROM, Comparison, Result, Row, growth

HEADER = ("", "", "median", "spread", "× floor", "× ours", "peak memory")
NOISE = "~"


def table(comparison: Comparison, results: Sequence[Result]) -> str:
    """The results of one kind of case, size by size."""
    lines: list[tuple[str, ...]] = [HEADER]
    for result in results:
        lines += [
            (f"{result.size:,}" if not at else "", *_cells(result, row)) for at, row in enumerate(result.rows)
        ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    title = f"{results[0].kind}, by {comparison.unit}"
    return "\n".join([title, *(_line(line, widths) for line in lines), *_growths(comparison, results)])


def _cells(result: Result, row: Row) -> tuple[str, ...]:
    return (
        row.name,
        duration(row.seconds),
        f"{row.series.spread:.0%}{NOISE if row.series.noisy else ' '}",
        _times(result.against(row, "floor")),
        _times(result.against(row, "ours")),
        "" if row.peak is None else f"{row.peak / 2**20:,.0f} MiB",
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    words, figures = cells[:2], cells[2:]
    left = [f"{words[0]:>{widths[0]}}", f"{words[1]:<{widths[1]}}"]
    return "  ".join([*left, *(f"{c:>{w}}" for c, w in zip(figures, widths[2:], strict=True))]).rstrip()


def _growths(comparison: Comparison, results: Sequence[Result]) -> Iterator[str]:
    powers = growths(results)
    if powers:
        told = ", ".join(f"{name} {power:.2f}" for name, power in powers.items())
        yield fill(f"time grows as {comparison.unit} to the power of (from {LINEAR_FROM:,} on): {told}", 100)


def growths(results: Sequence[Result]) -> dict[str, float]:
    """By contender; those that were measured at fewer than two sizes are left out."""
    names = dict.fromkeys(row.name for result in results for row in result.rows)
    return {name: power for name in names if (power := growth(results, name)) is not None}


def duration(seconds: float) -> str:
    """Three digits, in the unit that a person would take."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:#.3g} {unit}".replace(". ", " ")
    raise AssertionError(seconds)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def as_dict(comparison: Comparison, results: Sequence[Result]) -> dict[str, object]:
    kinds = dict.fromkeys(result.kind for result in results)
    return {
        "name": comparison.name,
        "title": comparison.title,
        "unit": comparison.unit,
        "clock": comparison.clock,
        "notes": list(comparison.notes),
        "cases": [_case(result) for result in results],
        "growth": {kind: growths([r for r in results if r.kind == kind]) for kind in kinds},
    }


def _case(result: Result) -> dict[str, object]:
    return {"kind": result.kind, "size": result.size, "rows": [_row(result, row) for row in result.rows]}


def _row(result: Result, row: Row) -> dict[str, object]:
    return {
        "name": row.name,
        "role": row.role,
        "seconds": row.seconds,
        "spread": row.series.spread,
        "noisy": row.series.noisy,
        "against_floor": result.against(row, "floor"),
        "against_ours": result.against(row, "ours"),
        "peak_bytes": row.peak,
        "calls_per_repeat": row.number,
        "repeats": [asdict(sample) for sample in row.series.samples],
    }
