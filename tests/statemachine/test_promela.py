"""What is written for spin. What spin says of it is asked in tests/model."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import DeclarationError, Edge, Enqueue, Graph, State, StateMachine, StateValue
from statemachine.export import export
from statemachine.export.ltl import Untranslatable, to_ltl
from statemachine.export.promela import to_promela
from statemachine.logic import Property, always, eventually, leads_to, sometimes

review = StateMachine(
    name="review of papers",
    states=[
        State("draft", label="Draft", waits_for="the author", tags=["open"]),
        State("checking", on_enter=[Enqueue("papers.check", max_attempts=1), Enqueue("papers.score")]),
        State("to be */ published", final=True),
        State("rejected", waits_for="the author", after=(timedelta(days=30), "discard"), tags=["open"]),
        State("init", final=True),
    ],
    transitions=[
        {"trigger": "submit", "source": "draft", "dest": "checking"},
        {"trigger": "advance", "source": "checking", "dest": "to be */ published"},
        {"trigger": "fail", "source": "checking", "dest": "rejected"},
        {"trigger": "cancel", "source": "checking", "dest": "draft"},
        {"trigger": "revise", "source": "rejected", "dest": "draft", "conditions": "is_worth_it"},
        {"trigger": "revise", "source": "rejected", "dest": "init"},
        {"trigger": "revise", "source": "rejected", "dest": "checking"},
        {"trigger": "discard", "source": "rejected", "dest": "init", "unless": "is_loved"},
        {"trigger": "note", "source": "draft", "dest": None},
    ],
    initial="draft",
    goal="to be */ published",
)
MODEL = review.export("promela")


def part(head: str) -> list[str]:
    """The lines of an inline or of a block, without what begins and ends it."""
    found = re.search(rf"^{re.escape(head)}.*?{{\n(.*?)^}}", MODEL, re.MULTILINE | re.DOTALL)
    assert found, head
    return [line.strip() for line in found[1].splitlines() if line.strip() not in ("if", "fi")]


def test_a_state_keeps_its_name_where_promela_can_read_it():
    assert part("mtype:state =") == [
        "nowhere,",
        "s_draft, /* 'draft'; Draft; waits for the author */",
        "s_checking, /* 'checking'; checking; papers.check; papers.score */",
        "s2, /* 'to be * / published'; to be * / published */",
        "s_rejected, /* 'rejected'; rejected; waits for the author */",
        "s_init /* 'init'; init */",
    ]


def test_a_task_takes_the_edges_of_its_stage_and_a_person_the_others():
    assert part("inline done_edge") == [
        ":: s == s_checking -> t = s2 /* advance */",
        ":: else -> t = nowhere",
    ]
    assert part("inline failed_edge") == [
        ":: s == s_checking -> t = s_rejected /* fail */",
        ":: else -> t = nowhere",
    ]
    assert part("inline hand_edge") == [
        ":: s == s_draft -> t = s_checking /* submit */",
        ":: s == s_checking -> t = s_draft /* cancel */",
        ":: s == s_rejected -> t = s_draft /* revise [is_worth_it] */",
        ":: s == s_rejected -> t = s_init /* revise */",
        ":: s == s_rejected -> t = s_init /* discard [not is_loved] */",
        ":: else -> t = nowhere",
    ]


def test_a_guard_may_refuse_for_ever_where_every_edge_has_one():
    assert part("inline timer_edge") == [
        ":: s == s_rejected -> t = s_init /* discard [not is_loved] */",
        ":: s == s_rejected -> t = nowhere /* every guard refuses */",
        ":: else -> t = nowhere",
    ]


def test_the_tables_say_what_the_states_declare():
    for line in [
        "#define WORKS(s) ((s) == s_checking)",
        "#define HAS_TIMER(s) ((s) == s_rejected)",
        "#define IS_GOAL(s) ((s) == s2)",
        "#define RESTS(s) ((s) == s_draft || (s) == s2 || (s) == s_rejected || (s) == s_init)",
        "#define STEPS(s) ((s) == s_checking -> 2 : 1)",
        "#define LIMIT(s, k) ((s) == s_checking && (k) == 0 && STRIKES > 1 -> 1 : STRIKES)",
        "#define START s_draft",
    ]:
        assert f"\n{line}\n" in MODEL, line


def test_the_model_says_what_it_is_and_how_to_run_it():
    assert MODEL.startswith("/* review of papers: the states and edges of a row, ")
    assert "spin -run -ltl comes_to_rest -f -m2000000 review-of-papers.pml\n" in MODEL


def test_workers_and_messages_are_counted():
    model = to_promela(review.graph, workers=3, messages=1)
    assert "#define WORKERS 3\n#define MESSAGES 1\n" in model
    assert "(HOLDS(0) || HOLDS(1) || HOLDS(2))" in model


@pytest.mark.parametrize("sizes", [{"workers": 0}, {"workers": 9}, {"messages": 0}])
def test_what_nobody_can_explore_is_refused(sizes):
    with pytest.raises(DeclarationError, match="cannot be explored"):
        to_promela(review.graph, **sizes)


def test_more_states_than_promela_can_name_are_refused():
    names = [str(number) for number in range(251)]
    states = tuple(StateValue(name=name) for name in names)
    large = Graph(name="large", states=states, edges=(), initial="0", goals=("0",))
    with pytest.raises(DeclarationError, match="'large' has 251 states, and a Promela model at most 250"):
        export(large, "promela")


@given(names=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True))
def test_no_name_of_a_user_reaches_the_code(names):
    states = tuple(StateValue(name=name, label=name, waits_for=name) for name in names)
    edges = tuple(Edge(trigger=name, source=names[0], dest=name, guards=(name,)) for name in names)
    graph = Graph(name=names[0], states=states, edges=edges, initial=names[0], goals=(names[-1],))
    model = to_promela(graph, properties=[Property("true", name=names[0])])
    code = re.sub(r"/\*.*?\*/", "", model, flags=re.DOTALL)
    assert re.fullmatch(r"[ -~\n]*", code)
    assert "*/" not in code
    ids = re.findall(r"^  (s\w+)", code[code.index("mtype:state") :].partition("}")[0], re.MULTILINE)
    assert len(ids) == len(set(ids)) == len(names)


# What a user claims


def said(claimed):
    return to_ltl(review.graph, claimed, {s.name: f"s{n}" for n, s in enumerate(review.graph)}.__getitem__)


def test_what_holds_on_every_run_is_said_in_ltl():
    assert said(always("open")) == "([] ((status == s0 || status == s3) || JUMPED))"
    assert said(eventually("init | rejected", fair=None)) == (
        "(<> (((status == s4) || (status == s3)) || JUMPED))"
    )
    assert said(leads_to("checking", "~checking", fair=None)) == (
        "([] (!(status == s1) || (<> ((!(status == s1)) || JUMPED))))"
    )
    assert said(Property("A[draft U checking]")) == (
        "(((status == s0) || JUMPED) U ((status == s1) || JUMPED))"
    )


@pytest.mark.parametrize(
    ("claimed", "reason"),
    [
        (sometimes("init"), "what LTL cannot say"),
        (always("EF init"), "what LTL cannot say"),
        (Property("AF AG init"), "what LTL cannot say"),
        (Property("AX checking"), "what LTL cannot say"),
        (Property("AG init | AF draft"), "what LTL cannot say"),
        (eventually("init"), "which edges are taken"),
    ],
)
def test_what_ltl_cannot_say_is_a_comment(claimed, reason):
    with pytest.raises(Untranslatable, match=reason):
        said(claimed)
    model = to_promela(review.graph, properties=[claimed])
    assert re.search(r"^/\* Not claimed here: .*: it .*\. \*/$", model, re.MULTILINE)
    assert "ltl property_1" not in model


def test_a_claim_is_called_what_the_user_calls_it():
    model = to_promela(review.graph, properties=[always("true"), always("open", name="it's open")])
    assert "\nltl property_1 {" in model
    assert "\nltl property_2_it_s_open {" in model


def test_what_a_graph_declares_is_claimed_unless_something_else_is():
    declared = replace(review.graph, keeps=("open",), properties=(always("true", name="always so"),))
    model = to_promela(declared)
    assert "\nltl property_1_always_so {" in model
    assert "\nltl property_2_keeps_open {" in model
    assert "\nltl property_" not in to_promela(declared, properties=[])


def test_a_state_whose_name_is_too_long_for_spin_goes_by_its_number():
    names = ("a" * 60, "b" * 61)
    states = tuple(StateValue(name=name) for name in names)
    model = to_promela(Graph(name="long", states=states, edges=(), initial=names[0], goals=()))
    assert f"\n  s_{names[0]}, /*" in model
    assert f"\n  s1 /* '{names[1]}'" in model


def test_a_claim_about_an_unknown_state_is_refused():
    with pytest.raises(DeclarationError):
        to_promela(review.graph, properties=[always("nonsense")])


def test_a_state_that_leads_to_itself_alone_is_no_place_to_wait():
    states = (StateValue(name="draft"), StateValue(name="lost"))
    edges = (
        Edge(trigger="go", source="draft", dest="lost"),
        Edge(trigger="turn", source="lost", dest="lost"),
    )
    model = to_promela(Graph(name="lost", states=states, edges=edges, initial="draft", goals=()))
    assert "\n#define RESTS(s) ((s) == s_draft)\n" in model
