"""`pipeline_test`: a test of a user's own model, machine and tasks, under everything that may go wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from django.core import mail
from django.db import models, router
from django.test import TestCase
from django.utils.module_loading import autodiscover_modules

from integration.binding import RowBinding
from integration.claimed import max_attempts_of, step_of
from integration.entries import Entry
from integration.fields import StateField, state_fields
from integration.stage import Body, bodies
from integration.testing.repeats import repeat_every_step
from integration.testing.story import hinted
from integration.testing.trouble import named
from integration.testing.ways import Ways, reach_a_goal, walk
from integration.testing.world import World

if TYPE_CHECKING:
    from hypothesis import settings as Settings

__all__ = ["Pipeline", "PipelineTest", "messages_sent", "pipeline_test"]

Drive = Mapping[str, Any] | Callable[[Any], object]


def messages_sent() -> int:
    """How many mails were sent: what is done outside unless the user names something else."""
    return len(getattr(mail, "outbox", ()))


def pipeline_test(
    model: type[models.Model],
    field: str = "",
    *,
    create: Callable[[], Any] | None = None,
    tasks: Mapping[str, Body] | None = None,
    drive: Mapping[str, Drive] | None = None,
    faults: Iterable[str] | None = None,
    outside: Callable[[], object] = messages_sent,
    volatile: Iterable[str] = (),
    settings: Settings | None = None,
) -> type[PipelineTest]:
    """Make a ``TestCase`` that tries a pipeline: its real model, guards, callbacks and tasks.

    Everything happens inside the transaction of the ``TestCase``, in which commits are imitated, and is
    undone. It needs no broker and no worker. The third of its tests needs Hypothesis.

    Args:
        field: The name of the `StateField`; may be left out where the model has one.
        create: Makes a row in the initial state; by default the model's manager does, without arguments.
        tasks: Bodies to run in place of those that `stage_task` registered, by the task's name.
        drive: How a person acts, by trigger: the keyword arguments to fire it with, or a function of the row
            that fires it itself.
        faults: The names of those of `FAULTS` that may happen; all by default.
        outside: Tells what was done outside the database so far, as the number of calls; mails by default.
        volatile: Columns that no two attempts write alike, each as ``app.Model.field``.
        settings: How Hypothesis draws the runs; by default 30 of 12 steps.

    Raises:
        ValueError: There is no such field, fault, task or trigger.
    """
    pipeline = Pipeline(
        model=model,
        field=_field_of(model, field),
        create=create or model._default_manager.create,
        creates_by_default=create is None,
        tasks=dict(tasks or {}),
        drive=dict(drive or {}),
        faults=named(faults),
        outside=outside,
        volatile=tuple(volatile),
    )
    pipeline.check_names()
    name = f"{model.__name__}PipelineTest"
    values = {
        "__module__": sys._getframe(1).f_globals.get("__name__", __name__),
        "__doc__": f"{model.__name__}.{pipeline.field.name} under faults.",
        "databases": {"default", pipeline.using},
        "pipeline": pipeline,
        "drawn": settings,
    }
    return type(name, (PipelineTest,), values)


def _field_of(model: type[models.Model], name: str) -> StateField:
    if model._meta.abstract or not state_fields(model):
        why = "is abstract, and has no rows" if model._meta.abstract else "has no StateField"
        raise ValueError(f"{model.__name__} {why}. Pass a model that inherits it, or another one.")
    found = [field for field in state_fields(model) if name in ("", field.name)]
    if len(found) != 1:
        names = ", ".join(field.name for field in state_fields(model))
        raise ValueError(f"{model.__name__} has the state fields: {names}. Pass the name of one of them.")
    return found[0]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """What is tested, and how: see `pipeline_test`."""

    model: type[models.Model]
    field: StateField
    create: Callable[[], Any]
    creates_by_default: bool
    tasks: Mapping[str, Body]
    drive: Mapping[str, Drive]
    faults: frozenset[str]
    outside: Callable[[], object]
    volatile: tuple[str, ...]

    @property
    def binding(self) -> RowBinding:
        return self.field.binding

    @property
    def using(self) -> str:
        """The database that new rows are written to."""
        return router.db_for_write(self.model)

    @cached_property
    def ways(self) -> Ways:
        return Ways(self.binding.machine.graph)

    @property
    def declared(self) -> list[str]:
        """The tasks of the graph."""
        return list(dict.fromkeys(step.task for state in self.ways.graph for step in state.steps))

    @cached_property
    def bodies(self) -> Mapping[str, Body]:
        """What each task does.

        Raises:
            ValueError: One has no body.
        """
        autodiscover_modules("tasks")
        found = {**bodies, **self.tasks}
        if missing := [task for task in self.declared if task not in found]:
            raise ValueError(
                f"No body is registered for {', '.join(missing)}: import the module that declares it with "
                "stage_task, or pass tasks={'…': function}."
            )
        return {task: found[task] for task in self.declared}

    def make(self) -> Any:
        """Make a row, and give its primary key.

        Raises:
            TypeError: What should make it does not.
        """
        hint = "It needs more than its defaults: pass create=…, a function that makes a row."
        with hinted(hint if self.creates_by_default else ""):
            made = self.create()
        owner = self.binding.owner
        if not isinstance(made, owner) or made._state.adding:
            raise TypeError(f"create() gave {made!r}: it must save a {self.model.__name__}, and return it.")
        return getattr(made, owner._meta.pk.attname)

    def max_attempts(self, entry: Entry) -> int:
        return max_attempts_of(step_of(entry, self.binding))

    def check_names(self) -> None:
        """Refuse what the graph does not know.

        Raises:
            ValueError: It is there.
        """
        triggers = {edge.trigger for edge in self.ways.graph.edges}
        for option, given, known in (
            ("tasks", self.tasks, set(self.declared)),
            ("drive", self.drive, triggers),
        ):
            if unknown := sorted(set(given) - known):
                there = ", ".join(sorted(known))
                raise ValueError(
                    f"{option} names {', '.join(unknown)}, which {self._title} has not. It has: {there}."
                )

    @property
    def _title(self) -> str:
        return f"{self.model.__name__}.{self.field.name}"


def _named_so(module: str, name: str) -> PipelineTest:
    cls: type[PipelineTest] = attrgetter(name)(import_module(module))
    return cls.__new__(cls)


class PipelineTest(TestCase):
    """What `pipeline_test` makes; to be collected, it must have a pipeline."""

    pipeline: ClassVar[Pipeline]
    drawn: ClassVar[Settings | None] = None

    def __reduce__(self) -> Any:
        """Be found by the name that it was assigned to: ``test --parallel`` sends tests to its processes."""
        module, cls = type(self).__module__, type(self)
        names = (name for name, value in vars(sys.modules[module]).items() if value is cls)
        name = next(names, cls.__qualname__)
        return _named_so, (module, name), self.__getstate__()

    def test_a_goal_is_reached_from_every_state(self) -> None:
        """Without faults: from each state that runs enter, where the row has walked, or was put by hand."""
        for state in self.pipeline.ways.shortest:
            for put in (self._walk, self._jump):
                with (
                    self.subTest(state=state, put=put.__name__.strip("_")),
                    World(self.pipeline).opened() as world,
                ):
                    put(world, state)
                    reach_a_goal(world, self.pipeline.ways)
                    world.audit()

    def test_a_stage_that_is_interrupted_leaves_what_one_attempt_leaves(self) -> None:
        """Each step of each stage dies, and oversleeps its lease, at each point."""
        for state in self._working():
            with self.subTest(state=state), World(self.pipeline).opened() as world:
                self._walk(world, state)
                repeat_every_step(world)

    def test_a_goal_is_reached_whatever_happens_on_the_way(self) -> None:
        """Runs under faults; when those are over, a goal is reached."""
        from integration.testing.stateful import run_many

        run_many(lambda: World(self.pipeline), self.pipeline.ways, self.drawn)

    def _working(self) -> list[str]:
        graph = self.pipeline.ways.graph
        return [state for state in self.pipeline.ways.shortest if graph[state].works]

    def _walk(self, world: World, state: str) -> None:
        """Bring the row to a state as it would come there; where a guard or a task is in the way, by hand."""
        if not walk(world, self.pipeline.ways.shortest[state], self.pipeline.ways.graph):
            self._jump(world, state)

    def _jump(self, world: World, state: str) -> None:
        if world.where().status != state:
            world.jump(state, reason="the test begins here")
