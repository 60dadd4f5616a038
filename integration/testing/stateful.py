"""Runs of a pipeline that Hypothesis draws, and shrinks to the shortest that fails."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from integration.testing.trouble import Trouble
from integration.testing.ways import Ways, reach_a_goal
from integration.testing.world import World

__all__ = ["Run", "run_many"]

_SMALL = st.integers(0, 9)
_POINTS = st.integers(0, 19)


def _trouble(*kinds: str) -> st.SearchStrategy[Trouble | None]:
    return st.none() | st.builds(Trouble, st.sampled_from(kinds), _POINTS, st.booleans())


def _allowed(fault: str) -> Callable[[Callable[[Run], Any]], Any]:
    return precondition(lambda self: fault in self.world.pipeline.faults)


class Run(RuleBasedStateMachine):
    """One row, and everything that may happen to it. In the end a goal is reached, without faults."""

    def __init__(self, world: World, ways: Ways) -> None:
        super().__init__()
        self.world, self.ways = world, ways
        self._stack = ExitStack()

    @initialize()
    def begin(self) -> None:
        self._stack.enter_context(self.world.opened())

    def _chosen(self, trouble: Trouble | None) -> Trouble | None:
        return trouble if trouble is None or trouble.kind in self.world.pipeline.faults else None

    @precondition(lambda self: self.world.messages)
    @rule(which=_SMALL, trouble=_trouble("crash", "error", "lease"))
    def deliver(self, which: int, trouble: Trouble | None) -> None:
        with self.world.telling():
            message = self.world.messages[which % len(self.world.messages)]
            self.world.answer(message, trouble=self._chosen(trouble))

    @precondition(lambda self: self.world.past)
    @_allowed("duplicate")
    @rule(which=_SMALL, trouble=_trouble("crash"))
    def deliver_again(self, which: int, trouble: Trouble | None) -> None:
        with self.world.telling():
            self.world.tell("a message comes once more:")
            self.world.deliver(
                self.world.past[-1 - which % len(self.world.past)], trouble=self._chosen(trouble)
            )

    @precondition(lambda self: self.world.messages)
    @_allowed("loss")
    @rule(which=_SMALL)
    def lose(self, which: int) -> None:
        lost = self.world.messages.pop(which % len(self.world.messages))
        self.world.tell(f"the message for {lost.task}, entry {lost.entry}, is lost")

    @_allowed("loss")
    @rule()
    def broker(self) -> None:
        self.world.away = not self.world.away
        self.world.tell(f"the broker is {'away' if self.world.away else 'back'}")

    @rule(trouble=_trouble("crash"))
    def sweep(self, trouble: Trouble | None) -> None:
        with self.world.telling():
            self.world.sweep(trouble=self._chosen(trouble))

    @precondition(lambda self: self._triggers())
    @rule(which=_SMALL, trouble=_trouble("crash", "lease"))
    def fire(self, which: int, trouble: Trouble | None) -> None:
        with self.world.telling():
            triggers = self._triggers()
            self.world.fire(triggers[which % len(triggers)], trouble=self._chosen(trouble))

    def _triggers(self) -> tuple[str, ...]:
        return self.ways.graph.triggers_from(self.world.where().status)

    @_allowed("operator")
    @rule(which=st.integers(0, 99), trouble=_trouble("crash", "lease"))
    def operator(self, which: int, trouble: Trouble | None) -> None:
        with self.world.telling():
            self.world.jump(self._state(which), trouble=self._chosen(trouble))

    @_allowed("raw")
    @rule(which=st.integers(0, 99))
    def another_program(self, which: int) -> None:
        with self.world.telling():
            self.world.stray(self._state(which))

    def _state(self, which: int) -> str:
        states = list(self.ways.shortest)
        return states[which % len(states)]

    def teardown(self) -> None:
        """The faults are over: a goal is reached from wherever the row is."""
        with self._stack:
            if self.world.pk is not None and not self.world.broken:
                self._end()

    def _end(self) -> None:
        with self.world.telling():
            self.world.away = False
            self.world.tell("the faults are over")
            reach_a_goal(self.world, self.ways)
            self.world.audit()


def run_many(new: Callable[[], World], ways: Ways, chosen: settings | None) -> None:
    """Draw runs and play them; in continuous integration the same ones each time, as Hypothesis has it."""
    chosen = chosen or settings(
        max_examples=30, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
    )
    factory: Any = lambda: Run(new(), ways)  # noqa: E731  (it may be a function, whatever its type says)
    run_state_machine_as_test(factory, settings=chosen)
