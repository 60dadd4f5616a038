"""A graph as JSON, and back."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError
from statemachine.export import export
from statemachine.export.jsonformat import FIELDS, as_dict, load, to_json
from statemachine.graph import Edge, Graph, StateValue
from statemachine.logic import Property
from tests.statemachine.graphs import graphs

PAPERS = Graph(
    name="papers",
    states=(
        StateValue(
            name="draft", label="Entwürfe", waits_for="the author", after=(timedelta(days=30), "discard")
        ),
        StateValue(
            name="checking",
            steps=(
                Enqueue(
                    "papers.check",
                    kwargs={"pages": (1, 2.5, ("a", None)), "deep": True},
                    lease=timedelta(minutes=1, milliseconds=500),
                    max_attempts=3,
                    priority=0,
                ),
            ),
        ),
        StateValue(name="done", final=True, formerly=("finished",)),
    ),
    edges=(
        Edge(trigger="submit", source="draft", dest="checking", guards=("is_long", "not is_old")),
        Edge(trigger="advance", source="checking", dest="done", writes=("pages",)),
        Edge(trigger="note", source="draft", dest="draft", internal=True),
        Edge(trigger="discard", source="draft", dest="done"),
    ),
    initial="draft",
    goals=("done",),
)
WRITTEN: dict[str, Any] = {
    "version": 1,
    "name": "papers",
    "initial": "draft",
    "goals": ["done"],
    "states": [
        {"name": "draft", "label": "Entwürfe", "waits_for": "the author", "after": ["P30D", "discard"]},
        {
            "name": "checking",
            "steps": [
                {
                    "task": "papers.check",
                    "kwargs": {"deep": True, "pages": [1, 2.5, ["a", None]]},
                    "lease": "PT1M0.5S",
                    "max_attempts": 3,
                    "priority": 0,
                }
            ],
        },
        {"name": "done", "final": True, "formerly": ["finished"]},
    ],
    "edges": [
        {"trigger": "submit", "source": "draft", "dest": "checking", "guards": ["is_long", "not is_old"]},
        {"trigger": "advance", "source": "checking", "dest": "done", "writes": ["pages"]},
        {"trigger": "note", "source": "draft", "dest": "draft", "internal": True},
        {"trigger": "discard", "source": "draft", "dest": "done"},
    ],
}


def changed(*path: Any, to: Any) -> str:
    """The JSON of the papers with something else in one place; nothing is what takes it away."""
    document = json.loads(json.dumps(WRITTEN))
    *way, last = path
    place = document
    for step in way:
        place = place[step]
    if to is ...:
        del place[last]
    else:
        place[last] = to
    return json.dumps(document)


def test_what_has_its_default_value_is_left_out() -> None:
    assert json.loads(to_json(PAPERS)) == WRITTEN
    assert list(as_dict(PAPERS)) == ["version", "name", "initial", "goals", "states", "edges"]


def test_what_was_written_is_read_as_an_equal_graph() -> None:
    assert load(to_json(PAPERS)) == PAPERS


@given(graphs())
def test_any_graph_is_read_back_as_an_equal_one(graph: Graph) -> None:
    again = load(to_json(graph))
    assert again == graph
    assert hash(again) == hash(graph)
    assert to_json(again) == to_json(graph)


@given(st.timedeltas())
def test_a_duration_is_exact(delay: timedelta) -> None:
    graph = replace(PAPERS, states=(replace(PAPERS["draft"], after=(delay, "go")), *PAPERS.states[1:]))
    assert load(to_json(graph)) == graph


@pytest.mark.parametrize(
    ("delay", "written"),
    [
        (timedelta(), "PT0S"),
        (timedelta(days=2), "P2D"),
        (timedelta(days=1, hours=2, seconds=3), "P1DT2H3S"),
        (timedelta(minutes=90), "PT1H30M"),
        (timedelta(microseconds=1), "PT0.000001S"),
        (-timedelta(hours=1), "-PT1H"),
    ],
)
def test_a_duration_is_written_as_iso_8601_has_it(delay: timedelta, written: str) -> None:
    graph = replace(PAPERS, states=(replace(PAPERS["draft"], after=(delay, "go")), *PAPERS.states[1:]))
    assert as_dict(graph)["states"][0]["after"] == [written, "go"]


def test_every_field_of_every_value_is_written() -> None:
    for cls in (Graph, StateValue, Edge, Enqueue, Property):
        assert set(FIELDS[cls]) == {field.name for field in fields(cls)}, cls


def test_a_label_that_is_translated_late_is_written_as_its_text() -> None:
    class Late:
        def __str__(self) -> str:
            return "Entwurf"

    label: Any = Late()
    graph = replace(PAPERS, states=(replace(PAPERS["draft"], label=label), *PAPERS.states[1:]))
    assert as_dict(graph)["states"][0]["label"] == "Entwurf"


def test_a_member_of_an_enum_of_strings_is_a_string() -> None:
    class Depth(StrEnum):
        DEEP = "deep"

    graph = with_kwargs(depth=Depth.DEEP)
    assert load(to_json(graph)) == graph


def with_kwargs(**kwargs: Any) -> Graph:
    checking = replace(PAPERS["checking"], steps=(Enqueue("papers.check", kwargs=kwargs),))
    return replace(PAPERS, states=(PAPERS.states[0], checking, PAPERS.states[2]))


@pytest.mark.parametrize(
    "argument",
    [Decimal("1.5"), timedelta(1), frozenset(), b"bytes", float("nan"), float("inf"), 1j, (object,)],
)
def test_an_argument_that_json_has_not_is_refused_with_its_place(argument: Any) -> None:
    with pytest.raises(DeclarationError) as raised:
        to_json(with_kwargs(since=argument))
    place = "states[1].steps[0].kwargs.since" + ("[0]" if isinstance(argument, tuple) else "")
    shown = argument[0] if isinstance(argument, tuple) else argument
    assert str(raised.value) == (
        f"{place} is {shown!r}, which is nothing that JSON has. "
        "Use strings, finite numbers, True, False, None, and tuples of them."
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "This is no JSON: Expecting value: line 1 column 1 (char 0)."),
        ("[" * 100_000, "This is no JSON: maximum recursion depth exceeded"),
        ("[]", "This is JSON, but no graph: it has no version."),
        ("{}", "This is JSON, but no graph: it has no version."),
        ('{"version": 1, "version": 1}', "An object has 'version' twice. Delete one of them."),
        ('{"version": NaN}', "NaN is no number of JSON."),
        ('{"version": 1e999}', "1e999 is no number of JSON."),
        ('{"version": -Infinity}', "-Infinity is no number of JSON."),
        (
            changed("version", to=2),
            "The graph is of version 2, and only version 1 is known here. Read it with",
        ),
        (changed("version", to="1"), "The graph is of version '1', and"),
        (changed("version", to=True), "The graph is of version True, and"),
        (changed("goals", to=...), "The graph has no 'goals', which must be there."),
        (changed("goal", to="done"), "The graph has 'goal', which is not known. Did you mean 'goals'?"),
        (changed("xyz", to=1), "The graph has 'xyz', which is not known. Known are: name, initial, goals, "),
        (changed("goals", to="done"), 'goals must be a list, and is "done".'),
        (changed("goals", to=["end"]), "The graph: The graph 'papers' has no state 'end'."),
        (changed("name", to=None), "name must be a string, and is null."),
        (changed("states", 0, to="draft"), 'states[0] must be an object, and is "draft".'),
        (changed("states", 0, "name", to=...), "states[0] has no 'name', which must be there."),
        (
            changed("states", 0, "lable", to="x"),
            "states[0] has 'lable', which is not known. Did you mean 'label'?",
        ),
        (changed("states", 2, "final", to=1), "states[2].final must be true or false, and is 1."),
        (changed("states", 2, "formerly", to=[1]), "states[2].formerly[0] must be a string, and is 1."),
        (
            changed("states", 0, "after", to="P30D"),
            "states[0].after must be a list of a duration and a trigger",
        ),
        (changed("states", 0, "after", 1, to=5), "states[0].after[1] must be a string, and is 5."),
        (
            changed("states", 0, "after", 0, to=30),
            "states[0].after[0] must be a duration such as 'P30D' or 'PT1H30M', and is 30.",
        ),
        (changed("states", 0, "after", 0, to="P"), "states[0].after[0] must be a duration"),
        (changed("states", 0, "after", 0, to="P1DT"), "states[0].after[0] must be a duration"),
        (changed("states", 0, "after", 0, to="1D"), "states[0].after[0] must be a duration"),
        (
            changed("states", 0, "after", 0, to="P999999999DT24H"),
            "states[0].after[0] must be a duration below",
        ),
        (
            changed("states", 1, "steps", 0, "max_attempts", to="3"),
            'states[1].steps[0].max_attempts must be a whole number, and is "3".',
        ),
        (changed("states", 1, "steps", 0, "max_attempts", to=True), "must be a whole number, and is true."),
        (
            changed("states", 1, "steps", 0, "max_attempts", to=0),
            "states[1].steps[0]: 'papers.check' has max_attempts=0. Give it a whole number, at least 1.",
        ),
        (changed("states", 1, "steps", 0, "kwargs", to=[]), "states[1].steps[0].kwargs must be an object"),
        (
            changed("states", 1, "steps", 0, "kwargs", "deep", to=[{}]),
            "states[1].steps[0].kwargs.deep[0] must be a string, a number, true, false, null, or a list",
        ),
        (changed("edges", 3, "dest", to="gone"), "The graph: The graph 'papers' has no state 'gone'."),
        (changed("edges", to={"a": "b" * 100}), "…."),
    ],
)
def test_what_is_wrong_in_a_document_is_said_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        load(text)
    assert complaint in str(raised.value)


def test_export_writes_it_and_names_the_formats_that_there_are() -> None:
    assert export(PAPERS, "json") == to_json(PAPERS)
    with pytest.raises(DeclarationError, match=r"^'xml' is no format of an export\. Choose one of .*'json'"):
        export(PAPERS, "xml")
