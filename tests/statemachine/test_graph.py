"""The frozen values that everything else reads."""

import dataclasses
import pickle
from datetime import timedelta

import pytest

from statemachine import (
    DeclarationError,
    Edge,
    Enqueue,
    Finding,
    Graph,
    Path,
    State,
    StateMachine,
    StateValue,
)


def machine(**options):
    return StateMachine(
        name="review",
        states=[
            State("draft", phase="writing", waits_for="the author", after=(timedelta(days=1), "drop")),
            State("checking", phase="editing", on_enter=Enqueue("check", kwargs={"depth": 2})),
            State("scoring", phase="editing", on_enter=Enqueue("score"), failed="stop"),
            State("published", tags=["visible", "old"], final=True),
            State("dropped", tags=["old"], final=True),
        ],
        transitions=[
            ["submit", "draft", "checking"],
            {"trigger": "advance", "source": "checking", "dest": "scoring", "conditions": "is_good"},
            {"trigger": "advance", "source": "checking", "dest": "draft"},
            ["advance", "scoring", "published"],
            ["fail", "*", "draft"],
            ["stop", "scoring", "dropped"],
            ["drop", "draft", "dropped"],
            ["note", "draft", None],
        ],
        initial="draft",
        **options,
    )


SUBMIT = Edge(trigger="submit", source="draft", dest="checking")
BACK = Edge(trigger="advance", source="checking", dest="draft")


def test_equal_declarations_have_equal_graphs():
    first, second = machine().graph, machine().graph
    assert first is not second
    assert first == second
    assert hash(first) == hash(second)
    assert len({first, second}) == 1
    assert first != machine(goal="published").graph


def test_a_graph_survives_pickling_also_after_it_was_read():
    graph = machine().graph
    assert graph.outgoing
    assert graph.incoming
    assert graph.phases
    other = pickle.loads(pickle.dumps(graph))
    assert other == graph
    assert other.outgoing == graph.outgoing


@pytest.mark.parametrize(
    "value",
    [
        SUBMIT,
        Path("draft", (SUBMIT,)),
        Finding(property="can-reach-goal", msg="It cannot."),
        StateValue(name="draft"),
        machine().graph,
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_value_is_frozen_hashable_and_picklable(value):
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "other")
    assert hash(value) == hash(pickle.loads(pickle.dumps(value)))
    assert value == dataclasses.replace(value)


def test_states_are_found_by_name_and_in_order():
    graph = machine().graph
    assert [state.name for state in graph] == ["draft", "checking", "scoring", "published", "dropped"]
    assert graph["checking"].steps == (Enqueue("check", kwargs={"depth": 2}),)
    assert "draft" in graph
    assert "burnt" not in graph
    with pytest.raises(KeyError):
        assert graph["burnt"]


def test_a_state_works_when_it_has_a_task():
    assert [state.name for state in machine().graph if state.works] == ["checking", "scoring"]


def test_edges_are_grouped_by_both_ends():
    graph = machine().graph
    assert [edge.trigger for edge in graph.outgoing["draft"]] == ["submit", "fail", "drop", "note"]
    assert [edge.source for edge in graph.incoming["dropped"]] == ["draft", "scoring"]
    assert graph.outgoing.keys() == graph.incoming.keys() == graph.by_name.keys()


def test_the_first_of_several_edges_of_a_trigger_comes_first():
    found = [edge for edge in machine().graph.outgoing["checking"] if edge.trigger == "advance"]
    assert [edge.dest for edge in found] == ["scoring", "draft"]


def test_triggers_from_a_state_come_once():
    assert machine().graph.triggers_from("checking") == ("advance", "fail")
    assert machine().graph.triggers_from("draft") == machine().triggers_from("draft")


def test_states_are_found_by_tag_and_phase():
    graph = machine().graph
    assert graph.tagged("visible") == ("published",)
    assert graph.tagged("old", "visible") == ("published", "dropped")
    assert graph.tagged() == graph.tagged("none") == ()
    assert graph.phases == ("writing", "editing")
    assert graph.in_phase("editing") == ("checking", "scoring")


def test_failure_edges_are_what_a_given_up_stage_takes():
    edges = {str(edge) for edge in machine().graph.failure_edges()}
    assert edges == {"checking --fail--> draft", "scoring --stop--> dropped"}


def test_the_final_states_are_the_goals_unless_goals_are_named():
    assert machine().graph.goals == ("published", "dropped")
    assert machine(goal=["published"]).graph.goals == ("published",)


def test_an_edge_prints_with_its_guards():
    assert str(SUBMIT) == "draft --submit--> checking"
    guarded = dataclasses.replace(SUBMIT, guards=("is_good", "not late"))
    assert str(guarded) == "draft --submit [is_good and not late]--> checking"


def test_a_path_grows_and_prints_as_a_story():
    path = Path("draft").then(SUBMIT).then(BACK)
    assert (path.start, path.end, len(path)) == ("draft", "draft", 2)
    assert path.states == ("draft", "checking", "draft")
    assert (
        str(path)
        == "1. starts in 'draft'\n2. submit() moves it to 'checking'\n3. advance() moves it to 'draft'"
    )


def test_a_path_without_edges_ends_where_it_starts():
    assert (Path("draft").end, Path("draft").states, len(Path("draft"))) == ("draft", ("draft",), 0)


def test_a_finding_prints_its_problem_its_path_and_its_remedy():
    finding = Finding(
        property="can-finish", msg="It cannot.", hint="Add an edge.", path=Path("draft").then(SUBMIT)
    )
    assert str(finding) == (
        "can-finish: It cannot.\n"
        "  1. starts in 'draft'\n"
        "  2. submit() moves it to 'checking'\n"
        "  Hint: Add an edge."
    )
    assert str(Finding(property="can-finish", msg="It cannot.")) == "can-finish: It cannot."


def test_a_walk_that_stays_where_it_starts_is_a_walk():
    assert Path("draft")
    assert len(Path("draft")) == 0


AGAIN = Edge(trigger="revise", source="checking", dest="draft")
NOTE = Edge(trigger="note", source="checking", dest="checking", internal=True)


@pytest.mark.parametrize(
    ("edges", "loop", "last"),
    [
        ((SUBMIT, AGAIN), 0, "4. and so on from 1, for ever"),
        ((SUBMIT, NOTE), 1, "4. and so on from 2, for ever"),
        ((SUBMIT,), 1, "3. stays there for ever"),
        ((), 0, "2. stays there for ever"),
    ],
)
def test_a_path_may_go_on_for_ever(edges, loop, last):
    assert str(Path("draft", edges, loop)).splitlines()[-1] == last
    assert "for ever" not in str(Path("draft", edges))
    assert len(Path("draft", edges, loop)) == len(edges)


@pytest.mark.parametrize("loop", [0, 2, -1])
def test_a_path_goes_on_from_the_state_that_it_ends_in(loop):
    with pytest.raises(ValueError, match=f"ends in 'checking', and cannot go on from its state {loop}"):
        Path("draft", (SUBMIT,), loop)


def test_an_edge_behind_an_unguarded_one_of_its_trigger_is_not_open():
    first = Edge(trigger="go", source="a", dest="b", guards=("sure",))
    second = Edge(trigger="go", source="a", dest="a")
    hidden = Edge(trigger="go", source="a", dest="b")
    other = Edge(trigger="leave", source="a", dest="b")
    states = (StateValue(name="a"), StateValue(name="b"))
    edges = (first, second, hidden, other)
    graph = Graph(name="g", states=states, edges=edges, initial="a", goals=())
    assert graph.open == {"a": (first, second, other), "b": ()}
    assert pickle.loads(pickle.dumps(graph)).open == graph.open


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"initial": "nowhere"}, "The graph 'g' has no state 'nowhere'. Its states are: a, b."),
        ({"goals": ("c", "d")}, "The graph 'g' has no state 'c', 'd'. Its states are: a, b."),
        (
            {"states": (StateValue(name="a"), StateValue(name="a"))},
            "The graph 'g' has a state twice. Its states are: a, a.",
        ),
    ],
)
def test_a_graph_that_names_a_state_it_does_not_have_is_refused(wrong, message):
    right = {
        "name": "g",
        "states": (StateValue(name="a"), StateValue(name="b")),
        "edges": (),
        "initial": "a",
        "goals": (),
    }
    with pytest.raises(DeclarationError) as refused:
        Graph(**{**right, **wrong})
    assert str(refused.value) == message
