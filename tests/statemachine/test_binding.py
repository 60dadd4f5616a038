"""What a class receives from a machine, what it keeps, and what cannot be bound to it."""

import abc
import copy
import enum
import gc
import inspect
import pickle
import weakref

import pytest

from statemachine import DeclarationError, Enqueue, State, StateMachine, TransitionNotAllowed


class Status(enum.StrEnum):
    DRAFT = "draft"
    PUBLISHED = "published"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


def review(**options):
    declared = {
        "name": "review",
        "states": ["draft", "checking", "published"],
        "transitions": [["submit", "draft", "checking"], ["advance", "checking", "published"]],
        "initial": "draft",
    }
    return StateMachine(**{**declared, **options})


def made(**members):
    return type("Paper", (), {"status": "draft", **members})


@pytest.fixture
def paper():
    machine, cls = review(), made()
    machine.bind(cls, "status")
    return cls()


class Picklable:
    status = "draft"


review().bind(Picklable, "status")


def enqueued(row, enqueue):
    row.log.append(enqueue)


# What the class receives


def test_a_class_receives_a_method_for_each_trigger_and_each_state(paper):
    given = {name for name in vars(type(paper)) if not name.startswith("_")}
    assert given == {
        *("submit", "may_submit", "advance", "may_advance", "trigger", "may_trigger"),
        *("is_draft", "is_checking", "is_published", "state", "status"),
    }


def test_the_methods_move_and_ask(paper):
    assert paper.may_submit()
    assert not paper.may_advance()
    assert paper.submit() is True
    assert paper.is_checking()
    assert not paper.is_draft()
    assert paper.may_trigger("advance")
    assert paper.trigger("advance") is True
    assert paper.status == "published"


def test_the_state_tells_what_is_declared_about_it():
    machine, cls = review(states=[State("draft", tags=["quiet"]), "checking", "published"]), made()
    machine.bind(cls, "status")
    assert "quiet" in cls().state.tags
    assert cls().state is machine.get_state("draft")
    assert cls.state.statemachine is machine


def test_the_methods_are_functions_that_can_be_inspected(paper):
    function = type(paper).submit
    assert inspect.isfunction(function)
    assert (function.__name__, function.__qualname__) == ("submit", "Paper.submit")
    assert function.__module__ == type(paper).__module__
    assert str(inspect.signature(function)) == "(self: 'Any', *args: 'Any', **kwargs: 'Any') -> 'bool'"
    assert function.__doc__ == "Fire 'submit': True when the row moved, False when every guard refused."
    assert type(paper).may_submit.__doc__ == "Whether 'submit' would move the row now."
    assert type(paper).is_draft.__doc__ == "Whether the row is in 'draft'."
    assert type(paper).trigger.__doc__ == "Fire a trigger by its name."


def test_triggers_are_called_on_the_class_too(paper):
    type(paper).submit(paper)
    assert paper.status == "checking"


def test_a_class_method_of_the_same_name_in_a_metaclass_is_no_obstacle():
    machine = review(transitions=[["register", "draft", "published"], ["mro", "draft", "published"]])
    paper = abc.ABCMeta("Paper", (), {"status": "draft"})
    machine.bind(paper, "status")
    row = paper()
    assert row.register()
    assert row.status == "published"


def test_a_state_whose_name_is_no_identifier_has_no_method():
    machine, cls = (
        review(states=["draft", "in work", "class", "é"], transitions=[["go", "draft", "in work"]]),
        made(),
    )
    machine.bind(cls, "status")
    assert {name for name in vars(cls) if name.startswith("is_")} == {"is_draft", "is_class", "is_é"}
    row = cls()
    assert row.go()
    assert machine.is_state("in work", row)


def test_the_attribute_is_named_state_unless_told_otherwise():
    class Lamp:
        state = "draft"

    class Torch:
        power = "draft"

    review().bind(Lamp)
    review(model_attribute="power").bind(Torch)
    lamp, torch = Lamp(), Torch()
    assert lamp.submit()
    assert torch.submit()
    assert (lamp.state, torch.power) == ("checking", "checking")
    assert torch.state.name == "checking"


def test_a_class_without_a_dictionary_is_bound():
    class Slim:
        __slots__ = ("status",)

    review().bind(Slim, "status")
    row = Slim()
    row.status = "draft"
    row.submit()
    assert row.status == "checking"


def test_a_row_that_is_not_hashable_is_fired():
    cls = made(__eq__=lambda self, other: True)
    review().bind(cls, "status")
    assert cls.__hash__ is None
    row = cls()
    assert row.submit()


def test_a_machine_holds_no_row(paper):
    alive = weakref.ref(paper)
    paper.submit()
    paper.may_advance()
    machine = alive().state  # the state, not the row
    del paper
    gc.collect()
    assert machine.name == "checking"


def test_rows_are_copied_and_pickled():
    row = Picklable()
    row.submit()
    for other in (copy.deepcopy(row), pickle.loads(pickle.dumps(row))):
        assert other.advance()
        assert other.status == "published"
    assert row.status == "checking"


def test_values_of_string_enums_are_stored_as_strings():
    machine = StateMachine(
        states=Status, initial="draft", transitions=[["go", Status.DRAFT, Status.PUBLISHED]]
    )
    cls = made(status=Status.DRAFT)
    machine.bind(cls, "status")
    row = cls()
    assert row.is_draft()
    row.go()
    assert row.status == "published" == Status.PUBLISHED
    assert type(row.status) is str


def test_members_of_number_enums_are_stored_as_members():
    machine = StateMachine(states=Level, initial=Level.LOW, transitions=[["rise", "LOW", Level.HIGH]])
    cls = made(status=Level.LOW)
    machine.bind(cls, "status")
    row = cls()
    row.rise()
    assert row.status is Level.HIGH
    assert row.is_HIGH()


def test_a_state_is_assigned_without_a_transition_where_nothing_is_kept(paper):
    machine = type(paper).submit.statemachine
    machine.set_state("published", paper)
    assert paper.status == "published"
    assert machine.is_state("published", paper)
    assert not machine.is_state("draft", paper)
    with pytest.raises(DeclarationError):
        machine.is_state("burnt", paper)


# Inheritance


def test_subclasses_inherit_the_methods(paper):
    class Essay(type(paper)):
        pass

    essay = Essay()
    assert essay.submit()
    assert essay.is_checking()
    assert paper.is_draft()


def test_a_subclass_overrides_a_trigger_and_calls_it():
    machine, cls = review(), made()
    machine.bind(cls, "status")

    class Essay(cls):
        def submit(self, *args, **kwargs):
            return super().submit(*args, **kwargs), "handed in"

    assert Essay().submit() == (True, "handed in")
    machine.bind(Essay, "status")
    assert Essay().submit() == (True, "handed in")


def test_a_subclass_is_bound_to_an_attribute_of_its_own():
    machine, cls = review(), made()
    machine.bind(cls, "status")
    essay_class = type("Essay", (cls,), {"stage": "checking"})
    machine.bind(essay_class, "stage")
    essay, row = essay_class(), cls()
    essay.advance()
    row.submit()
    assert (essay.stage, essay.status, row.status) == ("published", "draft", "checking")


def test_a_class_of_another_machine_is_unknown(paper):
    with pytest.raises(DeclarationError) as caught:
        review().fire(paper, "submit")
    assert str(caught.value) == (
        'Paper is not bound to review. Call bind(Paper, "attribute") once, where the class is defined.'
    )


# Callbacks of the class


def recording(*names, **members):
    def recorder(name):
        return lambda self, event: self.log.append(name)

    return made(**{name: recorder(name) for name in names}, **members)


def test_on_enter_and_on_exit_methods_of_the_class_are_called():
    cls = recording("on_exit_draft", "on_enter_checking", "check", "later", log=[])
    machine = review(states=["draft", State("checking", on_enter="check"), "published"])
    machine.bind(cls, "status")
    machine.on_enter_checking("later")
    cls().submit()
    assert cls.log == ["on_exit_draft", "check", "on_enter_checking", "later"]


def test_an_own_method_that_the_state_names_is_called_once():
    cls = recording("on_enter_checking", log=[])
    review(states=["draft", State("checking", on_enter="on_enter_checking"), "published"]).bind(cls, "status")
    cls().submit()
    assert cls.log == ["on_enter_checking"]


def test_an_own_method_with_a_prefix_that_the_state_names_is_called_once():
    cls = recording("r_on_enter_checking", log=[])
    machine = review(states=["draft", State("checking", on_enter="r_on_enter_checking"), "published"])
    machine.bind(cls, "status", methods="r_")
    cls().r_submit()
    assert cls.log == ["r_on_enter_checking"]


def test_a_trigger_that_is_called_like_an_own_method_is_none():
    machine = review(transitions=[["submit", "draft", "checking"], ["on_enter_checking", "*", "published"]])
    cls = made()
    machine.bind(cls, "status")
    row = cls()
    assert row.submit()
    assert row.on_enter_checking()
    assert row.status == "published"


def test_an_own_method_of_a_subclass_is_called_for_the_subclass_alone():
    machine, cls = review(), made(log=[])
    machine.bind(cls, "status")
    essay = type("Essay", (cls,), {"on_enter_checking": lambda self, event: self.log.append("essay")})
    cls().submit()
    assert cls.log == []
    essay().submit()
    assert cls.log == ["essay"]


def test_machines_that_share_a_state_do_not_share_the_methods_of_classes():
    shared = State("checking")
    first, second = (review(states=["draft", shared, "published"]) for _ in range(2))
    loud, quiet = recording("on_enter_checking", log=[]), made()
    first.bind(loud, "status")
    second.bind(quiet, "status")
    assert quiet().submit()
    assert loud.log == []
    assert first.graph == second.graph


def test_callbacks_are_methods_properties_paths_and_annotated_attributes():
    class Paper:
        status = "draft"
        ready = True
        notify: object

        def __init__(self):
            self.log = []
            self.notify = lambda event: self.log.append("notified")

        @property
        def complete(self):
            return len(self.log) == 0

        @staticmethod
        def is_free(event):
            return True

        @classmethod
        def allows(cls, event):
            return cls.ready

        def keep(self, event):
            self.log.append(event.kwargs["why"])

    machine = review(
        transitions=[
            {
                "trigger": "submit",
                "source": "draft",
                "dest": "checking",
                "conditions": ["ready", "complete", "is_free", "allows", "may_note", "is_draft"],
                "before": "keep",
                "after": ["notify", "logging.debug"],
            },
            ["note", "draft", None],
        ]
    )
    machine.bind(Paper, "status")
    row = Paper()
    assert row.submit(why="done")
    assert row.log == ["done", "notified"]


def test_a_path_into_a_module_that_is_not_imported_yet_is_not_imported():
    import sys

    sys.modules.pop("this", None)
    review(after_state_change="this.anything").bind(made(), "status")
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("reddy", "Define Paper.reddy, or give the dotted path of a function."),
        ("logging.nothing", "Give the dotted path of a function."),
        ("no_such_package.function", "Give the dotted path of a function."),
        ("no_such_package.module.function", "Give the dotted path of a function."),
        ("logging.no_such_module.function", "Give the dotted path of a function."),
    ],
)
def test_an_unknown_callback_is_refused(name, hint):
    machine = review(transitions=[{"trigger": "go", "source": "draft", "dest": "checking", "unless": name}])
    with pytest.raises(DeclarationError) as caught:
        machine.bind(made(), "status")
    assert (
        str(caught.value)
        == f"'go' from 'draft' names the callback {name!r}, which Paper does not have. {hint}"
    )


def test_unknown_callbacks_are_refused_wherever_they_are_named():
    places = [
        {"on_final": "nobody"},
        {"prepare_event": "nobody"},
        {"states": ["draft", State("checking", on_exit="nobody"), "published"]},
        *(
            {"transitions": [{"trigger": "go", "source": "draft", "dest": "checking", kind: "nobody"}]}
            for kind in ("prepare", "conditions", "unless", "before", "after")
        ),
    ]
    for place in places:
        with pytest.raises(DeclarationError, match="names the callback 'nobody', which Paper does not have"):
            review(**place).bind(made(), "status")


def test_an_asynchronous_method_is_refused():
    async def check(self, event):
        pass

    machine = review(before_state_change="check")
    for member in (check, classmethod(check)):
        with pytest.raises(DeclarationError, match="asynchronous callback 'check', which nobody would await"):
            machine.bind(made(check=member), "status")


# What cannot be bound


@pytest.mark.parametrize(
    ("members", "options", "message"),
    [
        (
            {"submit": print},
            {},
            "Paper.submit exists already, and the machine would shadow it. "
            'Rename the trigger or state, or pass methods="status_".',
        ),
        (
            {"may_advance": True},
            {},
            "Paper.may_advance exists already, and the machine would shadow it. "
            'Rename the trigger or state, or pass methods="status_".',
        ),
        (
            {"is_draft": property(print)},
            {},
            "Paper.is_draft exists already, and the machine would shadow it. "
            'Rename the trigger or state, or pass methods="status_".',
        ),
        (
            {},
            {"transitions": [["status", "draft", "checking"]]},
            "Paper.status would be hidden by the method of that name. "
            "Rename the attribute, or the trigger or state.",
        ),
        (
            {},
            {"transitions": [["pass", "draft", "checking"]]},
            "Paper.pass cannot be called: 'pass' is a word of Python. "
            'Rename the trigger, or pass methods="status_".',
        ),
        (
            {},
            {"transitions": [["is_draft", "draft", "checking"]]},
            "Paper.is_draft would be two methods of the machine. Rename one of the triggers or states.",
        ),
        (
            {},
            {"transitions": [["go", "draft", "checking"], ["may_go", "draft", "checking"]]},
            "Paper.may_go would be two methods of the machine. Rename one of the triggers or states.",
        ),
        (
            {},
            {"states": ["draft", State("checking", on_enter=Enqueue("check")), "published"]},
            "Paper.status: 'checking' have tasks, but nothing enqueues them. "
            "Pass bind(…, enqueue=function), or use integration.models.StateField.",
        ),
    ],
)
def test_what_cannot_be_bound_is_refused_and_leaves_the_class_as_it_was(members, options, message):
    cls, machine = made(**members), review(**options)
    before = dict(vars(cls))
    with pytest.raises(DeclarationError) as caught:
        machine.bind(cls, "status")
    assert str(caught.value) == message
    assert dict(vars(cls)) == before
    assert machine.bindings == ()


def test_a_prefix_makes_room_for_names_that_are_taken():
    machine, cls = review(transitions=[["pass", "draft", "published"]]), made(submit=print, is_draft=True)
    machine.bind(cls, "status", methods="review_")
    row = cls()
    assert row.review_pass()
    assert row.review_is_published()
    assert row.is_draft is True


def test_a_prefixed_name_is_no_callback_without_its_prefix():
    machine = review(before_state_change="may_submit")
    with pytest.raises(DeclarationError, match="names the callback 'may_submit'"):
        machine.bind(made(), "status", methods="review_")


def test_the_conveniences_give_way_to_what_the_class_has():
    cls = made(state="Bavaria", trigger="happy", may_trigger=None)
    review().bind(cls, "status")
    row = cls()
    assert (row.state, row.trigger) == ("Bavaria", "happy")
    assert row.may_trigger("submit")


def test_an_attribute_called_state_is_not_replaced():
    class Lamp:
        state = "draft"

    review().bind(Lamp)
    assert Lamp.state == "draft"


def test_an_attribute_called_state_that_only_rows_have_is_left_to_them():
    class Lamp:
        def __init__(self):
            self.state = "draft"

    review().bind(Lamp)
    assert not hasattr(Lamp, "state")
    assert Lamp().submit()


def test_a_row_cannot_be_bound():
    with pytest.raises(DeclarationError) as caught:
        review().bind(5, "status")
    assert str(caught.value) == 'review is bound to a class, not to 5. Write bind(int, "status").'


def test_a_machine_is_bound_to_one_attribute_of_a_class():
    machine, cls = review(), made()
    machine.bind(cls, "status")
    with pytest.raises(DeclarationError) as caught:
        machine.bind(cls, "stage")
    assert str(caught.value) == (
        "This machine is bound to Paper.status already. Declare a second StateMachine for 'stage'."
    )


def test_binding_again_changes_nothing():
    machine, cls = review(), made()
    machine.bind(cls, "status")
    before = dict(vars(cls))
    machine.bind(cls, "status")
    assert dict(vars(cls)) == before


# Several machines


def test_machines_with_prefixes_share_a_class():
    cls = recording("print_on_enter_checking", "on_enter_checking", log=[], print_status="draft")
    first, second = review(), review()
    first.bind(cls, "status")
    second.bind(cls, "print_status", methods="print_")
    row = cls()
    row.print_submit()
    assert (row.status, row.print_status, cls.log) == ("draft", "checking", ["print_on_enter_checking"])
    row.submit()
    assert (row.status, row.print_status) == ("checking", "checking")
    assert row.print_state is second.get_state("checking")
    assert row.state is first.get_state("checking")
    assert row.print_may_trigger("advance")
    with pytest.raises(TransitionNotAllowed):
        row.print_trigger("submit")


def test_a_second_machine_without_a_prefix_is_refused():
    cls = made(stage="draft")
    review().bind(cls, "status")
    with pytest.raises(DeclarationError) as caught:
        review().bind(cls, "stage")
    assert str(caught.value) == (
        "Paper.submit exists already, and the machine would shadow it. "
        'Rename the trigger or state, or pass methods="stage_".'
    )


# Declaring more, when classes are bound


def test_bound_classes_learn_of_later_states_and_triggers():
    machine, cls = review(), recording("on_enter_burnt", log=[])
    machine.bind(cls, "status")
    machine.add_states("burnt")
    machine.add_transition("burn", "*", "burnt")
    row = cls()
    assert row.may_burn()
    row.burn()
    assert row.is_burnt()
    assert cls.log == ["on_enter_burnt"]


def test_bound_classes_forget_a_removed_trigger():
    machine, cls = review(), made()
    machine.bind(cls, "status")
    machine.remove_transition("submit")
    assert not hasattr(cls, "submit")
    assert not hasattr(cls, "may_submit")
    assert hasattr(cls, "advance")


@pytest.mark.parametrize(
    "declare",
    [
        lambda machine: machine.add_transition("burn", "*", "draft", before="nobody"),
        lambda machine: machine.add_transition("title", "*", "draft"),
        lambda machine: machine.add_transition("status", "*", "draft"),
        lambda machine: machine.add_states(["burnt", State("lost", on_enter="nobody")]),
        lambda machine: machine.add_states(["burnt", State("lost", on_enter=Enqueue("find"))]),
        lambda machine: machine.add_states(["burnt", "wanted"]),
        lambda machine: machine.add_ordered_transitions(trigger="title"),
        lambda machine: machine.on_enter_draft("nobody"),
        lambda machine: machine.before_submit("nobody"),
    ],
)
@pytest.mark.parametrize("auto", [False, True])
def test_what_a_bound_class_refuses_is_not_declared(declare, auto):
    machine, free, cls = review(auto_transitions=auto), made(), made(title="On", is_wanted=True)
    machine.bind(free, "status")
    machine.bind(cls, "status")
    before = machine.graph, dict(vars(cls)), dict(vars(free)), list(machine.states), list(machine.events)
    with pytest.raises(DeclarationError):
        declare(machine)
    assert before == (
        *(machine.graph, dict(vars(cls)), dict(vars(free))),
        *(list(machine.states), list(machine.events)),
    )
    assert free().submit()


def test_enqueue_is_told_what_a_plain_class_does_with_a_task():
    first, second = Enqueue("check", kwargs={"depth": 2}), Enqueue("explain")
    machine = review(states=["draft", State("checking", on_enter=[first, second]), "published"])
    cls = made(log=[])
    machine.bind(cls, "status", enqueue=enqueued)
    cls().submit()
    assert cls.log == [first, second]


@pytest.mark.parametrize("send_event", [True, False])
def test_a_task_is_enqueued_whatever_other_callbacks_receive(send_event):
    task, given = Enqueue("check"), []
    states = ["draft", State("checking", on_enter=[task, lambda *args: given.append(args)]), "published"]
    cls = made(log=[])
    review(states=states, send_event=send_event).bind(cls, "status", enqueue=enqueued)
    cls().submit(5)
    assert cls.log == [task]
    assert (given == [(5,)]) is not send_event


def test_what_hides_a_method_after_binding_can_be_told():
    machine, cls = review(), made()
    binding = machine.bind(cls, "status")
    child = type("Child", (cls,), {"submit": "a form", "other": 1})
    assert list(binding.hidden(cls)) == []
    assert list(binding.hidden(child)) == [("submit", child)]
    cls.may_submit = None
    assert list(binding.hidden(child)) == [("may_submit", cls), ("submit", child)]
    machine.remove_transition("submit")
    assert list(binding.hidden(child)) == []
