"""Every call of the API in the life of a row, and how it is repeated by somebody who saw it fail."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from itertools import count

from django.db import models, transaction

from integration import recovery
from integration.entries import Entry
from integration.stage import PermanentFailure
from integration.tasks import Sweeper
from statemachine import StaleState, TransitionNotAllowed
from tests.integration.crash.actor import Actor, Blow, Fault, acting
from tests.integration.rows import elapse, paper_in, pending, raw
from tests.papers.machine import printing
from tests.papers.models import Leaflet, Paper, Remark


@dataclass
class Scene:
    """What a call finds, and what its bodies did.

    Attributes:
        broker: What carries its messages.
        row: The row that it is about, as its process knows it; None before it is created.
        notebook: A paper that stands by, for the remarks of bodies that finish.
        started: The entry and attempt of each body that began.
        uncommitted: Of these, those whose claim nobody else could see.
    """

    broker: object
    row: object = None
    notebook: object = None
    started: list = field(default_factory=list)
    uncommitted: list = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def begin(self, stage):
        """Keep that a body began, and whether its claim was committed by then."""
        entry, attempt = stage._token.entry, stage._token.attempt
        self.started.append((entry, attempt))
        if self.broker.attempt_of(entry) != attempt:
            self.uncommitted.append((entry, attempt))

    def remark(self, stage):
        """Write which entry and attempt it was that finished."""
        text = f"{stage._token.entry} {stage._token.attempt} {next(self.numbers)}"
        Remark.objects.create(paper=self.notebook, text=text)

    def lose_messages(self):
        self.broker.waiting.clear()


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of the API.

    Attributes:
        prepare: Leaves the scene as the call finds it.
        act: The call.
        ends: The state that the row is in when all is done; None where it is gone.
        model: The row's model.
        again: What somebody does to be sure that it was done; in a process that died, it was another one.
        body: What a stage does during the call; afterwards it finishes.
        poison: Whether its stages fail for ever.
        strays: Whether foreign hands wrote the row before.
        timers: Whether timers run out.
        silent: Whether a stage may finish without a remark.
    """

    prepare: Callable
    act: Callable
    ends: str | None
    model: type = Leaflet
    again: Callable = lambda scene: None
    body: Callable | None = None
    poison: bool = False
    strays: bool = False
    timers: bool = False
    silent: bool = False


# Bodies


def finish(scene, stage):
    with stage.finish():
        scene.remark(stage)


def advance(scene, stage):
    with transaction.atomic():
        scene.remark(stage)
        stage.row.advance()


def beat_and_finish(scene, stage):
    """The heart beats in its own thread, as it does when a third of the lease is over."""
    acting().beside(stage._heart._beat)
    finish(scene, stage)
    acting().beside(stage._heart._beat)


def report_and_finish(scene, stage):
    if stage.checkpoint is None:
        stage.checkpoint = {"page": 1}
    stage.progress(2, 2)
    finish(scene, stage)


def oversleep(successor):
    """The lease runs out, another worker takes over, and then this one wakes up and goes on as before."""

    def body(scene, stage):
        if len(scene.started) == 1:
            elapse(scene.row)
            recovery.sweep()
            Actor(successor).run(partial(scene.broker.deliver, scene.broker.waiting[0]))
        finish(scene, stage)

    return body


def wait(scene, stage):
    stage.wait(until=timedelta(days=1))


def fail(scene, stage):
    raise ValueError("no luck")


def fail_in_the_finish(scene, stage):
    with stage.finish():
        scene.remark(stage)
        raise ValueError("no luck")


def refuse(scene, stage):
    raise PermanentFailure("never")


def stop(scene, stage):
    raise KeyboardInterrupt


# What a call finds


def nothing(scene):
    pass


def leaflet(status="waiting"):
    def prepare(scene):
        scene.row = Leaflet.objects.create(status=status)

    return prepare


def paper(status, **written):
    def prepare(scene):
        scene.row = paper_in(status)
        pending_of(scene).update(**written or {"progress": None})

    return prepare


def second_step(scene):
    scene.row = paper_in("scoring")
    answer()(scene)


def pending_of(scene):
    return Entry.objects.filter(pk=pending(scene.row).pk)


def unanswered(number=1):
    """Leaflets whose messages were lost, and that are overdue."""

    def prepare(scene):
        for _ in range(number):
            scene.row = Leaflet.objects.create(status="printing")
            elapse(scene.row)
        scene.lose_messages()

    return prepare


def strayed(before, after, *, lost=False):
    """A leaflet whose status was written by foreign hands."""

    def prepare(scene):
        scene.row = Leaflet.objects.create(status=before)
        raw(scene.row, status=after)
        scene.row.refresh_from_db()
        if lost:
            scene.lose_messages()

    return prepare


def timer(scene):
    scene.row = paper_in("rejected")
    elapse(scene.row)
    recovery.sweep()


def orphan(scene):
    leaflet("printing")(scene)
    models.QuerySet(Leaflet)._raw_delete("default")
    scene.row = None


# The calls, and how they are repeated


def create(status):
    def act(scene):
        scene.row = Leaflet.objects.create(status=status)

    def again(scene):
        if not Leaflet.objects.exists():
            act(scene)

    return {"act": act, "again": again}


def start(scene):
    scene.row.start()


def start_again(scene):
    with suppress(StaleState, TransitionNotAllowed):
        scene.row.start()


def start_until_it_moved(scene):
    """A fire that adopts is refused, and is tried again when the row was read anew."""
    for _ in range(2):
        scene.row.refresh_from_db()
        start_again(scene)


def write_a_page(scene):
    """A view: the row and its transition are one of several writes."""
    with transaction.atomic():
        scene.row = Leaflet.objects.create(name="page")
        scene.row.start()
        Remark.objects.create(paper=scene.notebook, text="page")


def write_it_again(scene):
    written = Leaflet.objects.filter(name="page").exists()
    assert written == Remark.objects.filter(text="page").exists(), "half of a transaction was kept"
    if not written:
        write_a_page(scene)


def jump(scene):
    printing.to_state(scene.row, "printing", reason="the printer is back", by="an operator")


def jump_again(scene):
    row = Leaflet.objects.get(pk=scene.row.pk)
    if row.status == "jammed":
        printing.to_state(row, "printing", reason="once more")


def delete(scene):
    Leaflet.objects.get(pk=scene.row.pk).delete()


def delete_again(scene):
    for row in Leaflet.objects.all():
        row.delete()


def answer(*, late=True, heartbeat=False):
    def act(scene):
        scene.broker.deliver(scene.broker.waiting[0], late=late, heartbeat=heartbeat)

    return act


def sweep(scene):
    recovery.sweep()


def scan(scene):
    recovery.scan(everything=True)


def take_turns(scene):
    Sweeper()._pass("default")


PRINTING = {"prepare": leaflet("printing"), "act": answer(), "ends": "printed"}
SUCCESSOR = Fault("SELECT papers_leaflet", Blow.DIES_AFTER)  # it has claimed, and gets no further
SUCCESSOR_OF_A_STEP = Fault("SELECT papers_paper", Blow.DIES_AFTER)
SCORING = {"model": Paper, "prepare": paper("scoring"), "act": answer(), "ends": "published", "body": finish}

CALLS = {
    "create": Call(prepare=nothing, **create("waiting"), ends="waiting"),
    "create in a working state": Call(prepare=nothing, **create("printing"), ends="printed"),
    "fire": Call(prepare=leaflet(), act=start, again=start_again, ends="printed"),
    "fire in a transaction": Call(prepare=nothing, act=write_a_page, again=write_it_again, ends="printed"),
    "to_state": Call(prepare=leaflet("jammed"), act=jump, again=jump_again, ends="printed"),
    "claim and finish": Call(**PRINTING, body=finish),
    "return": Call(**PRINTING, body=lambda scene, stage: None, silent=True),
    "advance in the body": Call(**PRINTING, body=advance),
    "heartbeat": Call(**{**PRINTING, "act": answer(heartbeat=True)}, body=beat_and_finish),
    "progress and checkpoint": Call(**PRINTING, body=report_and_finish),
    "wait": Call(**PRINTING, body=wait),
    "body error": Call(**PRINTING, body=fail),
    "error in the finish": Call(**PRINTING, body=fail_in_the_finish),
    "shutdown": Call(**PRINTING, body=stop),
    "finish after the successor": Call(**PRINTING, body=oversleep(None)),
    "finish beside the successor": Call(**PRINTING, body=oversleep(SUCCESSOR)),
    "step after the successor": Call(**{**SCORING, "body": oversleep(None)}),
    "step beside the successor": Call(**{**SCORING, "body": oversleep(SUCCESSOR_OF_A_STEP)}),
    "next step": Call(**SCORING),
    "last step": Call(**{**SCORING, "prepare": second_step}),
    "give up at once": Call(**{**PRINTING, "ends": "jammed"}, body=refuse, poison=True),
    "give up on the last strike": Call(
        model=Paper,
        prepare=paper("checking", attempt=2, strikes=2),
        act=answer(),
        ends="rejected",
        body=fail,
        poison=True,
    ),
    "give up instead of the body": Call(
        model=Paper,
        prepare=paper("checking", attempt=3, strikes=3),
        act=answer(),
        ends="rejected",
    ),
    "timer": Call(model=Paper, prepare=timer, act=answer(), ends="discarded", timers=True),
    "adopt by the claimant": Call(
        prepare=strayed("printing", "jammed"), act=answer(), ends="jammed", strays=True
    ),
    "adopt by a fire": Call(
        prepare=strayed("printing", "waiting"),
        act=start_again,
        again=start_until_it_moved,
        ends="printed",
        strays=True,
    ),
    "adopt by the scan": Call(
        prepare=strayed("jammed", "printing"), act=scan, ends="printed", strays=True
    ),
    "close an orphan": Call(prepare=orphan, act=scan, ends=None, strays=True),
    "delete": Call(prepare=leaflet("printing"), act=delete, again=delete_again, ends=None),
    "sweep": Call(prepare=unanswered(2), act=sweep, ends="printed"),
    "turn of a worker": Call(prepare=unanswered(), act=take_turns, ends="printed"),
}  # fmt: skip

EARLY = {
    f"{name}, acknowledged early": replace(CALLS[name], act=answer(late=False))
    for name in ("claim and finish", "body error", "next step")
}
CALLS |= EARLY
