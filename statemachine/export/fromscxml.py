"""A graph from SCXML: our own, or a flat state chart of somebody else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from statemachine.errors import DeclarationError
from statemachine.export.jsonformat import VERSION, from_dict
from statemachine.export.scxml import NAMESPACE, OURS, OWN, PREFIX, cond_of, guards_of
from statemachine.graph import Graph

__all__ = ["load_scxml"]


def load_scxml(text: str | bytes) -> Graph:
    """Read a graph that was written as SCXML, or a flat state chart of somebody else.

    What another state chart does not say has its default value: it is called ``statechart``, it begins in its
    first state, its goals are its final states. Of an expression in ``cond`` only its text is known. What
    stands in other namespaces is left out.

    Raises:
        DeclarationError: It is no SCXML, it has a document type, or an element that no graph has, such as
            ``parallel`` or ``script``, or something in it is not as it must be: the message says where.
    """
    root = _parsed(text)
    try:
        return _read(root)
    except RecursionError as error:
        raise DeclarationError("Something is nested too deeply.", hint="Look for many brackets.") from error


def _read(root: Element) -> Graph:
    _check_version(root)
    _check_events(root)
    if root.tag != f"{{{NAMESPACE}}}scxml":
        raise _wrong(
            root, "is not the root of SCXML", f'Begin with <scxml xmlns="{NAMESPACE}" version="1.0">.'
        )
    own = _own(root, "initial", "name", "version", "datamodel", "binding")
    elements = list(_children(root, "state", "final"))
    states = [_read_state(element) for element in elements]
    names = _names(elements, states)
    edges = [list(_read_edges(element, names)) for element in elements]
    first = elements[0].get("id", "") if elements else ""
    return from_dict(
        {
            "name": root.get("name", "statechart"),
            "goals": [state["name"] for state in states if state.get("final")],
            **own,
            "version": VERSION,
            "initial": _named(root, root.get("initial", first), names),
            "states": states,
            "edges": _in_place(edges),
        }
    )


class _Builder(ElementTree.TreeBuilder):
    """Refuses a document type: it is what entities are declared in, which grow or read files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DeclarationError(f"This XML has a document type, {name!r}.", hint="Delete <!DOCTYPE …>.")


def _parsed(text: str | bytes) -> Element:
    parser = ElementTree.XMLParser(target=_Builder())
    try:
        parser.feed(text)
        return parser.close()
    except DeclarationError:
        raise
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DeclarationError(f"This is no XML: {error}.", hint='Write it with export("scxml").') from error


def _check_version(root: Element) -> None:
    names = (name for element in root.iter() for name in (element.tag, *element.attrib))
    for name in names:
        namespace = name[1:].partition("}")[0]
        if name.startswith(f"{{{OURS}") and namespace != OWN:
            raise DeclarationError(
                f"The graph is in the namespace {namespace!r}, and only {OWN!r} is known here.",
                hint="Read it with the version of this library that wrote it, or a later one.",
            )


def _wrong(element: Element, problem: str, hint: str) -> DeclarationError:
    named = next(
        (f" {key}={element.get(key)!r}" for key in ("id", "event", "name") if key in element.attrib), ""
    )
    return DeclarationError(f"<{_local(element)}{named}> {problem}.", hint=hint)


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]


_INSTEAD = {
    "parallel": "A row is in one state at a time: declare a state for each combination.",
    "history": "Declare an edge to each state that is returned to, with a guard.",
    "state": "States are flat: give each its own transitions, and say what they share by a tag or a phase.",
    "final": "States are flat: give each its own transitions, and say what they share by a tag or a phase.",
    "initial": "Say it in the attribute of <scxml>.",
    "datamodel": "Data are columns of the model: delete it.",
    "script": "Code is Python: delete it.",
    "invoke": "What a state starts is a task: delete it, and declare the task.",
}
_ELSE = "What runs in a state or at a transition is declared in Python: delete it."


def _children(element: Element, *allowed: str) -> Iterator[Element]:
    for child in element:
        if not child.tag.startswith(f"{{{NAMESPACE}}}"):
            continue
        if (tag := _local(child)) not in allowed:
            raise _wrong(
                child, f"in <{_local(element)}> is nothing that a graph has", _INSTEAD.get(tag, _ELSE)
            )
        yield child


def _own(element: Element, *known: str, prefix: str = f"{{{OWN}}}") -> dict[str, Any]:
    """What an element says in our namespace; of its other attributes it must have only those of SCXML."""
    fields: dict[str, Any] = {}
    for name, text in element.attrib.items():
        if name.startswith(prefix) and "}" not in name.removeprefix(prefix):
            fields[name.removeprefix(prefix)] = _value(text)
        elif not name.startswith("{") and name not in known:
            raise _wrong(element, f"has {name!r}, which is not known", f"Known are: {', '.join(known)}.")
    objects: dict[str, list[dict[str, Any]]] = {}
    for child in element:
        if child.tag.startswith(f"{{{OWN}}}"):
            objects.setdefault(_local(child), []).append(_own(child, prefix=""))
    if twice := fields.keys() & objects.keys():
        raise _wrong(element, f"says {min(twice)!r} twice", "Say it as an attribute, or as elements.")
    return {**fields, **objects}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_state(element: Element) -> dict[str, Any]:
    own = _own(element, "id")
    if "id" not in element.attrib:
        raise _wrong(element, "has no id", "Give it one: it is what is stored.")
    final = {"final": True} if _local(element) == "final" else {}
    return {"name": element.get("id"), **own, **final}


def _names(elements: list[Element], states: list[dict[str, Any]]) -> dict[str, str]:
    names: dict[str, str] = {}
    for element, state in zip(elements, states, strict=True):
        if element.attrib["id"] in names:
            raise _wrong(element, "is there twice", "Give each state an id of its own.")
        names[element.attrib["id"]] = state["name"]
    return names


def _named(element: Element, token: str, names: Mapping[str, str]) -> str:
    """The state that an id names."""
    if token not in names:
        listed = ", ".join(names) or "none"
        raise _wrong(element, f"leads to {token!r}, which is no state", f"Name one of: {listed}.")
    return names[token]


def _read_edges(source: Element, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The edges of a state: one for each event of a transition."""
    for element in _children(source, *(("transition",) if _local(source) == "state" else ())):
        own = _own(element, "event", "cond", "target", "type")
        list(_children(element))
        edge = {**own, **_ends(element, source, names), "guards": _read_guards(element, own)}
        for event in _events(element, source):
            yield {"trigger": event, **edge}


def _ends(element: Element, source: Element, names: Mapping[str, str]) -> dict[str, Any]:
    name = names[source.attrib["id"]]
    if "target" not in element.attrib:
        return {"source": name, "dest": name, "internal": True}
    return {"source": name, "dest": _named(element, element.attrib["target"].strip(), names)}


def _read_guards(element: Element, own: Mapping[str, Any]) -> Any:
    cond = " ".join(element.get("cond", "").split())
    guards = own.get("guards")
    if guards is None:
        return list(guards_of(cond))
    if isinstance(guards, list) and cond_of(map(str, guards)) != cond:
        raise _wrong(
            element,
            f"has the cond {cond!r}, and other guards: {guards!r}",
            f"Delete {PREFIX}:guards, which somebody forgot.",
        )
    return guards


def _events(element: Element, source: Element) -> list[str]:
    events, of = _words(element), f"of {source.attrib['id']!r}"
    if not events:
        raise _wrong(element, f"{of} has no event", "A row is moved by a trigger: name it in event.")
    if not all(events):
        raise _wrong(element, f"{of} matches any event", "Name its events.")
    return events


def _words(element: Element) -> list[str]:
    """The words of ``event``: ``a.*`` and ``a.`` are ``a``."""
    return [word.removesuffix("*").removesuffix(".") for word in element.get("event", "").split()]


def _check_events(root: Element) -> None:
    """An event of SCXML matches those that go on after a dot, too; a trigger is itself alone."""
    events = {word for element in root.iter(f"{{{NAMESPACE}}}transition") for word in _words(element)}
    for event in sorted(events):
        start, dot, _ = event.rpartition(".")
        while dot and start not in events:
            start, dot, _ = start.rpartition(".")
        if dot:
            raise DeclarationError(
                f"The event {start!r} matches {event!r} too.", hint="Give one of them another name."
            )


def _in_place(groups: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The edges in order of declaration, which is that of the document where nothing else is said."""
    placed = [[(edge.pop("place", None), edge) for edge in group] for group in groups]
    every = [pair for group in placed for pair in group]
    if all(place is None for place, _ in every):
        return [edge for _, edge in every]
    places = [[place for place, _ in group] for group in placed]
    numbers = {place for group in places for place in group if type(place) is int}
    if numbers != set(range(len(every))) or any(group != sorted(group) for group in places):
        raise DeclarationError(
            f"The places of the transitions are not the numbers from 0 to {len(every) - 1}, "
            "in order in each state.",
            hint=f"Delete {PREFIX}:place everywhere: the order is then that of the document.",
        )
    return [edge for _, edge in sorted(every, key=lambda pair: pair[0])]
