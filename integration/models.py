"""`StateField`, `StateMachineModel` and `StateQuerySet`: a pipeline on a Django model.

The status and its epoch are written by transitions alone. ``save()`` leaves them out of existing rows, an
assignment is refused, and so is ``update(status=…)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from django.db import connections, models, router, transaction
from django.db.models import CharField, Exists, OuterRef, Q
from django.db.models.functions import Cast

from integration import protocol
from integration.binding import message_of
from integration.dispatch import ring
from integration.entries import DatabaseNow, Entry, EntryQuerySet
from integration.fields import AssignmentRefused, EpochField, StateField, state_fields
from statemachine import StateValue, TransitionNotAllowed

__all__ = ["AssignmentRefused", "Entry", "StateField", "StateMachineModel", "StateQuerySet"]


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
        self._refuse("update", kwargs)
        return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Insert rows as Django does. The scan opens the entries of those in a working state.

        Raises:
            AssignmentRefused: A conflict would update a status or an epoch.
        """
        self._refuse("bulk_create", kwargs.get("update_fields") or ())
        return super().bulk_create(objs, *args, **kwargs)

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def _refuse(self, method: str, written: Iterable[str]) -> None:
        for field in state_fields(self.model):
            for name in {field.name, f"{field.name}_epoch"}.intersection(written):
                raise AssignmentRefused(
                    f"{method}({name}=…) would move rows of {self.model.__name__} without their transition.",
                    hint="Fire a trigger on each row, or call to_state(row, state, reason=…).",
                    row=self.model.__name__,
                    trigger="",
                    state="",
                )

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


def _in_pairs(model: type[models.Model], names: Iterable[str]) -> Iterator[str]:
    """The names, and with a status its epoch, or the other way round."""
    epochs = {field.name: f"{field.name}_epoch" for field in state_fields(model)}
    partner = epochs | {epoch: name for name, epoch in epochs.items()}
    for name in names:
        yield from (name, partner[name]) if name in partner else (name,)


class StateMachineModel(models.Model):
    """The base of a model with a `StateField`."""

    objects = StateQuerySet.as_manager()

    class Meta:
        abstract = True

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Triggers, ``may_…``, ``is_…`` and ``state`` are given to the class when it is bound."""

    @property
    def entries(self) -> EntryQuerySet:
        """The row's entries, oldest first: its history, and what is pending. None before it is stored."""
        subjects = [field.binding.subject(self) for field in state_fields(type(self))]
        if self.pk is None or not subjects:
            return Entry.objects.none()
        owned = Q()
        for subject in subjects:
            owned |= Q(**subject.key)
        return Entry.objects.using(subjects[0].using).filter(owned)

    def refresh_from_db(
        self, using: str | None = None, fields: Iterable[str] | None = None, *args: Any, **kwargs: Any
    ) -> None:
        """Read the row again, as Django does; a status never without its epoch."""
        named = None if fields is None else list(dict.fromkeys(_in_pairs(type(self), fields)))
        self.__dict__["_statemachine_loading"] = True
        try:
            super().refresh_from_db(using, named, *args, **kwargs)
        finally:
            self.__dict__.pop("_statemachine_loading", None)

    def __getstate__(self) -> dict[str, Any]:
        """A pickle or a copy is not the stage's row: the token is not handed on."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if not name.startswith("_statemachine_")}

    def save_base(
        self,
        raw: bool = False,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Any = None,
    ) -> None:
        """Save. A new row is committed with what ``post_save`` receivers write, before its entry is rung."""
        using = using or router.db_for_write(type(self), instance=self)
        new = self._state.adding or self.pk is None or force_insert or self._state.db != using
        if new and not raw:
            for field in state_fields(type(self)):
                self._first_state(field)  # before Django gives up the outer transaction for an error in here
        if raw or not new or connections[using].in_atomic_block:
            super().save_base(raw, force_insert, force_update, using, update_fields)
            return
        with transaction.atomic(using=using):
            super().save_base(raw, force_insert, force_update, using, update_fields)

    save_base.alters_data = True  # type: ignore[attr-defined]

    def _save_table(self, raw: bool = False, *args: Any, **kwargs: Any) -> bool:
        self.__dict__["_statemachine_raw"] = raw
        try:
            return super()._save_table(raw, *args, **kwargs)  # type: ignore[misc,no-any-return]
        finally:
            del self.__dict__["_statemachine_raw"]

    def _do_update(
        self,
        base_qs: Any,
        using: Any,
        pk_val: Any,
        values: Any,
        update_fields: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Update a row, but for what transitions alone write; a fixture writes that too."""
        if not self.__dict__.get("_statemachine_raw"):
            stamps = {stamp for field in state_fields(type(self)) for stamp in field.binding.stamps}
            kept = [
                value
                for value in values
                if not isinstance(value[0], StateField | EpochField) and value[0].name not in stamps
            ]
            if values and not kept:
                update_fields = None  # nothing is left to write, but the row must be there all the same
            values = kept
        return super()._do_update(base_qs, using, pk_val, values, update_fields, *args, **kwargs)

    def _do_insert(
        self, manager: Any, using: str, fields: Any, returning_fields: Sequence[Any], raw: bool
    ) -> Any:
        """Insert a row into one table, together with the entries of the state fields in it."""
        owned = [
            field for field in manager.model._meta.local_concrete_fields if isinstance(field, StateField)
        ]
        if raw or not owned:
            return super()._do_insert(manager, using, fields, returning_fields, raw)  # type: ignore[misc]
        first = [(field, self._first_state(field)) for field in owned]
        with transaction.atomic(using=using, savepoint=False):
            results = super()._do_insert(manager, using, fields, returning_fields, raw)  # type: ignore[misc]
            for value, field in zip(results[0] if results else (), returning_fields, strict=False):
                if field.primary_key:
                    setattr(self, field.attname, value)
            for field, state in first:
                self._open_first(field, state, using)
        return results

    def _first_state(self, field: StateField) -> StateValue:
        name = getattr(self, field.attname)
        if isinstance(name, str) and name in field.binding.states:
            return field.binding.states[name]
        raise TransitionNotAllowed(
            f"A new {type(self).__name__} cannot begin in {field.name}={name!r}, which is not declared.",
            hint=f"Declared are: {', '.join(field.machine.graph.by_name)}.",
            row=f"{type(self).__name__} {self.pk}",
            trigger="",
            state=str(name),
        )

    def _open_first(self, field: StateField, state: StateValue, using: str) -> None:
        binding = field.binding
        subject = binding.subject(self, using=using)
        entry = protocol.open_first(subject, state=state, epoch=getattr(self, binding.epoch))
        self.__dict__[binding.epoch] = entry.epoch
        if state.stamps and getattr(self, state.stamps) is None:
            subject.rows.update(**{state.stamps: DatabaseNow()})
            self.__dict__.pop(state.stamps, None)  # the database's instant is read when it is asked for
        if entry.task:
            ring(message_of(entry, using))
