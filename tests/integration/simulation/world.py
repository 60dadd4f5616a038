"""A world of workers, sweepers, operators and foreign programs, in which every choice is drawn."""

import logging
import threading
from contextlib import contextmanager, suppress
from datetime import timedelta

import hypothesis
from django.db import connection, models, transaction
from hypothesis import strategies as st

from integration import recovery, stage
from integration.audit import audit
from integration.binding import bindings
from integration.dispatch import circuit, set_publisher
from integration.entries import Entry
from integration.stage import Outcome
from integration.verdict import verdict
from statemachine import StaleState, TransitionNotAllowed
from tests.integration.simulation.baton import Actor, Killed, Monitor, is_deadlock
from tests.integration.simulation.bodies import BEHAVIOURS, die, finish
from tests.integration.simulation.clock import Clock, database_clock
from tests.integration.simulation.witness import Attempt, Violation, Witness, check
from tests.papers import tasks
from tests.papers.machine import review
from tests.papers.models import Paper, Remark

STATES = [state.name for state in review.graph]
TASKS = ["papers.check", "papers.score", "papers.explain"]
TRIGGERS = sorted({edge.trigger for edge in review.graph.edges})
REFUSED = (TransitionNotAllowed, StaleState)
HOUR, MONTH = timedelta(hours=1), timedelta(days=31)
ACTORS = ["Ann", "Bob", "Cid", "Dee"]
FOR_EVER = 12
NOT_NOW, OVER = {Outcome.BACKING_OFF, Outcome.PARKED}, {Outcome.FINISHED, Outcome.SUPERSEDED}
IN_WORK = {"checking", "scoring"}
AT_REST = {"draft", "published", "discarded"}


class Act:
    """What one actor does in one job, for the body of a stage."""

    def __init__(self, world, actor=None, behaviour=finish):
        self.world, self.actor, self.behaviour, self.attempt = world, actor, behaviour, None

    def body(self, stage):
        self.attempt = Attempt(stage._entry.pk, stage.attempt)
        self.world.witness.begins(self.attempt)
        if self.actor is not None:
            self.actor.pause("the body")
        self.behaviour(stage, self)

    def die(self):
        if self.actor is not None:
            self.actor.die()
        raise Killed

    def ends_bare(self, stage):
        """This attempt ends its stage without writing anything."""
        self.world.witness.bare.add(self.attempt)

    def gives_back(self, stage):
        """This attempt is to cost no strike."""
        self.world.witness.given_back[self.attempt.entry] += 1

    def gave_back(self, stage):
        """This attempt was told that it costs none."""
        self.world.witness.waited[self.attempt.entry] += 1

    def was_accepted(self, stage):
        self.world.witness.accepted.append(self.attempt)


class World:
    """Papers, a bag of messages, actors, and what can happen to them.

    Every rule takes two small numbers, and picks with them from what there is.
    """

    def __init__(self):
        self.clock, self.monitor = Clock(), Monitor()
        self.actors = [Actor(name) for name in ACTORS]
        self.acts, self.runs = threading.local(), 0

    def close(self):
        for actor in self.actors:
            actor.stop()

    # The broker

    def publish(self, message):
        actor = getattr(self.acts, "actor", None)
        self.witness.rung.append(message.entry)
        if actor is not None:
            actor.check_alive()
            actor.pause("publish")
        if self.away:
            raise self.away
        self.bag.append(message)
        self.tell(f"a message for entry {message.entry} is in the bag")

    # A run

    def run(self, steps, ending):
        """Let things happen in this order, then let everything come to rest."""
        self.runs += 1
        self.begin()
        try:
            for rule, a, b, points in steps:
                self.begun = None
                getattr(self, rule)(a, b)
                if self.begun:
                    self.go_on(self.begun, points)
            self.end(ending)
        except BaseException as error:
            error.add_note("\n".join(["", "The story:", *self.story]))
            raise
        finally:
            self.bury()

    def begin(self):
        self.story, self.bag, self.away, self.witness = [], [], None, Witness()
        self.clock.reset()
        with connection.cursor() as cursor:
            for table in ("papers_remark", "papers_paper", "statemachine_entry"):
                cursor.execute(f"DELETE FROM {table}")
        papers = [Paper.objects.create() for _ in range(2)]
        self.papers = [paper.pk for paper in papers]
        for paper in papers:
            paper.submit()
        self.witness.look(alone=False)

    def tell(self, line, actor=None):
        name = actor.name if actor else threading.current_thread().name.replace("MainThread", "")
        self.story.append(f"{self.clock.now:%d %H:%M} {name:>4} {line}")

    def end(self, ending):
        """With the faults off, everything comes to rest; and what wakes up only then changes nothing."""
        self.away = None
        self.tell("the faults end")
        late = []
        for number, actor in enumerate(self.busy):
            sleeps = ending >> number & 1 and not actor.in_transaction and not actor.waits
            late.append(actor) if sleeps else self.finish_job(actor)
        self.settle(poison=ending >= 12)
        for actor in late:
            self.finish_job(actor)
        self.settle()
        found = [violation for violation in audit() if violation.level == "violation"]
        check(not found, "The audit finds:", *found)

    def bury(self):
        """After a violation, nobody goes on."""
        for actor in self.busy:
            actor.kill()
            while actor.job:
                actor.look(self.monitor) if actor.waits else actor.go(self.monitor)

    # Actors

    @property
    def busy(self):
        return [actor for actor in self.actors if actor.job]

    def start(self, what, job, behaviour=finish):
        """Give a job to a free actor; without one, somebody goes on instead."""
        free = [actor for actor in self.actors if not actor.job]
        if not free:
            self.finish_job(self.ready()[0])
            return None
        actor = self.begun = free[0]
        act = Act(self, actor, behaviour)

        def do():
            self.acts.actor, self.acts.act = actor, act
            job()

        actor.take(do)
        self.tell(what, actor)
        return actor

    def ready(self):
        """The actors who can go on: those who wait for a lock go on by themselves."""
        return [actor for actor in self.busy if not actor.waits]

    def one_step(self, actor):
        """Let an actor run to its next switching point, and look at what is there then."""
        waiting = [other for other in self.busy if other.waits]
        before = actor.at
        actor.go(self.monitor)
        for other in waiting:
            other.look(self.monitor)
        if not before.startswith("SELECT"):
            self.tell(f"did: {brief(before)}" + (" … waits for a lock" if actor.waits else ""), actor)
            self.witness.look(alone=not waiting)
        for done in (actor, *waiting):
            if not done.job:
                self.finished(done)

    def finished(self, actor):
        error, actor.error = actor.error, None
        if (
            error is not None
            and not isinstance(error, (*REFUSED, KeyboardInterrupt))
            and not is_deadlock(error)
        ):
            self.tell(f"raised {type(error).__name__}: {error}", actor)
            raise Violation(f"{actor.name} raised {type(error).__name__}: {error}") from error
        self.tell("died" if actor.dead else "is done" + (f": {type(error).__name__}" if error else ""), actor)

    def finish_job(self, actor):
        while actor.job:
            others = [other for other in self.ready() if other is not actor]
            if actor.waits:
                self.one_step(others[0]) if others else self.wait_for_the_server()
            else:
                self.one_step(actor)

    def wait_for_the_server(self):
        """All wait for each other: the server notices, and ends one of them."""
        for actor in self.busy:
            actor.look(self.monitor)
            if not actor.job:
                self.finished(actor)

    # Rules: who goes on

    def idle(self, a, b):
        pass

    def go(self, a, b):
        """Somebody goes on for a few switching points."""
        if self.ready():
            self.go_on(self.ready()[a % len(self.ready())], 1 + b % 8)

    def go_on(self, actor, points):
        """Go on for a number of switching points, or to the end for a big one."""
        while actor.job and not actor.waits and points:
            self.one_step(actor)
            points -= points < FOR_EVER

    def finish(self, a, b):
        """Somebody goes on to the end of the job."""
        if self.ready():
            self.finish_job(self.ready()[a % len(self.ready())])

    def kill(self, a, b):
        """Somebody dies, wherever that is."""
        if self.ready():
            actor = self.ready()[a % len(self.ready())]
            self.tell(f"is killed before: {brief(actor.at)}", actor)
            actor.kill()
            self.finish_job(actor)

    # Rules: what somebody begins to do

    def deliver(self, a, b):
        """A message arrives, the oldest or another one, and perhaps not for the last time."""
        if self.bag:
            message = self.bag[a % len(self.bag)]
            if a < 12:
                self.bag.remove(message)
            behaviour = BEHAVIOURS[b % len(BEHAVIOURS)]
            what = f"answers entry {message.entry}, {message.task}: {behaviour.__name__}"
            self.start(what, lambda: self.answer(message), behaviour)

    def answer(self, message):
        task = "" if message.task == "statemachine.timer" else message.task
        outcome = stage.run(message.entry, task=task, judge=judge, heartbeat=False)
        attempt = self.acts.act.attempt
        if attempt and outcome in NOT_NOW:
            self.witness.accepted.append(attempt)  # nobody else went on since it was written
        if attempt and outcome in OVER:
            self.witness.over.append(attempt)

    def fire(self, a, b):
        """Somebody fires, mostly what may be fired where the row was seen last."""
        pk = self.paper(a)
        seen = self.witness.rows.get(pk, ("draft", 0))[0]
        triggers = [edge.trigger for edge in review.graph.edges if edge.source == seen and b < 12] or TRIGGERS
        trigger = triggers[b % len(triggers)]
        self.start(
            f"fires {trigger} on paper {pk}", lambda: self.on(pk, lambda paper: getattr(paper, trigger)())
        )

    def jump(self, a, b):
        pk, state = self.paper(a), STATES[b % len(STATES)]
        jump = lambda paper: review.to_state(paper, state, reason="an operator")  # noqa: E731
        self.start(f"moves paper {pk} to {state}", lambda: self.on(pk, jump))
        self.hesitate(a)

    def hesitate(self, a):
        """A person has read the row, and acts upon it only when somebody else may have moved it."""
        if self.begun and a % 4 < 2:
            self.go_on(self.begun, 2)
            self.begun = None

    def paper(self, a):
        return self.papers[a // 2 % len(self.papers)]

    @staticmethod
    def on(pk, act):
        for paper in Paper.objects.filter(pk=pk):
            act(paper)

    def update(self, a, b):
        """A foreign program writes the status."""
        pk, state = self.paper(a), STATES[b % len(STATES)]

        def job():
            with self.witness.foreign_write(pk):
                models.QuerySet(Paper).filter(pk=pk).update(status=state)

        self.start(f"writes {state} into paper {pk}", job)

    def delete(self, a, b):
        pk = self.paper(a)
        jobs = [lambda: self.on(pk, Paper.delete), lambda: self.replace(pk)]
        self.start(["deletes", "replaces"][b % 2] + f" paper {pk}", jobs[b % 2])

    def replace(self, pk):
        """A foreign program deletes a row without its entries, and its key is used again."""
        with transaction.atomic():
            ids = list(Entry.objects.filter(object=str(pk)).values_list("pk", flat=True))
            Remark.objects.filter(paper=pk)._raw_delete("default")
            Paper.objects.filter(pk=pk)._raw_delete("default")
            Paper.objects.create(pk=pk)
            self.witness.reborn[pk] = max(ids, default=0)

    def sweep(self, a, b):
        self.start("sweeps", recovery.sweep)

    def scan(self, a, b):
        self.start("scans", lambda: recovery.scan(everything=bool(b % 2)))

    # Rules: what happens by itself

    def lose(self, a, b):
        if self.bag:
            lost = self.bag.pop(a % len(self.bag))
            self.tell(f"a message for entry {lost.entry} is lost")

    def elapse(self, a, b):
        """Time passes: every lease, backoff and wait may end in an hour, every timer in a month."""
        self.clock.advance(MONTH if b == 15 else HOUR)
        self.tell("time passed")

    def broker(self, a, b):
        """The broker goes away, or refuses what it is sent, or is back."""
        self.away = [None, ConnectionError("away"), ValueError("refused")][b % 3]
        self.tell(f"the broker: {self.away}")

    def take_over(self, a, b):
        """Somebody is at work, the lease expires, a sweep rings, another one answers.

        All this at once, or it hardly ever happens.
        """
        self.elapse(a, 0)
        self.to_the_end("sweeps", recovery.sweep)
        if self.bag:
            self.deliver(a, b)
            if self.begun:
                self.go_on(self.begun, 6)
            self.elapse(a, 0)
            self.to_the_end("sweeps", recovery.sweep)
            if self.bag:
                self.deliver(len(self.bag) - 1, a)

    def round_trip(self, a, b):
        """Somebody has read a row, and it is moved away and back: it looks the same, and is not."""
        pk, state, trigger = self.paper(a), *[("draft", "submit"), ("rejected", "revise")][b % 2]
        self.jump_at_once(pk, state)
        fire = lambda paper: getattr(paper, trigger)()  # noqa: E731
        self.start(f"fires {trigger} on paper {pk}", lambda: self.on(pk, fire))
        late, self.begun = self.begun, None
        if late:
            self.go_on(late, 2)
            self.jump_at_once(pk, STATES[b // 2 % len(STATES)])
            self.jump_at_once(pk, state)
            self.begun = late

    def jump_at_once(self, pk, state):
        jump = lambda paper: review.to_state(paper, state, reason="there and back")  # noqa: E731
        self.to_the_end(f"moves paper {pk} to {state}", lambda: self.on(pk, jump))

    def late_sweep(self, a, b):
        """Somebody answers while a sweep is under way."""
        self.elapse(a, 0)
        self.start("sweeps", recovery.sweep)
        if self.begun:
            self.go_on(self.begun, 1 + a % 4)
            if self.bag:
                self.deliver(a, b)

    def to_the_end(self, what, job):
        actor = self.start(what, job)
        if actor:
            self.finish_job(actor)

    # The end

    def settle(self, *, poison=False):
        """Let sweeps, scans and workers without faults do what is left; everything is at rest then."""
        self.tell("everything comes to rest" + (", but for poison" if poison else ""))
        recovery.scan_all(everything=True)
        self.rest(die if poison else finish)
        if poison:
            statuses = set(Paper.objects.values_list("status", flat=True))
            check(not statuses & IN_WORK, "Poison does not reach the failed state:", statuses)
        self.clock.advance(MONTH)
        self.rest(finish)
        self.witness.look(alone=False)
        check(not self.witness.foreign, "A row was not adopted:", self.witness.foreign)
        for pk, (status, _) in self.witness.rows.items():
            check(status in AT_REST, "A row does not come to rest:", pk, status)

    def rest(self, behaviour):
        self.acts.actor, self.acts.act = None, Act(self, None, behaviour)
        for _ in range(12):
            while self.bag:
                with suppress(Killed):
                    self.answer(self.bag.pop(0))
            self.clock.advance(HOUR)
            if not recovery.sweep().rung:
                return
            check(not recovery.sweep().rung, "What was rung is rung again at once.")
        raise Violation("The sweep finds no end.")


def judge(error, **values):
    if isinstance(error, Killed):
        raise error
    return verdict(error, **values)


def brief(at):
    """A switching point in a few words."""
    words = at.replace('"', "").replace("`", "").split()
    if words[0] in ("UPDATE", "DELETE", "INSERT", "BEGIN", "WITH"):
        table = next((word for word in words[1:] if "_" in word), "")
        return " ".join([words[0], table]).strip()
    return at if words[0] != "SELECT" else "SELECT"


@contextmanager
def simulated(settings):
    """A world on the test's database, with nothing bound but the papers."""
    world, before = World(), dict(bindings)
    # Nothing opens a circuit: it is closed again by the wall clock.
    settings.STATEMACHINE_CIRCUIT = timedelta()
    settings.STATEMACHINE_GRACE = settings.STATEMACHINE_BACKOFF = timedelta(minutes=10)
    publisher = set_publisher(world)
    tasks.bodies.update(dict.fromkeys(TASKS, lambda stage: world.acts.act.body(stage)))
    for label in before.keys() - {("papers.paper", "status")}:
        del bindings[label]
    log = logging.getLogger("statemachine")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what is logged is not looked at, and is most of what a run costs
    try:
        with database_clock(world.clock):
            yield world
    finally:
        world.close()
        log.setLevel(level)
        bindings.update(before)
        tasks.bodies.clear()
        set_publisher(publisher)
        circuit.reset()


WEIGHTS = {
    "idle": 1,
    "go": 8,
    "finish": 3,
    "deliver": 10,
    "take_over": 6,
    "late_sweep": 3,
    "round_trip": 2,
    "elapse": 3,
    "fire": 4,
    "jump": 2,
    "update": 2,
    "sweep": 2,
    "kill": 3,
    "lose": 2,
    "scan": 1,
    "broker": 1,
    "delete": 1,
}
RULES = [rule for rule, weight in WEIGHTS.items() for _ in range(weight)]
NUMBERS = st.integers(0, 15)  # as many as there are behaviours
STEPS = st.lists(st.tuples(st.sampled_from(RULES), NUMBERS, NUMBERS, NUMBERS), min_size=15, max_size=30)


def simulate(world, *, runs, seed, shrink=True):
    """Draw and run this many runs, always the same for a seed.

    Raises:
        AssertionError: An invariant did not hold; its notes tell the shortest story found.
    """
    explore = (hypothesis.Phase.generate,)
    given = hypothesis.given(STEPS, NUMBERS)
    settings = hypothesis.settings(
        max_examples=runs,
        phases=(*explore, hypothesis.Phase.shrink) if shrink else explore,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    def run(steps, ending):
        world.run(steps, ending)

    hypothesis.seed(seed)(settings(given(run)))()
