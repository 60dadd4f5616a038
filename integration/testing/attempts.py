"""The bodies of a pipeline, each attempt watched: what it is told, and what it does then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from integration.stage import Body, PermanentFailure, Stage, bodies
from integration.testing.trouble import Job, first_line
from statemachine import LeaseLost

if TYPE_CHECKING:
    from integration.testing.world import World

__all__ = ["watching"]


@contextmanager
def watching(world: World) -> Iterator[None]:
    """Let the bodies of its pipeline be watched; others stay what they are."""
    watched = {task: _watched(world, task, body) for task, body in world.pipeline.bodies.items()}
    before = dict(bodies)
    bodies.update(watched)
    try:
        yield
    finally:
        bodies.clear()
        bodies.update(before)


def _watched(world: World, task: str, body: Body) -> Body:
    """A body that does what the given one does, and tells the story of it."""

    def attempt(stage: Stage) -> None:
        job = world.at_work
        assert job is not None
        if world.task_fails:
            raise PermanentFailure("an error of this test, for good")
        _begin(world, job, stage, task)
        job.in_body = True
        try:
            world.come_to("begins the body")
            body(stage)
            world.come_to("has done the body")
        except Exception as error:
            world.say(f"its body raises {type(error).__name__}: {first_line(error)}")
            raise
        finally:
            job.in_body = False

    return attempt


def _begin(world: World, job: Job, stage: Stage, task: str) -> None:
    token = (stage._token.entry, stage._token.attempt)
    world.say(f"works on {task}, attempt {stage.attempt}")
    if token in world.started:
        world.wrong(f"Attempt {stage.attempt} of entry {token[0]} begins a second time.")
    world.started.add(token)
    job.attempt = stage.attempt
    _listen(world, stage, job)


def _listen(world: World, stage: Stage, job: Job) -> None:
    """Hear when the body is told that its lease is lost."""
    lost, finish = stage.lost, stage.finish

    def told() -> LeaseLost:
        job.lost = True
        world.say("its body is told that the lease is lost")
        return lost()

    @contextmanager
    def finished(**kwargs: Any) -> Iterator[None]:
        try:
            with finish(**kwargs):
                yield
        except LeaseLost:
            job.lost = True
            raise

    vars(stage).update(lost=told, finish=finished)
