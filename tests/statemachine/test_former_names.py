"""States and tasks that were called something else before: what is declared, refused and read."""

import dataclasses
import enum
import pickle

import pytest

from statemachine import DeclarationError, Enqueue, Graph, StaleState, State, StateMachine, StateValue
from statemachine.binding import Binding


class Paper:
    state = "draft"


def machine(*states, **options):
    arguments = {
        "states": ["draft", *states, State("published", final=True)],
        "transitions": [["advance", "*", "published"]],
        "initial": "draft",
        **options,
    }
    return StateMachine(**arguments)


def refused(make):
    with pytest.raises(DeclarationError) as caught:
        make()
    return str(caught.value)


class Step(enum.Enum):
    CHECK = "check"
    CHECKING = "checking"


@pytest.mark.parametrize(
    ("formerly", "expected"),
    [
        ((), ()),
        ("check", ("check",)),
        (["check", "test"], ("check", "test")),
        (Step.CHECK, ("check",)),
        ((Step.CHECK, "test"), ("check", "test")),
    ],
)
def test_a_state_may_have_had_other_names(formerly, expected):
    state = State(Step.CHECKING, formerly=formerly)
    assert state.formerly == expected
    assert machine(state).graph["checking"].formerly == expected
    assert machine(state).graph["checking"].names == ("checking", *expected)


def test_a_state_that_is_declared_as_a_dict_may_have_had_another_name():
    declared = machine({"name": "checking", "formerly": "check"})
    assert declared.graph["checking"].formerly == ("check",)
    assert declared.former == {"check": "checking"}


def test_a_task_may_have_had_other_names():
    enqueue = Enqueue("papers.check", formerly="papers.test")
    assert enqueue.names == ("papers.check", "papers.test")
    assert enqueue == Enqueue("papers.check", formerly=["papers.test"])
    assert dataclasses.replace(enqueue, priority=1).formerly == ("papers.test",)
    assert pickle.loads(pickle.dumps(enqueue)) == enqueue
    assert len({enqueue, Enqueue("papers.check", formerly=("papers.test",))}) == 1


@pytest.mark.parametrize("formerly", [None, 7, "", [""], [None]])
def test_what_is_no_name_is_refused(formerly):
    assert "which is no name" in refused(lambda: State("checking", formerly=formerly))
    assert "which is no name" in refused(lambda: Enqueue("papers.check", formerly=formerly))


def test_a_name_is_given_once():
    assert refused(lambda: State("checking", formerly="checking")) == (
        "State 'checking' has formerly='checking', which says a name twice. "
        "Give it the names that it had before, each once."
    )
    assert "says a name twice" in refused(lambda: Enqueue("a", formerly=["b", "b"]))


@pytest.mark.parametrize(
    "states",
    [
        [State("checking", formerly="draft")],
        [State("checking", formerly="check"), State("scoring", formerly="check")],
        [State("checking", formerly="check"), "check"],
        [{"name": "checking", "formerly": "scoring"}, {"name": "scoring", "formerly": "checking"}],
    ],
)
def test_a_former_name_stands_for_one_state(states):
    assert "give it to one of them" in refused(lambda: machine(*states))


def test_a_former_name_stands_for_one_state_of_those_that_are_added_later_too():
    declared = machine(State("checking", formerly="check"))
    assert "give it to one of them" in refused(lambda: declared.add_states(["check"]))
    assert "give it to one of them" in refused(lambda: declared.add_states([State("test", formerly="check")]))
    assert "check" not in declared.states
    declared.add_states([State("scoring", formerly="score")])
    assert declared.former == {"check": "checking", "score": "scoring"}


def test_a_graph_that_is_made_by_hand_keeps_to_that_as_well():
    states = (StateValue(name="a", formerly=("b",)), StateValue(name="b"))
    assert "has a state twice" in refused(
        lambda: Graph(name="g", states=states, edges=(), initial="a", goals=())
    )


def test_a_former_name_of_a_task_stands_for_one_step_of_its_state():
    check, score = Enqueue("check", formerly="work"), Enqueue("score", formerly="work")
    assert "a task twice" in refused(lambda: State("checking", on_enter=[check, score]))
    assert "a task twice" in refused(lambda: State("checking", on_enter=[check, Enqueue("work")]))
    # Its entry says which state it is for: a task may be split in two.
    State("checking", on_enter=check), State("scoring", on_enter=score)


def test_the_graph_knows_a_state_by_every_name_and_has_it_once():
    graph = machine(State("checking", formerly=("check", "test"))).graph
    assert graph.named["check"] is graph.named["test"] is graph.named["checking"] is graph["checking"]
    assert list(graph.by_name) == [state.name for state in graph] == ["draft", "checking", "published"]
    assert "check" not in graph
    assert pickle.loads(pickle.dumps(graph)) == graph


def test_a_step_is_found_by_its_former_name_too():
    steps = (Enqueue("check", formerly="test"), Enqueue("score"))
    state = StateValue(name="checking", steps=steps)
    assert state.step("test") is state.step("check") is steps[0]
    assert state.step_after("test") is state.step_after("check") is steps[1]
    assert state.step("other") is state.step_after("other") is None


def test_a_former_name_changes_neither_the_proof_nor_the_drawing():
    renamed, plain = machine(State("checking", formerly="check")), machine("checking")
    assert renamed.draw("mermaid") == plain.draw("mermaid")
    assert str(renamed.verify()) == str(plain.verify())


def test_an_object_that_holds_a_former_name_is_where_todays_says():
    declared, paper = machine(State("checking", formerly="check")), Paper()
    declared.bind(Paper, "state")
    paper.state = "check"
    assert paper.is_checking()
    assert paper.may_advance()
    with pytest.raises(StaleState):
        declared.to_state(paper, "draft", reason="a test", expect="published")
    assert paper.state == "check"
    declared.to_state(paper, "checking", reason="a test", expect="check")
    assert paper.state == "checking"
    paper.state = "check"
    paper.advance()
    assert paper.state == "published"


def test_what_a_bound_class_refuses_is_in_no_graph():
    class Careful(Binding):
        def plan(self):
            if "check" in self.machine.graph:
                raise DeclarationError("not on this class")
            return super().plan()

    declared = machine("checking")
    declared.bind(type("Bound", (), {"state": "draft"}), "state", binding=Careful)
    assert refused(lambda: declared.add_states(["check"])) == "not on this class"
    assert "check" not in declared.graph
