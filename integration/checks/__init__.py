"""System checks. What `verify` finds in the graph of a field is shown by ``manage.py check``, one id each.

An id is never given to another check. They are listed in ``docs/reference/checks.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core import checks

from integration.checks import columns, names, settings, workers
from integration.checks import databases as of_databases
from integration.fields import StateField, owned_fields
from statemachine import Finding
from statemachine.verify import verify

__all__ = [
    "NUMBERS",
    "check_databases",
    "check_fields",
    "check_graphs",
    "check_settings",
    "check_workers",
]

NUMBERS: Mapping[str, int] = {
    "reachable": 101,
    "can-reach-goal": 102,
    "finished-stage-moves-on": 103,
    "stage-can-be-given-up": 104,
    "can-be-left": 105,
    "final-is-an-end": 106,
    "names-who-moves-it": 107,
    "timer-can-fire": 108,
    "edge-can-be-taken": 109,
    "no-hot-loop": 110,
    "goal-is-an-end": 111,
    "tag-is-kept": 112,
}
"""The number of each property in the ids of its findings. A number is never given to another property.

Those that a graph declares for itself are 100.
"""

Messages = Iterator[checks.CheckMessage]


def fields_of(app_configs: Sequence[AppConfig] | None) -> list[StateField]:
    """The state fields of these applications, or of all; each once, where its column is."""
    configs = apps.get_app_configs() if app_configs is None else app_configs
    models = [model for config in configs for model in config.get_models() if not model._meta.proxy]
    return [field for model in models for field in owned_fields(model)]


@checks.register(checks.Tags.models)
def check_fields(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Whether each state field can do its work on its model."""
    looks = (*columns.LOOKS, names.hidden)
    return [message for field in fields_of(app_configs) for look in looks for message in look(field)]


@checks.register(checks.Tags.models)
def check_graphs(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Every finding of every bound graph, as an error or a warning of its field."""
    fields = fields_of(app_configs)
    return [_message(field, finding) for field in fields for finding in verify(field.machine.graph).findings]


def _message(field: StateField, finding: Finding) -> checks.CheckMessage:
    story = f"\n{finding.path}" if finding.path is not None else ""
    kind, level = ("E", checks.Error) if finding.level == "error" else ("W", checks.Warning)
    return level(
        f"{finding.property}: {finding.msg}{story}",
        hint=finding.hint,
        obj=field,
        id=f"statemachine.{kind}{NUMBERS.get(finding.property, 100)}",
    )


@checks.register(checks.Tags.models)
def check_workers(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Whether a worker would have what the graphs send it. Imports what a worker imports; asks no broker."""
    return list(workers.look(fields_of(app_configs)))


@checks.register
def check_settings(
    app_configs: Sequence[AppConfig] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Whether the settings of this library are known, and of the right kind."""
    return list(settings.look())


@checks.register(checks.Tags.database)
def check_databases(databases: Iterable[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Whether the databases can do what the protocol needs, and what in them waits for a person."""
    looks = (of_databases.immediate, of_databases.contents)
    return [message for alias in databases or () for look in looks for message in look(alias)]
