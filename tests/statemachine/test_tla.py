"""What is written for TLC. What TLC says of it is asked in tests/model."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine import Edge, Graph, StateValue
from statemachine.export.tla import to_tla
from tests.statemachine.test_promela import review

TEXT = review.export("tla")


def table(name: str) -> list[str]:
    found = re.search(rf"^{name} == {{\n(.*?)^}}", TEXT, re.MULTILINE | re.DOTALL)
    assert found, name
    return [line.strip() for line in found[1].splitlines()]


def test_a_state_keeps_its_name_where_tla_can_read_it():
    assert table("States") == [
        "\"draft\", \\* 'draft'; Draft; waits for the author",
        "\"checking\", \\* 'checking'; checking; papers.check; papers.score",
        "\"#2\", \\* 'to be * / published'; to be * / published",
        "\"rejected\", \\* 'rejected'; rejected; waits for the author",
        "\"init\" \\* 'init'; init",
    ]


def test_a_task_a_clock_and_a_person_take_their_edges():
    assert table("Done") == ['<<"checking", "#2">> \\* advance']
    assert table("Failed") == ['<<"checking", "rejected">> \\* fail']
    assert table("Timer") == [
        '<<"rejected", "init">>, \\* discard [not is_loved]',
        '<<"rejected", Nowhere>>',
    ]
    assert table("ByHand") == [
        '<<"draft", "checking">>, \\* submit',
        '<<"checking", "draft">>, \\* cancel',
        '<<"rejected", "draft">>, \\* revise [is_worth_it]',
        '<<"rejected", "init">>, \\* revise',
        '<<"rejected", "init">> \\* discard [not is_loved]',
    ]


def test_the_tables_say_what_the_states_declare():
    for line in [
        'Works == {"checking"}',
        'Timed == {"rejected"}',
        'Goals == {"#2"}',
        'Rests == {"draft", "#2", "rejected", "init"}',
        "MostSteps == 2",
        'StepsOf(s) ==\n  CASE s = "checking" -> 2\n       [] OTHER -> 1',
        'Limit(s, k) ==\n  CASE s = "checking" /\\ k = 0 /\\ Strikes > 1 -> 1\n       [] OTHER -> Strikes',
        '  Start = "draft"',
    ]:
        assert f"\n{line}\n" in TEXT, line


def test_a_stage_that_cannot_be_given_up_leads_nowhere():
    states = (StateValue(name="draft"), review.graph["checking"])
    graph = Graph(name="lost", states=states, edges=(), initial="draft", goals=())
    assert '\nFailed == {\n  <<"checking", Nowhere>>\n}\n' in to_tla(graph)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("review of papers", "review_of_papers"),
        ("row", "m_row"),
        ("Naturals", "m_Naturals"),
        ("2nd", "m_2nd"),
    ],
)
def test_a_module_is_called_after_its_graph_or_what_tla_allows(name, module):
    text = to_tla(Graph(name=name, states=(StateValue(name="a"),), edges=(), initial="a", goals=()))
    assert text.startswith(f"---- MODULE {module} ----\n")
    assert f" {module}.tla > {module}.cfg\n" in text


def test_the_configuration_stands_behind_the_module():
    module, end, configuration = TEXT.partition("\n====\n")
    assert end
    claims = re.findall(r"^  (\w+)$", configuration, re.MULTILINE)
    assert len(claims) == 13
    assert [claim for claim in claims if f"\n{claim} ==" not in module] == []
    constants = re.findall(r"^  (\w+) = ", configuration, re.MULTILINE)
    assert constants == re.findall(r"^  (\w+),? +\\\*", module.partition("\nCONSTANTS")[2], re.MULTILINE)[:6]


@given(names=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True))
def test_no_name_of_a_user_reaches_the_code(names):
    states = tuple(StateValue(name=name, label=name, waits_for=name) for name in names)
    edges = tuple(Edge(trigger=name, source=names[0], dest=name, guards=(name,)) for name in names)
    graph = Graph(name=names[0], states=states, edges=edges, initial=names[0], goals=(names[-1],))
    code = re.sub(r"\\\*.*", "", to_tla(graph))
    assert re.fullmatch(r"[ -~\n]*", code)
    members = re.search(r"^States == {\n(.*?)^}", code, re.MULTILINE | re.DOTALL)[1]
    ids = re.findall(r'^  ("[^"\\]*"),? *$', members, re.MULTILINE)
    assert len(ids) == len(set(ids)) == len(names) == members.count("\n")
