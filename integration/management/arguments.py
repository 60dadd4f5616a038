"""What the verbs of the command are told: their arguments, and what these name."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.management.base import CommandError
from django.db import DEFAULT_DB_ALIAS, Error, connections, models

from integration import recovery
from integration.conf import conf
from integration.fields import StateField, state_fields
from statemachine import diagrams, export

__all__ = ["add_verbs", "check_alias", "check_database", "chosen", "field_of", "model_of", "row_of"]


def add_verbs(verbs: Any) -> None:
    """Add a parser for each verb."""
    for add in (
        _add_verify,
        _add_draw,
        _add_export,
        _add_status,
        _add_recover,
        _add_to_state,
        _add_audit,
        _add_prune,
    ):
        add(verbs)


def _add_verify(verbs: Any) -> None:
    parser = verbs.add_parser("verify", help="Prove what each graph promises; exit 1 when it is refuted.")
    parser.add_argument("fields", nargs="*", metavar="app.Model[.field]", help="All of them by default.")
    parser.add_argument(
        "--property",
        action="append",
        dest="properties",
        metavar="NAME|FORMULA",
        help="Check this alone; may be repeated.",
    )
    _add_format(parser, "sarif")


def _add_draw(verbs: Any) -> None:
    parser = verbs.add_parser("draw", help="Draw a pipeline.")
    parser.add_argument("field", metavar="app.Model[.field]")
    parser.add_argument(
        "--format", choices=sorted(diagrams.FORMATS), help="By the suffix of FILE, or mermaid."
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--output", type=Path, metavar="FILE", help="The terminal by default.")
    place.add_argument(
        "--check", type=Path, metavar="FILE", dest="checked", help="Exit 1 when FILE shows something else."
    )


def _add_export(verbs: Any) -> None:
    parser = verbs.add_parser("export", help="Write a pipeline for other programs.")
    parser.add_argument("field", metavar="app.Model[.field]")
    parser.add_argument("--format", choices=sorted(export.FORMATS), help="By the suffix of FILE, or json.")
    parser.add_argument("--output", type=Path, metavar="FILE", help="The terminal by default.")


def _add_status(verbs: Any) -> None:
    parser = verbs.add_parser("status", help="Show where the rows stand, and what waits for a person.")
    parser.add_argument("--check", action="store_true", help="Exit 1 when work is left undone.")
    _add_database(parser)
    _add_format(parser)


def _add_recover(verbs: Any) -> None:
    parser = verbs.add_parser("recover", help="Ring what is overdue, and adopt rows without an entry.")
    parser.add_argument("--database", metavar="ALIAS", help="All that hold entries by default.")
    parser.add_argument("--loop", action="store_true", help="Until SIGINT or SIGTERM.")
    parser.add_argument("--every", type=duration, default=conf().sweep_every, metavar="DURATION")
    parser.add_argument("--all-rows", action="store_true", help="Adopt rows too that wait for nothing.")


def _add_to_state(verbs: Any) -> None:
    parser = verbs.add_parser("to-state", help="Put one row into a state, past its guards.")
    parser.add_argument("model", metavar="app.Model")
    parser.add_argument("pk", metavar="PK")
    parser.add_argument("state", metavar="STATE")
    parser.add_argument("--reason", required=True, help="Why; kept with the entry.")
    parser.add_argument("--by", default="manage.py", metavar="WHO", help="Who; kept with the entry.")
    parser.add_argument("--field", default="", help="Where the model has several.")
    parser.add_argument("--expect", metavar="STATE", help="Refuse, unless the row is in this state.")
    _add_database(parser)


def _add_audit(verbs: Any) -> None:
    parser = verbs.add_parser(
        "audit", help="Look for what rows and entries should not say; exit 1 if they do."
    )
    parser.add_argument("fields", nargs="*", metavar="app.Model[.field]", help="All of them by default.")
    _add_database(parser)
    _add_format(parser)


def _add_prune(verbs: Any) -> None:
    parser = verbs.add_parser("prune", help="Delete history that is old enough.")
    parser.add_argument("--older-than", type=duration, required=True, metavar="DURATION")
    parser.add_argument("--batch", type=_number, default=1000, metavar="N", help="Entries in a transaction.")
    parser.add_argument("--dry-run", action="store_true", help="Count them, and delete nothing.")
    _add_database(parser)


def _add_database(parser: Any) -> None:
    parser.add_argument("--database", default=DEFAULT_DB_ALIAS, metavar="ALIAS")


def _add_format(parser: Any, *others: str) -> None:
    parser.add_argument("--format", choices=["text", "json", *others], default="text")


_UNITS = {"": "seconds", "s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """A duration of ``90d``, ``12h``, ``30m``, or a number of seconds; it is below a century."""
    parts = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?|\.\d{1,6})([smhd]?)", text)
    given = timedelta(**{_UNITS[parts[2]]: float(parts[1])}) if parts else timedelta()
    if not timedelta() < given < timedelta(days=36_525):
        raise ArgumentTypeError(f"{text!r} is no duration above 0, such as 90d, 12h, 30m, or 45 for seconds")
    return given


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


# What the arguments name


def chosen(labels: Sequence[str]) -> list[StateField]:
    if labels:
        return [field_of(label) for label in labels]
    fields = [field for model in apps.get_models() for field in state_fields(model) if field.model is model]
    return sorted(fields, key=str)


def model_of(label: str) -> type[models.Model]:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError) as error:
        hint = f"Name one of: {', '.join(map(str, chosen(()))) or 'no model has a StateField'}."
        raise CommandError(f"{label!r} is no model. {hint}") from error


def field_of(label: str) -> StateField:
    """The field of ``app.Model``, or of ``app.Model.field`` where there are several."""
    model, _, name = label.rpartition(".") if label.count(".") > 1 else (label, "", "")
    fields = state_fields(model_of(model))
    named = [field for field in fields if name in ("", field.name)]
    if len(named) == 1:
        return named[0]
    names = ", ".join(field.name for field in fields) or "none"
    hint = "Name one of them." if fields else "Choose a model that has one."
    raise CommandError(f"{label!r} does not name one state field; {model} has: {names}. {hint}")


def row_of(model: type[models.Model], pk: str, database: str) -> Any:
    rows: models.QuerySet[Any] = models.QuerySet(model, using=database)
    try:
        return rows.get(pk=pk)
    except (ObjectDoesNotExist, ValidationError, ValueError) as error:
        hint = "Give the primary key of a row, and --database where there are several."
        raise CommandError(f"There is no {model.__name__} {pk!r} on {database!r}. {hint}") from error


def check_alias(alias: str) -> None:
    if alias not in connections:
        raise CommandError(
            f"{alias!r} is no database of this project. Choose one of: {', '.join(connections)}."
        )


def check_database(alias: str) -> None:
    check_alias(alias)
    try:
        held = recovery.holds(alias)
    except Error as error:
        raise CommandError(f"{alias!r} cannot be reached: {error}") from error
    if not held:
        raise CommandError(f"{alias!r} has no entry table. Run manage.py migrate --database {alias} first.")
