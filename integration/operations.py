"""Operations for migrations."""

from __future__ import annotations

from typing import Any

from django.db import connections, models, transaction
from django.db.migrations.operations.base import Operation, OperationCategory

from integration.entries import Entry, EntryQuerySet
from integration.fence import Subject

__all__ = ["RenameState"]


class RenameState(Operation):
    """Rename a state in the rows that hold it, and in their entries, those of the past included.

    A row and its open entry get the new name in one transaction, in batches by primary key. The epoch and the
    attempt stay, so that a stage which is running under code that knows both names goes on. It changes no
    columns, may be repeated, and may be taken back: then whatever holds the new name gets the old one.

    In a migration that is atomic all batches are one transaction: give it a migration of its own, with
    ``atomic = False``.

    Args:
        app_label: The application of the model.
        model_name: The model; a child of multi-table inheritance, or a proxy, means the table of the column.
        field_name: The status column.
        old: The name that is stored.
        new: The name that is to be stored.
        batch_size: How many rows, or entries, at a time.
        elidable: Whether a squashed migration may leave it out.
    """

    category = OperationCategory.PYTHON
    reduces_to_sql = False
    reversible = True

    # Not by keyword only: what writes a squashed migration would forget them.
    def __init__(
        self,
        app_label: str,
        model_name: str,
        field_name: str,
        old: str,
        new: str,
        batch_size: int = 500,
        elidable: bool = False,
    ) -> None:
        if not old or not new or old == new:
            raise ValueError(
                f"RenameState(…, old={old!r}, new={new!r}) of {app_label}.{model_name}.{field_name} renames "
                "nothing: pass the name that is stored as old, and another one as new."
            )
        self.app_label, self.model_name, self.field_name = app_label, model_name, field_name
        self.old, self.new, self.batch_size = old, new, batch_size
        self.elidable = elidable  # type: ignore[misc]

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Nothing: the columns stay as they are."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._rename(schema_editor.connection.alias, from_state, self.old, self.new)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._rename(schema_editor.connection.alias, from_state, self.new, self.old)

    def describe(self) -> str:
        where = f"{self.app_label}.{self.model_name}.{self.field_name}"
        return f"Rename the state {self.old!r} of {where} to {self.new!r}"

    @property
    def migration_name_fragment(self) -> str:
        return f"rename_{self.model_name.lower()}_{self.old}_to_{self.new}"

    def _rename(self, using: str, from_state: Any, old: str, new: str) -> None:
        from_state.clear_delayed_apps_cache()
        model = from_state.apps.get_model(self.app_label, self.model_name)
        if not self.allow_migrate_model(using, model):
            return
        owner = model._meta.get_field(self.field_name).model
        renaming = _Renaming(owner, self.field_name, using, self.batch_size, old, new)
        while renaming.rows():
            pass
        renaming.history("state", renaming.entries.filter(open=None))
        renaming.history("source", renaming.entries)


class _Renaming:
    """One column on one database. Rows are locked before entries, as everywhere."""

    def __init__(
        self, owner: type[models.Model], field: str, using: str, size: int, old: str, new: str
    ) -> None:
        self.owner, self.field, self.using = owner, field, using
        self.size, self.old, self.new = size, old, new
        tables = connections[using].introspection.table_names()
        # Before the application was migrated there, rows have no entries.
        self.entries: EntryQuerySet = (
            Entry.objects.using(using).filter(model=owner._meta.label_lower, field=field)
            if Entry._meta.db_table in tables
            else Entry.objects.none()
        )

    def rows(self) -> int:
        """Rename a batch of rows, and their open entries; returns how many there were."""
        rows: models.QuerySet[Any] = models.QuerySet(self.owner, using=self.using)
        with transaction.atomic(using=self.using):
            stored = rows.filter(**{self.field: self.old}).order_by("pk")
            if connections[self.using].features.has_select_for_update:
                stored = stored.select_for_update()
            pks = list(stored.values_list("pk", flat=True)[: self.size])
            rows.filter(pk__in=pks, **{self.field: self.old}).update(**{self.field: self.new})
            objects = [self._object(pk) for pk in pks]
            opened = self.entries.filter(open=True, object__in=objects, state=self.old)
            opened.update(state=self.new)
        return len(pks)

    def _object(self, pk: Any) -> str:
        return Subject(owner=self.owner, pk=pk, field=self.field, using=self.using).object

    def history(self, column: str, entries: EntryQuerySet) -> None:
        """Rename in a column that fences nothing, in batches by id."""
        rest = found = entries.filter(**{column: self.old}).order_by("pk")
        while pks := list(rest.values_list("pk", flat=True)[: self.size]):
            entries.filter(pk__in=pks, **{column: self.old}).update(**{column: self.new})
            rest = found.filter(pk__gt=pks[-1])
