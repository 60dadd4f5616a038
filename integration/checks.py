"""System checks: what `verify` finds in the graph of a field is shown by ``manage.py check``."""

from __future__ import annotations

from typing import Any

from django.core import checks

from integration.binding import RowBinding, bindings
from statemachine import Finding

__all__ = ["check_graphs"]


@checks.register("statemachine")
def check_graphs(app_configs: Any = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Every finding of every bound graph, as an error or a warning of its field."""
    labels = None if app_configs is None else {config.label for config in app_configs}
    chosen = [b for b in bindings.values() if labels is None or b.owner._meta.app_label in labels]
    return [
        _message(binding, finding) for binding in chosen for finding in binding.machine.verify().findings
    ]


def _message(binding: RowBinding, finding: Finding) -> checks.CheckMessage:
    story = f"\n{finding.path}" if finding.path is not None else ""
    kind, level = ("E", checks.Error) if finding.level == "error" else ("W", checks.Warning)
    return level(
        f"{finding.property}: {finding.msg}{story}",
        hint=finding.hint,
        obj=binding.owner._meta.get_field(binding.attribute),
        id=f"statemachine.{kind}100",
    )
