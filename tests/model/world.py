"""What a state of the model is, and its normal form."""

from __future__ import annotations

from typing import NamedTuple

# What the clock says of an open entry. `ready_at` and `due_at` are two instants, of which the second is
# never the earlier one, so four cases are all there are.
NOTHING, LATER, READY, DUE = range(4)
CLOCKS = ("nothing due", "later", "ready", "due")

NEVER = -9
"""No entry was ever written: there is no highest epoch."""


class Row(NamedTuple):
    status: str
    epoch: int


class Entry(NamedTuple):
    id: int
    epoch: int
    state: str
    step: int
    attempt: int = 0
    strikes: int = 0
    clock: int = NOTHING
    held: bool = False
    parked: bool = False


class Worker(NamedTuple):
    """What a process remembers: where it is, the entry as it read it, and what it saw when adopting."""

    phase: str = "idle"
    id: int = 0
    epoch: int = 0
    state: str = ""
    step: int = 0
    attempt: int = 0
    strikes: int = 0
    spent: bool = False
    then: str = ""
    saw: tuple = ()


IDLE = Worker()


class World(NamedTuple):
    """One state of the model.

    Attributes:
        bag: The open entry, if a message is under way for it: instead of a second one, a message stays when
            it is delivered, and what rings an entry that was left is dropped unread.
        foreign: Whether a program that does not know the protocol wrote since row and entry last agreed.
        sweeper: What the thread that sweeps and scans remembers.
        operator: What a person's page or shell remembers.
    """

    row: Row | None
    entry: Entry | None
    highest: int = NEVER
    bag: tuple = ()
    foreign: bool = False
    sweeper: Worker = IDLE
    operator: Worker = IDLE
    workers: tuple = (IDLE, IDLE)


def actors(world):
    return (*world.workers, world.sweeper, world.operator)


def ids_seen(actor):
    """The orphan that an adopter saw."""
    return actor.saw if len(actor.saw) == 1 and actor.saw[0] is not None else ()


def are_ranks(numbers):
    return not numbers or (min(numbers) == 0 and max(numbers) == len(numbers) - 1)


def are_attempts(attempts):
    """Whether the attempts of each entry are 0, 1 and so on."""
    return all(attempt == 0 or (id, attempt - 1) in attempts for id, attempt in attempts) and all(
        attempt >= 0 for _, attempt in attempts
    )


def normal(world):
    """A world that differs from this one in nothing that any action could tell.

    Ids, epochs and attempts are only compared, and new ones are greater than all before, so each is replaced
    by its rank among those that are still remembered. This is why there are finitely many worlds though
    nothing limits how often a lease runs out. Workers have no names.
    """
    row, entry, operator, sweeper = world.row, world.entry, world.operator, world.sweeper
    busy = [worker for worker in world.workers if worker.phase != "idle"]
    ids = {worker.id for worker in busy}
    epochs = {worker.epoch for worker in busy}
    attempts = {(worker.id, worker.attempt) for worker in busy}
    if world.highest != NEVER:
        epochs.add(world.highest)
    if row:
        epochs.add(row.epoch)
    if entry:
        ids.add(entry.id)
        epochs.add(entry.epoch)
        attempts.add((entry.id, entry.attempt))
    adopters = [operator, sweeper, *busy]
    for actor in adopters:
        saw = actor.saw
        if len(saw) > 1:
            epochs.update(epoch for epoch in saw[1:] if epoch != NEVER)
        elif saw and saw[0] is not None:
            ids.add(saw[0])
    if sweeper.phase == "push":
        ids.add(sweeper.id)
    if are_ranks(ids) and are_ranks(epochs) and are_attempts(attempts):
        workers = (IDLE,) * (len(world.workers) - len(busy)) + tuple(sorted(busy))
        bag = world.bag if entry and entry.id in world.bag else ()
        return World(row, entry, world.highest, bag, world.foreign, sweeper, operator, workers)
    rank_id = {id: rank for rank, id in enumerate(sorted(ids))}
    rank = {epoch: rank for rank, epoch in enumerate(sorted(epochs))}
    rank[NEVER] = NEVER
    counts, rank_attempt = {}, {}
    for id, attempt in sorted(attempts):
        rank_attempt[id, attempt] = counts[id] = counts.get(id, -1) + 1

    def seen(saw):
        if len(saw) > 1:
            return (saw[0], *[rank[epoch] for epoch in saw[1:]])
        return (rank_id.get(saw[0]),) if saw else saw

    def ranked(worker):
        return Worker(
            worker.phase,
            rank_id[worker.id],
            rank[worker.epoch],
            worker.state,
            worker.step,
            rank_attempt[worker.id, worker.attempt],
            *worker[6:9],
            seen(worker.saw),
        )

    bag = ()
    if entry:
        if entry.id in world.bag:
            bag = (rank_id[entry.id],)
        at = rank_attempt[entry.id, entry.attempt]
        entry = Entry(rank_id[entry.id], rank[entry.epoch], entry.state, entry.step, at, *entry[5:])
    if operator.saw:
        operator = operator._replace(saw=seen(operator.saw))
    if sweeper.phase == "push":
        sweeper = Worker("push", rank_id[sweeper.id])
    elif sweeper.saw:
        sweeper = sweeper._replace(saw=seen(sweeper.saw))
    workers = (IDLE,) * (len(world.workers) - len(busy)) + tuple(sorted(map(ranked, busy)))
    row = row and Row(row.status, rank[row.epoch])
    highest = rank[world.highest]
    return World(row, entry, highest, bag, world.foreign, sweeper, operator, workers)
