"""What a model says of states and edges in its comments."""

from __future__ import annotations

from statemachine.graph import Edge, StateValue

__all__ = ["comment", "said", "taken"]


def comment(text: str) -> str:
    """A text that ends no comment and begins no line: letters of any language may stand."""
    printable = "".join(c if c.isprintable() and c != "\\" else " " for c in text)
    return " ".join(printable.split()).replace("*/", "* /").replace("/*", "/ *")


def said(state: StateValue) -> str:
    parts = [repr(state.name), state.label, f"waits for {state.waits_for}" if state.waits_for else ""]
    parts += [step.task for step in state.steps]
    return comment("; ".join(part for part in parts if part))


def taken(edge: Edge) -> str:
    return f"{edge.trigger} [{' and '.join(edge.guards)}]" if edge.guards else edge.trigger
