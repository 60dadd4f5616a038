"""Formulas about the runs of a graph, as frozen values: the classes that `statemachine.logic` offers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from statemachine.errors import DeclarationError

if TYPE_CHECKING:
    from statemachine.graph import Graph

Kind: TypeAlias = Literal["", "state", "tag", "phase"]

KINDS: tuple[Kind, ...] = ("state", "tag", "phase")
RESERVED = frozenset({"AG", "AF", "AX", "EG", "EF", "EX", "A", "E", "U", "true", "false", "not", "and", "or"})
"""The words of the logic: a name that is one of them stands in quotes."""
HINT = 'Write it like AG(dashboard -> AG dashboard), A[~failed U complete] or tag:"is visible".'

DEEPEST = 50
"""Formulas are recursed over: one of this depth can be checked, compared, printed and pickled anywhere."""
TOO_DEEP = "Give the states that it lists a tag, and ask about that."

_PLAIN = re.compile(r"[^\W\d]\w*")
_IMPLIES, _OR, _AND, _UNARY, _ATOM = range(5)
_LISTED = 12


class Formula:
    """What holds in a state, or not. Build it with ``~``, ``&``, ``|``, ``>>`` (implies) and these classes.

    Attributes:
        operands: The formulas that it is made of; empty for an atom and a constant.
        depth: How many operators stand around its innermost atom.
    """

    level: ClassVar[int] = _UNARY
    depth: int = 0

    @property
    def operands(self) -> tuple[Formula, ...]:
        return ()

    def __invert__(self) -> Not:
        return Not(self)

    def __and__(self, other: Formula | str) -> And:
        return And(self, other)

    def __rand__(self, other: str) -> And:
        return And(other, self)

    def __or__(self, other: Formula | str) -> Or:
        return Or(self, other)

    def __ror__(self, other: str) -> Or:
        return Or(other, self)

    def __rshift__(self, other: Formula | str) -> Implies:
        return Implies(self, other)

    def __rrshift__(self, other: str) -> Implies:
        return Implies(other, self)

    def __bool__(self) -> bool:
        """Refuse: of ``p and q`` Python would keep q alone, and another formula would be proved."""
        raise DeclarationError(
            f"The formula {str(self)!r} is neither true nor false by itself.",
            hint="Write ~p, p & q, p | q and p >> q for not, and, or and implies; compare with `is None`.",
        )

    def __repr__(self) -> str:
        return f"parse({str(self)!r})"

    def atoms(self) -> tuple[Atom, ...]:
        """The atoms that occur in it, each once, in order."""
        return tuple(dict.fromkeys(self._atoms()))

    def names(self) -> tuple[str, ...]:
        """The names of its atoms, each once, in order."""
        return tuple(dict.fromkeys(atom.name for atom in self._atoms()))

    def _atoms(self) -> Iterator[Atom]:
        for operand in self.operands:
            yield from operand._atoms()

    def _within(self, level: int) -> str:
        return str(self) if self.level >= level else f"({self})"


@dataclass(frozen=True, repr=False)
class Constant(Formula):
    """``true`` or ``false``."""

    value: bool

    level = _ATOM

    def __str__(self) -> str:
        return "true" if self.value else "false"


@dataclass(frozen=True, repr=False)
class Atom(Formula):
    """Holds in the states of a name, with a tag or in a phase.

    Raises:
        DeclarationError: The name is no text, or there is no such kind.

    Attributes:
        name: The name of the state, the tag or the phase; given a member of an enum, what that is stored as.
        kind: Which of them; empty for a bare name, which may be any as long as it is clear.
    """

    name: str
    kind: Kind = ""

    level = _ATOM

    def __post_init__(self) -> None:
        if isinstance(self.name, Enum):
            from statemachine.engine import state_key  # which knows graphs, which know formulas

            object.__setattr__(self, "name", state_key(self.name))
        if not isinstance(self.name, str) or self.kind not in ("", *KINDS):
            raise DeclarationError(
                f"{self.name!r} names no {self.kind or listed([*KINDS], last=' or ')}.", hint=HINT
            )

    def __str__(self) -> str:
        plain = _PLAIN.fullmatch(self.name) and self.name not in RESERVED
        name = self.name if plain else quoted(self.name)
        return f"{self.kind}:{name}" if self.kind else name

    def _atoms(self) -> Iterator[Atom]:
        yield self

    def states_in(self, graph: Graph) -> frozenset[str]:
        """The names of the states in which it holds.

        Raises:
            DeclarationError: The graph has nothing of that name, or two things with different states.
        """
        found = {kind: states for kind in self._kinds() if (states := _states_of(graph, kind, self.name))}
        if not found:
            raise _unknown(graph, self)
        if len(set(found.values())) > 1:
            kinds = listed([f"a {kind}" for kind in found], last=" and ")
            raise DeclarationError(
                f"In the graph {graph.name!r} {self.name!r} is {kinds}, which hold in different states.",
                hint=f"Write {listed([str(Atom(self.name, kind)) for kind in found], last=' or ')}.",
            )
        return next(iter(found.values()))

    def _kinds(self) -> tuple[Kind, ...]:
        return (self.kind,) if self.kind else KINDS


@dataclass(frozen=True, repr=False, init=False)
class Unary(Formula):
    operand: Formula

    symbol: ClassVar[str]

    def __init__(self, operand: Formula | str) -> None:
        object.__setattr__(self, "operand", as_formula(operand))
        object.__setattr__(self, "depth", self.operand.depth + 1)

    @property
    def operands(self) -> tuple[Formula, ...]:
        return (self.operand,)

    def __str__(self) -> str:
        inner = self.operand._within(_UNARY)
        return f"{self.symbol}{inner}" if inner.startswith("(") else f"{self.symbol} {inner}"


class Not(Unary):
    """Holds where its operand does not."""

    def __str__(self) -> str:
        return f"~{self.operand._within(_UNARY)}"


class AG(Unary):
    """Always, on every run: from here on it holds in every state."""

    symbol = "AG"


class AF(Unary):
    """In the end, on every run: here or later it holds."""

    symbol = "AF"


class AX(Unary):
    """Next, on every run: after the next transition it holds."""

    symbol = "AX"


class EG(Unary):
    """Some run stays where it holds, for ever."""

    symbol = "EG"


class EF(Unary):
    """Some run comes to where it holds, or is there."""

    symbol = "EF"


class EX(Unary):
    """Some transition leads to where it holds."""

    symbol = "EX"


@dataclass(frozen=True, repr=False, init=False)
class Binary(Formula):
    left: Formula
    right: Formula

    symbol: ClassVar[str]

    def __init__(self, left: Formula | str, right: Formula | str) -> None:
        object.__setattr__(self, "left", as_formula(left))
        object.__setattr__(self, "right", as_formula(right))
        object.__setattr__(self, "depth", max(self.left.depth, self.right.depth) + 1)

    @property
    def operands(self) -> tuple[Formula, ...]:
        return self.left, self.right

    def __str__(self) -> str:
        return f"{self.left._within(self.level)} {self.symbol} {self.right._within(self.level + 1)}"


class And(Binary):
    """Holds where both do."""

    level, symbol = _AND, "&"


class Or(Binary):
    """Holds where at least one of them does."""

    level, symbol = _OR, "|"


class Implies(Binary):
    """Holds where the left one does not, or the right one does."""

    level, symbol = _IMPLIES, "->"

    def __str__(self) -> str:
        return f"{self.left._within(_OR)} -> {self.right._within(_IMPLIES)}"


class Until(Binary):
    level = _ATOM

    def __str__(self) -> str:
        return f"{self.symbol}[{self.left} U {self.right}]"


class AU(Until):
    """``A[p U q]``: every run comes to where q holds, through states where p does."""

    symbol = "A"


class EU(Until):
    """``E[p U q]``: some run comes to where q holds, through states where p does."""

    symbol = "E"


def opened(formula: Formula) -> Formula:
    """The same formula, said with ``&``, ``|``, ``EX``, ``EU`` and ``EG`` on the outside where it can be.

    The negation of what exists has no such form, and neither has a negated atom: they come back unchanged.
    """
    match formula:
        case EF(p):
            return EU(Constant(True), p)
        case Implies(p, q):
            return Or(_no(p), q)
        case Not(inner):
            return _opened_negation(inner)
    return formula


def _opened_negation(formula: Formula) -> Formula:
    match formula:
        case Not(p):
            return opened(p)
        case And(p, q):
            return Or(_no(p), _no(q))
        case Or(p, q):
            return And(_no(p), _no(q))
        case Implies(p, q):
            return And(p, _no(q))
        case AG(p):
            return EU(Constant(True), _no(p))
        case AF(p):
            return EG(_no(p))
        case AX(p):
            return EX(_no(p))
        case AU(p, q):
            return Or(EU(_no(q), And(_no(p), _no(q))), EG(_no(q)))
    return Not(formula)


def _no(formula: Formula) -> Formula:
    match formula:
        case Not(inner):
            return inner
    return Not(formula)


def not_too_deep(formula: Formula) -> Formula:
    """The formula.

    Raises:
        DeclarationError: It is nested more than `DEEPEST` operators deep.
    """
    if formula.depth > DEEPEST:
        raise DeclarationError(f"A formula is nested more than {DEEPEST} operators deep.", hint=TOO_DEEP)
    return formula


def quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def as_formula(given: Formula | str) -> Formula:
    """The formula, or what its text says, or the atom that an enum's member names.

    Raises:
        DeclarationError: It is neither, or a text that is no formula.
    """
    if isinstance(given, Formula):
        return given
    if isinstance(given, Enum):
        return Atom(given)
    if isinstance(given, str):
        from statemachine.logic.notation import parse  # which builds these formulas

        return parse(given)
    raise DeclarationError(f"{given!r} is no formula.", hint=HINT)


def _states_of(graph: Graph, kind: Kind, name: str) -> frozenset[str]:
    if kind == "state":
        return frozenset({name} if name in graph else ())
    return frozenset(graph.tagged(name) if kind == "tag" else graph.in_phase(name))


def _unknown(graph: Graph, atom: Atom) -> DeclarationError:
    there = {
        "state": [value.name for value in graph],
        "tag": list(dict.fromkeys(tag for value in graph for tag in value.tags)),
        "phase": list(graph.phases),
    }
    kinds = [kind for kind in atom._kinds() if kind]
    today = graph.named.get(atom.name) if "state" in kinds else None
    if today is not None:
        hint = f"The state is called {today.name!r} today."
    else:
        close = suggested(atom.name, [name for kind in kinds for name in there[kind]])
        lists = [f"Its {kind}s are: {listed(there[kind]) or 'none'}." for kind in kinds]
        hint = close + " ".join(lists)
    wanted = listed(list(kinds), last=" or ")
    return DeclarationError(f"The graph {graph.name!r} has no {wanted} {atom.name!r}.", hint=hint)


def suggested(name: str, there: Iterable[str]) -> str:
    close = get_close_matches(name, list(there), n=1)
    return f"Did you mean {close[0]!r}? " if close else ""


def listed(names: list[str], *, last: str = ", ") -> str:
    shown = names[:_LISTED]
    if len(names) > _LISTED:
        shown.append(f"{len(names) - _LISTED} more")
    return last.join(part for part in (", ".join(shown[:-1]), *shown[-1:]) if part)
