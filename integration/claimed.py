"""A claim that holds, and what is declared about the entry that it took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from integration.binding import RowBinding
from integration.conf import conf
from integration.entries import Entry
from integration.protocol import Subject, Token
from statemachine import Enqueue, LeaseLost, StateValue

__all__ = ["Claimed", "max_attempts_of", "step_of", "subject_of"]


def step_of(entry: Entry, binding: RowBinding) -> Enqueue | None:
    """What is declared about the entry's task; None for a timer's, and a task that is unknown here."""
    return binding.states[entry.state].step(entry.task)


def max_attempts_of(enqueue: Enqueue | None) -> int:
    return (enqueue.max_attempts if enqueue else None) or conf().max_attempts


def subject_of(entry: Entry, binding: RowBinding, using: str) -> Subject:
    pk = binding.owner._meta.pk.to_python(entry.object)
    return Subject(owner=binding.owner, pk=pk, field=entry.field, using=using)


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A claim that holds, and everything that belongs to it.

    Attributes:
        spent: Whether no strikes were left, so that the claim did not count one.
    """

    entry: Entry
    binding: RowBinding
    subject: Subject
    row: Any
    spent: bool

    @property
    def token(self) -> Token:
        return Token(self.entry.pk, self.entry.attempt)

    @property
    def state(self) -> StateValue:
        return self.binding.states[self.entry.state]

    @property
    def enqueue(self) -> Enqueue:
        enqueue = step_of(self.entry, self.binding)
        assert enqueue is not None
        return enqueue

    @property
    def max_attempts(self) -> int:
        return max_attempts_of(step_of(self.entry, self.binding))

    @property
    def backoff(self) -> timedelta:
        """The wait after the first failed attempt."""
        step = step_of(self.entry, self.binding)
        return (step.backoff if step else None) or conf().backoff

    @property
    def using(self) -> str:
        return self.subject.using

    def is_lost(self, error: LeaseLost) -> bool:
        """Whether it is this claim that was superseded, and not that of another row."""
        return Token(error.entry, error.attempt) == self.token
