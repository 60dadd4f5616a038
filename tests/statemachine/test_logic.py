"""Formulas as values and as texts, and what their names mean in a graph."""

import dataclasses
import pickle
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import DeclarationError, Edge, Graph, StateValue
from statemachine.logic import (
    AF,
    AG,
    AU,
    AX,
    EF,
    EG,
    EU,
    EX,
    IN_THE_END,
    And,
    Atom,
    Constant,
    Formula,
    Implies,
    Not,
    Or,
    Property,
    always,
    check_names,
    eventually,
    false,
    leads_to,
    parse,
    phase,
    sometimes,
    state,
    tag,
    true,
)
from statemachine.logic.kripke import holds, refuted

UNARY = (Not, AG, AF, AX, EG, EF, EX)
BINARY = (And, Or, Implies, AU, EU)

atoms = st.builds(
    Atom,
    st.text(max_size=5)
    | st.sampled_from(["dashboard", "A", "U", "true", "not", "state", 'a "b" \\', "tag:x"]),
    st.sampled_from(["", "state", "tag", "phase"]),
)
formulas = st.recursive(
    atoms | st.sampled_from([true, false]),
    lambda inner: st.one_of(
        *(st.builds(kind, inner) for kind in UNARY), *(st.builds(kind, inner, inner) for kind in BINARY)
    ),
    max_leaves=12,
)

REVIEW = Graph(
    name="review",
    states=(
        StateValue(name="draft", phase="writing"),
        StateValue(name="checking", phase="editing", tags=("running",), formerly=("reading",)),
        StateValue(name="scoring", phase="editing", tags=("running", "published")),
        StateValue(name="published", tags=("visible", "published"), final=True),
        StateValue(name="dropped", tags=("dropped",), final=True),
    ),
    edges=(
        Edge(trigger="submit", source="draft", dest="checking"),
        Edge(trigger="advance", source="checking", dest="scoring"),
        Edge(trigger="advance", source="scoring", dest="published"),
        Edge(trigger="drop", source="draft", dest="dropped"),
    ),
    initial="draft",
    goals=("published",),
)


def refused(make, *args, **kwargs):
    with pytest.raises(DeclarationError) as caught:
        make(*args, **kwargs)
    return str(caught.value)


# Values


@given(formulas)
def test_the_text_of_a_formula_says_the_same_formula(formula):
    assert parse(str(formula)) == formula


@given(formulas, formulas)
def test_two_formulas_are_equal_when_their_texts_are(one, other):
    assert (one == other) == (str(one) == str(other))
    assert one != other or hash(one) == hash(other)


@given(formulas)
def test_a_formula_survives_pickling(formula):
    assert pickle.loads(pickle.dumps(formula)) == formula


@given(formulas)
def test_a_formula_is_shown_as_the_code_that_makes_it(formula):
    assert eval(repr(formula), {"parse": parse}) == formula


@pytest.mark.parametrize("value", [AG("p"), AU("p", "q"), tag("p"), true, Property("p")], ids=str)
def test_a_formula_is_frozen(value):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, "other")


def test_the_same_formula_can_be_built_with_operators_and_written_as_a_text():
    p, q = Atom("p"), Atom("q")
    assert ~p & q | p >> q == parse("~p & q | (p -> q)")
    assert AG(p >> AG(p)) == AG("p -> AG p") == parse("AG(p -> AG p)")
    assert AU("p", ~q) == parse("A[p U ~q]")
    assert EU("p", "q | p") == parse("E[p U q | p]")
    assert tag("x") & state("y") & phase("z") == parse("tag:x & state:y & phase:z")


def test_a_text_may_stand_on_either_side_of_an_operator():
    p, q = Atom("p"), Atom("q")
    assert (p & "q", "p" & q) == (And(p, q), And(p, q))
    assert (p | "q", "p" | q) == (Or(p, q), Or(p, q))
    assert (p >> "q", "p" >> q) == (Implies(p, q), Implies(p, q))


@pytest.mark.parametrize("formula", [parse("p"), true, false, AG("p"), AU("p", "q")], ids=str)
def test_a_formula_has_no_truth_of_its_own_since_and_would_drop_one_half(formula):
    assert refused(lambda: formula and true).startswith(f"The formula '{formula}' is neither true nor false")


def test_the_parts_of_a_formula_can_be_walked():
    formula = parse("AG(tag:p -> E[q U p & tag:p])")
    assert formula.operands == (parse("tag:p -> E[q U p & tag:p]"),)
    assert formula.operands[0].operands == (tag("p"), parse("E[q U p & tag:p]"))
    assert tag("p").operands == ()
    assert formula.atoms() == (tag("p"), Atom("q"), Atom("p"))
    assert formula.names() == ("p", "q")
    match formula:
        case AG(Implies(Atom(name, kind), EU(left, And()))):
            assert (name, kind, left) == ("p", "tag", Atom("q"))
        case _:
            pytest.fail("a formula can be matched")


# Texts


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a & b | c & d", "(a & b) | (c & d)"),
        ("a -> b -> c", "a -> (b -> c)"),
        ("a | b -> c | d", "(a | b) -> (c | d)"),
        ("~a & b", "(~a) & b"),
        ("AG a & b", "(AG a) & b"),
        ("AG EF ~AX a", "AG(EF(~(AX(a))))"),
        ("not a and b or !c && d || e", "~a & b | ~c & d | e"),
        ("A [ a U b ]", "A[a U b]"),
        ("'a' & \"b\"", "a & b"),
        ("'it\\'s' & 'x'", '"it\'s" & x'),
        ("AG(\n  a\n)", "AG a"),
        ("tag:true", 'tag:"true"'),
        ("state & tag:tag", "state&tag:tag"),
    ],
)
def test_a_formula_is_read_as_the_field_writes_it(text, meant):
    assert parse(text) == parse(meant)


@pytest.mark.parametrize(
    "text",
    [
        "AG(dashboard -> AG dashboard)",
        "A[~failed U complete]",
        "E[true U A[p U q] | r]",
        "AG EF complete",
        "a & (b & c)",
        "(a -> b) -> c -> d",
        "~(a | b)",
        "~~AX ~a",
        'tag:"is visible" & "Phase 1" | "AG" | "1st"',
        "phase:naïve",
    ],
)
def test_a_formula_is_written_with_no_more_brackets_than_it_needs(text):
    assert str(parse(text)) == text


HINT = 'Write it like AG(dashboard -> AG dashboard), A[~failed U complete] or tag:"is visible".'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "The formula '' ends where a name or a formula is expected."),
        ("AG", "The formula 'AG' ends where a name or a formula is expected."),
        ("AG(a -> b", "The formula 'AG(a -> b' ends where ')' is expected."),
        ("a b", "The formula 'a b' has 'b' at column 3, where an operator or the end is expected."),
        ("A a", "The formula 'A a' has 'a' at column 3, where '[' is expected."),
        ("A[a -> b]", "The formula 'A[a -> b]' has ']' at column 9, where 'U' is expected."),
        ("E[a U b)", "The formula 'E[a U b)' has ')' at column 8, where ']' is expected."),
        ("a & U", "The formula 'a & U' has 'U' at column 5, where a name or a formula is expected."),
        ("a - b", "The formula 'a - b' cannot be read from '- b' on."),
        ('"a', "The formula '\"a' cannot be read from '\"a' on."),
        ("1st", "The formula '1st' cannot be read from '1st' on."),
        ("tag:", "The formula 'tag:' ends where a name or a formula is expected."),
    ],
)
def test_a_text_that_is_no_formula_is_refused_with_the_place(text, problem):
    assert refused(parse, text) == f"{problem} {HINT}"
    assert refused(AG, text) == f"{problem} {HINT}"


def test_a_name_is_a_state_a_tag_or_a_phase_and_nothing_else():
    assert refused(parse, "goal:x") == (
        "The formula 'goal:x' asks for a 'goal' by name, which nothing is. Write state:x, tag:x or phase:x."
    )


DEEP = "Give the states that it lists a tag, and ask about that."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("(" * 5000 + "a" + ")" * 5000, "A formula is nested too deeply to be read."),
        ("~" * 5000 + "a", "A formula is nested too deeply to be read."),
        ("~" * 51 + "a", "A formula is nested more than 50 operators deep."),
        (" | ".join("a" * 52), "A formula is nested more than 50 operators deep."),
    ],
    ids=["brackets", "nots", "fewer nots", "ors"],
)
def test_a_text_that_is_nested_too_deeply_is_refused(text, problem):
    assert refused(parse, text) == f"{problem} {DEEP}"


@pytest.mark.parametrize("text", ["AF " * 50 + "draft", " -> ".join(["draft"] * 51)], ids=["AF", "implies"])
def test_a_formula_that_is_not_refused_is_not_too_deep_for_anything(text):
    formula = parse(text)
    assert (formula.depth, parse("draft").depth) == (50, 0)
    assert pickle.loads(pickle.dumps(formula)) == parse(str(formula)) == formula
    assert hash(formula) == hash(parse(text))
    check_names(REVIEW, formula)
    for wrong in (lambda: Property(AG(formula)), lambda: check_names(REVIEW, ~formula)):
        assert refused(wrong) == f"A formula is nested more than 50 operators deep. {DEEP}"
    assert holds(REVIEW, Property(formula)) == (refuted(REVIEW, Property(formula)) is None)


@pytest.mark.parametrize("wrong", [None, 7, REVIEW, always("p")], ids=lambda wrong: type(wrong).__name__)
def test_what_is_neither_a_formula_nor_a_text_is_refused(wrong):
    assert refused(AG, wrong) == f"{wrong!r} is no formula. {HINT}"


class Place(str, Enum):  # noqa: UP042 - a StrEnum prints as its value, this does not
    DRAFT = "draft"


class Bare(Enum):
    DRAFT = "draft"


@pytest.mark.parametrize("member", [Place.DRAFT, Bare.DRAFT], ids=["string", "bare"])
def test_a_member_of_an_enum_names_what_it_is_stored_as(member):
    assert parse(str(AG(state(member)))) == AG(state(member)) == AG(state("draft"))
    assert type(state(member).name) is str
    assert AG(member) == AG("draft")
    assert ~state("draft") | member == ~state("draft") | "draft"


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (lambda: tag(5), "5 names no tag."),
        (lambda: Atom(None), "None names no state, tag or phase."),
        (lambda: Atom("x", "label"), "'x' names no label."),
    ],
    ids=["tag", "bare", "kind"],
)
def test_an_atom_that_names_nothing_is_refused_when_it_is_made(wrong, problem):
    assert refused(wrong) == f"{problem} {HINT}"


def test_fair_triggers_that_are_no_texts_are_refused():
    assert refused(lambda: Property("AG draft", fair=["go", 5])) == (
        "fair=('go', 5) names what is no trigger. Give it IN_THE_END, or the names of triggers."
    )


# Properties


def test_the_words_for_properties_are_formulas():
    assert always("p").formula == parse("AG p")
    assert sometimes("p").formula == parse("EF p")
    assert eventually("p").formula == parse("AF p")
    assert leads_to("p", "q").formula == parse("AG(p -> AF q)")
    assert (always("p").fair, sometimes("p").fair) == (None, None)
    assert (eventually("p").fair, leads_to("p", "q").fair) == (IN_THE_END, IN_THE_END)
    assert always("p", name="safe") == Property(AG("p"), name="safe")
    assert eventually("p", fair=["go", "stop"]) == Property(AF("p"), fair=("go", "stop"))
    assert leads_to("p", "q", fair=None) == Property("AG(p -> AF q)")


def test_one_fair_trigger_need_not_stand_in_a_list_and_no_trigger_is_no_assumption():
    assert Property("p", fair="advance").fair == ("advance",)
    assert Property("p", fair=[]) == Property("p")


def test_a_property_is_a_value_that_says_what_it_claims():
    prop = leads_to("p", "q", name="answers")
    assert pickle.loads(pickle.dumps(prop)) == prop
    assert len({prop, leads_to("p", "q", name="answers"), leads_to("p", "q")}) == 2
    assert str(prop) == "answers: AG(p -> AF q) (fair: in the end)"
    assert str(Property("p", fair=["go", "stop"])) == "p (fair: go, stop)"
    assert str(always("p")) == "AG p"


# Names


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("draft", {"draft"}),
        ("editing", {"checking", "scoring"}),
        ("visible", {"published"}),
        ("state:published", {"published"}),
        ("tag:published", {"scoring", "published"}),
        ("phase:writing", {"draft"}),
        ("dropped", {"dropped"}),
    ],
)
def test_an_atom_holds_in_the_states_of_its_name_tag_or_phase(text, states):
    assert parse(text).states_in(REVIEW) == states


def test_a_name_that_means_two_things_is_refused_when_they_differ():
    assert refused(check_names, REVIEW, "AG ~published") == (
        "In the graph 'review' 'published' is a state and a tag, which hold in different states. "
        "Write state:published or tag:published."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "AG publishd",
            "The graph 'review' has no state, tag or phase 'publishd'. Did you mean 'published'? "
            "Its states are: draft, checking, scoring, published, dropped. "
            "Its tags are: running, published, visible, dropped. Its phases are: writing, editing.",
        ),
        (
            "tag:draft",
            "The graph 'review' has no tag 'draft'. Its tags are: running, published, visible, dropped.",
        ),
        ("state:reading", "The graph 'review' has no state 'reading'. The state is called 'checking' today."),
        ("E[draft U phase:X]", "The graph 'review' has no phase 'X'. Its phases are: writing, editing."),
    ],
)
def test_an_unknown_name_is_refused_with_what_there_is(text, message):
    assert refused(check_names, REVIEW, text) == message
    assert refused(check_names, REVIEW, Property(text)) == message


def test_of_very_many_states_a_few_are_named():
    states = tuple(StateValue(name=f"s{number}") for number in range(40))
    graph = Graph(name="big", states=states, edges=(), initial="s0", goals=())
    assert refused(check_names, graph, "state:zzz") == (
        "The graph 'big' has no state 'zzz'. "
        "Its states are: s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11, 28 more."
    )


def test_names_that_the_graph_has_pass():
    check_names(REVIEW, "AG(draft -> EF tag:published)")
    check_names(REVIEW, Property(Formula.__and__(true, Constant(False)), fair=IN_THE_END))
    check_names(REVIEW, Property("draft", fair=["advance", "submit"]))


def test_an_unknown_fair_trigger_is_refused():
    assert refused(check_names, REVIEW, eventually("draft", fair=["submit", "advanc"])) == (
        "The graph 'review' has no trigger 'advanc', which AF draft (fair: submit, advanc) calls fair. "
        "Did you mean 'advance'? Declared are: submit, advance, drop."
    )
