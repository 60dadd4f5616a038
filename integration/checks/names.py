"""Whether models, and their children, still answer by the methods that a machine gave them."""

from __future__ import annotations

from collections.abc import Iterator

from django.core import checks
from django.db import models

from integration.fields import StateField

__all__ = ["hidden"]


def hidden(field: StateField) -> Iterator[checks.CheckMessage]:
    """What hides a method since the machine was bound: binding itself refuses what was there before."""
    hiding = {
        (name, cls): None for model in _family(field.model) for name, cls in field.binding.hidden(model)
    }
    for name, cls in hiding:
        what = type(vars(cls)[name]).__name__
        yield checks.Error(
            f"{cls.__name__}.{name} is a {what} that hides the method of the machine: stages and timers "
            "do not call it.",
            hint="Rename it, or the related_name that made it, or the trigger or state; or pass "
            f'methods="{field.name}_". What is to happen in a transition is a callback of the machine.',
            obj=field,
            id="statemachine.E006",
        )


def _family(model: type[models.Model]) -> list[type[models.Model]]:
    """The model, its children and its proxies."""
    return [cls for cls in model._meta.apps.get_models() if issubclass(cls, model)]
