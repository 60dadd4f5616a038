"""The entry table to look at, and `StateMachineModelAdmin` to fire what may be fired.

In a project::

    @admin.register(Paper)
    class PaperAdmin(StateMachineModelAdmin):
        list_display = ["title", "status"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.timesince import timesince

from integration.entries import Entry
from integration.fields import StateField, state_fields
from statemachine import Graph, StateMachineError

__all__ = ["EntryAdmin", "StateMachineModelAdmin"]


class PendingFilter(admin.SimpleListFilter):
    title = "pending"
    parameter_name = "pending"

    _choices: dict[str, Callable[[Any], Any]] = {
        "open": lambda entries: entries.open(),
        "overdue": lambda entries: entries.overdue(),
        "parked": lambda entries: entries.parked(),
        "left": lambda entries: entries.filter(open=None),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name.capitalize()) for name in self._choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Entry]) -> QuerySet[Entry]:
        choose = self._choices.get(self.value() or "")
        return choose(queryset) if choose else queryset


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """History and queue, to look at: they are written by transitions alone."""

    list_display = ["id", "model", "object", "field", "state", "task", "age", "done", "strikes", "error"]
    list_filter = [PendingFilter, "model", "field", "state", "task"]
    search_fields = ["=object", "state", "trigger", "by", "reason", "error"]
    search_help_text = "A row's primary key, a state or trigger, who moved it, why, or an error."
    ordering = ["-id"]
    show_full_result_count = False

    @admin.display(description="for")
    def age(self, entry: Entry) -> str:
        """How long the row was, or has been, here."""
        return timesince(entry.entered_at, entry.left_at)

    @admin.display(description="progress")
    def done(self, entry: Entry) -> str:
        progress = entry.progress if isinstance(entry.progress, dict) else {}
        done, total = progress.get("done", ""), progress.get("total")
        return f"{done} of {total} ({100 * done // total} %)" if total else str(done)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class StateMachineModelAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """An admin of a model with state fields: they are shown, and moved by their triggers alone.

    A row's page has a button for each trigger that may be fired now, and a form to put it into any state
    with a reason. The list has an action for each trigger that people fire. All need the change permission.
    """

    change_form_template = "admin/statemachine/change_form.html"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        columns = [name for field in state_fields(self.model) for name in (field.name, f"{field.name}_epoch")]
        return [*super().get_readonly_fields(request, obj), *columns]

    # A row's page

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        if row is not None and self.has_change_permission(request, row):
            context["pipelines"] = [_pipeline(field, row) for field in state_fields(self.model)]
        return super().render_change_form(request, context, *args, **kwargs)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """Fire or move the row that was just saved, when one of our buttons was pressed."""
        fields = {field.name: field for field in state_fields(self.model)}
        name, _, trigger = request.POST.get("_fire", request.POST.get("_jump", "")).partition(":")
        if name not in fields:
            return super().response_change(request, obj)
        move = partial(_fire, fields[name], trigger) if trigger else partial(_jump, fields[name])
        try:
            level, text = move(request, obj)
        except StateMachineError as error:
            level, text = messages.ERROR, str(error)
        self.message_user(request, text, level)
        return HttpResponseRedirect(request.get_full_path())

    # The list

    def __init__(self, model: type[Model], admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        if self.actions is not None:  # None: this admin wants no actions at all
            self.actions = [*self.actions, *_actions(model)]


def _actions(model: type[Model]) -> Iterator[Callable[..., None]]:
    """An action for each trigger that people fire."""
    fields = state_fields(model)
    for field in fields:
        for trigger in _fired_by_people(field.machine.graph):
            text = _readable(trigger)
            yield _action(field, trigger, text if len(fields) == 1 else f"{field.verbose_name}: {text}")


def _action(field: StateField, trigger: str, text: str) -> Callable[..., None]:
    @admin.action(permissions=["change"], description=text)
    def action(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        _fire_all(model_admin, request, queryset, field=field, trigger=trigger)

    action.__name__ = f"fire_{field.name}_{trigger}"
    return action


def _pipeline(field: StateField, row: Model) -> dict[str, Any]:
    """What the page of a row shows of one of its fields."""
    graph, state = field.machine.graph, field.binding.read(row)
    known = graph.triggers_from(state) if state in graph else ()
    may = [trigger for trigger in known if field.machine.may(row, trigger)]
    return {
        "field": field,
        "label": graph[state].label if state in graph else f"{state} (unknown)",
        "triggers": [(trigger, _readable(trigger)) for trigger in may],
        "states": graph.states,
    }


def _fired_by_people(graph: Graph) -> list[str]:
    """Triggers with an edge that is not a task's own to take."""
    free = [edge for edge in graph.edges if edge.trigger not in _own(graph, edge.source)]
    return list(dict.fromkeys(edge.trigger for edge in free))


def _own(graph: Graph, state: str) -> tuple[str, ...]:
    return (graph[state].done, graph[state].failed) if graph[state].works else ()


def _readable(trigger: str) -> str:
    return trigger.replace("_", " ").capitalize()


def _by(field: StateField, request: HttpRequest) -> dict[str, str]:
    """Who fires: kept with the entry. Callbacks that take no event would not know the argument."""
    return {"by": request.user.get_username()} if field.machine.send_event else {}


def _fire(field: StateField, trigger: str, request: HttpRequest, row: Model) -> tuple[int, str]:
    name = field.binding.describe(row)
    if field.machine.fire(row, trigger, **_by(field, request)):
        return messages.SUCCESS, f"{_readable(trigger)}: {name} is in {field.binding.read(row)!r} now."
    return messages.WARNING, f"{_readable(trigger)}: a guard refused to move {name}."


def _jump(field: StateField, request: HttpRequest, row: Model) -> tuple[int, str]:
    state = request.POST.get(f"_state_{field.name}", "")
    reason = request.POST.get(f"_reason_{field.name}", "").strip()
    field.machine.to_state(row, state, reason=reason, by=request.user.get_username())
    return messages.SUCCESS, f"{field.binding.describe(row)} was put into {state!r}."


def _fire_all(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Any], *, field: StateField, trigger: str
) -> None:
    moved = 0
    for row in queryset:
        try:
            level, text = _fire(field, trigger, request, row)
        except StateMachineError as error:
            level, text = messages.ERROR, str(error)
        if level == messages.SUCCESS:
            moved += 1
        else:
            model_admin.message_user(request, text, level)
    if moved:
        model_admin.message_user(request, f"{_readable(trigger)}: {moved} moved.", messages.SUCCESS)
