"""What became different between two graphs."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine.difference import Change, difference
from statemachine.enqueue import Enqueue
from statemachine.graph import Edge, Graph, StateValue
from tests.statemachine.graphs import graphs

CHECK = Enqueue("papers.check", max_attempts=3)
REVIEW = Graph(
    name="review",
    states=(
        StateValue(name="draft", label="Draft", waits_for="the author"),
        StateValue(name="checking", steps=(CHECK, Enqueue("papers.count")), tags=("running",)),
        StateValue(name="published", final=True),
        StateValue(name="rejected", after=(timedelta(days=30), "discard")),
    ),
    edges=(
        Edge(trigger="submit", source="draft", dest="checking"),
        Edge(trigger="advance", source="checking", dest="published", guards=("is_good",)),
        Edge(trigger="advance", source="checking", dest="rejected"),
        Edge(trigger="discard", source="rejected", dest="draft"),
    ),
    initial="draft",
    goals=("published",),
)


def with_state(name: str, **changed: Any) -> Graph:
    states = tuple(replace(s, **changed) if s.name == name else s for s in REVIEW.states)
    return replace(REVIEW, states=states)


def with_edge(index: int, **changed: Any) -> Graph:
    edges = list(REVIEW.edges)
    edges[index] = replace(edges[index], **changed)
    return replace(REVIEW, edges=tuple(edges))


def without(name: str) -> Graph:
    return replace(
        REVIEW,
        states=tuple(s for s in REVIEW.states if s.name != name),
        edges=tuple(e for e in REVIEW.edges if name not in (e.source, e.dest)),
    )


def called(old: str, new: str, **changed: Any) -> Graph:
    """The graph with a state under another name."""
    states = [replace(s, name=new, **changed) if s.name == old else s for s in REVIEW.states]
    ends = {"source": new, "dest": new}
    edges = [replace(e, **{k: v for k, v in ends.items() if getattr(e, k) == old}) for e in REVIEW.edges]
    initial = new if REVIEW.initial == old else REVIEW.initial
    return replace(REVIEW, states=tuple(states), edges=tuple(edges), initial=initial)


def told(new: Graph, old: Graph = REVIEW) -> list[str]:
    return list(map(str, difference(old, new)))


@pytest.mark.parametrize(
    ("new", "sentences"),
    [
        (REVIEW, []),
        (replace(REVIEW, name="paper"), ["machine: name: 'review' -> 'paper'"]),
        (replace(REVIEW, initial="rejected"), ["machine: initial: 'draft' -> 'rejected'"]),
        (
            replace(REVIEW, goals=("published", "rejected")),
            ["machine: goals: 'published' -> 'published', 'rejected'"],
        ),
        (with_state("draft", label="A draft"), ["state 'draft': label: 'Draft' -> 'A draft'"]),
        (with_state("draft", phase="one"), ["state 'draft': phase: empty -> 'one'"]),
        (with_state("draft", formerly=("sketch",)), ["state 'draft': formerly: empty -> 'sketch'"]),
        (with_state("published", final=False), ["state 'published': final: True -> False"]),
        (
            with_state("rejected", after=(timedelta(days=3), "discard")),
            ["state 'rejected': after: 30 days, 'discard' -> 3 days, 'discard'"],
        ),
        (
            with_state("checking", steps=(replace(CHECK, max_attempts=5), Enqueue("papers.count"))),
            ["state 'checking', task 'papers.check': max_attempts: 3 -> 5"],
        ),
        (
            with_state("checking", steps=(CHECK, Enqueue("papers.weigh"))),
            [
                "state 'checking', task 'papers.count' is gone",
                "state 'checking', task 'papers.weigh' is new",
            ],
        ),
        (
            with_state("checking", steps=(Enqueue("papers.count"), CHECK)),
            ["state 'checking': the tasks are in another order"],
        ),
        (
            without("rejected"),
            [
                "state 'rejected' is gone",
                "edge checking --advance--> rejected is gone",
                "edge rejected --discard--> draft is gone",
            ],
        ),
        (
            with_edge(1, guards=("is_good", "is_new")),
            ["edge checking --advance--> published: guards: 'is_good' -> 'is_good', 'is_new'"],
        ),
        (with_edge(0, writes=("sent",)), ["edge draft --submit--> checking: writes: empty -> 'sent'"]),
        (
            with_edge(0, dest="rejected"),
            ["edge draft --submit--> checking is gone", "edge draft --submit--> rejected is new"],
        ),
        (
            replace(REVIEW, edges=tuple(REVIEW.edges[i] for i in (0, 2, 1, 3))),
            ["state 'checking': the edges of 'advance' are in another order"],
        ),
        (
            replace(REVIEW, edges=tuple(REVIEW.edges[i] for i in (3, 0, 1, 2))),
            ["machine: the edges are in another order"],
        ),
        (
            replace(REVIEW, states=tuple(reversed(REVIEW.states))),
            ["machine: the states are in another order"],
        ),
    ],
)
def test_what_is_different_is_told_in_a_sentence(new: Graph, sentences: list[str]) -> None:
    assert told(new) == sentences


def test_a_new_state_and_its_edges_are_new() -> None:
    assert told(REVIEW, old=without("rejected")) == [
        "state 'rejected' is new",
        "edge checking --advance--> rejected is new",
        "edge rejected --discard--> draft is new",
    ]


def test_a_state_that_says_what_it_was_called_was_renamed_with_its_edges() -> None:
    assert told(called("draft", "sketch", formerly=("draft",), label="Sketch")) == [
        "state 'draft' is called 'sketch' now",
        "state 'sketch': label: 'Draft' -> 'Sketch'",
    ]


def test_a_state_that_does_not_say_so_is_gone_and_another_is_new() -> None:
    assert told(called("rejected", "refused")) == [
        "state 'rejected' is gone",
        "state 'refused' is new",
        "edge checking --advance--> rejected is gone",
        "edge rejected --discard--> draft is gone",
        "edge checking --advance--> refused is new",
        "edge refused --discard--> draft is new",
    ]


def test_two_states_that_became_one_are_both_renamed() -> None:
    one = replace(
        without("rejected"),
        states=(
            replace(REVIEW["draft"], name="waiting", formerly=("draft", "rejected")),
            REVIEW["checking"],
            REVIEW["published"],
        ),
        edges=(
            Edge(trigger="submit", source="waiting", dest="checking"),
            Edge(trigger="advance", source="checking", dest="published", guards=("is_good",)),
            Edge(trigger="advance", source="checking", dest="waiting"),
        ),
        initial="waiting",
    )
    assert told(one) == [
        "state 'draft' is called 'waiting' now",
        "state 'rejected' is called 'waiting' now",
        "edge waiting --discard--> waiting is gone",
    ]


def test_of_edges_that_differ_in_their_guards_those_that_are_equal_are_the_same_one() -> None:
    def guarded(*guards: str) -> Graph:
        edges = [Edge(trigger="go", source="draft", dest="published", guards=(guard,)) for guard in guards]
        return replace(REVIEW, edges=tuple(edges))

    assert told(guarded("b", "c"), old=guarded("a", "b", "c")) == ["edge draft --go [a]--> published is gone"]


def test_a_change_holds_the_values() -> None:
    [change] = difference(REVIEW, with_state("draft", label="A draft"))
    assert change == Change(
        kind="changed", what="state 'draft'", field="label", before="Draft", after="A draft"
    )


def mirrored(change: Change) -> tuple[Any, ...]:
    kind = {"added": "removed", "removed": "added"}.get(change.kind, change.kind)
    return kind, change.what, change.field, change.after, change.before


def forgetful(graph: Graph) -> Graph:
    """No state says what it was called before."""
    return replace(graph, states=tuple(replace(state, formerly=()) for state in graph.states))


@settings(max_examples=50)
@given(graphs(), st.data())
def test_graphs_differ_exactly_when_they_are_not_equal(graph: Graph, data: st.DataObject) -> None:
    other = data.draw(st.just(graph) | graphs() | shuffled(graph))
    assert bool(difference(graph, other)) is (graph != other)


@settings(max_examples=50)
@given(graphs())
def test_a_graph_does_not_differ_from_a_copy(graph: Graph) -> None:
    copy = replace(graph, states=tuple(replace(s) for s in graph.states), name=str(graph.name))
    assert difference(graph, copy) == ()


@settings(max_examples=50)
@given(graphs().map(forgetful), graphs().map(forgetful))
def test_the_way_back_is_told_by_the_same_changes_the_other_way_round(one: Graph, two: Graph) -> None:
    there, back = difference(one, two), difference(two, one)
    settled = [c for c in there if c.kind != "moved" and c.field not in ("guards", "writes")]
    returned = [c for c in back if c.kind != "moved" and c.field not in ("guards", "writes")]
    assert Counter(map(repr, (mirrored(c) for c in settled))) == Counter(
        repr((c.kind, c.what, c.field, c.before, c.after)) for c in returned
    )


def shuffled(graph: Graph) -> st.SearchStrategy[Graph]:
    return st.builds(
        lambda states, edges: replace(graph, states=tuple(states), edges=tuple(edges)),
        st.permutations(graph.states),
        st.permutations(graph.edges),
    )


@settings(max_examples=50)
@given(graphs(), st.data())
def test_one_changed_field_is_one_change(graph: Graph, data: st.DataObject) -> None:
    graph = replace(graph, keeps=(), properties=())  # which may speak of what is changed
    index = data.draw(st.integers(min_value=0, max_value=len(graph.states) - 1))
    name = data.draw(
        st.sampled_from([f.name for f in fields(StateValue) if f.name not in ("name", "steps", "formerly")])
    )
    state = graph.states[index]
    other = data.draw(graphs()).states[0]
    states = list(graph.states)
    states[index] = replace(state, **{name: getattr(other, name)})
    changes = difference(graph, replace(graph, states=tuple(states)))
    if states[index] == state:
        assert changes == ()
    else:
        [change] = changes
        assert (change.kind, change.field, change.what) == ("changed", name, f"state {state.name!r}")
        assert (change.before, change.after) == (getattr(state, name), getattr(other, name))
