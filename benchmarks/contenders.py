"""`Contender`: who is compared, in this process or in one of its own, perhaps of another environment."""

from __future__ import annotations

import gc
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import Any, Literal, Protocol

from benchmarks.figures import Sample

Role = Literal["floor", "ours", "peer", "apart"]
"""A floor is what no one can do without; what stands apart is shown, and compared with nothing."""


class Contender(Protocol):
    """One row of a comparison."""

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> Role: ...

    def answer(self) -> Any:
        """What it finds, in words that all share; None when it finds nothing to compare."""

    def sample(self, number: int) -> Sample:
        """Do it so many times; the mean of one."""


@dataclass(frozen=True, kw_only=True)
class Here:
    """A call in this process.

    Attributes:
        prepare: Makes what the call is given, anew for each call; its time does not count.
        call: What is measured.
        told: Makes the shared answer of what the call returns; its time does not count.
    """

    name: str
    role: Role
    call: Callable[[Any], Any]
    prepare: Callable[[], Any] = lambda: None
    told: Callable[[Any], Any] = lambda result: None

    def answer(self) -> Any:
        return self.told(self.call(self.prepare()))

    def sample(self, number: int) -> Sample:
        return timed(self.call, [self.prepare() for _ in range(number)])


def timed(call: Callable[[Any], Any], given: Sequence[Any]) -> Sample:
    """The mean over what is given. Collections of garbage count, but see only what the call itself makes."""
    gc.collect()
    gc.freeze()
    wall, cpu = perf_counter(), process_time()
    for one in given:
        call(one)
    return Sample((perf_counter() - wall) / len(given), (process_time() - cpu) / len(given))


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A call in a process of its own, which is asked over `Pipe` and takes its own time."""

    name: str
    role: Role
    pipe: Pipe
    question: str

    def answer(self) -> Any:
        return self.pipe.ask({"answer": self.question})

    def sample(self, number: int) -> Sample:
        return Sample(**self.pipe.ask({"sample": self.question, "number": number}))


class Pipe:
    """A process that answers each line of JSON with one; it ends when the pipe is closed."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, question: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"{self._process.args!r} ended in place of an answer; see what it wrote above."
            )
        return json.loads(line)

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.communicate()
