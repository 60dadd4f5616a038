"""A drawing on its way out: which format the suffix of a file says, and what is around it there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from statemachine.errors import DeclarationError

__all__ = ["SUFFIXES", "as_file", "as_text", "format_of"]

SUFFIXES: Mapping[str, str] = {
    ".mmd": "mermaid",
    ".md": "mermaid",
    ".dot": "dot",
    ".gv": "dot",
    ".svg": "svg",
    ".png": "png",
}


def format_of(file: Path | None) -> str:
    """Raises: DeclarationError: No format has that suffix."""
    if file is None:
        return "mermaid"
    if file.suffix.lower() not in SUFFIXES:
        raise DeclarationError(
            f"The suffix of {str(file)!r} does not say which format it is.",
            hint=f"End it in {', '.join(SUFFIXES)}, or pass --format.",
        )
    return SUFFIXES[file.suffix.lower()]


def as_file(drawing: str | bytes, format: str, file: Path) -> bytes:
    """Mermaid is a block of code in a Markdown file, where it would be prose otherwise."""
    if isinstance(drawing, bytes):
        return drawing
    fenced = format == "mermaid" and file.suffix.lower() == ".md"
    return (f"```mermaid\n{drawing}```\n" if fenced else drawing).encode()


def as_text(drawing: str | bytes) -> str:
    """Raises: DeclarationError: It is no text, so no terminal shows it."""
    if isinstance(drawing, bytes):
        raise DeclarationError(
            "A PNG is no text, so it cannot be printed.", hint="Write it to a file: --output FILE.png."
        )
    return drawing
