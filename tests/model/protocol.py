"""The protocol of `integration`, as a model small enough to be explored to its last state.

A state of the model is what is stored (a row, its open entry, the highest epoch of all its entries), what
is under way in the broker, and what two workers, a thread that sweeps and scans, and an operator remember.
An action is what the database does at once: a statement that commits by itself, or a transaction that locks
the row by a compare-and-set and is decided by its last one. Each is one method:

==================  ==================================================================================
action              what it models
==================  ==================================================================================
``deliver``         the first read of `integration.stage.run`; a message may stay, to come once more
``claim``           `protocol.claim`
``look``            the read of the row in `stage.run`, after the claim
``beat``            `protocol.extend`: `Heart`, `Stage.progress`, `Stage.checkpoint`
``finish``          `Stage.finish`: `RowBinding.take_step` (`protocol.next_step`), or `write` (`move`)
``fail``            `stage._judge`: `protocol.release` with its strike, or the way to ``give_up``
``wait``, ``stop``  `Stage.wait`, and a worker that is told to stop: `protocol.release` without a strike
``give_up``         `stage._give_up`, `stage._ring_timer`: `protocol.move` by the trigger that it fires
``back_off``        `stage._back_off` of a timer whose trigger raises
``park``            `protocol.park`, where that trigger is refused, or raises for the last time
``put_aside``       the `protocol.release` of `stage.run` after a row and a claimed entry disagreed
``orphans``         the first read of `protocol._adopt`
``compare``         its second read: the row, its open entry, the highest epoch
``adopt``           `protocol._reopen`, decided when it updates the row
``find``, ``push``  `recovery._take`: the select and the update
``fire``            `RowBinding.write` without a token: `move`, or the way to adoption
``jump``            `machine.to_state`: `protocol.move` with ``anyhow``
``create``          `protocol.open_first`
``elapse``          the clock passes an entry's instants: of a lease, a backoff, a wait, a timer
``update``          raw SQL writes the status; ``restore`` an older epoch as well; ``delete`` the row alone
==================  ==================================================================================

What is left out is said in docs/explanation/what-the-model-checks.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from statemachine import StateMachine
from tests.model.world import (
    DUE,
    IDLE,
    LATER,
    NOTHING,
    READY,
    Entry,
    Row,
    Worker,
    World,
    actors,
    ids_seen,
    normal,
)


class Violation(Exception):
    """A step broke an invariant."""


@dataclass(frozen=True)
class Step:
    """What happened: who did it, what, and whether it is a fault or a person's doing."""

    actor: str
    verb: str
    fault: bool = False

    def __str__(self) -> str:
        return f"{self.actor} {self.verb}"


LOST = Step("the broker", "loses a message", True)
ELAPSED = Step("the clock", "passes the entry's instant")


def name_of(worker):
    return f"the worker with entry {worker.id}, attempt {worker.attempt},"


class Protocol:
    """The rules. A seeded breakage is a subclass that leaves one out."""

    sweeps = scans = unique = True

    def __init__(
        self,
        machine: StateMachine,
        *,
        workers: int = 2,
        attempts: int = 2,
        bodies: tuple = ("beat", "finish", "fail"),
        faults: tuple = ("lose", "keep", "crash"),
        jumps: tuple = (),
        fires: bool = False,
        updates: tuple = (),
        refused: tuple = (),
        raises: tuple = (),
        predates: bool = False,
    ) -> None:
        """
        Args:
            attempts: Strikes at most, where a task does not declare its own.
            bodies: What a body may do.
            faults: What may go wrong: lose, keep (deliver twice), crash, restore, delete.
            jumps: The states that an operator may jump to.
            fires: Whether an operator fires the triggers that leave a state.
            updates: The states that a foreign program writes.
            refused: The triggers that a guard refuses.
            raises: The triggers that raise.
            predates: Whether the row was there before the field, so that it has no entry.
        """
        self.states = machine.graph.by_name
        self.edges = {
            (edge.source, edge.trigger): edge.dest for edge in machine.graph.edges if not edge.internal
        }
        self.initial = machine.graph.initial
        self.count, self.attempts, self.bodies, self.faults = workers, attempts, bodies, faults
        self.jumps, self.fires, self.updates, self.refused = jumps, fires, updates, refused
        self.raises, self.predates = raises, predates

    # What a state declares

    def works(self, state):
        return bool(self.states[state].steps)

    def is_pending(self, state):
        return self.works(state) or self.states[state].after is not None

    def max_strikes(self, state, step):
        steps = self.states[state].steps
        return (steps[step].max_attempts if steps else None) or self.attempts

    def exits(self, state):
        """What may be fired from outside: not the triggers of a stage, which belong to its task."""
        own = {self.states[state].done, self.states[state].failed} if self.works(state) else set()
        return [(t, d) for (s, t), d in self.edges.items() if s == state and t not in own]

    # The rules

    def holds(self, world, worker):
        """`protocol._held`"""
        entry = world.entry
        return bool(entry and (entry.id, entry.attempt, entry.held) == (worker.id, worker.attempt, True))

    def is_at(self, world, status, epoch):
        """`Subject.at`"""
        return world.row == (status, epoch)

    def is_held_at(self, world, worker):
        """Both compare-and-sets of a move inside a stage."""
        return self.is_at(world, worker.state, worker.epoch) and self.holds(world, worker)

    def may_beat(self, world, worker):
        return self.holds(world, worker)

    def may_release(self, world, worker):
        return self.holds(world, worker)

    def may_claim(self, world, worker):
        entry = world.entry
        seen = (worker.id, worker.attempt, worker.strikes)
        return entry and (entry.id, entry.attempt, entry.strikes) == seen and self.admits(entry)

    def admits(self, entry):
        return entry.clock in (READY, DUE)

    def claimed(self, entry, worker):
        """The attempt that a claim takes, and its strikes; and what the claimant believes it took."""
        strikes = entry.strikes + (not worker.spent)
        return (entry.attempt + 1, strikes), (entry.attempt + 1, strikes)

    def may_push(self, world, sweeper):
        return bool(world.entry and world.entry.id == sweeper.id and world.entry.clock == DUE)

    def may_adopt(self, world, status, epoch):
        return self.is_at(world, status, epoch) and not self.agrees(world)

    def adopted_epoch(self, epoch, highest):
        return max(epoch, highest) + 1

    def jumped_epoch(self, epoch, highest):
        return max(epoch, highest) + 1

    def created_epoch(self, highest):
        return max(highest, -1) + 1

    def armed(self, state):
        if self.works(state):
            return READY
        return LATER if self.is_pending(state) else NOTHING

    def after_claim(self, world, worker, agrees):
        """What a claimant does next, by what it read of the row."""
        if not agrees:
            return self.adopting(worker, "put aside")
        if not self.works(worker.state):
            return worker._replace(phase="give up")
        return worker._replace(phase="give up" if worker.spent else "body")

    def adopting(self, worker, then="idle"):
        return worker._replace(phase="orphans" if "delete" in self.faults else "compare", then=then, saw=())

    def superseded(self, worker):
        return self.adopting(worker)

    def released(self, worker):
        """A heart that was about to beat when its body gave the work back."""
        return worker._replace(phase="last beat") if "beat" in self.bodies else IDLE

    # What is stored

    def agrees(self, world):
        """`protocol.agrees`, and that there is nothing where there is no row."""
        if world.row is None or world.entry is None:
            return world.row is None and world.entry is None
        return (world.entry.state, world.entry.epoch) == world.row

    def enter(self, world, state, epoch, step=0, ring=None):
        """`protocol._enter`, and the ring after the commit."""
        if world.entry is not None:
            raise Violation("two entries are open")
        if epoch <= world.highest and not step:
            raise Violation("an epoch is used twice")
        new = 1 + max(id for actor in actors(world) for id in (actor.id, *ids_seen(actor)))
        entry = Entry(new, epoch, state, step, clock=self.armed(state))
        bag = (*world.bag, new) if self.works(state) else world.bag
        return world._replace(entry=entry, highest=max(world.highest, epoch), bag=bag)

    def left(self, world):
        """The world without its open entry: a message to it would be dropped unread."""
        return world._replace(entry=None, bag=())

    def accept(self, world, worker, write):
        """What no rule may allow: a write under a token that no longer holds."""
        entry = world.entry
        if not entry or (entry.id, entry.attempt, entry.held) != (worker.id, worker.attempt, True):
            raise Violation(f"{write} was accepted from a superseded token")

    def begin(self):
        """The worlds that everything starts from."""
        world = World(Row(self.initial, 0), None, workers=(IDLE,) * self.count)
        yield self.check(self.enter(world, self.initial, 0))
        if self.predates:
            yield self.check(world._replace(foreign=True))

    # Everything that may happen

    def successors(self, world):
        """Each step that may be taken, and the world after it."""
        yield from self._broker(world)
        yield from self._time(world)
        yield from self._sweeping(world)
        yield from self._operating(world)
        yield from self._foreign(world)
        for number, worker in enumerate(world.workers):
            if worker.phase == "idle" or worker in world.workers[:number]:
                continue
            others = world.workers[:number] + world.workers[number + 1 :]
            for verb, after, became in self._acts(world, worker):
                yield Step(name_of(worker), verb), after._replace(workers=(*others, became))
            if "crash" in self.faults:
                yield Step(name_of(worker), "dies", True), world._replace(workers=(*others, IDLE))

    def _broker(self, world):
        for id in world.bag:
            rest = tuple(other for other in world.bag if other != id)
            if "lose" in self.faults:
                yield LOST, world._replace(bag=rest)
            if IDLE not in world.workers:
                continue
            others = list(world.workers)
            others.remove(IDLE)
            entry = world.entry
            if not entry or entry.id != id or entry.clock == NOTHING:
                yield Step("a worker", "drops a message"), world._replace(bag=rest)
                continue
            worker = self.deliver(entry)
            after = world._replace(workers=(*others, worker))
            yield Step("a worker", "reads the entry of a message"), after._replace(bag=rest)
            if "keep" in self.faults:
                yield Step("a worker", "reads the entry of a message, which stays", True), after

    def deliver(self, entry):
        spent = entry.strikes >= self.max_strikes(entry.state, entry.step)
        return Worker("claim", *entry[:6], spent=spent)

    def _time(self, world):
        if world.entry and world.entry.clock in (LATER, READY):
            yield ELAPSED, world._replace(entry=world.entry._replace(clock=DUE))

    def _acts(self, world, worker):
        if worker.phase == "body":
            for body in self.bodies:
                yield from getattr(self, body)(world, worker)
        else:
            yield from getattr(self, worker.phase.replace(" ", "_"))(world, worker)

    # A worker

    def claim(self, world, worker):
        if not self.may_claim(world, worker):
            yield "is too late to claim", world, IDLE
            return
        (attempt, strikes), (mine, counted) = self.claimed(world.entry, worker)
        entry = world.entry._replace(attempt=attempt, strikes=strikes, clock=LATER, held=True)
        claimed = worker._replace(phase="look", attempt=mine, strikes=counted)
        yield "claims", world._replace(entry=entry), claimed

    def look(self, world, worker):
        agrees = world.row == (worker.state, worker.epoch)
        yield "reads the row", world, self.after_claim(world, worker, agrees)

    def beat(self, world, worker):
        if not self.may_beat(world, worker):
            yield "learns at a beat that it was superseded", world, self.superseded(worker)
            return
        self.accept(world, worker, "a heartbeat")
        if world.entry.clock != LATER:
            yield "beats", world._replace(entry=world.entry._replace(clock=LATER)), worker

    def last_beat(self, world, worker):
        for _, after, became in self.beat(world, worker):
            yield "beats once more", after, IDLE if became.phase != "last beat" else became
        yield "beats no more", world, IDLE

    def finish(self, world, worker):
        state = self.states[worker.state]
        if worker.step + 1 < len(state.steps):
            yield from self._next_step(world, worker)
        else:
            dest = self.edges[worker.state, state.done]
            yield from self._move(world, worker, dest, "finishes")

    def _next_step(self, world, worker):
        if not self.holds(world, worker):
            yield "is refused the next step", world, self.superseded(worker)
            return
        self.accept(world, worker, "a next step")
        after = self.enter(self.left(world), worker.state, worker.epoch, worker.step + 1)
        yield "opens the next step", after, IDLE

    def _move(self, world, worker, dest, verb):
        if not self.is_held_at(world, worker):
            yield f"{verb}, and is refused", world, self.superseded(worker)
            return
        self.accept(world, worker, "a transition")
        yield verb, self.moved(world, dest), IDLE

    def moved(self, world, dest, epoch=None):
        new = world.row.epoch + 1 if epoch is None else epoch
        return self.enter(self.left(world)._replace(row=Row(dest, new)), dest, new)

    def fail(self, world, worker):
        if worker.strikes >= self.max_strikes(worker.state, worker.step):
            yield "fails for the last time", world, worker._replace(phase="give up")
        else:
            yield from self._release(world, worker, "fails", LATER, IDLE, back=0)

    def refuse(self, world, worker):
        """A `PermanentFailure`."""
        yield "fails for good", world, worker._replace(phase="give up")

    def wait(self, world, worker):
        yield from self._release(world, worker, "waits", LATER, self.released(worker), back=1)

    def stop(self, world, worker):
        yield from self._release(world, worker, "is told to stop", DUE, self.released(worker), back=1)

    def hang(self, world, worker):
        """A body that never comes back by itself."""
        return iter(())

    def die(self, world, worker):
        """A body that takes its process with it, each time: not a fault of the machine, but of the body."""
        yield "is killed by its body", world, IDLE

    def _release(self, world, worker, verb, clock, became, *, back):
        if not self.may_release(world, worker):
            lost = IDLE if worker.phase == "put aside" else self.superseded(worker)
            yield f"{verb}, and was superseded", world, lost
            return
        self.accept(world, worker, "a release")
        strikes = world.entry.strikes - back
        entry = world.entry._replace(clock=clock, held=False, strikes=strikes)
        yield verb, world._replace(entry=entry), became

    def give_up(self, world, worker):
        state = self.states[worker.state]
        trigger = state.failed if state.steps else state.after[1]
        last = worker.strikes >= self.max_strikes(worker.state, worker.step)
        if trigger in self.raises and not state.steps and not last:
            yield f"meets an error in {trigger!r}", world, self.adopting(worker, "back off")
        elif trigger in (*self.refused, *self.raises):
            yield f"cannot fire {trigger!r}", world, self.adopting(worker, "park")
        else:
            verb = "gives up" if state.steps else "fires the timer"
            yield from self._move(world, worker, self.edges[worker.state, trigger], verb)

    def back_off(self, world, worker):
        yield from self._release(world, worker, "backs off", LATER, IDLE, back=0)

    def park(self, world, worker):
        if not self.holds(world, worker):
            yield "has nothing to park", world, IDLE
            return
        self.accept(world, worker, "a parking")
        entry = world.entry._replace(clock=NOTHING, held=False, parked=True)
        yield "parks the entry", world._replace(entry=entry), IDLE

    def put_aside(self, world, worker):
        back = int(not worker.spent)
        yield from self._release(world, worker, "puts it aside", LATER, IDLE, back=back)

    # Adoption: by a claimant, by the scan, by a fire that found a disagreement

    def orphans(self, world, worker):
        saw = (world.entry.id if world.entry else None,)
        yield "looks for orphans", world, worker._replace(phase="compare", saw=saw)

    def compare(self, world, worker):
        then = self.then(worker)
        if world.row is None:
            orphan = worker.saw and world.entry and world.entry.id == worker.saw[0]
            yield "finds no row", self.left(world) if orphan else world, then
        elif self.agrees(world):
            yield "finds nothing to adopt", world, then
        else:
            saw = (*world.row, world.highest)
            yield "sees that they disagree", world, worker._replace(phase="adopt", saw=saw)

    def then(self, worker):
        return worker._replace(phase=worker.then, then="", saw=()) if worker.then != "idle" else IDLE

    def adopt(self, world, worker):
        status, epoch, highest = worker.saw
        if not self.may_adopt(world, status, epoch):
            yield "is too late to adopt", world, self.then(worker)
            return
        new = self.adopted_epoch(epoch, highest)
        if self.unique and new <= world.highest:
            yield "is refused by the unique key", world, self.then(worker)
            return
        row = Row(world.row.status, new)
        done = IDLE if worker.then in ("park", "back off") else self.then(worker)
        yield "adopts the row", self.enter(self.left(world)._replace(row=row), status, new), done

    # The thread that sweeps and scans

    def _sweeping(self, world):
        sweeper = world.sweeper
        if sweeper.phase != "idle":
            for verb, after, became in self._acts(world, sweeper):
                yield Step("the sweeper", verb), after._replace(sweeper=became)
            if "crash" in self.faults:
                yield Step("the sweeper", "dies", True), world._replace(sweeper=IDLE)
            return
        if self.sweeps and world.entry and world.entry.clock == DUE:
            found = Worker("push", world.entry.id)
            yield Step("the sweeper", "finds an overdue entry"), world._replace(sweeper=found)
        if self.scans and world.row and self.is_pending(world.row.status) and not self.agrees(world):
            yield (
                Step("the sweeper", "finds a row to adopt"),
                world._replace(sweeper=self.adopting(IDLE)),
            )

    def push(self, world, sweeper):
        if not self.may_push(world, sweeper):
            yield "is too late to ring", world, IDLE
            return
        if not world.entry or world.entry.id != sweeper.id:
            raise Violation("an entry that was left is armed again")
        if world.entry.clock == NOTHING:
            raise Violation("an entry for which nothing is due is armed again")
        clock = READY if world.entry.clock == DUE else world.entry.clock
        bag = tuple(sorted({*world.bag, sweeper.id}))
        yield "pushes it and rings", world._replace(entry=world.entry._replace(clock=clock), bag=bag), IDLE

    # An operator, with a copy of the row that may be old

    def _operating(self, world):
        operator = world.operator
        if operator.phase == "idle":
            if world.row and (self.jumps or self.fires):
                copy = Worker("copy", saw=tuple(world.row))
                yield Step("the operator", "reads the row", True), world._replace(operator=copy)
            return
        acts = (self._by_hand if operator.phase == "copy" else self._acts)(world, operator)
        for verb, after, became in acts:
            fault = operator.phase == "copy"
            yield Step("the operator", verb, fault), after._replace(operator=became)
        yield Step("the operator", "goes away", True), world._replace(operator=IDLE)

    def _by_hand(self, world, operator):
        status, _ = operator.saw
        for dest in self.jumps:
            yield from self.jump(world, operator, dest)
        if self.fires:
            for trigger, dest in self.exits(status):
                yield from self.fire(world, operator, trigger, dest)

    def jump(self, world, operator, dest):
        status, epoch = operator.saw
        if not self.is_at(world, status, epoch):
            yield f"jumps to {dest!r}, too late", world, IDLE
            return
        new = self.jumped_epoch(epoch, world.highest)
        yield f"jumps to {dest!r}", self.moved(world, dest, new), IDLE

    def fire(self, world, operator, trigger, dest):
        (status, epoch), entry = operator.saw, world.entry
        if not self.is_at(world, status, epoch):
            yield f"fires {trigger!r}, too late", world, IDLE
        elif entry and (entry.epoch, entry.state) == (epoch, status):
            self.owns(status, trigger)
            yield f"fires {trigger!r}", self.moved(world, dest), IDLE
        elif entry or world.highest > epoch:
            yield f"fires {trigger!r}, and finds that they disagree", world, self.adopting(IDLE)
        else:  # `protocol._log_unknown`
            yield f"fires {trigger!r}", self.moved(world._replace(highest=epoch), dest), IDLE

    def owns(self, status, trigger):
        state = self.states[status]
        if self.works(status) and trigger in (state.done, state.failed):
            raise Violation(f"{trigger!r} skipped a stage from outside")

    # Programs that do not know the protocol

    def _foreign(self, world):
        row = world.row
        if row is None:
            yield Step("a program", "saves a new row with the same key", True), self.create(world)
            return
        for status in self.updates:
            if status != row.status:
                after = world._replace(row=Row(status, row.epoch), foreign=True)
                yield Step("raw SQL", f"writes {status!r}", True), after
        if "restore" in self.faults:
            for epoch in {w.epoch for w in world.workers if w.phase != "idle"} | {row.epoch - 1}:
                if epoch < row.epoch:
                    after = world._replace(row=Row(row.status, epoch), foreign=True)
                    yield Step("a backup", "puts back an older epoch", True), after
        if "delete" in self.faults:
            yield Step("raw SQL", "deletes the row", True), world._replace(row=None, foreign=True)

    def create(self, world):
        """The row, the orphan closed, and the first entry, in one transaction."""
        epoch = self.created_epoch(world.highest)
        return self.enter(self.left(world)._replace(row=Row(self.initial, epoch)), self.initial, epoch)

    # The invariants of each world

    def check(self, world):
        """The world in its normal form.

        Raises:
            Violation: An invariant does not hold in it.
        """
        entry = world.entry
        agrees = self.agrees(world)
        if entry:
            self._check_entry(entry)
            if entry.epoch != world.highest:
                raise Violation("an open entry is not the newest")
        if not agrees and not world.foreign:
            raise Violation("row and entry disagree, and no foreign program wrote")
        holders = [w[1:6] for w in world.workers if w.phase not in ("idle", "claim")]
        if len(holders) != len(set(holders)):
            raise Violation("two workers hold the same token")
        return normal(world._replace(foreign=not agrees))

    def _check_entry(self, entry):
        if self.is_pending(entry.state) != (entry.clock != NOTHING) and not entry.parked:
            raise Violation("an open entry with something pending is not armed")
        most = self.max_strikes(entry.state, entry.step)
        if not 0 <= entry.strikes <= most:
            raise Violation(f"{entry.strikes} strikes, of {most}")

    def rests(self, world):
        """Whether the row is where nothing more is to be done without a person."""
        row, entry = world.row, world.entry
        if row and entry and entry.parked and self.agrees(world):
            return True
        pending = row is not None and self.is_pending(row.status)
        return not pending and (entry is None or entry.clock == NOTHING)
