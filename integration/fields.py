"""`StateField`: the status column of a pipeline, its epoch, and who may write them."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.lookups import Exact, In
from django.db.models.query_utils import DeferredAttribute
from django.db.models.signals import class_prepared, post_delete

from integration.binding import RowBinding
from statemachine import DeclarationError, StateMachine, TransitionNotAllowed
from statemachine.engine import state_key

__all__ = ["AssignmentRefused", "EpochField", "StateField", "owned_fields", "state_fields"]


class AssignmentRefused(TransitionNotAllowed, ValidationError):
    """A status was assigned, not entered. A form shows it beside the field.

    Attributes:
        field: The field that was assigned; empty for an update of many rows.
    """

    field: str

    def __init__(self, msg: str, *, field: str = "", **values: Any) -> None:
        super().__init__(msg, field=field, **values)
        if field:
            self.error_dict = {field: [ValidationError(str(self))]}

    __str__ = TransitionNotAllowed.__str__
    __hash__ = Exception.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __reduce__(self) -> tuple[Any, ...]:
        kept = ("field", "hint", "row", "trigger", "state")
        return _refused, (self.msg, {name: getattr(self, name) for name in kept})


def _refused(msg: str, values: dict[str, Any]) -> AssignmentRefused:
    return AssignmentRefused(msg, **values)


class StateDescriptor(DeferredAttribute):
    """Refuses another value for a stored row; the constructor and ``refresh_from_db`` pass."""

    field: StateField

    def __set__(self, row: models.Model, value: Any) -> None:
        values, name, value = row.__dict__, self.field.attname, self.field.today(state_key(value))
        stored = not row._state.adding and "_statemachine_loading" not in values
        if stored and name in values and self.field.today(values[name]) != value:
            raise AssignmentRefused(
                f"{type(row).__name__}.{name} of a stored row cannot be assigned: it would move from "
                f"{values[name]!r} to {value!r} without its transition.",
                hint=f"Fire a trigger, or call to_state(row, {value!r}, reason=…).",
                field=name,
                row=f"{type(row).__name__} {row.pk}",
                trigger="",
                state=values[name],
            )
        values[name] = value


class ExactState(Exact):
    """``status="checking"`` finds the rows that are stored by a former name of it, too."""

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        names = self.lhs.output_field.names_of(self.rhs)
        if len(names) == 1:
            return super().as_sql(compiler, connection)
        return In(self.lhs, names).as_sql(compiler, connection)


class InStates(In):
    """``status__in=["checking"]``, likewise."""

    def get_prep_lookup(self) -> Any:
        given = super().get_prep_lookup()
        if not self.rhs_is_direct_value():
            return given
        return [name for state in given for name in self.lhs.output_field.names_of(state)]


_LOOKUPS: dict[Any, Any] = {Exact: ExactState, In: InStates}


class EpochField(models.BigIntegerField):  # type: ignore[type-arg]
    """Counts the entries of a row's states: the fence of every write. Added by `StateField`."""

    # What the INSERT returned would be put over what the entries of an earlier row have raised it to.
    db_returning = False

    def __init__(self, **kwargs: Any) -> None:
        # The database has the default too: code that does not know the column yet still inserts rows.
        super().__init__(**{"default": 0, "db_default": 0, "editable": False, **kwargs})

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.BigIntegerField", args, kwargs


class StateField(models.CharField):  # type: ignore[type-arg]
    """The status column of a pipeline. Adds one column beside it: ``<name>_epoch``.

    In migrations it is a plain `CharField` without choices, so the history needs no machine. A column that
    holds a former name of a state reads as today's, and is found by either; what is written is today's.

    Args:
        machine: The pipeline.
        methods: A prefix of the methods that the model receives, for several fields on a model.
        lock: Read the row again under a row lock before guards are asked. Unsaved changes are lost.

    Raises:
        DeclarationError: The machine cannot be bound to the model.
    """

    descriptor_class = StateDescriptor
    binding: RowBinding

    def __init__(
        self, machine: StateMachine, *, methods: str = "", lock: bool = False, **kwargs: Any
    ) -> None:
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

    # Former names: a column may still hold them

    def today(self, value: Any) -> Any:
        """Today's name of a state; what is no former name passes."""
        return self.machine.former.get(value, value) if isinstance(value, str) else value

    def names_of(self, value: Any) -> tuple[Any, ...]:
        """What the column may hold where a row is in a state; what is no state stands for itself."""
        state = self.machine.graph.named.get(value) if isinstance(value, str) else None
        return state.names if state else (value,)

    def to_python(self, value: Any) -> Any:
        return self.today(super().to_python(value))

    def get_prep_value(self, value: Any) -> Any:
        # Not by to_python: a former name that is asked for is one that may be stored.
        return models.CharField.to_python(self, models.Field.get_prep_value(self, value))

    def get_db_converters(self, connection: Any) -> Any:
        converters = super().get_db_converters(connection)
        return [*converters, self._from_db] if self.machine.former else converters

    def _from_db(self, value: Any, expression: Any, connection: Any) -> Any:
        return self.today(value)

    def get_lookup(self, lookup_name: str) -> Any:
        found = super().get_lookup(lookup_name)
        return _LOOKUPS.get(found, found) if self.machine.former else found

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        super().contribute_to_class(cls, name, private_only)
        if not cls._meta.abstract:
            cls.add_to_class(f"{name}_epoch", EpochField())
            class_prepared.connect(self._bind, sender=cls, weak=False)

    def _bind(self, sender: type[models.Model], **kwargs: Any) -> None:
        self._check_parents(sender)
        binding = self.machine.bind(sender, self.name, methods=self.methods, binding=RowBinding)
        assert isinstance(binding, RowBinding)
        binding.lock, self.binding = self.lock, binding
        # A class of another registry, as tests isolate them, has no rows to look after.
        if sender._meta.apps is apps:
            binding.register()

    def _check_parents(self, sender: type[models.Model]) -> None:
        """Refuse the machine of a parent's own column: which of the two is meant could not be told."""
        for cls in sender.__mro__[1:]:
            if any(binding.cls is cls for binding in self.machine.bindings):
                raise DeclarationError(
                    f"{sender.__name__}.{self.name} has the machine that {cls.__name__} is bound to already.",
                    hint=f"Use the inherited column, or declare a second StateMachine for {self.name!r}.",
                )


def state_fields(model: type[models.Model]) -> list[StateField]:
    """The state fields of a model, inherited ones included."""
    return [field for field in model._meta.concrete_fields if isinstance(field, StateField)]


def owned_fields(model: type[models.Model]) -> list[StateField]:
    """The state fields whose columns are in the model's own table."""
    concrete = model._meta.concrete_model
    return [field for field in state_fields(model) if field.model is concrete]


def _listen(sender: type[models.Model], **kwargs: Any) -> None:
    """Have the entries deleted with the rows of a model; Django sends the signal for proxies apart."""
    if not sender._meta.abstract and owned_fields(sender):
        post_delete.connect(_delete_entries, sender=sender, weak=False)


def _delete_entries(sender: type[models.Model], instance: models.Model, using: str, **kwargs: Any) -> None:
    """Delete the entries of a row, unless there is one: somebody deleted it first, and used its key again."""
    for field in owned_fields(sender):
        subject = field.binding.subject(instance, using=using)
        subject.entries.exclude(models.Exists(subject.rows)).delete()


class_prepared.connect(_listen)
