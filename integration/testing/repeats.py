"""A stage that is interrupted and repeated leaves what one undisturbed attempt leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from integration.entries import Entry
from integration.testing.footprint import Footprint, footprint, unlike
from integration.testing.trouble import Broken, Trouble
from integration.testing.world import World

__all__ = ["repeat_every_step"]


@dataclass(frozen=True)
class Done:
    """How a step ended.

    Attributes:
        state: Where the row is then.
        points: How many points whoever did it came to.
    """

    state: str
    points: int
    left: Footprint


def repeat_every_step(world: World) -> None:
    """Interrupt each step of the stage that is pending, at each point and in each way, and compare.

    Afterwards the stage is over.

    Raises:
        Broken: It made a difference.
    """
    state = world.where().status
    for _ in world.binding.states[state].steps:
        entry = world.pending()
        if entry is None or not entry.task or entry.state != state or not world.messages:
            return
        _interrupt(world, entry)
        world.answer(world.messages[0])


def _interrupt(world: World, entry: Entry) -> None:
    """Interrupt one step everywhere. What fails by itself, or waits, is not asked to repeat itself."""
    with world.undone():
        once = _run(world, entry, None)
    if once is None:
        return
    for trouble in _troubles(world, once.points):
        with world.undone():
            again = _run(world, entry, trouble)
            _compare(world, entry, once, again)


def _troubles(world: World, points: int) -> Iterator[Trouble]:
    """Everything that may disturb a step once, the plainest first."""
    plain, more = [], []
    for at in range(points):
        plain.append(Trouble("crash", at))
        more += [Trouble("lease", at), Trouble("lease", at, twice=True)]
    return (trouble for trouble in plain + more if trouble.kind in world.pipeline.faults)


def _run(world: World, entry: Entry, trouble: Trouble | None) -> Done | None:
    """Run one step to its end, and no further; None when it is not finished."""
    job = world.answer(world.messages[0], trouble=trouble)
    for _ in range(_most_attempts(world, entry) if trouble else 0):
        if _is_left(world, entry):
            break
        world.sweep()
        for message in [message for message in world.messages if message.entry == entry.pk]:
            world.answer(message)
    if trouble is None and (not _is_left(world, entry) or _failed(world, entry)):
        return None
    left = footprint(world.commits.tables, using=world.pipeline.using, volatile=world.pipeline.volatile)
    return Done(world.where().status, job.points, left)


def _most_attempts(world: World, entry: Entry) -> int:
    return world.pipeline.max_attempts(entry) + 2


def _is_left(world: World, entry: Entry) -> bool:
    return not world.entries.open().filter(pk=entry.pk).exists()


def _failed(world: World, entry: Entry) -> bool:
    """Whether a step was given up."""
    state = world.binding.states[entry.state]
    return (
        world.entries.filter(epoch=entry.epoch + 1, trigger=state.failed).exclude(trigger=state.done).exists()
    )


def _compare(world: World, entry: Entry, once: Done, again: Done | None) -> None:
    if again is None or (again.state != once.state and world.pipeline.max_attempts(entry) < 2):
        return  # the only attempt that it has was the disturbed one
    if again.state != once.state:
        raise Broken(
            f"{entry.task} was disturbed, and then tried again: it ends in {again.state!r}, and in "
            f"{once.state!r} when nothing disturbs it. "
            "What an attempt leaves behind must not stand in the way of the next one."
        )
    if differences := list(unlike(once.left, again.left)):
        raise Broken(
            f"{entry.task} was disturbed, and then tried again: "
            "what it leaves is not what one attempt leaves.\n"
            + "\n".join(f"  {difference}" for difference in differences[:10])
            + "\nWrite it in stage.finish(), or such that it may be written twice; "
            "what no two attempts write alike, name in volatile=(…)."
        )
