"""``python -m benchmarks``: compare, print the tables, and keep the figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

from benchmarks import host, memory, report
from benchmarks.comparison import Comparison, Result, measured
from benchmarks.comparisons import COMPARISONS

NOISE = f"{report.NOISE} other processes stood in the way: read it with care, or take it again."


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split(": ", 1)[1])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"Of the comparisons these: {', '.join(COMPARISONS)}."
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="Where to write the figures.")
    parser.add_argument("--repeats", type=int, default=7, help="Of each contender, in turns.")
    parser.add_argument(
        "--sizes", type=int, nargs="+", metavar="SIZE", help="In place of a comparison's own."
    )
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="Of the kinds of cases these.")
    parser.add_argument(
        "--no-memory", action="store_true", help="Do not measure memory, which takes a while."
    )
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.names) - set(COMPARISONS)):
        parser.error(f"There is no comparison {', '.join(unknown)}; there are: {', '.join(COMPARISONS)}.")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = options(arguments)
    described = host.described()
    print(host.told(described))
    figures = [run(part, chosen) for part in comparisons(chosen)]
    print(f"\n{NOISE}")
    if chosen.json:
        told = {"version": 1, "host": described, "comparisons": figures}
        chosen.json.write_text(json.dumps(told, indent=2) + "\n")
    return 0


def comparisons(chosen: argparse.Namespace) -> list[Comparison]:
    return [
        replace(
            COMPARISONS[name],
            sizes=tuple(chosen.sizes or COMPARISONS[name].sizes),
            kinds=tuple(chosen.kinds or COMPARISONS[name].kinds),
        )
        for name in chosen.names or COMPARISONS
    ]


def run(comparison: Comparison, chosen: argparse.Namespace) -> dict[str, object]:
    print(f"\n{comparison.name}: {comparison.title}; {chosen.repeats} repeats, {comparison.clock} time")
    print("\n".join(comparison.notes))
    peak = None if chosen.no_memory else partial(memory.peak, comparison.name)
    results: list[Result] = []
    for _, of_kind in groupby(measured(comparison, repeats=chosen.repeats, peak=peak), lambda r: r.kind):
        kind = list(of_kind)
        print(f"\n{report.table(comparison, kind)}", flush=True)
        results += kind
    return report.as_dict(comparison, results)


if __name__ == "__main__":
    sys.exit(main())
