"""A graph as SCXML (W3C, 2015); `load_scxml` gives an equal graph back.

States, final states, the initial one, triggers, destinations and guards are SCXML. What SCXML has no word
for stands beside it in a namespace of our own, under the names that it has in JSON: text as it is, other
values as JSON. A name that cannot be an id, or an event, stands there too, and another one for it here.

States are flat, so a phase is an attribute: its states need not stand together. A guard is the name of
something outside, which ``cond`` asks for as ECMAScript.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any
from xml.sax.saxutils import quoteattr

from statemachine.export.jsonformat import VERSION, as_dict
from statemachine.graph import Graph

__all__ = ["NAMESPACE", "OURS", "OWN", "PREFIX", "cond_of", "guards_of", "to_scxml"]

NAMESPACE = "http://www.w3.org/2005/07/scxml"
OURS = "urn:onward:graph:"
OWN = f"{OURS}{VERSION}"
"""The namespace of what SCXML has no word for."""

PREFIX = "onward"
_WIDTH = 110

# What XML takes for an id and SCXML for an event of one word: its names, without colons and dots.
_START = (
    "A-Z_a-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f"
    "\u2c00-\u2fef\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_REST = f"{_START}0-9\u00b7\u0300-\u036f\u203f\u2040-"
_TOKEN = re.compile(f"[{_START}][{_REST}]*")
_NO_TOKEN = re.compile(f"[^{_REST}]")
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_scxml(graph: Graph) -> str:
    """Write a graph as SCXML.

    Raises:
        DeclarationError: An argument of a task is nothing that JSON has.
    """
    document = as_dict(graph)
    ids = _tokens(state["name"] for state in document["states"])
    events = _tokens(edge["trigger"] for edge in document["edges"])
    edges = _by_source(document)
    states = [
        line
        for state in document["states"]
        for line in _state(state, ids, [_edge(edge, ids, events) for edge in edges[state["name"]]])
    ]
    own = _without(document, "version", "states", "edges", "initial")
    attributes = {
        "xmlns": NAMESPACE,
        f"xmlns:{PREFIX}": OWN,
        "version": "1.0",
        "datamodel": "ecmascript" if any(edge.guards for edge in graph.edges) else "null",
        "initial": ids[graph.initial],
        **_said(own, "name", graph.name if _TOKEN.fullmatch(graph.name) else None),
    }
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', *_element("scxml", attributes, own, states)]
    return "\n".join(lines) + "\n"


def _by_source(document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The edges of each state; with their places, where these are lost by that."""
    edges: dict[str, list[dict[str, Any]]] = {state["name"]: [] for state in document["states"]}
    for place, edge in enumerate(document["edges"]):
        edges[edge["source"]].append({**edge, "place": place})
    grouped = [edge for group in edges.values() for edge in group]
    if [edge["place"] for edge in grouped] == list(range(len(grouped))):
        for edge in grouped:
            del edge["place"]
    return edges


def _state(state: dict[str, Any], ids: Mapping[str, str], edges: list[list[str]]) -> list[str]:
    own, token = dict(state), ids[state["name"]]
    # No transition leaves a <final>, while a declaration that is to be verified may be wrong.
    tag = "final" if own.get("final") and not edges else "state"
    if tag == "final":
        del own["final"]
    return _element(
        tag, _said(own, "name", token, attribute="id"), own, [line for edge in edges for line in edge]
    )


def _edge(edge: dict[str, Any], ids: Mapping[str, str], events: Mapping[str, str]) -> list[str]:
    own = _without(edge, "source", "dest")
    attributes = _said(own, "trigger", events[edge["trigger"]], attribute="event")
    if guards := tuple(edge.get("guards", ())):
        attributes["cond"] = cond_of(guards)
        if guards_of(attributes["cond"]) == guards:
            del own["guards"]
    if edge.get("internal") and edge["dest"] == edge["source"]:
        del own["internal"]
    else:
        attributes["target"] = ids[edge["dest"]]
    return _element("transition", attributes, own)


def _without(fields: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def _said(own: dict[str, Any], name: str, token: str | None, *, attribute: str = "") -> dict[str, str]:
    """The attribute of SCXML that says a field, which is then not ours to say."""
    if own[name] == token:
        del own[name]
    return {} if token is None else {attribute or name: token}


def _tokens(names: Iterable[str]) -> dict[str, str]:
    """For each name one that can be an id: itself, or one that is like it."""
    names = dict.fromkeys(names)
    taken = {name for name in names if _TOKEN.fullmatch(name)}
    tokens = {}
    for name in names:
        tokens[name] = name if name in taken else _free(name, taken)
        taken.add(tokens[name])
    return tokens


def _token(name: str) -> str:
    like = _NO_TOKEN.sub("_", name)
    return like if _TOKEN.fullmatch(like) else f"_{like}"


def _free(name: str, taken: set[str]) -> str:
    like = _token(name)
    return next(t for n in count(1) if (t := like if n == 1 else f"{like}_{n}") not in taken)


_GUARD = re.compile(r"(?:!\s*|not\s+)?([^\W\d]\w*)")


def cond_of(guards: Iterable[str]) -> str:
    asked = ((guard.startswith("not "), guard.removeprefix("not ")) for guard in guards)
    return " && ".join(
        f"{'!' * negated}{name if name.isidentifier() else _token(name)}" for negated, name in asked
    )


def guards_of(cond: str) -> tuple[str, ...]:
    """The names that are asked for; of any other expression its text, which is as free to pass."""
    parts = [part.strip() for part in re.split(r"&&|\band\b", cond)]
    found = [_GUARD.fullmatch(part) for part in parts]
    if not all(found):
        return (cond,) if cond else ()
    return tuple(part[1] if part[0] == part[1] else f"not {part[1]}" for part in found if part)


def _element(
    tag: str,
    attributes: dict[str, str],
    own: Mapping[str, Any],
    children: Iterable[str] = (),
    prefix: str = f"{PREFIX}:",
) -> list[str]:
    """The lines of an element: an own value is an attribute, or for each of a list of objects an element."""
    inner: list[str] = []
    for name, value in own.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            inner += [line for item in value for line in _element(f"{PREFIX}:{name}", {}, item, prefix="")]
        else:
            attributes[f"{prefix}{name}"] = _text(value)
    inner += children
    said = [f"{name}={quoteattr(value)}" for name, value in attributes.items()]
    end = ">" if inner else "/>"
    opening = " ".join([f"<{tag}", *said]) + end
    lines = [opening]
    if len(opening) > _WIDTH:
        lines = [f"<{tag}", *(f"    {attribute}" for attribute in said)]
        lines[-1] += end
    return [*lines, *(f"  {line}" for line in inner), f"</{tag}>"] if inner else lines


def _text(value: Any) -> str:
    """Text as it is, unless it would be read as JSON; anything else as JSON."""
    if isinstance(value, str) and not _NO_XML.search(value) and not _is_json(value):
        return value
    written = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if _NO_XML.search(written) else written


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:
        return True
    except ValueError:
        return False
    return True
