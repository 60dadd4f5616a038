"""`statemachine.testing`: what is generated from a graph, compared with what is worked out naively."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import combinations, islice, pairwise
from random import Random

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from statemachine import DeclarationError, Edge, Graph, Path, State, StateMachine, StateValue
from statemachine.testing import covering_paths, paths, walks

SHRINKING = settings(max_examples=300, database=None)


def edge(text: str) -> Edge:
    """Read ``source trigger dest guard…``."""
    source, trigger, dest, *guards = text.split()
    return Edge(source=source, trigger=trigger, dest=dest, guards=tuple(guards))


def graph(*edges: str | Edge, initial: str = "", states: str = "") -> Graph:
    given = tuple(edge(e) if isinstance(e, str) else e for e in edges)
    names = dict.fromkeys([*states.split(), *(end for e in given for end in (e.source, e.dest))])
    return Graph(
        name="papers",
        states=tuple(StateValue(name=name) for name in names),
        edges=given,
        initial=initial or next(iter(names)),
        goals=(),
    )


REVIEW = graph(
    "draft submit checking",
    "checking advance scoring",
    "scoring advance published",
    "checking fail rejected",
    "scoring fail rejected",
    "rejected revise draft is_worth_it",
    "rejected discard discarded",
    "draft note draft",
)

BEHIND = graph("a go b", "a go c late", "b on c", "c retry a x", "c retry b y")
"""One edge is hidden, and one of several guarded ones passes."""


@st.composite
def graphs(draw: st.DrawFn, *, states: int = 6, edges: int = 8) -> Graph:
    names = "abcdefgh"[:states]
    ends, guards = st.sampled_from(names), st.sampled_from(["", "", "p", "q"])
    drawn = draw(st.lists(st.tuples(ends, st.sampled_from("xyz"), ends, guards), max_size=edges, unique=True))
    return graph(*(" ".join(values) for values in drawn), initial="a", states=" ".join(names))


def open_edges(graph: Graph) -> list[Edge]:
    """Naively: the edges with no unguarded one of their source and trigger before them."""
    return [
        e
        for at, e in enumerate(graph.edges)
        if not any((b.source, b.trigger, b.guards) == (e.source, e.trigger, ()) for b in graph.edges[:at])
    ]


def reached(edges: Iterable[Edge], start: str) -> set[str]:
    found, edges = {start}, list(edges)
    for _ in edges:
        found |= {e.dest for e in edges if e.source in found}
    return found


def is_legal(walk: Path, graph: Graph) -> bool:
    ends = zip(walk.states, walk.edges, strict=False)
    return set(walk.edges) <= set(open_edges(graph)) and all(at == edge.source for at, edge in ends)


def distance(graph: Graph, start: str, end: str) -> int:
    """Naively: how many rounds of following all edges it takes."""
    found, rounds = {start}, 0
    while end not in found:
        found |= {e.dest for e in open_edges(graph) if e.source in found}
        rounds += 1
    return rounds


def shortest(walk: Path, graph: Graph) -> bool:
    return is_legal(walk, graph) and len(walk) == distance(graph, walk.start, walk.end)


# Walks


@given(graphs().flatmap(lambda g: st.tuples(st.just(g), walks(g, max_size=9))))
def test_every_walk_is_legal_and_no_longer_than_allowed(drawn: tuple[Graph, Path]) -> None:
    graph, walk = drawn

    assert walk.start == "a"
    assert is_legal(walk, graph)
    assert len(walk) <= 9


@given(st.data(), graphs(), st.sampled_from("abcdef"), st.integers(0, 4))
def test_walks_between_two_states_begin_and_end_there(
    data: st.DataObject, graph: Graph, start: str, more: int
) -> None:
    end = data.draw(st.sampled_from(sorted(reached(open_edges(graph), start))))
    size = distance(graph, start, end) + more
    walk = data.draw(walks(graph, start=start, to=end, max_size=size))

    assert (walk.start, walk.end) == (start, end)
    assert is_legal(walk, graph)
    assert len(walk) <= size


@pytest.mark.parametrize("state", [state.name for state in REVIEW])
def test_what_fails_in_a_state_shrinks_to_a_shortest_walk_there(state: str) -> None:
    least = find(walks(REVIEW), lambda w: w.end == state, settings=SHRINKING, random=Random(1))

    assert shortest(least, REVIEW)


@pytest.mark.parametrize("edge", REVIEW.edges, ids=str)
def test_what_fails_on_an_edge_shrinks_to_the_shortest_way_there_and_the_edge(edge: Edge) -> None:
    least = find(walks(REVIEW), lambda w: edge in w.edges, settings=SHRINKING, random=Random(1))

    assert least.edges[-1] == edge
    assert shortest(Path(least.start, least.edges[:-1]), REVIEW)


def random_graph(random: Random) -> Graph:
    drawn = [(random.choice("abcde"), way, random.choice("abcde")) for way in "stuvwxyz"]
    return graph(*map(" ".join, drawn), initial="a", states="a b c d e")


@pytest.mark.parametrize("seed", range(2))
def test_walks_of_any_graph_shrink_to_a_shortest_walk_into_any_state(seed: int) -> None:
    graph = random_graph(Random(seed))
    for state in sorted(reached(open_edges(graph), "a")):
        least = find(walks(graph), lambda w: w.end == state, settings=SHRINKING, random=Random(seed))  # noqa: B023
        assert shortest(least, graph)


@pytest.mark.parametrize("seed", [4, 6, 8])
def test_walks_shrink_to_the_short_way_where_a_long_one_leads_there_too(seed: int) -> None:
    long = [f"s{n} on s{n + 1}" for n in range(1, 4)]
    ways = graph("a on s1", *long, "s4 on end", "a go m", "m go end", "end back a", "s2 back a")

    least = find(walks(ways), lambda w: w.end == "end", settings=SHRINKING, random=Random(seed))
    assert least.states == ("a", "m", "end")


def test_walks_to_a_state_shrink_to_a_shortest_walk_as_well() -> None:
    least = find(walks(REVIEW, to="published"), lambda w: True, settings=SHRINKING, random=Random(1))

    assert least.states == ("draft", "checking", "scoring", "published")


@pytest.mark.parametrize("edge", REVIEW.edges, ids=str)
def test_walks_to_a_state_take_every_edge_on_some_way_there(edge: Edge) -> None:
    strategy = walks(REVIEW, to="published", max_size=12)
    if edge.dest == "discarded":
        with pytest.raises(NoSuchExample):
            find(strategy, lambda w: edge in w.edges, settings=SHRINKING, random=Random(1))
        return
    least = find(strategy, lambda w: edge in w.edges, settings=SHRINKING, random=Random(1))
    assert least.end == "published"


def test_walks_go_round_loops() -> None:
    twice = find(
        walks(REVIEW), lambda w: w.states.count("rejected") == 2, settings=SHRINKING, random=Random(1)
    )

    assert [e.trigger for e in twice.edges[:5]] == ["submit", "fail", "revise", "submit", "fail"]


def test_an_edge_behind_an_unguarded_one_is_not_walked() -> None:
    hidden, guarded = edge("a go c late"), edge("c retry b y")
    with pytest.raises(NoSuchExample):
        find(walks(BEHIND), lambda w: hidden in w.edges, settings=SHRINKING, random=Random(1))
    find(walks(BEHIND), lambda w: guarded in w.edges, settings=SHRINKING, random=Random(1))


def test_a_graph_without_edges_has_one_walk() -> None:
    alone = graph(states="alone")

    assert find(walks(alone), lambda w: True, random=Random(1)) == Path("alone")
    assert covering_paths(alone) == (Path("alone"),)
    assert list(paths(alone, to="alone")) == [Path("alone")]


def test_a_machine_and_its_enum_states_are_taken_as_well_as_a_graph() -> None:
    class Status(enum.Enum):
        DRAFT = "draft"
        DONE = "done"

    machine = StateMachine(
        name="papers",
        states=[State(Status.DRAFT), State(Status.DONE, final=True)],
        transitions=[{"trigger": "finish", "source": Status.DRAFT, "dest": Status.DONE}],
        initial=Status.DRAFT,
    )

    assert find(walks(machine, to=Status.DONE), lambda w: True, random=Random(1)).end == "done"
    assert [p.end for p in paths(machine, to=Status.DONE, start=Status.DRAFT)] == ["done"]
    assert [p.end for p in covering_paths(machine)] == ["done"]


# Paths


def test_paths_are_all_the_shortest_in_order_of_declaration() -> None:
    diamond = graph(
        "a left b", "a right c", "b on d", "c on d", "c skip d", "a away a", "d on e", "a long e2"
    )

    assert [" ".join(e.trigger for e in path.edges) for path in paths(diamond, to="e")] == [
        "left on on",
        "right on on",
        "right skip on",
    ]


@given(st.data(), graphs())
def test_paths_agree_with_all_walks_of_the_least_length(data: st.DataObject, graph: Graph) -> None:
    end = data.draw(st.sampled_from(sorted(reached(open_edges(graph), "a"))))
    found = list(paths(graph, to=end))
    of_that_length = [Path("a")]
    for _ in range(distance(graph, "a", end)):
        of_that_length = [w.then(e) for w in of_that_length for e in open_edges(graph) if e.source == w.end]

    assert len(found) == len(set(found))
    assert set(found) == {walk for walk in of_that_length if walk.end == end}


def simple_walks(graph: Graph, walk: Path, end: str) -> Iterator[Path]:
    if walk.end == end:
        yield walk
        return
    for e in open_edges(graph):
        if e.source == walk.end and e.dest not in walk.states:
            yield from simple_walks(graph, walk.then(e), end)


@given(st.data(), graphs(edges=12))
def test_simple_paths_are_all_that_visit_no_state_twice(data: st.DataObject, graph: Graph) -> None:
    end = data.draw(st.sampled_from(sorted(reached(open_edges(graph), "a"))))

    assert list(paths(graph, to=end, simple=True)) == list(simple_walks(graph, Path("a"), end))


@pytest.mark.parametrize("simple", [False, True])
def test_paths_are_worked_out_one_by_one(simple: bool) -> None:
    """Of a ladder of 200 rungs with two edges each there are 2**200."""
    ladder = graph(*(f"s{n} {way} s{n + 1}" for n in range(200) for way in ("left", "right")))
    few = list(islice(paths(ladder, to="s200", simple=simple), 3))

    assert [len(path) for path in few] == [200] * 3
    assert len(set(few)) == 3


def test_simple_paths_do_not_search_where_no_way_leads_on() -> None:
    """Behind the first edge is a maze without an exit: its 2**99 ways are not gone."""
    maze = [f"s{n} {way} s{n + 1}" for n in range(99) for way in ("left", "right")]
    lost = graph("a enter s0", *maze, "a avoid end", "s0 back a")

    assert [path.states for path in paths(lost, to="end", simple=True)] == [("a", "end")]


# Covers


def taken_by(cover: Iterable[Path]) -> set[Edge]:
    return {e for path in cover for e in path.edges}


def to_cover(graph: Graph) -> set[Edge]:
    edges = open_edges(graph)
    return {e for e in edges if e.source in reached(edges, graph.initial)}


def least_cover(graph: Graph) -> int:
    """Dilworth: as many walks as there are edges of which no walk takes two."""
    edges = open_edges(graph)
    after = {state.name: reached(edges, state.name) for state in graph}

    def apart(one: Edge, other: Edge) -> bool:
        return other.source not in after[one.dest] and one.source not in after[other.dest]

    wanted = sorted(to_cover(graph), key=str)
    sizes = [
        size
        for size in range(1, len(wanted) + 1)
        if any(all(apart(*two) for two in combinations(few, 2)) for few in combinations(wanted, size))
    ]
    return max(sizes, default=1)


@given(graphs())
def test_a_cover_takes_every_edge_in_as_few_walks_as_there_can_be(graph: Graph) -> None:
    cover = covering_paths(graph)

    assert all(is_legal(walk, graph) and walk.start == "a" for walk in cover)
    assert taken_by(cover) == to_cover(graph)
    assert len(cover) == least_cover(graph)


@st.composite
def ways_down(draw: st.DrawFn) -> Graph:
    """Without cycles, so that many walks are needed."""
    pairs = draw(st.lists(st.sampled_from(list(combinations("abcdef", 2))), max_size=9, unique=True))
    return graph(*(f"{a} to_{b} {b}" for a, b in pairs), initial="a", states="a b c d e f")


@given(ways_down())
def test_where_nothing_comes_round_it_takes_as_few_walks_as_there_can_be(graph: Graph) -> None:
    cover = covering_paths(graph)

    assert taken_by(cover) == to_cover(graph)
    assert len(cover) == least_cover(graph)


def least_cover_without_cycles(graph: Graph) -> int:
    """Dilworth by König: as many walks as there are edges, less those that follow one in the best pairing."""
    edges = open_edges(graph)
    after = {state.name: reached(edges, state.name) for state in graph}
    follows = {e: [f for f in edges if f.source in after[e.dest]] for e in edges}
    before: dict[Edge, Edge] = {}

    def is_paired(e: Edge, seen: set[Edge]) -> bool:
        for f in follows[e]:
            if f not in seen:
                seen.add(f)
                if f not in before or is_paired(before[f], seen):
                    before[f] = e
                    return True
        return False

    return len(edges) - sum(is_paired(e, set()) for e in edges)


@pytest.mark.parametrize("seed", range(20))
def test_a_larger_cover_is_of_as_few_walks_as_there_can_be(seed: int) -> None:
    drawn, line = Random(seed), [f"s{n}" for n in range(25)]
    along = [f"{a} on {b}" for a, b in pairwise(line)]
    pairs = [sorted(drawn.sample(line, 2), key=line.index) for _ in range(30)]
    ways = graph(*along, *(f"{a} leap{n} {b}" for n, (a, b) in enumerate(pairs)))
    cover = covering_paths(ways)

    assert taken_by(cover) == to_cover(ways)
    assert len(cover) == least_cover_without_cycles(ways)


def nearest_first(graph: Graph) -> int:
    """How many walks it takes to go on to the nearest edge that is left, until none is within reach."""
    left, number = dict.fromkeys(open_edges(graph)), 0
    while left:
        number, at = number + 1, Path(graph.initial)
        while (
            onward := next((w for w in from_here(graph, at.end) if w.edges[-1] in left), None)
        ) is not None:
            for e in onward.edges:
                left.pop(e, None)
            at = onward
    return number


def from_here(graph: Graph, at: str) -> Iterator[Path]:
    """Every walk from a state on, where nothing comes round; the shorter ones first."""
    queue = [Path(at)]
    for walk in queue:
        queue += [walk.then(e) for e in graph.edges if e.source == walk.end]
    return iter(queue[1:])


def test_a_cover_needs_fewer_walks_than_the_nearest_first() -> None:
    ways = graph("a x d", "a y e", "a z b", "d x e", "d y f", "b x e", "b y d")

    assert (len(covering_paths(ways)), nearest_first(ways)) == (4, 5)
    assert taken_by(covering_paths(ways)) == set(ways.edges)


def test_the_cover_of_the_review_is_two_walks_because_it_has_two_ends() -> None:
    assert [path.end for path in covering_paths(REVIEW)] == ["published", "discarded"]
    assert sum(map(len, covering_paths(REVIEW))) <= 14


def test_guarded_alternatives_are_covered_too() -> None:
    assert taken_by(covering_paths(BEHIND)) == set(BEHIND.edges) - {edge("a go c late")}


@given(graphs())
def test_a_walk_of_a_cover_does_not_end_by_repeating_what_is_taken(graph: Graph) -> None:
    cover = covering_paths(graph)
    taken = [e for walk in cover for e in walk.edges]

    assert all(taken.count(walk.edges[-1]) == 1 for walk in cover if walk.edges)


def test_what_the_start_does_not_reach_is_not_covered() -> None:
    (only,) = covering_paths(REVIEW, start="rejected")[-1:]

    assert only.start == "rejected"
    assert covering_paths(REVIEW, start="published") == (Path("published"),)


def test_a_cover_is_the_same_in_every_process() -> None:
    code = (
        f"from statemachine import *; from statemachine.testing import *; print(covering_paths({REVIEW!r}))"
    )
    given = {**os.environ, "PYTHONHASHSEED": "1"}
    told = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)

    assert told.stdout == f"{covering_paths(REVIEW)}\n"


def test_a_long_chain_needs_no_recursion() -> None:
    chain = graph(*(f"s{n} on s{n + 1}" for n in range(3000)))

    assert [len(path) for path in covering_paths(chain)] == [3000]
    assert [len(path) for path in paths(chain, to="s3000")] == [3000]


def test_a_long_loop_needs_no_recursion() -> None:
    loop = graph(*(f"s{n} on s{(n + 1) % 1500}" for n in range(1500)))

    assert [len(path) for path in covering_paths(loop)] == [1500]


# What is wrong


@pytest.mark.parametrize("generate", [walks, covering_paths, lambda g, **kw: paths(g, to="draft", **kw)])
def test_a_state_that_is_not_declared_is_refused_at_once(generate) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DeclarationError) as caught:
        generate(REVIEW, start="checkin")

    assert str(caught.value) == "The graph 'papers' has no state 'checkin'. Did you mean 'checking'?"


@pytest.mark.parametrize("generate", [walks, paths])
def test_an_end_that_is_not_declared_is_refused_at_once(generate) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DeclarationError, match=r"no state 'xyz'. Its states are: draft, checking, scoring, "):
        generate(REVIEW, to="xyz")


@pytest.mark.parametrize("generate", [walks, paths])
def test_an_end_that_cannot_be_reached_is_refused_at_once(generate) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DeclarationError, match=r"No walk from 'published' reaches 'draft'"):
        generate(REVIEW, start="published", to="draft")


def test_walks_that_would_all_be_too_long_are_refused() -> None:
    with pytest.raises(DeclarationError) as caught:
        walks(REVIEW, to="published", max_size=2)

    assert str(caught.value) == (
        "The shortest walk from 'draft' to 'published' takes 3 edges, which is more than max_size=2. "
        "Pass max_size=3 or more."
    )
    with pytest.raises(DeclarationError, match="max_size=-1"):
        walks(REVIEW, max_size=-1)


def test_what_is_no_machine_is_refused() -> None:
    with pytest.raises(DeclarationError, match="needs a StateMachine or a Graph, not 'review'"):
        walks("review")  # type: ignore[arg-type]


def test_hypothesis_is_imported_when_walks_are_asked_for_and_not_before() -> None:
    code = "import sys, statemachine, statemachine.testing; print('hypothesis' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert told == "False\n"


def test_the_edges_of_a_path_meet() -> None:
    (path,) = paths(REVIEW, to="published")

    assert all(one.dest == other.source for one, other in pairwise(path.edges))
