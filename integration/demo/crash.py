"""Where a process of ``--kill`` stops and waits to be killed: the library knows nothing of it.

The killing process names one point in the environment. Whoever gets there first writes the flag file, and
stands still until SIGKILL comes from outside.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from integration import dispatch, stage
from integration.dispatch import Message, Publisher
from integration.entries import Entry
from integration.onboarding.machine import onboarding
from integration.onboarding.models import Team
from integration.signals import entered, transitioned

__all__ = ["MOMENTS", "Point", "install"]

VARIABLE = "ONWARD_DEMO_KILL"
REPORTING = {"onboarding.sync_history", "onboarding.analyse_changes"}
PATIENCE = 60.0

MOMENTS = {
    "working": "in the middle of its work",
    "uncommitted": "everything written, nothing committed",
    "unsent": "committed, the next message not sent",
    "unanswered": "committed, its own message not answered",
}


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where to stand still.

    Attributes:
        team: Whose onboarding.
        state: In which state.
        step: At which of its tasks.
        moment: A key of `MOMENTS`.
        flag: The file that says that the point is reached.
    """

    team: int
    state: str
    step: int
    moment: str
    flag: str = ""

    @property
    def task(self) -> str:
        return onboarding.graph[self.state].steps[self.step].task

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    def stand(self, detail: str = "") -> None:
        """Say that the point is reached, and wait for the end."""
        draft = Path(f"{self.flag}.{os.getpid()}")
        draft.write_text(detail, encoding="utf-8")
        draft.replace(self.flag)
        time.sleep(PATIENCE)
        os.kill(os.getpid(), signal.SIGKILL)  # the killer is gone itself, and nobody is to be left standing


def install() -> None:
    """Prepare the point that the environment names, if it names one."""
    given = os.environ.get(VARIABLE)
    if given:
        point = Point(**json.loads(given))
        installers[point.moment](point)


def _in_the_work(point: Point) -> None:
    from integration.onboarding import tasks  # noqa: F401  (its bodies register themselves)

    body = stage.bodies[point.task]

    def interrupted(work: Any) -> object:
        if _is_at(work, point):
            _half_way(work, point) if point.task in REPORTING else point.stand()
        return body(work)

    stage.bodies[point.task] = interrupted


def _is_at(work: Any, point: Point) -> bool:
    row: Team = work.row
    return row.pk == point.team and row.onboarding_pipeline_status == point.state


def _half_way(work: Any, point: Point) -> None:
    report: Callable[..., None] = work.progress

    def progress(done: int, total: int = 0) -> None:
        report(done, total)
        if done * 2 >= total:
            point.stand(f"{done} of {total}")

    work.progress = progress


def _before_the_commit(point: Point) -> None:
    _listen(transitioned, point)


def _before_the_answer(point: Point) -> None:
    _listen(entered, point)


def _listen(told: Any, point: Point) -> None:
    def receive(sender: Any, *, row: Team, source: str, **kwargs: Any) -> None:
        if row.pk == point.team and source == point.state:
            point.stand()

    told.connect(receive, weak=False)


@dataclass(frozen=True)
class _Withholding:
    """A publisher that stands still instead of sending what follows the point."""

    publisher: Publisher
    point: Point

    def publish(self, message: Message) -> None:
        entry = Entry.objects.using(message.using).get(pk=message.entry)
        if self._follows(entry):
            self.point.stand()
        self.publisher.publish(message)

    def _follows(self, entry: Entry) -> bool:
        if entry.object != str(self.point.team) or entry.source != self.point.state:
            return False
        return entry.state != self.point.state or entry.step == self.point.step + 1


def _before_the_message(point: Point) -> None:
    dispatch.set_publisher(_Withholding(dispatch.publisher(), point))


installers: dict[str, Callable[[Point], None]] = {
    "working": _in_the_work,
    "uncommitted": _before_the_commit,
    "unsent": _before_the_message,
    "unanswered": _before_the_answer,
}
