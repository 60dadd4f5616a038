"""A graph as SCXML, and back; and state charts of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from integration.onboarding.machine import onboarding
from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError
from statemachine.export import export, load_scxml, read
from statemachine.export.scxml import NAMESPACE, to_scxml
from statemachine.graph import Edge, Graph, StateValue
from statemachine.verify import verify
from tests.statemachine.graphs import graphs
from tests.statemachine.test_json import PAPERS

WRITTEN = """\
<?xml version="1.0" encoding="UTF-8"?>
<scxml
    xmlns="http://www.w3.org/2005/07/scxml"
    xmlns:onward="urn:onward:graph:1"
    version="1.0"
    datamodel="ecmascript"
    initial="draft"
    name="papers"
    onward:goals='["done"]'>
  <state id="draft" onward:label="Entwürfe" onward:waits_for="the author" onward:after='["P30D", "discard"]'>
    <transition event="submit" cond="is_long &amp;&amp; !is_old" target="checking" onward:place="0"/>
    <transition event="note" onward:place="2"/>
    <transition event="discard" target="done" onward:place="3"/>
  </state>
  <state id="checking">
    <onward:steps
        task="papers.check"
        kwargs='{"deep": true, "pages": [1, 2.5, ["a", null]]}'
        lease="PT1M0.5S"
        max_attempts="3"
        priority="0"/>
    <transition event="advance" target="done" onward:writes='["pages"]' onward:place="1"/>
  </state>
  <final id="done" onward:formerly='["finished"]'/>
</scxml>
"""
TURNSTILE = """\
<?xml version="1.0"?>
<!-- made elsewhere -->
<scxml xmlns="http://www.w3.org/2005/07/scxml" xmlns:other="urn:other" version="1.0">
  <other:editor zoom="2"/>
  <state id="locked" other:x="10">
    <transition event="coin token.*" target="open" cond=" valid
      and !broken " type="external"/>
    <transition event="coin" target="locked"/>
    <transition event="kick" cond="count  &gt; 3" target=" broken "/>
    <transition event="look"/>
  </state>
  <state id="open"><transition event="push" target="locked"/></state>
  <final id="broken"/>
</scxml>
"""


def chart(inner: str, root: str = "") -> str:
    return (
        f'<scxml xmlns="{NAMESPACE}" xmlns:onward="urn:onward:graph:1" version="1.0" {root}>{inner}</scxml>'
    )


def test_a_graph_is_written_in_the_words_of_scxml_and_the_rest_beside_them() -> None:
    assert to_scxml(PAPERS) == export(PAPERS, "scxml") == WRITTEN


@pytest.mark.parametrize("graph", [PAPERS, onboarding.graph], ids=lambda graph: graph.name)
def test_what_was_written_is_read_as_an_equal_graph(graph: Graph) -> None:
    assert load_scxml(to_scxml(graph)) == graph
    assert load_scxml(to_scxml(graph).encode()) == graph


@settings(max_examples=40)
@given(graphs())
def test_any_graph_is_read_back_as_an_equal_one_and_its_references_lead_to_ids(graph: Graph) -> None:
    text = to_scxml(graph)
    again = load_scxml(text)
    assert again == graph
    assert to_scxml(again) == text
    root = ElementTree.fromstring(text)
    ids = [element.attrib["id"] for element in root if "id" in element.attrib]
    targets = {element.attrib["target"] for element in root.iter() if "target" in element.attrib}
    assert len(set(ids)) == len(ids) == len(graph.states)
    assert targets | {root.attrib["initial"]} <= set(ids)


def with_names(*names: str) -> Graph:
    states = tuple(StateValue(name=name) for name in names)
    edges = tuple(Edge(trigger=name, source=names[0], dest=name, guards=(name,)) for name in names)
    return Graph(name=names[0], states=states, edges=edges, initial=names[0], goals=names[-1:])


def test_a_name_that_is_no_id_has_another_one_that_nobody_has() -> None:
    graph = with_names("to do", "to_do", "to.do", "3", "*", "", "true", "\x00", '"<&>\n')
    ids = [state.attrib["id"] for state in ElementTree.fromstring(to_scxml(graph))]
    assert ids == ["to_do_2", "to_do", "to_do_3", "_3", "_", "__2", "true", "__3", "_____"]
    assert load_scxml(to_scxml(graph)) == graph


def test_a_flat_state_chart_of_somebody_else_is_read() -> None:
    assert load_scxml(TURNSTILE) == Graph(
        name="statechart",
        states=(StateValue(name="locked"), StateValue(name="open"), StateValue(name="broken", final=True)),
        edges=(
            Edge(trigger="coin", source="locked", dest="open", guards=("valid", "not broken")),
            Edge(trigger="token", source="locked", dest="open", guards=("valid", "not broken")),
            Edge(trigger="coin", source="locked", dest="locked"),
            Edge(trigger="kick", source="locked", dest="broken", guards=("count > 3",)),
            Edge(trigger="look", source="locked", dest="locked", internal=True),
            Edge(trigger="push", source="open", dest="locked"),
        ),
        initial="locked",
        goals=("broken",),
    )
    assert load_scxml(TURNSTILE.encode("utf-16")) == load_scxml(TURNSTILE)


def test_a_final_state_that_something_leaves_is_written_so_that_verify_still_finds_it() -> None:
    graph = replace(PAPERS, edges=(*PAPERS.edges, Edge(trigger="again", source="done", dest="draft")))
    again = load_scxml(to_scxml(graph))
    assert again == graph
    assert verify(again).against("final-is-an-end")


STATES = '<state id="a"/><final id="b"/>'


def leaving(transition: str, *, states: str = '<final id="b"/>') -> str:
    return chart(f'<state id="a">{transition}</state>{states}')


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "This is no XML: no element found: line 1, column 0."),
        ("<scxml>", "This is no XML: no element found"),
        ("\ud800", "This is no XML: 'utf-8' codec can't encode"),
        (b'<?xml version="1.0" encoding="x"?><a/>', "This is no XML: unknown encoding"),
        ("<scxml/>", "<scxml> is not the root of SCXML. Begin with <scxml xmlns="),
        (f'<state xmlns="{NAMESPACE}" id="a"/>', "<state id='a'> is not the root of SCXML."),
        (
            WRITTEN.replace("graph:1", "graph:2"),
            "The graph is in the namespace 'urn:onward:graph:2', and only",
        ),
        (chart(""), "<scxml> leads to '', which is no state. Name one of: none."),
        (chart(STATES, 'initial="c"'), "<scxml> leads to 'c', which is no state. Name one of: a, b."),
        (chart(STATES, 'initial="a b"'), "<scxml> leads to 'a b', which is no state."),
        (chart("<state/>"), "<state> has no id. Give it one: it is what is stored."),
        (chart('<state id="a"/><final id="a"/>'), "<final id='a'> is there twice."),
        (
            chart('<parallel id="p"/>'),
            "<parallel id='p'> in <scxml> is nothing that a graph has. A row is in one",
        ),
        (
            chart('<state id="a"><history id="h"/></state>'),
            "<history id='h'> in <state> is nothing that a graph",
        ),
        (
            chart('<state id="a"><state id="b"/></state>'),
            "<state id='b'> in <state> is nothing that a graph has. States are flat",
        ),
        (
            chart('<datamodel><data id="d"/></datamodel>'),
            "<datamodel> in <scxml> is nothing that a graph has.",
        ),
        (chart("<script>1</script>"), "<script> in <scxml> is nothing that a graph has. Code is Python"),
        (chart('<state id="a"><onentry/></state>'), "<onentry> in <state> is nothing that a graph has."),
        (
            leaving('<transition event="e"><raise event="f"/></transition>'),
            "<raise event='f'> in <transition> is",
        ),
        (
            chart('<final id="b"><transition event="e"/></final>'),
            "<transition event='e'> in <final> is nothing",
        ),
        (
            leaving('<transition target="b"/>'),
            "<transition> of 'a' has no event. A row is moved by a trigger",
        ),
        (leaving('<transition event="*" target="b"/>'), "<transition event='*'> of 'a' matches any event."),
        (
            leaving('<transition event="e" target="c"/>'),
            "<transition event='e'> leads to 'c', which is no state.",
        ),
        (
            leaving('<transition event="e" targets="b"/>'),
            "<transition event='e'> has 'targets', which is not known. Known are: event, cond, target, type.",
        ),
        (leaving('<transition event="e"/><transition event="e.f.g"/>'), "The event 'e' matches 'e.f.g' too."),
        (
            leaving('<transition event="e" cond="x" onward:guards=\'["y"]\'/>'),
            "has the cond 'x', and other guards: ['y']. Delete onward:guards",
        ),
        (
            leaving('<transition event="e" onward:place="1"/>'),
            "The places of the transitions are not the numbers",
        ),
        (leaving('<transition event="e" onward:place="true"/>'), "The places of the transitions are not"),
        (
            leaving('<transition event="e" onward:place="1"/><transition event="e" onward:place="0"/>'),
            "in order",
        ),
        (leaving('<transition event="e" onward:place="0"/><transition event="e"/>'), "The places of the"),
        (
            chart('<state id="a" onward:lable="x"/>'),
            "states[0] has 'lable', which is not known. Did you mean",
        ),
        (chart('<state id="a" onward:label="5"/>'), "states[0].label must be a string, and is 5."),
        (chart('<state id="a" onward:steps="5"><onward:steps task="t"/></state>'), "says 'steps' twice."),
        (chart('<state id="a"><onward:steps/></state>'), "states[0].steps[0] has no 'task'"),
        (
            chart(f'<state id="a">{"<onward:steps>" * 5_000}{"</onward:steps>" * 5_000}</state>'),
            "Something is nested too deeply.",
        ),
        (chart(f'<state id="a" onward:tags="{"[" * 100_000}"/>'), "Something is nested too deeply."),
    ],
)
def test_what_is_wrong_in_a_document_is_said_with_its_element(text: str | bytes, complaint: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        load_scxml(text)
    assert complaint in str(raised.value)


def test_a_document_type_is_refused_before_an_entity_grows_or_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("<state id='secret'/>")
    bomb = "".join(f'<!ENTITY {b} "{f"&{a};" * 100}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    secret = f"<!ENTITY x SYSTEM '{tmp_path}/secret'>"
    for entities, used in ((f'<!ENTITY a "aaaaaaaaaa">{bomb}', "&i;"), (secret, "&x;")):
        with pytest.raises(DeclarationError) as raised:
            load_scxml(f"<!DOCTYPE scxml [{entities}]>{chart(used)}")
        assert str(raised.value) == "This XML has a document type, 'scxml'. Delete <!DOCTYPE …>."


def test_a_file_is_read_after_its_suffix_in_the_encoding_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "papers.scxml"
    file.write_bytes(WRITTEN.replace("UTF-8", "ISO-8859-1").encode("latin-1"))
    assert read(file) == PAPERS
    file.write_text("no")
    with pytest.raises(DeclarationError, match=r"papers\.scxml: This is no XML: "):
        read(file)


def test_the_promises_and_the_steps_of_a_graph_stand_in_elements_of_their_own() -> None:
    steps: Any = (Enqueue("a", queue="true", kwargs={"x": "\x01\ufffe"}), Enqueue("b", formerly=("c", "d")))
    graph = replace(PAPERS, states=(replace(PAPERS["draft"], steps=steps), *PAPERS.states[1:]))
    assert '<onward:steps task="a" kwargs=\'{"x": "\\u0001\\ufffe"}\' queue=\'"true"\'/>' in to_scxml(graph)
    assert load_scxml(to_scxml(graph)) == graph
