"""What the storm is judged by: the rows, their entries and what the bodies left, and nothing from memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from chaos.project.machine import storm
from chaos.project.models import Effect, Pipeline, Refusal, Start
from integration.entries import Entry

JUMPS = ("to_state", "adopted")


@dataclass(frozen=True)
class Account:
    """The figures, and what is wrong.

    Attributes:
        transitions: Effects, which every transition but a jump commits with itself.
        distinct_transitions: Of these, how many tell of a transition of their own.
        expected_transitions: How many the declaration and the pipelines' kinds ask for.
        repeated_bodies: Bodies that started once more for the same step: the price of crashes.
        fenced_writes: Bodies that were refused when they reported or finished.
        undisturbed: Pipelines that took their declared path to the letter.
        wrong: What contradicts the promises, one sentence each.
    """

    pipelines: int
    complete: int
    failed: int
    undisturbed: int
    entries: int
    transitions: int
    distinct_transitions: int
    expected_transitions: int
    repeated_bodies: int
    fenced_writes: int
    adopted: int
    jumps: int
    wrong: list[str] = field(default_factory=list)


def declared(row: Pipeline) -> list[str]:
    """The trigger and state of each entry of a pipeline that nobody disturbed."""
    path = ["created created", "start fetching", "advance parsing", "step parsing", "advance resting"]
    path += ["wake brooding"]
    if row.poison:
        return [*path, "advance tasting", "fail failed"]
    lost = ["fail cooling", "retry racing"] * row.to_race
    return [*path, "advance polling", "advance racing", *lost, "advance storing", "advance complete"]


def account(jumps: Mapping[int, int], raw: Mapping[int, int]) -> Account:
    """Count and judge everything.

    Args:
        jumps: How often each pipeline was moved by hand.
        raw: How often each was moved by raw SQL.
    """
    rows = {row.pk: row for row in Pipeline.objects.all()}
    histories: dict[int, list[Entry]] = defaultdict(list)
    for entry in Entry.objects.filter(model="chaos.pipeline").order_by("epoch", "step"):
        histories[int(entry.object)].append(entry)
    effects = Counter(Effect.objects.values_list("pipeline", "key"))
    starts = list(Start.objects.values_list("pipeline", "key"))
    wrong, expected, undisturbed = [], 0, 0
    for pk, row in rows.items():
        entries = histories.get(pk, [])
        wrong += judged(row, entries, jumps.get(pk, 0), raw.get(pk, 0))
        disturbed = pk in jumps or raw.get(pk)
        undisturbed += not disturbed
        asked = keys(entries) if disturbed else {*keys(entries)}
        expected += len(keys(entries)) if disturbed else len(declared(row)) - 1
        left = {key for of, key in effects if of == pk}
        wrong += [f"Pipeline {pk}: no effect of {key!r}." for key in sorted(asked - left)]
        wrong += [
            f"Pipeline {pk}: an effect of {key!r}, which was no transition." for key in sorted(left - asked)
        ]
    wrong += [f"Pipeline {pk}: {n} effects of {key!r}." for (pk, key), n in effects.items() if n > 1]
    all_entries = [entry for entries in histories.values() for entry in entries]
    return Account(
        pipelines=len(rows),
        complete=sum(row.status == "complete" for row in rows.values()),
        failed=sum(row.status == "failed" for row in rows.values()),
        undisturbed=undisturbed,
        entries=len(all_entries),
        transitions=effects.total(),
        distinct_transitions=len(effects),
        expected_transitions=expected,
        repeated_bodies=len(starts) - len(set(starts)),
        fenced_writes=Refusal.objects.count(),
        adopted=sum(entry.trigger == "adopted" for entry in all_entries),
        jumps=sum(entry.trigger == "to_state" for entry in all_entries),
        wrong=wrong,
    )


def keys(entries: list[Entry]) -> set[str]:
    """The effects that a history asks for: one for each transition that was no jump."""
    return {key(before, after) for before, after in moves(entries) if after.trigger not in JUMPS}


def moves(entries: list[Entry]) -> Iterator[tuple[Entry, Entry]]:
    yield from pairwise(entries)


def key(before: Entry, after: Entry) -> str:
    """What the body or the edge called the effect of this transition."""
    noted = before.state == "storing" or after.trigger in ("start", "wake", "retry", "fail")
    if noted:
        return f"{before.epoch} {after.trigger}"
    whose = (before.model, before.field, before.object, before.epoch, before.step, before.pk)
    return ":".join(map(str, whose))


def judged(row: Pipeline, entries: list[Entry], jumps: int, raw: int) -> Iterator[str]:
    """What is wrong with one pipeline and its history."""
    name, history = f"Pipeline {row.pk}", [f"{entry.trigger} {entry.state}" for entry in entries]
    if row.status != ("failed" if row.poison else "complete"):
        yield f"{name} is {row.status!r}: {history}"
    open_ = [entry for entry in entries if entry.open]
    if len(open_) != 1 or (open_[0].state, open_[0].epoch) != (row.status, row.status_epoch):
        yield f"{name} is {row.status!r} in epoch {row.status_epoch}, and its open entries are {open_}."
    if not jumps and not raw and history != declared(row):
        yield f"{name} went {history} and not {declared(row)}."
    taken = Counter(entry.trigger for entry in entries)
    if taken["to_state"] != jumps:
        yield f"{name} was moved by hand {jumps} times, and has {taken['to_state']} entries that say so."
    if taken["adopted"] > raw:
        yield f"{name} was adopted {taken['adopted']} times after {raw} raw updates: {history}"
    for before, after in moves(entries):
        yield from (f"{name}: {problem}" for problem in gap(before, after))


def gap(before: Entry, after: Entry) -> Iterator[str]:
    """What is wrong between an entry and the next one."""
    if before.left_at is None:
        yield f"entry {before.pk} was never left."
    if after.trigger in JUMPS:
        return
    steps = [enqueue.task for enqueue in storm.graph[before.state].steps]
    if after.trigger == "step":
        if (
            after.epoch != before.epoch
            or after.step != before.step + 1
            or after.task != steps[before.step + 1]
        ):
            yield f"entry {after.pk} is not the step after entry {before.pk}."
        return
    if after.epoch != before.epoch + 1:
        yield f"epoch {after.epoch} follows {before.epoch}."
    edges = {(edge.source, edge.trigger, edge.dest) for edge in storm.graph.edges}
    if (before.state, after.trigger, after.state) not in edges:
        yield f"no edge leads from {before.state!r} by {after.trigger!r} to {after.state!r}."
    if after.trigger == "advance" and steps and before.task != steps[-1]:
        yield f"{before.state!r} was left after its step {before.task!r}."
