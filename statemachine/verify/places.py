"""Where a machine is declared: what a report for an editor or a review points at."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Place", "place_of"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a machine is declared.

    Attributes:
        file: The file.
        line: Where the declaration begins, counted from 1; None where that is not known.
        words: The line on which the declaration first says each word, such as the name of a state.
    """

    file: Path
    line: int | None = None
    words: Mapping[str, int] = field(default_factory=dict)

    def line_of(self, state: str) -> int | None:
        """The line of a state, or of the declaration where its name stands in a variable."""
        return self.words.get(state, self.line)


def place_of(machine: object) -> Place | None:
    """Find the statement that gives a machine its name in a module; None where there is none.

    The modules that are imported already are asked for it, and nothing else is imported.
    """
    return next((place for file, name in _names(machine) if (place := _assigned(file, name))), None)


def _names(machine: object) -> Iterator[tuple[Path, str]]:
    """The modules that have it and what they call it: one declares it, the others imported it."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py"):
            names = [name for name, value in list(vars(module).items()) if value is machine]
            yield from ((Path(file), name) for name in names)


def _assigned(file: Path, name: str) -> Place | None:
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # gone, or edited since it was imported
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and name in _targets(node):
            return Place(file=file, line=node.lineno, words=_words(node.value))
    return None


def _targets(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _words(declaration: ast.expr) -> dict[str, int]:
    said = [
        (node.lineno, node.value)
        for node in ast.walk(declaration)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return {word: line for line, word in sorted(said, reverse=True)}
