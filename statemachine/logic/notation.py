"""How a formula is written as a text, and read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from statemachine.errors import DeclarationError
from statemachine.logic.formula import (
    AF,
    AG,
    AU,
    AX,
    EF,
    EG,
    EU,
    EX,
    HINT,
    KINDS,
    RESERVED,
    TOO_DEEP,
    And,
    Atom,
    Constant,
    Formula,
    Implies,
    Not,
    Or,
    Unary,
    Until,
    not_too_deep,
)

__all__ = ["parse"]

_TOKEN = re.compile(
    r"""\s*(?:(?P<word>[^\W\d]\w*)|(?P<sign>->|&&|\|\||[~!&|()\[\]:])"""
    r"""|"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<end>\Z))""",
    re.DOTALL,
)
_SAME = {"!": "~", "not": "~", "&&": "&", "and": "&", "||": "|", "or": "|"}
_TEMPORAL: dict[str, type[Unary]] = {kind.symbol: kind for kind in (AG, AF, AX, EG, EF, EX)}
_UNTIL: dict[str, type[Until]] = {"A": AU, "E": EU}
_CONSTANTS = {"true": Constant(True), "false": Constant(False)}


def parse(text: str) -> Formula:
    """Read a formula.

    The signs, the loosest first: ``->``, ``|``, ``&``, then ``~`` and ``AG AF AX EG EF EX``; ``A[p U q]``,
    ``E[p U q]``, ``true``, ``false``; ``!``, ``&&``, ``||``, ``not``, ``and``, ``or`` are read too. A name
    that is no plain word, or that is a word of the logic, stands in quotes, in which a backslash takes the
    next character as it is; ``state:x``, ``tag:x`` and ``phase:x`` say what is meant.

    Raises:
        DeclarationError: It is no formula.
    """
    try:
        return not_too_deep(_Parser(text).whole())
    except RecursionError:
        raise DeclarationError("A formula is nested too deeply to be read.", hint=TOO_DEEP) from None


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int

    @property
    def sign(self) -> str:
        """What it is to the grammar; empty for a name."""
        if self.kind == "sign" or (self.text in RESERVED and self.kind == "word"):
            return _SAME.get(self.text, self.text)
        return ""


class _Parser:
    """Recursive descent, one method for each level of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._read()
        self._token = next(self._tokens)

    def _read(self) -> Iterator[_Token]:
        position = 0
        while found := _TOKEN.match(self._text, position):
            kind = found.lastgroup or ""
            yield _Token(kind, _unescaped(found[kind], kind), found.start(kind) + 1)
            position = found.end()
        raise DeclarationError(
            f"The formula {self._text!r} cannot be read from {self._text[position:].lstrip()!r} on.",
            hint=HINT,
        )

    def whole(self) -> Formula:
        formula = self._implies()
        if self._token.kind != "end":
            raise self._expected("an operator or the end")
        return formula

    def _implies(self) -> Formula:
        left = self._or()
        return Implies(left, self._implies()) if self._take("->") else left

    def _or(self) -> Formula:
        formula = self._and()
        while self._take("|"):
            formula = Or(formula, self._and())
        return formula

    def _and(self) -> Formula:
        formula = self._unary()
        while self._take("&"):
            formula = And(formula, self._unary())
        return formula

    def _unary(self) -> Formula:
        if self._take("~"):
            return Not(self._unary())
        for symbol, temporal in _TEMPORAL.items():
            if self._take(symbol):
                return temporal(self._unary())
        return self._primary()

    def _primary(self) -> Formula:
        if self._take("("):
            formula = self._implies()
            self._need(")")
            return formula
        for symbol, until in _UNTIL.items():
            if self._take(symbol):
                return self._until(until)
        for word, constant in _CONSTANTS.items():
            if self._take(word):
                return constant
        return self._atom()

    def _until(self, until: type[Until]) -> Formula:
        self._need("[")
        left = self._implies()
        self._need("U")
        right = self._implies()
        self._need("]")
        return until(left, right)

    def _atom(self) -> Atom:
        name = self._name()
        if name.kind != "word" or not self._take(":"):
            return Atom(name.text)
        kind = next((kind for kind in KINDS if kind == name.text), None)
        if kind is None:
            raise DeclarationError(
                f"The formula {self._text!r} asks for a {name.text!r} by name, which nothing is.",
                hint="Write state:x, tag:x or phase:x.",
            )
        return Atom(self._name(any_word=True).text, kind)

    def _name(self, *, any_word: bool = False) -> _Token:
        token = self._token
        if token.kind not in ("word", "double", "single") or (token.sign and not any_word):
            raise self._expected("a name or a formula")
        self._token = next(self._tokens)
        return token

    def _take(self, sign: str) -> bool:
        taken = self._token.sign == sign
        if taken:
            self._token = next(self._tokens)
        return taken

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            raise self._expected(repr(sign))

    def _expected(self, wanted: str) -> DeclarationError:
        if self._token.kind == "end":
            return DeclarationError(f"The formula {self._text!r} ends where {wanted} is expected.", hint=HINT)
        return DeclarationError(
            f"The formula {self._text!r} has {self._token.text!r} at column {self._token.column}, "
            f"where {wanted} is expected.",
            hint=HINT,
        )


def _unescaped(text: str, kind: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) if kind in ("double", "single") else text
