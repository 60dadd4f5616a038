"""What must hold of a row and its entries after a crash, and again when all is recovered."""

from itertools import pairwise

from django.db import models

from integration.binding import bindings
from integration.entries import Entry

JUMPS = ("created", "to_state", "adopted", "step")


class Broken(AssertionError):
    """The protocol did not keep its promise."""


def check(condition, *told):
    if not condition:
        raise Broken(" ".join(map(str, told)))


def entries_by_row(model):
    """The entries of every row of a model that ever was, each row's in order."""
    found = {}
    for entry in Entry.objects.filter(model=model._meta.label_lower).order_by("epoch", "step"):
        found.setdefault(entry.object, []).append(entry)
    return found


def tell(entries):
    return "; ".join(
        f"{entry.pk}: {entry.trigger} {entry.source}→{entry.state} epoch {entry.epoch}.{entry.step}"
        f" attempt {entry.attempt} strikes {entry.strikes}"
        f"{' open' if entry.open else ''}{' due' if entry.due_at else ''} {entry.error}"
        for entry in entries
    )


def check_rows(model, *, strays=False):
    """Check every row of a model, and every entry, as the database has them now.

    Args:
        strays: Whether foreign hands wrote a row, so that it may disagree with its entry until it is adopted.
    """
    binding = bindings[model._meta.label_lower, "status"]
    found = entries_by_row(model)
    rows = {str(pk): (status, epoch) for pk, status, epoch in _rows(model)}
    for key, entries in found.items():
        try:
            check_entries(entries, binding)
            check(strays or key in rows or not any(entry.open for entry in entries), "an orphan")
        except Broken as error:
            raise Broken(f"{error} [{tell(entries)}]") from None
    for key, (status, epoch) in rows.items():
        opened = [(entry.state, entry.epoch) for entry in found.get(key, ()) if entry.open]
        check(
            strays or opened == [(status, epoch)],
            f"{status} {epoch} disagrees with",
            tell(found.get(key, ())),
        )


def _rows(model):
    return models.QuerySet(model).values_list("pk", "status", "status_epoch")


def check_entries(entries, binding):
    """Check that the entries of one row are a path, each left once, the last one open and armed."""
    states = binding.states
    edges = {(edge.source, edge.trigger, edge.dest) for edge in binding.machine.graph.edges}
    check(sum(bool(entry.open) for entry in entries) <= 1, "two entries are open")
    check(not any(entry.open for entry in entries[:-1]), "an entry is open that is not the last")
    check(entries[0].trigger in ("created", "adopted"), "the history begins in the middle")
    for entry in entries:
        state = states[entry.state]
        pending = bool(entry.task) or state.after is not None
        check(bool(entry.open) == (entry.left_at is None), "open and left")
        check(bool(entry.due_at) == (bool(entry.open) and pending), "armed and pending differ")
        check(entry.strikes <= entry.attempt, "more strikes than attempts")
        check(entry.strikes <= _most(entry, state), "more strikes than may be")
        check(entry.trigger in JUMPS or (entry.source, entry.trigger, entry.state) in edges, "no such edge")
        check(bool(entry.task) == state.works, "a task where none is, or none where one is")
    for before, after in pairwise(entries):
        if after.trigger == "step":
            check(
                (after.epoch, after.step, after.state) == (before.epoch, before.step + 1, before.state),
                "a step",
            )
        else:
            check((after.epoch, after.step) == (before.epoch + 1, 0), "the epoch moved by more than one")
        check(after.source == before.state, "an entry does not begin where the last one ended")


def _most(entry, state):
    return next((step.max_attempts for step in state.steps if step.task == entry.task), None) or 5


def check_finishes(model, remarks):
    """Check that what a finish wrote is there once if the stage was finished, and not at all if not.

    Args:
        remarks: The entry and attempt of each finish that wrote.
    """
    binding, told = bindings[model._meta.label_lower, "status"], list(remarks)
    for entries in entries_by_row(model).values():
        for entry, after in zip(entries, [*entries[1:], None], strict=True):
            done = after is not None and after.trigger in ("step", binding.states[entry.state].done)
            written = [attempt for pk, attempt in told if pk == entry.pk]
            expected = [entry.attempt] if done and entry.task else []
            check(
                written == expected,
                f"entry {entry.pk} was finished by {expected} and written by {written}:",
                tell(entries),
            )
