"""The matrix: each call, each point of it, each blow; then everybody recovers, and the story is checked."""

import logging
from contextlib import contextmanager
from dataclasses import replace

from django.db import Error

from integration import recovery
from integration.audit import audit
from integration.binding import bindings
from integration.dispatch import circuit, set_publisher
from integration.entries import Entry
from tests.integration.crash import story
from tests.integration.crash.actor import Actor, Blow, Fault, Killed
from tests.integration.crash.broker import Broker
from tests.integration.crash.calls import CALLS, Scene, finish
from tests.integration.crash.story import check
from tests.integration.rows import LONG_AGO
from tests.papers import tasks
from tests.papers.models import Leaflet, Paper, Remark

TASKS = ["papers.check", "papers.score", "papers.explain", "papers.print"]
ROUNDS = 8


def run_matrix(calls=None, *, blows=tuple(Blow)):
    """Strike every point of every call, and see that all is well in the end.

    It needs a database that really commits, and leaves it empty.

    Args:
        calls: The names of calls, all by default.
        blows: What to strike with.

    Returns:
        How many points were struck.

    Raises:
        AssertionError: It names the call, the blow and the point, and tells what the entries say.
    """
    with _stage() as broker:
        return sum(_run_call(name, broker, blows) for name in calls or CALLS)


@contextmanager
def _stage():
    """A project of two pipelines, the broker in the place of a real one, and a logger that keeps still."""
    logger, broker = logging.getLogger("statemachine"), Broker()
    level, before = logger.level, set_publisher(broker)
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with _only(bindings, lambda binding: binding.cls in (Paper, Leaflet)), _only(tasks.bodies):
            yield broker
            _clear(broker)
    finally:
        logger.setLevel(level)
        set_publisher(before)
        tasks.runs.clear()
        broker.close()


@contextmanager
def _only(registry, is_kept=lambda value: False):
    """A registry with only some of its entries for a while: a scan of every test's model takes its time."""
    before = dict(registry)
    for key in [key for key, value in before.items() if not is_kept(value)]:
        del registry[key]
    try:
        yield
    finally:
        registry.clear()
        registry.update(before)


def _run_call(name, broker, blows):
    struck = 0
    for number, point in enumerate(_run_case(name, broker, None)):
        for blow in blows:
            # What only reads leaves nothing behind: it makes no difference whether it happened.
            if point.startswith("SELECT") and blow.lets_it_happen:
                continue
            _run_case(name, broker, Fault(number, blow))
            struck += 1
    return struck


def _run_case(name, broker, fault):
    """One call with one fault, and everything that follows; returns the points that it came to."""
    call, actor = CALLS[name], Actor(fault)
    try:
        _clear(broker)
        scene = _prepare(call, broker)
        actor.run(lambda: call.act(scene))
        _check_caller(call, actor, fault)
        _check_safety(call, scene)
        _recover(call, scene, actor)
        _check_end(call, scene)
    except Exception as error:
        raise AssertionError(
            f"{name}, which {_told(actor, fault)}: {error or type(error).__name__}"
        ) from error
    return actor.points


def _told(actor, fault):
    if fault is None:
        return "meets no fault"
    points = dict(enumerate(actor.points))
    return (
        f"{fault.blow.value} its point {fault.point}, {points.get(fault.point, 'which it never reached')!r}"
    )


def _clear(broker):
    for model in (Remark, Paper, Leaflet, Entry):
        model._base_manager.all()._raw_delete("default")
    for messages in (broker.waiting, broker.held, broker.sent, broker.early):
        messages.clear()


def _prepare(call, broker):
    scene = Scene(broker=broker, notebook=Paper.objects.create(title="notebook"))
    _let_bodies(scene, call.body or finish)
    call.prepare(scene)
    return scene


def _let_bodies(scene, do):
    def body(stage):
        scene.begin(stage)
        do(scene, stage)

    tasks.bodies.update(dict.fromkeys(TASKS, body))


def _check_caller(call, actor, fault):
    """A publish or an acknowledgement that fails is nobody's error; what the database loses is."""
    check(fault is None or actor.struck, "was not struck")
    told = () if fault is None or _is_brokers(actor.points[fault.point]) else (Error,)
    told = (Killed,) if fault and fault.blow.kills else (KeyboardInterrupt, *told)
    check(actor.returned or isinstance(actor.error, told), f"raised {actor.error!r}")


def _is_brokers(point):
    return point.startswith(("publish", "acknowledge"))


def _check_safety(call, scene):
    for model in {call.model, Paper}:
        story.check_rows(model, strays=call.strays)
    if not call.silent:
        story.check_finishes(call.model, _remarked())
    check(not scene.broker.early, "sent before the commit:", scene.broker.early)
    check(not scene.uncommitted, "a body began before its claim was committed:", scene.uncommitted)
    check(len(set(scene.started)) == len(scene.started), "an attempt began twice:", scene.started)


def _remarked():
    """The entry and attempt of each finish that wrote."""
    texts = Remark.objects.values_list("text", flat=True)
    return [tuple(map(int, text.split()[:2])) for text in texts if text != "page"]


def _recover(call, scene, actor):
    """Faults are off: somebody makes sure, time passes, sweeps sweep, messages are answered."""
    if not call.poison:
        _let_bodies(scene, finish)
    if actor.dead and scene.row is not None:  # another process knows what is stored, and no more
        scene.row = call.model.objects.filter(pk=scene.row.pk).first()
    call.again(scene)
    come_to_rest(scene.broker, strays=call.strays, timers=call.timers)


def come_to_rest(broker, *, strays=False, timers=False):
    """Let time pass, sweeps sweep and messages be answered, until nothing is pending any more.

    Args:
        strays: Whether there may be something to adopt: what the library alone wrote never needs it.
        timers: Whether timers run out.
    """
    broker.take_back()
    circuit.reset()
    for _ in range(ROUNDS):
        _answer_all(broker)
        if _let_time_pass(timers):
            recovery.sweep()
        elif not strays or not recovery.scan(everything=True).adopted:
            return
    raise story.Broken("it never came to rest")


def _answer_all(broker):
    while broker.waiting:
        broker.deliver(broker.waiting[0])


def _let_time_pass(timers):
    """Let every lease, backoff and wait be over, and where timers are at stake, those. How many."""
    pending = Entry.objects.open().filter(due_at__isnull=False)
    overdue = pending if timers else pending.exclude(task="")
    return overdue.update(ready_at=LONG_AGO, due_at=LONG_AGO)


def _check_end(call, scene):
    rows = call.model.objects.exclude(pk=scene.notebook.pk if call.model is Paper else None)
    ended = {row.status for row in rows}
    check(ended == ({call.ends} if call.ends else set()), f"ended in {ended}, and not in {call.ends}")
    check(not Entry.objects.open().exclude(task="").exists(), "work is pending")
    bodies = len(scene.started)
    for message in list(scene.broker.sent):
        scene.broker.answer(message)
    check(len(scene.started) == bodies, "a message that came twice began a body")
    _check_safety(replace(call, strays=False), scene)
    check(not (found := list(audit())), *found)
