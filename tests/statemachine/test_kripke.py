"""Formulas are decided rightly, and refuted by runs that are legal, do refute, and are the shortest."""

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from statemachine import DeclarationError, Edge, Enqueue, Graph, Path, StateValue
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
    Implies,
    Not,
    Or,
    Property,
    always,
    eventually,
    leads_to,
    parse,
    sometimes,
    state,
    tag,
)
from statemachine.logic.kripke import Checker, Kripke, holds, refuted
from tests.statemachine.checkers import Naive, Witness, peer, walks

TRIGGERS = ("advance", "fail", "go")
FAIR = (None, IN_THE_END, ("advance",), ("go", "fail"))


def graph_of(*edges, states=(), initial="a"):
    """A graph of edges such as ``a go b guard``; a state is written where it is more than a name."""
    given = {value.name: value for value in states}
    read = [text.split() for text in edges]
    names = dict.fromkeys([initial, *given, *(name for parts in read for name in (parts[0], parts[2]))])
    return Graph(
        name="g",
        states=tuple(given.get(name, StateValue(name=name)) for name in names),
        edges=tuple(
            Edge(source=source, trigger=trigger, dest=dest, guards=tuple(guards))
            for source, trigger, dest, *guards in read
        ),
        initial=initial,
        goals=(),
    )


@st.composite
def graphs(draw, least=1, most=5):
    names = [f"s{number}" for number in range(draw(st.integers(least, most)))]
    states = [
        StateValue(
            name=name,
            tags=tuple(draw(st.sampled_from([(), ("p",), ("q",), ("p", "q")]))),
            steps=(Enqueue("work"),) if draw(st.booleans()) else (),
            final=draw(st.integers(0, 4)) == 0,
        )
        for name in names
    ]
    # Every tag is somewhere, or it would be no tag.
    states += [StateValue(name="tagged", tags=("p", "q"))]
    edges = draw(
        st.lists(
            st.builds(
                lambda source, dest, trigger, guards, internal: Edge(
                    source=source,
                    dest=source if internal else dest,
                    trigger=trigger,
                    guards=guards,
                    internal=internal,
                ),
                st.sampled_from(names),
                st.sampled_from(names + ["tagged"] * (draw(st.integers(0, 3)) == 0)),
                st.sampled_from(TRIGGERS),
                st.sampled_from([(), (), ("guard",)]),
                st.integers(0, 9).map(lambda n: n == 0),
            ),
            max_size=2 * len(names) + 2,
            unique=True,
        )
    )
    return Graph(name="g", states=tuple(states), edges=tuple(edges), initial="s0", goals=())


ATOMS = st.sampled_from([tag("p"), tag("q"), state("s0"), parse("true"), parse("p & ~q"), parse("q -> p")])
FORMULAS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        *(st.builds(kind, inner) for kind in (Not, AG, AF, AX, EG, EF, EX)),
        *(st.builds(kind, inner, inner) for kind in (And, Or, Implies, AU, EU)),
    ),
    max_leaves=5,
)


def agree(graph, formula, fair):
    """Whether our checker says what the definitions do, in every state."""
    assert Checker(Kripke(graph), fair).states(formula) == Naive(graph, fair).where(formula)


def examples(number):
    return settings(max_examples=number, deadline=None, suppress_health_check=list(HealthCheck))


# Compared


@examples(150)
@given(graphs(), FORMULAS)
def test_a_formula_holds_where_its_definition_and_another_model_checker_say(graph, formula):
    agree(graph, formula, None)
    assert Checker(Kripke(graph)).states(formula) == peer(graph, formula)


@examples(150)
@given(graphs(), FORMULAS, st.sampled_from(FAIR[1:]))
def test_with_fairness_a_formula_holds_where_its_definition_says(graph, formula, fair):
    agree(graph, formula, fair)


LOOPING = st.sampled_from([("go",), ("fail",), ("go", "fail"), IN_THE_END])


@st.composite
def dense_graphs(draw, most=6):
    """Many edges of few triggers: components that fall apart when fairness throws a state out."""
    names = [f"s{number}" for number in range(draw(st.integers(2, most)))]
    name = st.sampled_from(names)
    edge = st.tuples(name, st.sampled_from(TRIGGERS), name, st.sampled_from(["", "", "guard"]))
    edges = {given[:2]: " ".join(given) for given in draw(st.lists(edge, max_size=3 * len(names)))}
    return graph_of(*edges.values(), initial="s0", states=map(state_of, names))


def state_of(name):
    return StateValue(name=name, waits_for="somebody")


def loops_agree(graph, fair, operand):
    """Whether our loops are the largest of all the sets of states that a fair run can be in for ever."""
    naive = Naive(graph, fair)
    possible = [states for states in naive.for_ever if states <= naive.where(operand)]
    largest = {states for states in possible if not any(states < others for others in possible)}
    kripke = Kripke(graph)
    loops = Checker(kripke, fair).loops(operand)
    assert {frozenset(kripke.names[number] for number in loop) for loop in loops} == largest
    assert sum(map(len, loops)) == len(frozenset().union(*largest))


@examples(150)
@given(dense_graphs(), LOOPING)
def test_the_loops_of_fair_runs_are_the_largest_sets_that_one_can_be_in_for_ever(graph, fair):
    loops_agree(graph, fair, parse("true"))
    loops_agree(graph, fair, parse("~state:s1"))


@pytest.mark.slow
@examples(800)
@given(dense_graphs(most=8), LOOPING)
def test_the_loops_of_many_graphs_are_the_largest(graph, fair):
    loops_agree(graph, fair, parse("true"))
    loops_agree(graph, fair, parse("~state:s1"))


@examples(40)
@given(graphs(10, 25), FORMULAS)
def test_larger_graphs_agree_too(graph, formula):
    agree(graph, formula, None)


@pytest.mark.slow
@examples(800)
@given(graphs(most=7), FORMULAS, st.sampled_from(FAIR))
def test_many_graphs_and_formulas_agree(graph, formula, fair):
    agree(graph, formula, fair)
    if fair is None:
        assert Checker(Kripke(graph)).states(formula) == peer(graph, formula)


# Refuted


def no_shorter(graph, claim, found):
    """Whether no shorter path tells it; with fairness, whether no shorter way to a loop does."""
    naive = Naive(graph, claim.fair)
    fair = bool(naive.fair)
    length = len(found) if found.loop is None or not fair else found.loop
    tried = 0
    for shorter in range(length):
        for path in walks(naive, shorter):
            tried += 1
            if tried > 1500:
                return
            assert not Witness(path, naive, stem=fair).refutes(claim.formula), path


def refutes(graph, claim):
    found = refuted(graph, claim)
    naive = Naive(graph, claim.fair)
    assert (found is None) == (graph.initial in naive.where(claim.formula)) == holds(graph, claim)
    if found is not None:
        witness = Witness(found.path, naive)
        assert witness.is_a_run(), found.path
        assert witness.refutes(claim.formula), found.path
        no_shorter(graph, claim, found.path)
        assert str(claim.formula) in found.msg
        assert found.hint


def claims(fair):
    """Properties of the usual shapes, and those whose refutations have parts to choose from."""
    every = [st.builds(kind, ATOMS) for kind in (AG, AF, AX)] + [st.builds(AU, ATOMS, ATOMS)]
    some = [st.builds(kind, ATOMS) for kind in (EF, EG, EX)] + [st.builds(EU, ATOMS, ATOMS)]
    told = st.one_of(*every, *(exists.map(Not) for exists in some))
    shapes = [
        FORMULAS,
        told,
        st.builds(Or, told, told),
        st.builds(And, told, told),
        st.builds(AU, told, told),
    ]
    return st.one_of(
        *(st.builds(Property, shape, fair=fair) for shape in shapes),
        st.builds(leads_to, ATOMS, FORMULAS | told, fair=fair),
        st.builds(eventually, FORMULAS | told, fair=fair),
    )


CLAIMS = claims(st.none())
FAIR_CLAIMS = claims(st.sampled_from(FAIR[1:]))


def known(graph, claim):
    """Only triggers that the graph has: others are refused."""
    if not isinstance(claim.fair, tuple):
        return claim
    there = {edge.trigger for edge in graph.edges}
    fair = tuple(trigger for trigger in claim.fair if trigger in there)
    return Property(claim.formula, fair=fair or None)


@examples(150)
@given(graphs(), CLAIMS)
def test_a_refutation_is_a_run_that_refutes_and_none_is_shorter(graph, claim):
    refutes(graph, claim)


@examples(150)
@given(graphs(), FAIR_CLAIMS)
def test_a_fair_refutation_takes_each_fair_edge_and_no_way_to_a_loop_is_shorter(graph, claim):
    refutes(graph, known(graph, claim))


@examples(100)
@given(dense_graphs(), LOOPING)
def test_a_fair_run_that_goes_round_leaves_no_fair_edge_out(graph, fair):
    refutes(graph, known(graph, eventually("state:s1", fair=fair)))
    refutes(graph, known(graph, eventually("state:s0 & state:s1", fair=fair)))


@pytest.mark.slow
@examples(800)
@given(graphs(), CLAIMS | FAIR_CLAIMS)
def test_many_refutations_are_the_shortest(graph, claim):
    refutes(graph, known(graph, claim))


@examples(40)
@given(graphs(), FORMULAS)
def test_what_holds_on_some_run_holds_on_a_fair_one_too(graph, formula):
    """`Checker` asks no fairness of EX and EU, since every walk can go on fairly: here it is seen."""
    naive = Naive(graph, IN_THE_END)
    assert naive.starts == naive.all
    assert naive.fairly(EF(formula)) == naive.unfairly(EF(formula))
    assert naive.fairly(EX(formula)) == naive.unfairly(EX(formula))


# Told


DRAFT = StateValue(name="draft", waits_for="the author")
CHECKING = StateValue(name="checking", steps=(Enqueue("check"),))
DONE = StateValue(name="done", final=True, tags=("visible",))
REVIEW = graph_of(
    "draft submit checking",
    "checking advance done",
    "checking fail draft",
    states=[DRAFT, CHECKING, DONE],
    initial="draft",
)


def told(graph, claim):
    found = refuted(graph, claim if isinstance(claim, Property) else Property(claim))
    return str(found)


def test_a_tag_that_is_lost_is_told_by_the_shortest_run_that_has_it_and_loses_it():
    graph = graph_of(
        "a go b",
        "b go shown",
        "shown fail b",
        "a jump late",
        "late fail a",
        states=[StateValue(name="shown", tags=("visible",)), StateValue(name="late", tags=("visible",))],
    )
    assert told(graph, "AG(visible -> AG visible)") == (
        "AG(visible -> AG visible) does not hold: visible holds in 'late'; visible does not hold in 'a'.\n"
        "  1. starts in 'a'\n"
        "  2. jump() moves it to 'late'\n"
        "  3. fail() moves it to 'a'\n"
        "  Hint: Declare the edges of the story otherwise, or claim less."
    )


def test_the_whole_story_is_the_shortest_and_not_each_part_of_it():
    graph = graph_of(
        "a near p1",
        "p1 x m1",
        "m1 x m2",
        "m2 x lost",
        "a far b",
        "b far p2",
        "p2 x lost",
        states=[StateValue(name="p1", tags=("p",)), StateValue(name="p2", tags=("p",))],
    )
    assert refuted(graph, always("p -> AG ~lost")).path.states == ("a", "b", "p2", "lost")


def test_a_run_leads_through_the_states_that_it_may_lead_through():
    p = {"tags": ("p",)}
    graph = graph_of(
        "a short b",
        "b go goal",
        "a long c",
        "c go d",
        "d go goal",
        states=[StateValue(name=n, **p) for n in "acd"],
    )
    assert refuted(graph, Property("~E[p U goal]")).path.states == ("a", "c", "d", "goal")
    assert refuted(graph, Property("A[goal U ~goal & ~a]")).path.states == ("a",)


def test_of_two_formulas_either_of_which_may_fail_the_one_that_fails_sooner_is_told():
    graph = graph_of("a go b", "b go c", "c go d", "d go e", "e go d")
    assert refuted(graph, always("AG ~c & AF ~true")).path.states == ("a", "b", "c")
    assert refuted(graph, always("AX ~d & AG ~e")).path.states == ("a", "b", "c", "d")
    assert refuted(graph, always("AG ~d & AG ~b")).path.states == ("a", "b")
    forked = graph_of("a go b", "b go c", "c go x", "a or z", "z go y")
    assert refuted(forked, Property("AX AG ~x & AG ~y")).path.states == ("a", "z", "y")
    assert refuted(forked, Property("AG ~x | AG ~y")).path.states == ("a", "z", "y")


def test_a_loop_whose_parts_only_a_state_joins_that_is_left_in_the_end_is_no_loop():
    graph = graph_of("a on x", "x on b", "b on x", "x back a", "x leave out")
    assert holds(graph, eventually("out", fair="leave"))
    assert not holds(graph, eventually("out", fair="on"))
    around = graph_of("a on x", "x on b", "b on x", "x back a", "x leave out", "b stay b")
    assert refuted(around, eventually("out", fair="leave")).path.states == ("a", "x", "b", "b")


def test_a_run_that_never_comes_to_a_goal_goes_round():
    assert told(REVIEW, eventually("done", fair=None)) == (
        "AF done does not hold: a run may go round through 'draft', 'checking' for ever, "
        "where done does not hold.\n"
        "  1. starts in 'draft'\n"
        "  2. submit() moves it to 'checking'\n"
        "  3. fail() moves it to 'draft'\n"
        "  4. and so on from 1, for ever\n"
        "  Hint: Declare the loop otherwise; if a run leaves it in the end, say by which triggers: fair=."
    )


def test_a_task_finishes_in_the_end():
    assert refuted(REVIEW, eventually("done")) is None
    assert refuted(REVIEW, leads_to("checking", "visible")) is None
    assert refuted(REVIEW, eventually("done", fair=["advance"])) is None


def test_a_task_need_not_ever_fail():
    assert told(REVIEW, leads_to("checking", "draft")) == (
        "AG(checking -> AF draft) does not hold: checking holds in 'checking'; "
        "no edge leaves 'done', and there draft does not hold.\n"
        "  1. starts in 'draft'\n"
        "  2. submit() moves it to 'checking'\n"
        "  3. advance() moves it to 'done'\n"
        "  4. stays there for ever\n"
        "  Hint: Let a run end elsewhere: declare an edge out of 'done', or none that leads there."
    )


def test_a_fair_run_goes_round_with_each_fair_edge():
    assert told(REVIEW, eventually("done", fair=["submit", "fail"])).splitlines()[:4] == [
        "AF done does not hold: a fair run may go round through 'draft', 'checking' for ever, "
        "where done does not hold.",
        "  1. starts in 'draft'",
        "  2. submit() moves it to 'checking'",
        "  3. fail() moves it to 'draft'",
    ]
    both = graph_of("a one b", "a two b", "b back a", "b stop end")
    assert [edge.trigger for edge in refuted(both, eventually("end", fair=["one", "two"])).path.edges] == [
        "one",
        "back",
        "two",
        "back",
    ]


def test_a_final_state_is_not_left_in_the_end():
    graph = graph_of("a go a", "a leave b", states=[StateValue(name="a", final=True)])
    assert refuted(graph, eventually("b")).path.states == ("a", "a")
    assert refuted(graph_of("a go a", "a leave b"), eventually("b")) is None


def test_an_internal_edge_is_not_owed_in_the_end():
    note = Edge(trigger="note", source="a", dest="a", internal=True)
    graph = Graph(
        name="g", states=(StateValue(name="a"), StateValue(name="b")), edges=(note,), initial="a", goals=()
    )
    assert refuted(graph, eventually("b")).path == Path("a", (note,), 0)


def test_all_guards_may_refuse_for_ever_unless_that_is_unfair():
    graph = graph_of("a go b sure", states=[StateValue(name="a", waits_for="x")])
    assert told(graph, eventually("b", fair=None)) == (
        "AF b does not hold: every edge out of 'a' is guarded, and all the guards may refuse for ever, "
        "and there b does not hold.\n"
        "  1. starts in 'a'\n"
        "  2. stays there for ever\n"
        "  Hint: Declare an edge out of 'a' that no guard refuses."
    )
    assert refuted(graph, eventually("b")) is None
    assert refuted(graph_of("a go b sure", "a leave b"), eventually("b", fair=None)) is None


def test_what_no_run_does_has_no_run_to_show_and_the_path_leads_to_where_it_fails():
    assert told(REVIEW, always("EF draft")) == (
        "AG EF draft does not hold: no run from 'done' comes to where draft holds.\n"
        "  1. starts in 'draft'\n"
        "  2. submit() moves it to 'checking'\n"
        "  3. advance() moves it to 'done'\n"
        "  Hint: Declare an edge that leads from 'done' to where draft holds."
    )
    assert refuted(REVIEW, sometimes("done & draft")).path == Path("draft")


@pytest.mark.parametrize(
    ("formula", "why"),
    [
        ("visible", "visible does not hold in 'draft'"),
        ("~draft", "draft holds in 'draft'"),
        ("AX visible", "visible does not hold in 'checking'"),
        ("EX done", "no edge leads from 'draft' to where done holds"),
        ("EG draft", "no run from 'draft' stays for ever where draft holds"),
        ("E[draft U done]", "no run from 'draft' comes to where done holds through states where draft holds"),
        ("~AG ~EG draft", "wherever a run from 'draft' goes, EG draft does not hold"),
        ("~AF(draft & ~done)", "every run from 'draft' comes to where draft & ~done holds"),
        ("~EG true", "no edge leaves 'done'"),
        ("~EG ~done", "a run may go round through 'draft', 'checking' for ever, where done does not hold"),
        (
            "A[draft U done]",
            "done does not hold on the way from 'draft'; ~draft & ~done holds in 'checking'",
        ),
        ("AX AX AX AX visible", "visible does not hold in 'draft'"),
        (
            "AG(done -> ~EX done)",
            "done holds in 'done'; no edge leaves 'done'",
        ),
        ("AG ~done | AG ~checking", "AG ~done does not hold in 'draft'; checking holds in 'checking'"),
    ],
)
def test_the_message_says_what_there_is_and_what_there_is_not(formula, why):
    assert refuted(REVIEW, Property(formula)).msg.startswith(f"{formula} does not hold: {why}")


def test_a_run_that_stays_where_it_is_told_to_step_shows_that_it_stays():
    assert refuted(REVIEW, always("done -> AX checking")).path.loop == 2


def test_a_name_that_the_graph_does_not_have_is_refused():
    for ask in (holds, refuted):
        with pytest.raises(DeclarationError, match="has no state, tag or phase 'visibel'"):
            ask(REVIEW, always("visibel"))
        with pytest.raises(DeclarationError, match="has no trigger 'finish'"):
            ask(REVIEW, eventually("done", fair="finish"))


def test_one_kripke_structure_serves_many_properties():
    kripke = Kripke(REVIEW)
    assert [holds(kripke, claim) for claim in (always("EF done"), always("draft"))] == [True, False]
    assert refuted(kripke, eventually("done", fair=None)) == refuted(REVIEW, eventually("done", fair=None))


# Large


def long(length, *, back):
    """A pipeline of so many states, each of which may fall back to another."""
    names = [f"s{number}" for number in range(length)]
    edges = [Edge(trigger="advance", source=a, dest=b) for a, b in pairwise(names)]
    edges += [
        Edge(trigger="fail", source=name, dest=names[back(place)]) for place, name in enumerate(names[:-1])
    ]
    states = tuple(
        StateValue(name=name, steps=(Enqueue("work"),) if name != names[-1] else ()) for name in names
    )
    return Graph(name="long", states=states, edges=tuple(edges), initial="s0", goals=(names[-1],))


def test_a_graph_may_be_longer_than_the_stack_is_deep():
    kripke = Kripke(long(2000, back=lambda place: place // 2))
    goal = "s1999"
    assert holds(kripke, always(EF(goal)))
    assert holds(kripke, eventually(goal))
    assert len(refuted(kripke, always(f"~{goal}")).path) == 1999
    assert refuted(kripke, eventually(goal, fair=None)).path.states == ("s0", "s0")


def ring(length):
    """One loop of so many states, and far on another, shorter one."""
    edges = [f"s{place} go s{(place + 1) % length}" for place in range(length)]
    far = length // 2
    return graph_of(*edges, f"s{far} back s{far - 2}", "s0 leave out", initial="s0")


def test_a_fair_loop_that_is_too_long_to_tell_is_mentioned():
    found = refuted(ring(12_000), eventually("out", fair="go"))
    assert found.path == Path("s0")
    assert found.msg == (
        "AF out does not hold: a fair run may go on from 's0' for ever, where out does not hold."
    )
    assert len(refuted(ring(5_000), eventually("out", fair="go")).path) == 5_000


def test_the_way_and_the_loop_together_are_shortest_in_a_large_graph_too():
    assert refuted(ring(100), Property("AF out")).path.loop == 48
    assert len(refuted(ring(100), Property("AF out")).path) == 51
    assert (
        len(refuted(graph_of("a go b", "b go c", "c go a", "c on d", "d go c"), Property("AF ~true")).path)
        == 3
    )


def test_where_the_shortest_loop_takes_too_long_to_find_there_is_one_all_the_same(monkeypatch):
    monkeypatch.setattr("statemachine.logic.shortest._EFFORT", 20)
    assert len(refuted(ring(100), Property("AF out")).path) == 100


@pytest.mark.slow
def test_two_hundred_thousand_edges_are_decided_and_refuted():
    kripke = Kripke(long(100_000, back=lambda place: max(0, place - 7)))
    assert holds(kripke, always("EF s99999"))
    assert holds(kripke, eventually("s99999"))
    assert len(refuted(kripke, Property("AG(s1000 -> AG ~s80000)")).path) == 80_000
    assert len(refuted(kripke, eventually("s99999", fair=None)).path) == 1


def test_fair_loops_that_fall_apart_again_and_again_are_found():
    """Each round throws one state out, and leaves a component that is smaller by one."""
    length = 60
    edges = [f"s{n} go s{n + 1}" for n in range(length)] + [f"s{n} back s0" for n in range(1, length)]
    kripke = Kripke(graph_of(*edges, initial="s0"))
    assert holds(kripke, eventually(f"s{length}", fair=["go"]))
    assert not holds(kripke, eventually(f"s{length}", fair=["back"]))
