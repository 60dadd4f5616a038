"""The model and the code, side by side: random walks of the one are replayed on the other."""

import random
from contextlib import suppress
from datetime import timedelta

import pytest

from integration import protocol, recovery, stage
from integration.binding import registered
from integration.body import Stage
from integration.claimed import Claimed, max_attempts_of, step_of
from integration.entries import DatabaseNow
from statemachine import LeaseLost, StaleState
from tests.integration.rows import elapse, raw, subject_of
from tests.model.protocol import Protocol
from tests.model.world import DUE, LATER, NOTHING, READY
from tests.papers.machine import review
from tests.papers.models import Paper

HOUR = timedelta(hours=1)


class Replay:
    """One row, and what a worker and an operator remember of it."""

    def __init__(self):
        self.row, self.entry, self.claimed, self.copy, self.adopted = (
            Paper.objects.create(),
            None,
            None,
            None,
            False,
        )

    @property
    def token(self):
        return self.claimed.token

    def take(self, step):
        """Do what the step says; what was refused in the model must be refused."""
        actor, verb = step.actor, step.verb
        if verb.startswith("reads the entry"):
            self.entry = self.row.entries.get(open=True)
        elif verb in ("claims", "is too late to claim"):
            assert self.claim() == (verb == "claims")
        elif verb in ("beats",):
            assert protocol.extend(self.token, using="default", lease=HOUR) == (verb == "beats")
        elif verb.startswith(("finishes", "opens the next", "is refused the next")):
            assert self.is_done(self.finish) == ("refused" not in verb)
        elif verb.startswith(("gives up", "fires the timer")):
            assert self.is_done(self.give_up) == ("refused" not in verb)
        elif verb.startswith(("fails", "waits", "puts it aside")) and verb != "fails for the last time":
            kept = verb.startswith("fails") or (verb.startswith("puts") and self.claimed.spent)
            done = protocol.release(self.token, using="default", delay=HOUR, strike=kept)
            assert done == ("superseded" not in verb)
        elif verb in ("finds nothing to adopt", "sees that they disagree"):
            assert self.adopted or bool(self.adopt()) == verb.startswith("sees")
            self.adopted = False
        elif verb == "pushes it and rings":
            assert recovery.sweep().rung == 1
        elif actor == "the operator" and verb == "reads the row":
            self.copy = Paper.objects.get(pk=self.row.pk)
        elif verb.startswith(("fires", "jumps")):
            done = self.by_hand(*verb.split("'")[:2])
            assert done == ("too late" not in verb and "disagree" not in verb)
            self.adopted = "disagree" in verb
        elif actor == "raw SQL":
            raw(self.row, status=verb.split("'")[1])
        elif actor == "the clock":
            elapse(self.row)

    def claim(self):
        binding = registered(self.entry)
        spent = self.entry.strikes >= max_attempts_of(step_of(self.entry, binding))
        held = protocol.claim(self.entry, using="default", lease=HOUR, worker="w", strike=not spent)
        if held:
            subject = subject_of(self.row)
            row = Paper.objects.get(pk=self.row.pk)
            self.claimed = Claimed(entry=held, binding=binding, subject=subject, row=row, spent=spent)
        return bool(held)

    def is_done(self, act):
        try:
            with stage._holding(self.claimed):
                act()
        except LeaseLost:
            return False
        return True

    def finish(self):
        claimed = self.claimed
        whole = {"entry": claimed.entry, "token": claimed.token, "binding": claimed.binding}
        with Stage(claimed.row, subject=claimed.subject, enqueue=claimed.enqueue, **whole).finish():
            pass

    def give_up(self):
        state = self.claimed.state
        stage._fire(self.claimed, state.failed if state.works else state.after[1])

    def adopt(self):
        return protocol.adopt(subject_of(self.row), review.graph.by_name)

    def by_hand(self, verb, name):
        with suppress(StaleState):
            if verb.startswith("fires"):
                return getattr(self.copy, name)()
            review.to_state(self.copy, name, reason="a test")
            return True
        return False

    def stored(self):
        """What the model tells of the row and its open entry."""
        status, epoch = Paper.objects.values_list("status", "status_epoch").get(pk=self.row.pk)
        entry = self.row.entries.filter(open=True).annotate(now=DatabaseNow()).get()
        clock = (
            LATER if entry.ready_at > entry.now else READY if (entry.due_at or entry.now) > entry.now else DUE
        )
        clock = NOTHING if entry.due_at is None else clock
        held = bool(entry.worker)
        return status, entry.epoch == epoch, entry.state, entry.step, entry.strikes, clock, held


def told(world):
    row, entry = world.row, world.entry
    same = entry.epoch == row.epoch
    return row.status, same, entry.state, entry.step, entry.strikes, entry.clock, entry.held


AT_ONCE = {"sees that they disagree": "adopts the row", "finds an overdue entry": "pushes it and rings"}


def choices(model, world, last):
    """What may follow: what the code does in one call, and the model in two, is not interrupted."""
    steps = list(model.successors(world))
    if last and "finds that they disagree" in last.verb:
        return [choice for choice in steps if choice[0].verb == "sees that they disagree"]
    if last and last.verb in AT_ONCE:
        return [
            c
            for c in steps
            if (c[0].actor.split()[1], c[0].verb) == (last.actor.split()[1], AT_ONCE[last.verb])
        ]
    return steps


def weight(step):
    """Calm steps are taken more often, or no stage would ever end."""
    if step.verb in ("dies", "goes away"):
        return 2
    return {"raw SQL": 2, "the operator": 6}.get(step.actor, 20)


MET = {
    *("claims", "is too late to claim", "reads the row", "beats"),
    *(
        "opens the next step",
        "is refused the next step",
        "finishes",
    ),
    *("fails", "waits", "waits, and was superseded"),
    *("fires the timer", "puts it aside, and was superseded"),
    *("adopts the row", "finds nothing to adopt", "pushes it and rings"),
    *("fires 'submit'", "fires 'submit', too late", "fires 'submit', and finds that they disagree"),
    *("jumps to 'checking'", "jumps to 'checking', too late"),
}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_code_does_what_the_model_does(mailbox, settings, tally):
    settings.STATEMACHINE_GRACE, settings.STATEMACHINE_MAX_ATTEMPTS = HOUR, 2
    model = Protocol(
        review,
        workers=1,
        bodies=("beat", "finish", "fail", "wait"),
        jumps=("checking", "scoring", "published"),
        fires=True,
        updates=("checking", "rejected", "draft"),
    )
    met = set()
    for seed in range(24):
        met |= walk(model, random.Random(seed), tally)
        Paper.objects.all().delete()
    assert MET - met == set()


def walk(model, chance, tally):
    """Take steps at random, and compare what is stored after each; the steps that were taken."""
    replay, last, met = Replay(), None, set()
    world = next(model.begin())
    for _ in range(125):
        steps = choices(model, world, last)
        last, after = chance.choices(steps, [weight(step) for step, _ in steps])[0]
        replay.take(last)
        world = model.check(after)
        if last.verb not in AT_ONCE and "finds that they disagree" not in last.verb:
            assert replay.stored() == told(world), last
        tally("model steps replayed")
        met.add(last.verb)
    return met
