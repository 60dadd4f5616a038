"""`StateField`, `StateMachineModel` and `StateQuerySet`: a pipeline on a Django model.

The status and its epoch are written by transitions alone. ``save()`` leaves them out of existing rows, an
assignment is refused, and so is ``update(status=…)``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Self

from django.core import checks
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import CharField, Exists, OuterRef, Q
from django.db.models.functions import Cast
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import class_prepared, post_delete

from integration import protocol
from integration.binding import RowBinding, message_of
from integration.dispatch import ring
from integration.entries import DatabaseNow, Entry
from statemachine import StateMachine, TransitionNotAllowed
from statemachine.engine import state_key

__all__ = ["AssignmentRefused", "Entry", "StateField", "StateMachineModel", "StateQuerySet"]


class AssignmentRefused(TransitionNotAllowed, ValidationError):
    """A status was assigned, not entered. A form shows it beside the field."""

    __str__ = TransitionNotAllowed.__str__
    __hash__ = Exception.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __reduce__(self) -> tuple[Any, ...]:
        kept = ("hint", "row", "trigger", "state")
        return _refused, (self.msg, {name: getattr(self, name) for name in kept})


def _refused(msg: str, values: dict[str, Any]) -> AssignmentRefused:
    return AssignmentRefused(msg, **values)


class StateDescriptor(DeferredAttribute):
    """Refuses another value for a stored row; the constructor and ``refresh_from_db`` pass."""

    def __set__(self, row: models.Model, value: Any) -> None:
        values, name, value = row.__dict__, self.field.attname, state_key(value)
        stored = not row._state.adding and not values.get("_statemachine_loading")
        if stored and name in values and values[name] != value:
            raise AssignmentRefused(
                f"{type(row).__name__}.{name} of a stored row cannot be assigned: it would move from "
                f"{values[name]!r} to {value!r} without its transition.",
                hint=f"Fire a trigger, or call to_state(row, {value!r}, reason=…).",
                row=f"{type(row).__name__} {row.pk}",
                trigger="",
                state=values[name],
            )
        values[name] = value


class EpochField(models.BigIntegerField):
    """Counts the entries of a row's states: the fence of every write. Added by `StateField`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"default": 0, "editable": False, **kwargs})

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.BigIntegerField", args, kwargs


class StateField(models.CharField):  # type: ignore[type-arg]
    """The status column of a pipeline. Adds one column beside it: ``<name>_epoch``.

    In migrations it is a plain `CharField` without choices, so the history needs no machine.

    Args:
        machine: The pipeline.
        methods: A prefix of the methods that the model receives, for several fields on a model.
        lock: Read the row again under a row lock before guards are asked. Unsaved changes are lost.

    Raises:
        DeclarationError: The machine cannot be bound to the model.
    """

    descriptor_class = StateDescriptor

    def __init__(self, machine: StateMachine, *, methods: str = "", lock: bool = False, **kwargs: Any) -> None:
        self.machine, self.methods, self.lock = machine, methods, lock
        graph = machine.graph
        kwargs.setdefault("max_length", 64)
        kwargs.setdefault("default", graph.initial)
        kwargs.setdefault("choices", [(state.name, state.label or state.name) for state in graph])
        super().__init__(**kwargs)

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        kwargs.pop("choices", None)
        return name, "django.db.models.CharField", args, kwargs

    def clone(self) -> Any:
        _, _, args, kwargs = self.deconstruct()
        return models.CharField(*args, **kwargs)

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        if not cls._meta.abstract:
            cls.add_to_class(f"{name}_epoch", EpochField())
            class_prepared.connect(self._bind, sender=cls, weak=False)

    def _bind(self, sender: type[models.Model], **kwargs: Any) -> None:
        binding = self.machine.bind(sender, self.name, methods=self.methods, binding=RowBinding)
        assert isinstance(binding, RowBinding)
        binding.lock = self.lock
        binding.register()
        post_delete.connect(_delete_entries, sender=sender, weak=False)

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        return [*super().check(**kwargs), *self._check_model(), *self._check_length()]

    def _check_model(self) -> list[checks.CheckMessage]:
        found: list[checks.CheckMessage] = []
        if not issubclass(self.model, StateMachineModel):
            msg = f"{self.model.__name__} has a StateField, and save() could write its status back."
            hint = "Inherit from integration.models.StateMachineModel."
            found.append(checks.Error(msg, hint=hint, obj=self, id="statemachine.E001"))
        if len(self.model._meta.pk_fields) > 1:
            msg = "A composite primary key cannot be named by an entry."
            hint = "Give the model a single primary key."
            found.append(checks.Error(msg, hint=hint, obj=self, id="statemachine.E002"))
        return found

    def _check_length(self) -> list[checks.CheckMessage]:
        limit = self.max_length or 0
        long = [state.name for state in self.machine.graph if len(state.name) > limit]
        if not long:
            return []
        msg = f"The column holds {limit} characters, which is too short for: {', '.join(long)}."
        hint = f"Pass max_length={max(map(len, long))}, or shorten the names."
        return [checks.Error(msg, hint=hint, obj=self, id="statemachine.E003")]


def state_fields(model: type[models.Model]) -> list[StateField]:
    return [field for field in model._meta.concrete_fields if isinstance(field, StateField)]


def binding_of(field: StateField, model: type[models.Model]) -> RowBinding:
    """The binding of a field, on the model or on the parent that declares it."""
    binding = next(
        field.machine._bindings[cls] for cls in model.__mro__ if cls in field.machine._bindings
    )
    assert isinstance(binding, RowBinding)
    return binding


def _delete_entries(sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any) -> None:
    for field in state_fields(sender):
        subject = binding_of(field, sender).subject(instance)
        subject.entries.using(using).delete()


class StateQuerySet(models.QuerySet[Any]):
    """Rows by where they are."""

    def in_state(self, *states: Any, field: str | None = None) -> Self:
        """Rows in one of the states.

        Raises:
            DeclarationError: A state is not declared.
        """
        declared = self._field(field)
        names = [declared.machine.get_state(state).name for state in states]
        return self.filter(**{f"{declared.name}__in": names})

    def tagged(self, *tags: str, field: str | None = None) -> Self:
        """Rows in a state that carries at least one of the tags."""
        declared = self._field(field)
        return self.filter(**{f"{declared.name}__in": declared.machine.graph.tagged(*tags)})

    def overdue(self, field: str | None = None) -> Self:
        """Rows whose open entry should have been answered by now."""
        declared = self._field(field)
        entries = entries_of(declared, declared.model).filter(open=True, due_at__lte=DatabaseNow())
        return self.filter(Exists(entries))

    def update(self, **kwargs: Any) -> int:
        """Update columns other than a status.

        Raises:
            AssignmentRefused: A status or an epoch is among them.
        """
        for field in state_fields(self.model):
            for name in {field.name, f"{field.name}_epoch"} & kwargs.keys():
                raise AssignmentRefused(
                    f"update({name}=…) would move rows of {self.model.__name__} without their transition.",
                    hint="Fire a trigger on each row, or call to_state(row, state, reason=…).",
                    row=self.model.__name__,
                    trigger="",
                    state="",
                )
        return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]

    def _field(self, name: str | None) -> StateField:
        fields = [field for field in state_fields(self.model) if name in (None, field.name)]
        if len(fields) != 1:
            names = ", ".join(field.name for field in state_fields(self.model))
            raise ValueError(f"{self.model.__name__} has the state fields {names or 'none'}: pass field=…")
        return fields[0]


def entries_of(field: StateField, owner: type[models.Model]) -> models.QuerySet[Entry]:
    """The entries of the outer query's rows."""
    label, pk = owner._meta.label_lower, Cast(OuterRef(owner._meta.pk.name), CharField())
    return Entry.objects.filter(model=label, field=field.name, object=pk)


class StateMachineModel(models.Model):
    """The base of a model with a `StateField`."""

    objects = StateQuerySet.as_manager()

    class Meta:
        abstract = True

    @property
    def entries(self) -> models.QuerySet[Entry]:
        """The row's entries, oldest first: its history, and what is pending."""
        subjects = [binding_of(field, type(self)).subject(self) for field in state_fields(type(self))]
        owned = Q()
        for subject in subjects:
            owned |= Q(**subject.key)
        return Entry.objects.using(subjects[0].using).filter(owned)

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        self.__dict__["_statemachine_loading"] = True
        try:
            super().refresh_from_db(*args, **kwargs)
        finally:
            del self.__dict__["_statemachine_loading"]

    def save_base(self, raw: bool = False, *args: Any, **kwargs: Any) -> None:
        """Save, and open the entries of a new row in the same transaction."""
        self._state.raw = raw  # type: ignore[attr-defined]
        using = kwargs.get("using")
        if raw or not (self._state.adding or self.pk is None or kwargs.get("force_insert")):
            super().save_base(raw, *args, **kwargs)
            return
        with transaction.atomic(using=using):
            super().save_base(raw, *args, **kwargs)

    save_base.alters_data = True  # type: ignore[attr-defined]

    def _save_table(self, raw: bool = False, cls: Any = None, *args: Any, **kwargs: Any) -> bool:
        updated = super()._save_table(raw, cls, *args, **kwargs)  # type: ignore[misc]
        if not updated and not raw:
            using = kwargs.get("using") or args[2]
            for field in cls._meta.local_concrete_fields:
                if isinstance(field, StateField):
                    self._open_first(field, using)
        return bool(updated)

    def _open_first(self, field: StateField, using: str) -> None:
        binding = binding_of(field, type(self))
        state = binding.machine.get_state(getattr(self, field.attname))
        subject = protocol.Subject(
            owner=binding.owner, pk=getattr(self, binding.owner._meta.pk.attname), field=field.name, using=using
        )
        entry = protocol.open_first(
            subject, state=binding.states[state.name], epoch=getattr(self, binding.epoch)
        )
        self.__dict__[binding.epoch] = entry.epoch
        if entry.task:
            ring(message_of(entry, using))

    def _do_update(
        self, base_qs: Any, using: str, pk_val: Any, values: Collection[Any], *args: Any, **kwargs: Any
    ) -> Any:
        if not getattr(self._state, "raw", False):
            values = [value for value in values if not isinstance(value[0], StateField | EpochField)]
        return super()._do_update(base_qs, using, pk_val, values, *args, **kwargs)  # type: ignore[misc]
