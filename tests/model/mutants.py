"""The protocol with one rule left out, each: the first ones are needed, the last ones only save work."""

from __future__ import annotations

from tests.model.protocol import Protocol, Violation
from tests.model.world import IDLE, NOTHING, Row


class FencesByEpoch(Protocol):
    """A finish compares the row's epoch alone: whoever else works in the same entry is not noticed."""

    def is_held_at(self, world, worker):
        return self.is_at(world, worker.state, worker.epoch)


class FencesByState(Protocol):
    """A finish compares the status alone."""

    def is_held_at(self, world, worker):
        return bool(world.row and world.row.status == worker.state)


class FencesByEntry(Protocol):
    """The token is the entry without the attempt."""

    def holds(self, world, worker):
        return bool(world.entry and world.entry.id == worker.id and world.entry.held)


class ForgetsWhoHolds(Protocol):
    """The token is the entry and the attempt, also after the work was given back."""

    def holds(self, world, worker):
        return bool(world.entry and (world.entry.id, world.entry.attempt) == (worker.id, worker.attempt))


class MovesWithoutTheRow(Protocol):
    """A finish compares its token alone, so that it takes a row from where somebody else put it."""

    def is_held_at(self, world, worker):
        return self.holds(world, worker)

    def accept(self, world, worker, write):
        super().accept(world, worker, write)
        if write == "a transition" and world.row != (worker.state, worker.epoch):
            raise Violation("a row was moved from where it was not")


class BeatsWithoutFence(Protocol):
    def may_beat(self, world, worker):
        return bool(world.entry and world.entry.id == worker.id)


class ReleasesWithoutFence(Protocol):
    def may_release(self, world, worker):
        return bool(world.entry and world.entry.id == worker.id)


class InsertsWhateverItClosed(Protocol):
    """The next entry is inserted although none was left: the insert does not read from the closed one."""

    def is_held_at(self, world, worker):
        return self.is_at(world, worker.state, worker.epoch)

    def accept(self, world, worker, write):
        pass

    def _move(self, world, worker, dest, verb):
        if self.is_held_at(world, worker) and not self.holds(world, worker):
            after = world._replace(row=Row(dest, world.row.epoch + 1))
            yield verb, self.enter(after, dest, after.row.epoch), IDLE
        else:
            yield from super()._move(world, worker, dest, verb)


class ClaimsFromMemory(Protocol):
    """A claim compares nothing, and takes the attempt after the one that it had read."""

    def may_claim(self, world, worker):
        return world.entry and world.entry.id == worker.id and self.admits(world.entry)

    def claimed(self, entry, worker):
        stored, _ = super().claimed(entry, worker)
        return stored, (worker.attempt + 1, worker.strikes + (not worker.spent))


class ClaimsWithoutCompare(Protocol):
    """A claim compares nothing: strikes that were counted since it read the entry are not noticed."""

    def may_claim(self, world, worker):
        return world.entry and world.entry.id == worker.id and self.admits(world.entry)


class ClaimsWithoutAttempt(Protocol):
    """A claim does not count attempts, so that a successor has the token of the one before."""

    def claimed(self, entry, worker):
        (_, strikes), _ = super().claimed(entry, worker)
        return (entry.attempt, strikes), (entry.attempt, strikes)


class GivesTheAttemptBack(Protocol):
    """A wait gives back the attempt with the strike."""

    def _release(self, world, worker, verb, clock, became, *, back):
        for told, after, then in super()._release(world, worker, verb, clock, became, back=back):
            if back and after is not world:
                entry = after.entry._replace(attempt=after.entry.attempt - 1)
                yield told, after._replace(entry=entry), then
            else:
                yield told, after, then


class CountsStrikesAtFailure(Protocol):
    """A strike is counted when a body fails, and not by the claim: one that kills its worker has none."""

    def claimed(self, entry, worker):
        stored = entry.attempt + 1, entry.strikes
        return stored, stored

    def _release(self, world, worker, verb, clock, became, *, back):
        for told, after, then in super()._release(world, worker, verb, clock, became, back=0):
            if verb == "fails" and after is not world:
                entry = after.entry._replace(strikes=after.entry.strikes + 1)
                yield told, after._replace(entry=entry), then
            else:
                yield told, after, then


class CountsNoStrikes(Protocol):
    """Nothing is ever given up."""

    def claimed(self, entry, worker):
        stored = entry.attempt + 1, entry.strikes
        return stored, stored

    def _release(self, world, worker, verb, clock, became, *, back):
        return super()._release(world, worker, verb, clock, became, back=0)


class EntersUnarmed(Protocol):
    """The message alone says that something is pending."""

    def armed(self, state):
        return NOTHING


class NeverSweeps(Protocol):
    sweeps = False


class NeverScans(Protocol):
    scans = False


class SelectsThenUpdates(Protocol):
    """The sweep pushes what it selected, whatever has become of it."""

    def may_push(self, world, sweeper):
        return True


class PublishesFirst(Protocol):
    """A finish rings the next entry, and then commits."""

    def _move(self, world, worker, dest, verb):
        for told, after, became in super()._move(world, worker, dest, verb):
            if after.bag and after.entry.id not in {world.entry and world.entry.id}:
                yield "publishes", world._replace(bag=after.bag), worker
            yield told, after, became

    def check(self, world):
        if any(world.entry is None or id > world.entry.id for id in world.bag):
            raise Violation("there is a message for an entry that is not committed")
        return super().check(world)


class AdoptsWithoutCompare(Protocol):
    """Adoption writes the epoch of whatever row it finds."""

    def may_adopt(self, world, status, epoch):
        return world.row is not None


class AdoptsUnderTheSameEpoch(Protocol):
    def adopted_epoch(self, epoch, highest):
        return epoch


class AdoptsAboveTheRowAlone(Protocol):
    """A backup put an older epoch back, and the next one was used before."""

    def adopted_epoch(self, epoch, highest):
        return epoch + 1


class JumpsAboveTheRowAlone(Protocol):
    def jumped_epoch(self, epoch, highest):
        return epoch + 1


class HasNoUniqueKey(Protocol):
    unique = False


class LooksForOrphansLast(Protocol):
    """Adoption closes what is open when it knows that there is no row: of a row that came in between, too."""

    def compare(self, world, worker):
        if world.row is None and worker.then != "close":
            yield "finds no row", world, worker._replace(phase="close")
        else:
            yield from super().compare(world, worker)

    def close(self, world, worker):
        yield "closes what is open", self.left(world), self.then(worker)


class LeavesOrphansOpen(Protocol):
    """A new row does not close what an earlier one with its key left open."""

    def create(self, world):
        row = Row(self.initial, self.created_epoch(world.highest))
        return self.enter(world._replace(row=row), self.initial, row.epoch)


class CreatesAtTheFirstEpoch(Protocol):
    def created_epoch(self, highest):
        return 0


class DropsWhatDisagrees(Protocol):
    """A claimant puts a stray entry aside without adoption, and the scan is all that repairs it."""

    def after_claim(self, world, worker, agrees):
        return super().after_claim(world, worker, agrees) if agrees else worker._replace(phase="put aside")


class LetsTheStageBeSkipped(Protocol):
    """`advance()` from a page moves a row out of a stage."""

    def exits(self, state):
        return [(trigger, dest) for (source, trigger), dest in self.edges.items() if source == state]


class KeepsWhatItRefused(Protocol):
    """A worker that was superseded goes, and leaves the row as somebody else's raw update left it."""

    def superseded(self, worker):
        return IDLE


class IgnoresLiveLeases(Protocol):
    """A claim is admitted at any time: work is done twice, but nothing moves twice."""

    def admits(self, entry):
        return entry.clock != NOTHING


class LooksOnce(Protocol):
    """Adoption does not look again whether row and entry agree, once it has the row."""

    def may_adopt(self, world, status, epoch):
        return self.is_at(world, status, epoch)


class GivesUpFirst(Protocol):
    """A claimant without strikes gives up before it looks whether row and entry agree."""

    def after_claim(self, world, worker, agrees):
        return (
            worker._replace(phase="give up") if worker.spent else super().after_claim(world, worker, agrees)
        )


class NeverBeats(Protocol):
    def beat(self, world, worker):
        return iter(())


class RingsWithoutPushing(Protocol):
    """The sweep rings what is due, and leaves it due: too many messages, and nothing worse."""

    def push(self, world, sweeper):
        for verb, after, became in super().push(world, sweeper):
            entry = after.entry and after.entry._replace(clock=world.entry.clock)
            yield verb, after._replace(entry=entry), became
