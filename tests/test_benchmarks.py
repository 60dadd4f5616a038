"""The benchmarks run, compare like with like, and count right. No test looks at how long it takes."""

import json
import sys
from contextlib import ExitStack
from importlib.util import find_spec

import pytest

from benchmarks import graphs, host, memory, report, searches
from benchmarks.__main__ import main
from benchmarks.comparison import Comparison, Disagreement, Result, Row, calls_for, growth, measured
from benchmarks.contenders import Elsewhere, Here, Pipe
from benchmarks.figures import Sample, Series, slope
from benchmarks.verify import VERIFY, built
from statemachine.verify import verify


def series(*times, clock="cpu", waited=1.0):
    return Series(samples=tuple(Sample(wall=time * waited, cpu=time) for time in times), clock=clock)


def row(name, role, *times):
    return Row(name=name, role=role, series=series(*times), number=1)


# The arithmetic


def test_a_series_is_told_by_its_median_and_the_width_of_its_middle_half():
    repeats = series(1.0, 2.0, 3.0, 4.0, 100.0)
    assert repeats.seconds == 3.0
    assert repeats.spread == pytest.approx((4.0 - 2.0) / 3.0)
    assert series(5.0).spread == 0.0


def test_the_clock_says_which_of_the_two_times_counts():
    assert series(1.0, waited=3.0).seconds == 1.0
    assert series(1.0, clock="wall", waited=3.0).seconds == 3.0


def test_repeats_that_lie_apart_or_had_to_wait_are_noisy():
    assert not series(1.0, 1.0, 1.01, 1.02).noisy
    assert series(1.0, 1.0, 1.5, 1.6).noisy
    assert series(1.0, 1.0, waited=1.5).noisy
    assert not series(1.0, 1.0, clock="wall", waited=1.5).noisy


def test_the_slope_is_the_power_of_the_size():
    assert slope([(10, 1.0), (100, 10.0), (1_000, 100.0)]) == pytest.approx(1)
    assert slope([(10, 1.0), (100, 100.0), (1_000, 10_000.0)]) == pytest.approx(2)
    assert slope([(10, 1.0)]) is None


def test_growth_leaves_out_the_sizes_where_fixed_costs_hide_it():
    times = {10: 1.0, 1_000: 2.0, 10_000: 20.0}
    results = [Result(kind="any", size=size, rows=(row("it", "ours", time),)) for size, time in times.items()]
    assert growth(results, "it") == pytest.approx(1)
    assert growth(results, "another") is None


def test_a_row_is_compared_with_the_floor_and_with_ours_unless_it_stands_apart():
    floor, ours, peer = row("floor", "floor", 2.0), row("it", "ours", 6.0), row("peer", "peer", 12.0)
    apart = row("apart", "apart", 1.0)
    result = Result(kind="any", size=1, rows=(floor, ours, peer, apart))
    assert [result.against(each, "floor") for each in result.rows] == [None, 3.0, 6.0, None]
    assert [result.against(each, "ours") for each in result.rows] == [pytest.approx(1 / 3), None, 2.0, None]
    assert Result(kind="any", size=1, rows=(peer,)).against(peer, "floor") is None


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(2.5, "2.50 s"), (0.25, "250 ms"), (0.00123, "1.23 ms"), (4.5e-6, "4.50 µs"), (2e-8, "0.0200 µs")],
)
def test_a_duration_has_three_digits_in_the_unit_that_fits(seconds, told):
    assert report.duration(seconds) == told


# In turns


class Calls:
    """Contenders that keep a diary in place of working."""

    def __init__(self, *names):
        self.diary, self.names = [], names

    def comparison(self, **answers):
        def contenders(kind, size, stack):
            return [
                Here(
                    name=name, role="peer", call=self.diary.append, prepare=lambda name=name: name, told=told
                )
                for name in self.names
                for told in [lambda _, name=name: answers.get(name)]
            ]

        options = {"title": "", "unit": "calls", "clock": "wall", "kinds": ("any",), "sizes": (1,)}
        return Comparison(name="calls", contenders=contenders, **options)


def test_contenders_take_turns_and_each_round_begins_with_the_next(monkeypatch):
    monkeypatch.setattr("benchmarks.comparison.ENOUGH", 0)
    calls = Calls("a", "b", "c")
    (result,) = measured(calls.comparison(), repeats=4)
    answers, first_guess, rounds = calls.diary[:3], calls.diary[3:6], calls.diary[6:]
    assert answers == first_guess == ["a", "b", "c"]
    assert "".join(rounds) == "abcbcacababc"
    assert [(row.name, len(row.series.samples)) for row in result.rows] == [("a", 4), ("b", 4), ("c", 4)]


@pytest.mark.parametrize(
    ("seconds", "calls"), [(5.0, 1), (0.01, 2), (0.001, 20), (1e-6, 1_000), (0.0, 1_000)]
)
def test_a_short_call_is_repeated_until_it_can_be_timed(seconds, calls):
    assert calls_for(Sample(wall=seconds, cpu=0.0)) == calls_for(Sample(wall=0.0, cpu=seconds)) == calls


def test_contenders_that_find_something_else_are_refused():
    calls = Calls("a", "b", "silent").comparison(a=1, b=2)
    with pytest.raises(Disagreement, match=r"^any, 1: b finds 2, but a finds 1\.$"):
        list(measured(calls, repeats=1))
    assert list(measured(Calls("a", "b", "silent").comparison(a=1, b=1), repeats=1))


ECHO = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    answer = {"wall": 2.0, "cpu": asked["number"]} if "sample" in asked else asked["answer"]
    print(json.dumps(answer), flush=True)
"""


def test_a_contender_of_another_process_takes_its_own_time():
    with Pipe([sys.executable, "-c", ECHO]) as pipe:
        there = Elsewhere(name="there", role="peer", pipe=pipe, question="check")
        assert there.answer() == "check"
        assert there.sample(3) == Sample(wall=2.0, cpu=3)


def test_a_process_that_ends_in_place_of_an_answer_is_told():
    with Pipe([sys.executable, "-c", "input()"]) as pipe, pytest.raises(RuntimeError, match="ended in place"):
        pipe.ask(1)


# Verify


@pytest.mark.parametrize("kind", graphs.GRAPHS)
@pytest.mark.parametrize("edges", [10, 31, 100, 1_000])
def test_a_graph_is_as_large_as_asked_and_the_same_each_time(kind, edges):
    graph = graphs.GRAPHS[kind](edges)
    assert edges - 3 < len(graph.edges) <= edges
    assert graph == graphs.GRAPHS[kind](edges) == built(graph)


@pytest.mark.parametrize("kind", ["pipeline", "sound"])
@pytest.mark.parametrize("edges", [10, 31, 100, 1_000])
def test_pipelines_and_sound_graphs_have_no_findings(kind, edges):
    assert verify(graphs.GRAPHS[kind](edges)).findings == ()


def test_broken_graphs_have_findings_of_both_kinds_that_all_look_for():
    answer = searches.answer_of_report(verify(graphs.broken(1_000)))
    assert answer.unreachable
    assert answer.stuck
    assert repr(answer) == f"{len(answer.unreachable)} unreachable and {len(answer.stuck)} stuck states"


@pytest.mark.parametrize("kind", graphs.GRAPHS)
@pytest.mark.parametrize("edges", [10, 100, 20_000])
def test_what_the_floor_finds_is_what_verify_finds(kind, edges):
    with ExitStack() as stack:
        contenders = {one.name: one for one in VERIFY.contenders(kind, edges, stack)}
        answers = [one.answer() for one in contenders.values() if one.role == "floor"]
    assert answers == [contenders["verify"].answer()]


@pytest.mark.parametrize("package", ["networkx", "rustworkx", "scipy"])
@pytest.mark.parametrize("kind", graphs.GRAPHS)
def test_what_others_find_is_what_verify_finds(package, kind):
    pytest.importorskip(package)
    with ExitStack() as stack:
        contenders = {one.name: one for one in VERIFY.contenders(kind, 300, stack)}
        assert contenders[package].answer() == contenders["verify"].answer()


@pytest.mark.parametrize("lost", ["unreachable", "stuck"])
def test_a_search_that_overlooks_a_state_is_refused(monkeypatch, lost):
    def forgetful(told):
        answer = searches.answer_of_report(told)
        return searches.Answer(**{**vars(answer), lost: frozenset(list(getattr(answer, lost))[1:])})

    def contenders(kind, size, stack):
        floor, *rest = VERIFY.contenders(kind, size, stack)
        ours = next(one for one in rest if one.role == "ours")
        return [
            floor,
            Here(name=ours.name, role="ours", prepare=ours.prepare, call=ours.call, told=forgetful),
        ]

    options = {"title": "", "unit": "edges", "clock": "cpu", "kinds": ("broken",), "sizes": (1_000,)}
    with pytest.raises(Disagreement, match="verify finds"):
        list(measured(Comparison(name="verify", contenders=contenders, **options), repeats=1))


def test_the_command_prints_a_table_of_each_kind_and_keeps_the_figures(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.comparison.ENOUGH", 0)
    file = tmp_path / "bench.json"
    assert main(["verify", "--sizes", "10", "--repeats", "2", "--no-memory", "--json", str(file)]) == 0
    said, told = capsys.readouterr().out, json.loads(file.read_text())
    assert all(f"\n{kind}, by edges\n" in said for kind in graphs.GRAPHS)
    (comparison,) = told["comparisons"]
    assert [case["kind"] for case in comparison["cases"]] == list(graphs.GRAPHS)
    rows = {row["name"]: row for row in comparison["cases"][0]["rows"]}
    floor, ours = rows["two searches"], rows["verify"]
    assert ours["against_floor"] == pytest.approx(ours["seconds"] / floor["seconds"])
    assert len(ours["repeats"]) == 2
    assert {"networkx" in rows, bool(find_spec("networkx"))} in ({True}, {False})
    assert told["host"]["packages"].keys() == set(host.PACKAGES)


def test_an_unknown_comparison_is_refused_by_name(capsys):
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "There is no comparison nothing; there are: verify." in capsys.readouterr().err


@pytest.mark.skipif(not memory.STATUS.exists(), reason="this system does not tell a process its memory")
def test_the_memory_of_a_call_is_how_far_it_raises_the_peak():
    keeps = Here(name="keeps", role="ours", call=lambda _: b"x" * (40 << 20))
    assert 38 << 20 < memory.risen(keeps) < 60 << 20
    assert memory.risen(Here(name="nothing", role="ours", call=lambda _: None)) < 2 << 20


@pytest.mark.skipif(not memory.STATUS.exists(), reason="this system does not tell a process its memory")
def test_the_memory_of_a_contender_is_measured_in_a_process_of_its_own():
    assert memory.peak("verify", "pipeline", 10, "verify") is not None
    assert memory.peak("verify", "pipeline", 10, "nobody") is None
