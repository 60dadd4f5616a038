"""What may be declared, in which forms, and what is refused when it is declared."""

import copy
import enum
import os
import pickle
import subprocess
import sys
from datetime import timedelta
from functools import partial

import pytest
import transitions

from statemachine import DeclarationError, Edge, Enqueue, State, StateMachine, StateValue


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Status(str, enum.Enum):  # noqa: UP042
    """As Django's TextChoices: strings, each with a label."""

    NEW = "new"
    IN_WORK = "in work"

    @property
    def label(self):
        return self.value.title()


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Lazy:
    """As a lazy translation: reading it, and even its truth, before the apps are loaded fails."""

    def __str__(self):
        raise AssertionError("translated too early")

    __bool__ = __len__ = __eq__ = __hash__ = __str__


def light(**options):
    declared = {"states": ["red", "green"], "transitions": [["go", "red", "green"]], "initial": "red"}
    return StateMachine(name="light", **{**declared, **options})


def refused(*args, **options):
    with pytest.raises(DeclarationError) as caught:
        light(*args, **options)
    return str(caught.value)


def edges(machine):
    return [str(edge) for edge in machine.graph.edges]


def do(event):
    pass


async def wait(event):
    pass


class Waiter:
    async def __call__(self, event):
        pass


# Forms


def test_a_machine_is_a_machine_of_transitions():
    assert isinstance(light(), transitions.Machine)


@pytest.mark.parametrize(
    "states",
    [
        ["red", "green"],
        ("red", "green"),
        [{"name": "red"}, {"name": "green"}],
        [State("red"), State("green")],
        [transitions.State("red"), State("green")],
        Colour,
        [Colour.RED, "green"],
        [State(Colour.RED), {"name": Colour.GREEN}],
    ],
    ids=["strings", "tuple", "dicts", "states", "transitions' states", "enum", "members", "of members"],
)
def test_states_are_declared_in_every_form_of_transitions(states):
    assert [state.name for state in light(states=states).graph] == ["red", "green"]


@pytest.mark.parametrize(
    "transition",
    [
        {"trigger": "go", "source": "red", "dest": "green"},
        ["go", "red", "green"],
        ("go", "red", "green"),
        ["go", ["red"], "green"],
        ["go", Colour.RED, Colour.GREEN],
        {"trigger": "go", "source": [Colour.RED], "dest": "green"},
    ],
    ids=["dict", "list", "tuple", "sources", "members", "dict of members"],
)
def test_edges_are_declared_in_every_form_of_transitions(transition):
    machine = light(states=Colour, transitions=[transition], initial=Colour.RED, goal=Colour.GREEN)
    assert edges(machine) == ["red --go--> green"]
    assert (machine.graph.initial, machine.graph.goals) == ("red", ("green",))


def test_state_objects_name_sources_and_destinations():
    red, green = State("red"), State("green")
    machine = light(states=[red, green], transitions=[["go", red, green]], initial=red, goal=[green])
    assert edges(machine) == ["red --go--> green"]


def test_a_string_enum_is_known_by_its_values():
    machine = StateMachine(states=Status, initial=Status.NEW, transitions=[["go", "new", Status.IN_WORK]])
    assert edges(machine) == ["new --go--> in work"]
    assert machine.get_state(Status.NEW) is machine.get_state("new")


def test_the_label_of_a_member_is_the_label_of_its_state():
    assert [State(member).label for member in Status] == ["New", "In Work"]
    assert State(Status.NEW, label="Fresh").label == "Fresh"
    assert State("draft").label == "draft"


def test_an_enum_of_numbers_is_known_by_its_names():
    machine = StateMachine(states=Level, initial=Level.LOW, transitions=[["rise", Level.LOW, Level.HIGH]])
    assert edges(machine) == ["LOW --rise--> HIGH"]


def test_wildcards_mean_every_state_and_the_same_state():
    machine = light(transitions=[["go", "*", "green"], ["renew", ["red", "green"], "="], ["note", "*", None]])
    assert machine.graph.edges == (
        Edge(trigger="go", source="red", dest="green", wildcard=True),
        Edge(trigger="renew", source="red", dest="red"),
        Edge(trigger="note", source="red", dest="red", internal=True, wildcard=True),
        Edge(trigger="go", source="green", dest="green", wildcard=True),
        Edge(trigger="renew", source="green", dest="green"),
        Edge(trigger="note", source="green", dest="green", internal=True, wildcard=True),
    )


def test_ordered_transitions_begin_at_the_initial_state_and_follow_the_declared_ones():
    machine = light(initial="green", ordered_transitions=True, transitions=[["next_state", "red", "="]])
    assert edges(machine) == [
        "red --next_state--> red",
        "red --next_state--> green",
        "green --next_state--> red",
    ]


def test_ordered_transitions_take_members_and_no_loop():
    machine = light(states=Status, initial="new", transitions=[])
    machine.add_ordered_transitions(Status, trigger="go", loop=False)
    assert edges(machine) == ["new --go--> in work"]


def test_auto_transitions_are_off_unless_asked_for():
    assert light(transitions=[]).graph.edges == ()
    assert set(light(auto_transitions=True, transitions=[]).events) == {"to_red", "to_green"}


def test_the_graph_has_everything_that_is_declared_in_the_order_of_declaration():
    score, explain = Enqueue("score"), Enqueue("explain")
    machine = StateMachine(
        name="review",
        states=[
            State("draft", label="Draft", waits_for="the author", after=(timedelta(days=1), "drop")),
            State("scoring", on_enter=[score, do, explain], phase="work", done="next", failed="stop"),
            State("published", final=True, tags=["visible", "old"], stamps="published_at"),
            {"name": "dropped", "final": True, "tags": "hidden"},
        ],
        transitions=[
            {"trigger": "submit", "source": "draft", "dest": "scoring", "conditions": "ready", "unless": do},
            {"trigger": "next", "source": "scoring", "dest": "published", "writes": "error"},
            {"trigger": "drop", "source": "draft", "dest": "dropped", "writes": ["error", "reason"]},
        ],
        initial="draft",
    )
    assert machine.graph.states == (
        StateValue(name="draft", label="Draft", waits_for="the author", after=(timedelta(days=1), "drop")),
        StateValue(
            name="scoring", label="scoring", phase="work", done="next", failed="stop", steps=(score, explain)
        ),
        StateValue(
            name="published", label="published", final=True, tags=("visible", "old"), stamps="published_at"
        ),
        StateValue(name="dropped", label="dropped", final=True, tags=("hidden",)),
    )
    assert machine.graph.edges == (
        Edge(trigger="submit", source="draft", dest="scoring", guards=("ready", "not do")),
        Edge(trigger="drop", source="draft", dest="dropped", writes=("error", "reason")),
        Edge(trigger="next", source="scoring", dest="published", writes=("error",)),
    )
    assert machine.graph.name == "review"
    assert machine.graph.goals == ("published", "dropped")


def test_a_guard_is_called_the_same_in_every_process():
    class Guard:
        def __call__(self, event):
            return True

    machine = light(
        transitions=[
            {"trigger": "go", "source": "red", "dest": "green", "conditions": [partial(do), Guard()]}
        ]
    )
    assert machine.graph.edges[0].guards == ("do", "Guard")


def test_a_lazy_label_is_not_translated_while_it_is_declared():
    label = Lazy()
    assert light(states=[State("red", label=label), "green"]).graph["red"].label is label


def test_the_triggers_from_a_state_come_once_and_in_order():
    machine = light(transitions=[["go", "red", "green"], ["stop", "*", "red"], ["go", "red", "red"]])
    assert machine.triggers_from("red") == ("go", "stop")
    assert machine.triggers_from(machine.get_state("green")) == ("stop",)
    with pytest.raises(DeclarationError):
        machine.triggers_from("blue")


def test_edges_are_found_by_member_and_by_state():
    machine = StateMachine(states=Status, initial="new", transitions=[["go", "new", "in work"]])
    assert len(machine.get_transitions("go", Status.NEW, machine.get_state("in work"))) == 1
    assert machine.get_transitions("go", Status.IN_WORK) == []


def test_what_is_handed_in_is_left_as_it_was():
    callbacks, state = [do], {"name": "red"}
    declared = {"trigger": "go", "source": ["red"], "dest": "green", "before": callbacks}
    states = [state, State("green", on_enter=callbacks)]
    machine = light(states=states, transitions=[declared], ignore_invalid_triggers=True)
    machine.before_go(do)
    machine.on_enter_green(do)
    assert callbacks == [do]
    assert state == {"name": "red"}
    assert len(states) == 2
    assert declared == {"trigger": "go", "source": ["red"], "dest": "green", "before": [do]}


def test_edges_of_one_declaration_do_not_share_their_callbacks():
    machine = light(transitions=[{"trigger": "go", "source": "*", "dest": "green", "before": [do]}])
    first, second = machine.get_transitions("go")
    first.add_callback("before", do)
    assert (len(first.before), len(second.before)) == (2, 1)


def test_five_thousand_states_make_no_more_than_five_thousand_edges():
    names = [f"s{number}" for number in range(5000)]
    machine = StateMachine(states=names, initial="s0", ordered_transitions=True)
    assert (len(machine.graph.states), len(machine.graph.edges), len(machine.events)) == (5000, 5000, 1)


# Changing a declaration


def test_a_later_state_or_edge_is_part_of_the_graph():
    machine = light()
    before = machine.graph
    machine.add_state("blue", final=True)
    machine.add_transition("fade", "green", "blue")
    assert before is not machine.graph
    assert "blue" in machine.graph
    assert machine.graph.goals == ("blue",)
    assert edges(machine) == ["red --go--> green", "green --fade--> blue"]


def test_a_removed_edge_is_no_longer_part_of_the_graph():
    machine = light(transitions=[["go", "*", "green"]])
    assert len(machine.graph.edges) == 2
    machine.remove_transition("go", source=Colour.RED)
    assert edges(machine) == ["green --go--> green"]


def test_the_graph_needs_an_initial_state():
    with pytest.raises(DeclarationError) as caught:
        assert light(initial=None).graph
    assert str(caught.value) == 'light does not say where a row begins. Pass initial="state".'


# Copies


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda machine: pickle.loads(pickle.dumps(machine))])
def test_a_copy_is_the_same_declaration_bound_to_nothing(copied):
    class Lamp:
        state = "red"

    machine = light(states=[State("red", on_enter=Enqueue("shine", kwargs={"watt": 5})), "green"])
    machine.bind(Lamp, enqueue=print)
    other = copied(machine)
    assert other.graph == machine.graph
    assert other.bindings == ()
    assert other.label == "light"
    with pytest.raises(DeclarationError):
        other.fire(Lamp(), "go")


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"transitions": [["go", "red", "blue"]]},
            "light: an edge of 'go' names the state 'blue', which is not declared. Declared are: red, green.",
        ),
        (
            {"transitions": [["go", ["red", "blue"], "green"]]},
            "light: an edge of 'go' names the state 'blue', which is not declared. Declared are: red, green.",
        ),
        (
            {"transitions": [["go", "red", ["green"]]]},
            "light: an edge of 'go' names the state ['green'], which is not declared. "
            "Declared are: red, green.",
        ),
        (
            {"transitions": [["go", State("red"), "green"]]},
            "light: an edge of 'go' has another State called 'red' than the declared one. "
            "Pass its name, or the same object.",
        ),
        (
            {"initial": "blue"},
            "light: initial names the state 'blue', which is not declared. Declared are: red, green.",
        ),
        (
            {"goal": ["green", "blue"]},
            "light: goal names the state 'blue', which is not declared. Declared are: red, green.",
        ),
        (
            {"states": [], "initial": None, "transitions": [["go", "*", "="]]},
            "'go' leaves no state: its source '*' matches nothing. Declare the states first.",
        ),
        (
            {"transitions": [["go", [], "green"]]},
            "'go' leaves no state: its source [] matches nothing. Declare the states first.",
        ),
        (
            {"transitions": ["go", "red", "green"]},
            "light: 'go' is no transition. "
            'Write ["trigger", "source", "dest"], or a dict, each in a list of them.',
        ),
        (
            {"transitions": [["go-on", "red", "green"]]},
            "The trigger 'go-on' cannot be a method. Give it the name of a method.",
        ),
        (
            {"transitions": [[None, "red", "green"]]},
            "The trigger None cannot be a method. Give it the name of a method.",
        ),
        (
            {"transitions": [["to_state", "red", "green"]]},
            "The trigger 'to_state' would hide what has that name. Give it another name.",
        ),
        (
            {"transitions": [["state", "red", "green"]]},
            "The trigger 'state' would hide what has that name. Give it another name.",
        ),
        ({"states": ["red", "green", "red"]}, "light: the state 'red' is declared twice. Declare it once."),
        (
            {"states": ["red", "*"]},
            "light: '*' is no state. "
            "A state is a string, a member of an enum, a dict with a name, or a State.",
        ),
        (
            {"states": ["red", ""]},
            "light: '' is no state. "
            "A state is a string, a member of an enum, a dict with a name, or a State.",
        ),
        (
            {"states": [1, 2]},
            "light: 1 is no state. A state is a string, a member of an enum, a dict with a name, or a State.",
        ),
        (
            {"states": [{"label": "Red"}]},
            "light: {'label': 'Red'} is no state. "
            "A state is a string, a member of an enum, a dict with a name, or a State.",
        ),
        (
            {"queued": True},
            "queued=True is one queue for the rows of all threads. "
            "Leave it out: a row that fires inside its own callbacks is refused, others need none.",
        ),
        (
            {"model": object()},
            'A StateMachine holds no model. Bind the class once: machine.bind(Paper, "status").',
        ),
        (
            {"finalize_event": 5},
            "finalize_event has the callback 5, which cannot be called. "
            "Give a function, the name of a method, or the dotted path of a function.",
        ),
        (
            {"transitions": [["go", "red", "green", True]]},
            "an edge from 'red' to 'green' has the callback True, which cannot be called. "
            "Give a function, the name of a method, or the dotted path of a function.",
        ),
        (
            {"transitions": [["go", "red", "green", wait]]},
            "an edge from 'red' to 'green' has the asynchronous callback 'wait', which nobody would await. "
            "Write it as a plain function; slow work belongs into the task of a state.",
        ),
        (
            {"transitions": [{"trigger": "go", "source": "red", "dest": "green", "after": Enqueue("shine")}]},
            "an edge from 'red' to 'green' has the task 'shine': only entering a state enqueues a task. "
            "Declare a state that has on_enter=shine.",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_remedy(options, message):
    assert refused(**options) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"on_enter": [Enqueue("a"), Enqueue("b"), Enqueue("a", max_attempts=2)]},
            "State 'red' enqueues a task twice: a, b, a. "
            "A step is identified by its task: give each step a task of its own.",
        ),
        (
            {"after": (timedelta(days=1), "go"), "on_enter": Enqueue("a")},
            "State 'red' has a timer and a task. "
            "A timer belongs to a state that waits; a task has max_runtime and max_attempts.",
        ),
        (
            {"after": timedelta(days=1)},
            "State 'red' has after=datetime.timedelta(days=1). "
            'Write after=(timedelta(days=30), "trigger").',
        ),
        (
            {"after": (timedelta(0), "go")},
            "State 'red' has after=(datetime.timedelta(0), 'go'). "
            'Write after=(timedelta(days=30), "trigger").',
        ),
        (
            {"after": (timedelta(1), None)},
            "State 'red' has after=(datetime.timedelta(days=1), None). "
            'Write after=(timedelta(days=30), "trigger").',
        ),
        (
            {"on_exit": Enqueue("a")},
            "on_exit of state 'red' has the task 'a': only entering a state enqueues a task. "
            "Declare a state that has on_enter=a.",
        ),
        (
            {"on_enter": [do, Waiter()]},
            "on_enter of state 'red' has the asynchronous callback 'Waiter', which nobody would await. "
            "Write it as a plain function; slow work belongs into the task of a state.",
        ),
    ],
)
def test_a_wrong_state_is_refused_with_its_remedy(options, message):
    with pytest.raises(DeclarationError) as caught:
        State("red", **options)
    assert str(caught.value) == message


def test_transitions_own_state_of_a_string_member_is_refused():
    with pytest.raises(DeclarationError, match=r"transitions' own State, which knows enums by name only"):
        light(states=[transitions.State(Status.NEW)])


def test_a_task_cannot_be_added_to_a_declared_state():
    machine = light()
    with pytest.raises(DeclarationError, match="only entering a state enqueues a task"):
        machine.on_enter_green(Enqueue("shine"))
    assert machine.graph["green"].steps == ()


def test_a_refused_edge_leaves_the_machine_as_it_was():
    machine = light()
    before = machine.graph
    for wrong in (["stop", "green", "blue"], ["stop", "green", "red", 5], ["go", ["green", "blue"], "red"]):
        with pytest.raises(DeclarationError):
            machine.add_transition(*wrong)
    assert machine.graph == before
    assert list(machine.events) == ["go"]


def test_refused_states_leave_the_machine_as_it_was():
    machine = light()
    with pytest.raises(DeclarationError):
        machine.add_states(["blue", "red"])
    assert list(machine.states) == ["red", "green"]


def test_asking_for_an_unknown_state_names_the_known_ones():
    with pytest.raises(DeclarationError) as caught:
        light().get_state("blue")
    assert str(caught.value) == "'blue' is no state of light. Declared are: red, green."
    assert isinstance(caught.value, ValueError)


def test_importing_the_library_imports_neither_django_nor_celery():
    code = "import statemachine, sys; print([m for m in ('django', 'celery', 'kombu') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert ran.stdout.strip() == "[]"
