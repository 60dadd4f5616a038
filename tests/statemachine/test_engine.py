"""What happens when a row is fired: the same as in transitions, and what is put right."""

import threading

import pytest
import transitions
from hypothesis import given
from hypothesis import strategies as st

from statemachine import (
    DeclarationError,
    Reentered,
    StaleState,
    State,
    StateMachine,
    TransitionNotAllowed,
    UnknownTrigger,
)


class Broken(Exception):
    pass


class Stopped(BaseException):
    """As SystemExit, or a worker's time limit that nothing may swallow."""


def bound(machine, **members):
    cls = type("Paper", (), {"status": "draft", **members})
    machine.bind(cls, "status")
    return cls()


def review(transitions=(), *, states=("draft", "checking", "published"), **options):
    declared = [["submit", "draft", "checking"], ["advance", "checking", "published"], *transitions]
    return StateMachine(name="review", states=list(states), transitions=declared, initial="draft", **options)


def fail(event):
    raise Broken


# The same as transitions

STATES = ["a", "b", "c", "d"]
TRIGGERS = ["go", "stop", "turn"]
NAMES = ["one", "two", "three", "four"]
OWN = [f"{kind}_{state}" for kind in ("on_enter", "on_exit") for state in STATES]

some_names = st.lists(st.sampled_from(NAMES), max_size=2)
some_states = st.fixed_dictionaries(
    {
        "on_enter": some_names,
        "on_exit": some_names,
        "final": st.booleans(),
        "ignore_invalid_triggers": st.sampled_from([None, True, False]),
    }
)
some_edges = st.fixed_dictionaries(
    {
        "trigger": st.sampled_from(TRIGGERS),
        "source": st.one_of(st.sampled_from([*STATES, "*"]), st.lists(st.sampled_from(STATES), min_size=1)),
        "dest": st.sampled_from([*STATES, "=", None]),
        **dict.fromkeys(("conditions", "unless", "prepare", "before", "after"), some_names),
    }
)
some_options = st.fixed_dictionaries(
    {
        **dict.fromkeys(
            ("prepare_event", "before_state_change", "after_state_change", "finalize_event"), some_names
        ),
        "on_final": some_names,
        "send_event": st.booleans(),
        "auto_transitions": st.booleans(),
        "ordered_transitions": st.booleans(),
        "ignore_invalid_triggers": st.booleans(),
    }
)
declarations = st.fixed_dictionaries(
    {
        "states": st.tuples(*[some_states] * len(STATES)),
        "edges": st.lists(some_edges, max_size=8),
        "options": some_options,
        "own": st.sets(st.sampled_from(OWN)),
        "passing": st.sets(st.sampled_from(NAMES)),
    }
)
fired = st.lists(st.sampled_from([*TRIGGERS, "to_a", "next_state", "unheard_of"]), min_size=1, max_size=6)


def model(declared, breaks_at):
    """A class whose methods note that they were called; the one that is called as the n-th raises."""

    class Model:
        state = "a"

        def __init__(self):
            self.log = []

    def noting(name):
        def note(self, *args, **kwargs):
            self.log.append(name)
            if len(self.log) == breaks_at:
                raise Broken
            return name in declared["passing"]

        return note

    for name in (*NAMES, *declared["own"]):
        setattr(Model, name, noting(name))
    return Model


def declaration(declared):
    states = [{"name": name, **state} for name, state in zip(STATES, declared["states"], strict=True)]
    return {
        "states": states,
        "transitions": [dict(edge) for edge in declared["edges"]],
        "initial": "a",
        **declared["options"],
    }


def outcome(row, trigger):
    try:
        return row.trigger(trigger)
    except AttributeError:
        return "unknown"
    except transitions.MachineError:
        return "not allowed"


@given(declarations, fired)
def test_a_declaration_does_what_it_does_in_transitions(declared, triggers):
    theirs, ours = model(declared, 0)(), model(declared, 0)()
    transitions.Machine(model=theirs, **declaration(declared))
    machine = StateMachine(**declaration(declared))
    machine.bind(type(ours))
    for trigger in triggers:
        assert ours.may_trigger(trigger) == theirs.may_trigger(trigger)
        assert outcome(ours, trigger) == outcome(theirs, trigger)
        assert ours.state == theirs.state
        assert ours.log == theirs.log
        assert machine.get_triggers(ours.state) == list(machine.triggers_from(ours.state))


@given(declarations, fired, st.integers(1, 12))
def test_a_callback_that_raises_stops_where_it_stops_in_transitions_and_the_row_is_as_it_was(
    declared, triggers, breaks_at
):
    declared["options"]["finalize_event"] = []
    theirs, ours = model(declared, breaks_at)(), model(declared, breaks_at)()
    transitions.Machine(model=theirs, **declaration(declared))
    StateMachine(**declaration(declared)).bind(type(ours))
    for trigger in triggers:
        before = ours.state
        try:
            expected = outcome(theirs, trigger)
        except Broken:
            with pytest.raises(Broken):
                ours.trigger(trigger)
            assert (ours.log, ours.state) == (theirs.log, before)
            return
        assert (outcome(ours, trigger), ours.state, ours.log) == (expected, theirs.state, theirs.log)


# Guards


@pytest.mark.parametrize("answer", [1, "yes", [0], object(), True])
def test_a_guard_passes_when_it_is_truthy(answer):
    row = bound(
        review([{"trigger": "go", "source": "*", "dest": "published", "conditions": "ready"}]), ready=answer
    )
    assert row.may_go()
    assert row.go()


@pytest.mark.parametrize("answer", [0, "", [], None, False])
def test_a_guard_under_unless_passes_when_it_is_falsy(answer):
    edge = {"trigger": "go", "source": "*", "dest": "published", "unless": lambda event: answer}
    row = bound(review([edge]))
    assert row.may_go()
    assert row.go()


@pytest.mark.parametrize("kind", ["conditions", "unless"])
def test_a_row_whose_guards_refuse_stays_and_is_told_so(kind):
    edge = {"trigger": "go", "source": "*", "dest": "published", kind: lambda event: kind == "unless"}
    row = bound(review([edge]))
    assert row.go() is False
    assert row.status == "draft"


# What a row may not


def test_a_trigger_without_an_edge_is_refused_and_told():
    row = bound(review())
    with pytest.raises(TransitionNotAllowed) as caught:
        row.advance()
    described = f"Paper at {id(row):#x}"
    assert str(caught.value) == (
        f"Can't trigger event 'advance' on {described}: no edge leaves 'draft'. Triggers from here: submit."
    )
    assert (caught.value.row, caught.value.trigger, caught.value.state) == (described, "advance", "draft")
    assert isinstance(caught.value, transitions.MachineError)
    assert row.status == "draft"


def test_a_final_state_says_that_nothing_leaves_it():
    row = bound(review(), status="published")
    with pytest.raises(TransitionNotAllowed, match=r"Triggers from here: none\.$"):
        row.advance()


def test_an_unknown_trigger_is_refused_and_told():
    row = bound(review())
    with pytest.raises(UnknownTrigger) as caught:
        row.trigger("sumbit")
    assert str(caught.value) == "review has no trigger 'sumbit'. From 'draft' there are: submit."
    assert (caught.value.trigger, caught.value.state) == ("sumbit", "draft")
    assert not row.may_trigger("sumbit")


def test_a_machine_may_ignore_what_is_not_allowed():
    row = bound(review(ignore_invalid_triggers=True))
    assert row.advance() is False
    assert row.trigger("unheard_of") is False


def test_a_state_may_insist_where_its_machine_ignores():
    row = bound(
        review(
            states=[State("draft", ignore_invalid_triggers=False), "checking", "published"],
            ignore_invalid_triggers=True,
        )
    )
    with pytest.raises(TransitionNotAllowed):
        row.advance()
    with pytest.raises(UnknownTrigger):
        row.trigger("unheard_of")


@pytest.mark.parametrize("status", ["burnt", None, 5])
def test_a_row_in_an_unknown_state_may_nothing_and_is_told_the_way_out(status):
    row = bound(review(ignore_invalid_triggers=True), status=status)
    assert not row.may_submit()
    with pytest.raises(TransitionNotAllowed) as caught:
        row.submit()
    assert str(caught.value) == (
        f"Paper at {id(row):#x} is in {status!r}, which is no state of review, so 'submit' was not applied. "
        "Declare it, or move the row by hand: machine.to_state(row, state, reason=…)."
    )
    assert caught.value.state == str(status)
    with pytest.raises(UnknownTrigger):
        row.trigger("unheard_of")
    with pytest.raises(DeclarationError, match="is no state of review"):
        assert row.state


# What a fire is given, and what it gives


def test_arguments_reach_the_callbacks_whatever_they_are_called():
    seen = []
    machine = review(before_state_change=lambda event: seen.append((event.args, event.kwargs)))
    row = bound(machine)
    assert machine.fire(row, "submit", 1, row=2, trigger=3)
    assert seen == [((1,), {"row": 2, "trigger": 3})]


def test_without_events_callbacks_receive_the_arguments_themselves():
    seen = []
    machine = review(send_event=False, after_state_change=lambda *args, **kwargs: seen.append((args, kwargs)))
    row = bound(machine)
    row.submit(1, why=2)
    assert seen == [((1,), {"why": 2})]


def test_callbacks_find_the_states_on_the_event():
    seen = []

    def see(event):
        seen.append((event.state.name, event.transition.source, event.transition.dest, event.model.status))

    row = bound(review(states=[State("draft", on_exit=see), State("checking", on_enter=see), "published"]))
    row.submit()
    assert seen == [("draft", "draft", "checking", "draft"), ("checking", "draft", "checking", "checking")]


def test_an_internal_edge_neither_leaves_nor_enters():
    log = []
    states = [
        State("draft", on_exit=lambda e: log.append("out"), on_enter=lambda e: log.append("in")),
        "checking",
    ]
    machine = StateMachine(
        states=states,
        transitions=[
            {"trigger": "note", "source": "draft", "dest": None, "after": lambda e: log.append("noted")},
            ["renew", "draft", "="],
        ],
        initial="draft",
    )
    row = bound(machine)
    assert row.note()
    assert log == ["noted"]
    assert row.renew()
    assert log == ["noted", "out", "in"]


# Exceptions

PLACES = ["prepare_event", "prepare", "conditions", "unless", "before_state_change", "before", "on_exit"]
PLACES += ["on_enter", "on_final", "after", "after_state_change", "finalize_event"]


def broken_at(place, error=Broken, **options):
    def raises(event):
        raise error

    def at(*places):
        return {kind: raises for kind in places if kind == place}

    return StateMachine(
        states=[State("draft", **at("on_exit")), State("checking", final=True, **at("on_enter"))],
        transitions=[
            {
                "trigger": "submit",
                "source": "draft",
                "dest": "checking",
                **at("prepare", "conditions", "unless", "before", "after"),
            }
        ],
        initial="draft",
        **at("prepare_event", "before_state_change", "on_final", "after_state_change", "finalize_event"),
        **options,
    )


@pytest.mark.parametrize("error", [Broken, Stopped])
@pytest.mark.parametrize("place", PLACES)
def test_an_exception_anywhere_leaves_the_row_as_it_was(place, error):
    row = bound(broken_at(place, error))
    before = dict(vars(row))
    with pytest.raises(error):
        row.submit()
    assert row.status == "draft"
    assert vars(row) == {**before, "status": "draft"}
    with pytest.raises(error):
        row.submit()


@pytest.mark.parametrize("place", [place for place in PLACES if place != "finalize_event"])
def test_on_exception_takes_an_exception_and_the_row_is_as_it_was(place):
    seen = []
    row = bound(broken_at(place, on_exception=lambda event: seen.append(type(event.error))))
    assert row.submit() is False
    assert (row.status, seen) == ("draft", [Broken])


@pytest.mark.parametrize("place", [place for place in PLACES if place != "finalize_event"])
def test_on_exception_is_shown_what_nothing_may_swallow_and_it_passes(place):
    seen = []
    row = bound(broken_at(place, Stopped, on_exception=lambda event: seen.append(type(event.error))))
    with pytest.raises(Stopped):
        row.submit()
    assert (row.status, seen) == ("draft", [Stopped])


@pytest.mark.parametrize("place", ["prepare_event", "prepare", "conditions", "unless"])
def test_asking_swallows_no_more_than_firing(place):
    seen = []

    def see(event):
        seen.append(event.error)

    assert bound(broken_at(place, on_exception=see)).may_submit() is False
    with pytest.raises(Stopped):
        bound(broken_at(place, Stopped, on_exception=see)).may_submit()
    with pytest.raises(Broken):
        bound(broken_at(place)).may_submit()
    assert len(seen) == 2


def test_on_exception_is_shown_what_is_not_allowed():
    seen = []
    row = bound(review(on_exception=lambda event: seen.append(event.error)))
    assert row.advance() is False
    assert seen[0].row == f"Paper at {id(row):#x}"


def test_on_exception_may_raise_the_exception_again():
    def again(event):
        raise event.error

    row = bound(broken_at("after", on_exception=again))
    with pytest.raises(Broken):
        row.submit()
    assert row.status == "draft"


def test_on_exception_may_raise_another():
    def another(event):
        raise KeyError("another")

    row = bound(broken_at("after", on_exception=another))
    with pytest.raises(KeyError):
        row.submit()
    assert row.status == "draft"


def test_finalize_is_called_after_an_exception_and_hides_none():
    def finalize(event):
        assert event.error is not None
        raise KeyError("finalize")

    row = bound(review(before_state_change=fail, finalize_event=finalize))
    with pytest.raises(Broken):
        row.submit()


def test_finalize_stops_what_nothing_may_swallow_even_after_an_exception():
    def finalize(event):
        raise Stopped

    row = bound(review(before_state_change=fail, finalize_event=finalize))
    with pytest.raises(Stopped) as caught:
        row.submit()
    assert isinstance(caught.value.__cause__, Broken)


# Firing inside a callback


def test_a_callback_cannot_fire_its_own_row():
    row = bound(review(after_state_change=lambda event: event.model.advance()))
    with pytest.raises(Reentered) as caught:
        row.submit()
    described = f"Paper at {id(row):#x}"
    assert str(caught.value) == (
        f"{described} is in the middle of a transition, and a callback fired 'advance' on it. "
        "Let the stage's task fire it, or declare it as an edge of its own."
    )
    assert (caught.value.row, caught.value.trigger) == (described, "advance")
    assert (caught.value.state, row.status) == ("checking", "draft")


def test_a_callback_cannot_put_its_own_row_into_another_state():
    machine = review(
        after_state_change=lambda event: event.machine.to_state(event.model, "draft", reason="no")
    )
    row = bound(machine)
    with pytest.raises(Reentered):
        row.submit()


def test_a_refused_fire_inside_a_callback_may_be_caught_and_the_row_moves_on():
    def advance(event):
        with pytest.raises(Reentered):
            event.model.advance()
        assert event.model.may_advance()

    row = bound(review(after_state_change=advance))
    assert row.submit()
    assert row.status == "checking"


def test_a_row_fires_again_after_an_exception():
    answers = [fail, lambda event: None]
    row = bound(review(before_state_change=lambda event: answers.pop(0)(event)))
    with pytest.raises(Broken):
        row.submit()
    assert row.submit()


def test_a_callback_fires_another_row_of_the_same_machine():
    other = []
    row = bound(
        review(
            states=["draft", State("checking", on_enter=lambda e: [o.advance() for o in other]), "published"]
        )
    )
    other.append(type(row)())
    other[0].status = "checking"
    assert row.submit()
    assert (row.status, other[0].status) == ("checking", "published")


def test_a_callback_fires_another_machine_on_the_same_row():
    printing = StateMachine(states=["idle", "busy"], transitions=[["start", "idle", "busy"]], initial="idle")
    row = bound(review(after_state_change=lambda event: event.model.print_start()), paper="idle")
    printing.bind(type(row), "paper", methods="print_")
    assert row.submit()
    assert (row.status, row.paper) == ("checking", "busy")


def test_threads_do_not_disturb_each_other():
    together = threading.Barrier(2, timeout=30)
    row_of = {}

    def meet(event):
        together.wait()
        assert row_of[threading.get_ident()] is event.model

    machine = review(before_state_change=meet, after_state_change=meet)
    cls = type(bound(machine))
    seen = []

    def run():
        row = row_of[threading.get_ident()] = cls()
        seen.append((row.submit(), row.advance(), row.status))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(True, True, "published")] * 2


def test_a_row_in_the_middle_of_a_transition_holds_up_no_other_thread():
    done = []

    def elsewhere(event):
        thread = threading.Thread(target=lambda: done.append(type(event.model)().advance()))
        thread.start()
        thread.join()

    machine = review(before_state_change=lambda event: event.model.status == "draft" and elsewhere(event))
    row = bound(machine)
    type(row).status, row.status = "checking", "draft"
    assert row.submit()
    assert done == [True]


def test_another_thread_is_not_mistaken_for_a_callback():
    done = []

    def elsewhere(event):
        thread = threading.Thread(target=lambda: done.append(event.model.note()))
        thread.start()
        thread.join()

    edge = {"trigger": "go", "source": "draft", "dest": "checking", "before": elsewhere}
    row = bound(review([edge, ["note", "draft", None]]))
    assert row.go()
    assert done == [True]


# The jump


def test_a_jump_leaves_and_enters_but_asks_no_guard_and_runs_nothing_of_an_edge():
    log = []

    def noting(name):
        return lambda event: log.append((name, event.model.status, event.kwargs))

    machine = StateMachine(
        states=[
            State("draft", on_exit=noting("out")),
            "checking",
            State("published", on_enter=noting("in"), final=True),
        ],
        transitions=[
            {
                "trigger": "submit",
                "source": "draft",
                "dest": "published",
                "conditions": fail,
                "before": fail,
                "after": fail,
                "prepare": fail,
            }
        ],
        initial="draft",
        on_final=noting("final"),
        prepare_event=fail,
        before_state_change=fail,
        after_state_change=fail,
        finalize_event=fail,
    )
    row = bound(machine)
    assert machine.to_state(row, "published", reason="printed already", by="Ada", expect="draft") is None
    given = {"reason": "printed already", "by": "Ada"}
    assert log == [("out", "draft", given), ("in", "published", given), ("final", "published", given)]


def test_a_jump_leaves_a_state_that_nobody_knows():
    machine = review()
    row = bound(machine, status="burnt")
    machine.to_state(row, "draft", reason="renamed", expect="burnt")
    assert row.submit()


def test_a_jump_calls_the_own_methods_of_the_row():
    log = []
    machine = review()
    row = bound(
        machine,
        on_exit_draft=lambda self, event: log.append("out"),
        on_enter_checking=lambda self, event: log.append("in"),
    )
    machine.to_state(row, "checking", reason="by hand")
    assert log == ["out", "in"]


def test_a_jump_needs_a_reason_and_a_declared_state():
    machine = review()
    row = bound(machine)
    with pytest.raises(DeclarationError) as caught:
        machine.to_state(row, "checking", reason="")
    assert str(caught.value) == 'to_state() needs a reason. Pass reason="why this row is moved".'
    with pytest.raises(DeclarationError, match="'burnt' is no state of review"):
        machine.to_state(row, "burnt", reason="no such")
    assert row.status == "draft"


def test_a_jump_from_an_unexpected_state_is_refused():
    machine = review()
    row = bound(machine)
    with pytest.raises(StaleState) as caught:
        machine.to_state(row, "published", reason="it was checked", expect="checking")
    described = f"Paper at {id(row):#x}"
    assert str(caught.value) == (
        f"{described} is no longer 'checking', so 'to_state' was not applied: "
        "another process moved it first. Call refresh_from_db() and look again."
    )
    assert (caught.value.row, caught.value.expected, caught.value.epoch) == (described, "checking", None)
    assert row.status == "draft"


@pytest.mark.parametrize("error", [Broken, Stopped])
@pytest.mark.parametrize("place", ["on_exit", "on_enter", "on_final"])
def test_an_exception_in_a_jump_leaves_the_row_as_it_was(place, error):
    machine = broken_at(place, error, on_exception=lambda event: None)
    row = bound(machine)
    with pytest.raises(error):
        machine.to_state(row, "checking", reason="by hand")
    assert row.status == "draft"
