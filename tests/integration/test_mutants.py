"""The protocol, broken in one place at a time: what proves it must find each of them.

A mutant that survives fails, and so does one whose place is gone: then the proof is to be looked at again.
"""

import inspect
import textwrap
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
from django.db import connection, transaction

from integration import body, dispatch, fence, portable, protocol, recovery, stage
from tests.integration.simulation.world import simulate, simulated

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "sqlite", reason="these break the portable way"),
]

# So many that a change of the library does not hide a mutant by chance; the first that fails is the last.
RUNS = 400
# Which finds each of them within a few runs.
SEED = 5


class Change(NamedTuple):
    """A snippet of a function, which it has exactly once, and what stands there instead."""

    function: Any
    old: str
    new: str


ANY_ATTEMPT = "Entry.objects.using(using).filter(pk=token.entry, open=True).update("

MUTANTS = {
    "an unconditional write": [
        Change(portable.move, "subject.at(source, epoch).update(", "subject.rows.update("),
    ],
    "a fence on the epoch alone": [
        Change(
            fence.Subject.expected,
            "entries.open() if token is None else held(token, entries)",
            "entries.open()",
        ),
    ],
    "a fence on the state's name": [
        Change(fence.Subject.at, ', **{f"{self.field}_epoch": epoch})', ")"),
        Change(fence.Subject.entry_at, ", epoch=epoch)", ")"),
    ],
    "a token without its attempt": [
        Change(fence.held, ", attempt=token.attempt)", ")"),
    ],
    "not armed in the commit": [
        Change(fence.opened, "later(None, conf().grace)", "None"),
    ],
    "a message after the commit and no sweep": [
        Change(recovery.sweep, "if circuit.is_open:", "if True:"),
    ],
    "a sweep that selects and then updates": [
        Change(portable.take, "with transaction.atomic(using=overdue.db):", "if True:"),
        Change(portable.take, "still = overdue.filter(", "still = Entry.objects.using(overdue.db).filter("),
    ],
    "a sweep that pushes nothing": [
        Change(portable.take, "still.update(due_at=due_at) == len(entries)", "entries"),
    ],
    "publishing before the commit": [
        Change(dispatch.ring, "transaction.on_commit(after_commit, using=message.using)", "after_commit()"),
    ],
    "a lease without a fence": [
        Change(protocol.claim, 'F("attempt") + 1', 'F("attempt")'),
    ],
    "a wait that costs a strike": [
        Change(protocol.release, "if not strike:", "if False:"),
    ],
    "strikes counted at the failure": [
        Change(protocol.claim, 'F("strikes") + (1 if strike else 0)', 'F("strikes")'),
        Change(protocol.release, "if not strike:", "if strike:"),
        Change(protocol.release, 'F("strikes") - 1', 'F("strikes") + 1'),
    ],
    "a claim inside an outer transaction": [
        Change(portable.claim, "durable=True", "durable=False"),
        Change(body.Stage.finish, "durable=True", "durable=False"),
    ],
    "a heartbeat without a fence": [
        Change(protocol.extend, "_held(token, using).update(", ANY_ATTEMPT),
    ],
    "a release without a fence": [
        Change(protocol.release, "_held(token, using).update(", ANY_ATTEMPT),
    ],
    "a next step without a fence": [
        Change(portable.next_step, "leave(held)", "leave(Entry.objects.filter(object=entry.object))"),
    ],
    "adoption without compare": [
        Change(protocol.adopt, "with transaction.atomic(using=subject.using):", "if True:"),
        Change(protocol._raise_epoch, "subject.at(state.names, epoch).update(", "subject.rows.update("),
    ],
    "adoption that keeps the epoch": [
        Change(protocol._reopen, "max(epoch, highest(subject) or 0) + 1", "epoch"),
    ],
    "a finish that trusts memory": [
        Change(
            stage._conclude,
            "protocol.holds(claimed.token, using=claimed.using)",
            "not has_moved(claimed.row, claimed.entry, claimed.binding)",
        ),
    ],
    "a finish beside its transaction": [
        Change(
            body.Stage.finish, "with transaction.atomic(using=self._subject.using, durable=True):", "if True:"
        ),
    ],
    "a new row that takes up an old epoch": [
        Change(protocol.open_first, "if seen >= epoch:", "if False:"),
    ],
}


@pytest.mark.parametrize("name", MUTANTS)
def test_no_mutant_survives(name, settings, monkeypatch, tally):
    if name == "a claim inside an outer transaction":
        monkeypatch.setattr(stage, "run", transaction.atomic(stage.run))
    with broken(MUTANTS[name]), simulated(settings) as world, pytest.raises(AssertionError) as caught:
        simulate(world, runs=RUNS, seed=SEED, shrink=False)
    print(name, world.runs, caught.value)
    tally("mutants caught")


@contextmanager
def broken(changes):
    """Let functions have another body for a while, for everybody who has imported them."""
    by_function = defaultdict(list)
    for change in changes:
        by_function[inspect.unwrap(change.function)].append(change)
    with ExitStack() as stack:
        for function, its_changes in by_function.items():
            stack.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = mutant_of(function, its_changes)
        yield


def mutant_of(function, changes):
    source = textwrap.dedent(inspect.getsource(function))
    for change in changes:
        found = source.count(change.old)
        assert found == 1, f"{change.old!r} is {found} times in {function.__qualname__}: mutate it elsewhere."
        source = source.replace(change.old, change.new)
    names = dict(function.__globals__)
    exec(compile(f"from __future__ import annotations\n{source}", "<mutant>", "exec"), names)
    return inspect.unwrap(names[function.__name__]).__code__
