"""What the bodies of stages do: every way to work, to end, and not to."""

from datetime import timedelta

from django.db import transaction

from integration.body import Released
from integration.entries import Entry
from integration.stage import PermanentFailure
from statemachine import LeaseLost
from tests.papers.models import Remark

__all__ = ["BEHAVIOURS", "die", "finish"]


def write(stage):
    """What a stage leaves behind: which attempt of which entry ended it."""
    Remark.objects.create(paper_id=stage.row.pk, text=f"{stage._entry.pk}.{stage.attempt}")


def finish(stage, act):
    with stage.finish():
        write(stage)


def leave_it_to_the_runner(stage, act):
    act.ends_bare(stage)


def advance(stage, act):
    act.ends_bare(stage)
    stage.row.advance()


def advance_in_vain(stage, act):
    """Moves the row in a transaction that is rolled back, so that memory is ahead of the database."""
    act.ends_bare(stage)
    try:
        with transaction.atomic():
            stage.row.advance()
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass


def die_after(stage, act):
    finish(stage, act)
    act.die()


def die_in_the_middle(stage, act):
    with stage.finish():
        write(stage)
        act.die()


def fail_in_the_middle(stage, act):
    with stage.finish():
        write(stage)
        raise ValueError("no luck in the middle")


def die(stage, act):
    act.die()


def fail(stage, act):
    raise ValueError("no luck")


def refuse(stage, act):
    raise PermanentFailure("never")


def be_shut_down(stage, act):
    act.gives_back(stage)
    raise KeyboardInterrupt


def wait(stage, act):
    act.gives_back(stage)
    try:
        stage.wait(until=timedelta(minutes=30))
    except Released:
        act.gave_back(stage)
        raise


def report(stage, act):
    """Beats, and goes on although it was told not to: what it writes then must be refused."""
    for number in (1, 2):
        try:
            stage.progress(number, number)
            act.was_accepted(stage)
            stage.checkpoint = number
            act.was_accepted(stage)
        except LeaseLost:
            pass
    finish(stage, act)


def fail_anyway(stage, act):
    """Waits for a while, so to say, and fails when somebody else may be at it."""
    Entry.objects.filter(pk=0).exists()
    raise ValueError("no luck, and late")


BEHAVIOURS = [
    finish,
    leave_it_to_the_runner,
    advance,
    report,
    report,
    report,
    fail_anyway,
    die,
    wait,
    advance_in_vain,
    die_in_the_middle,
    fail_in_the_middle,
    die_after,
    fail,
    refuse,
    be_shut_down,
]
