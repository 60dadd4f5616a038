"""`pipeline_test`: what one line in a user's tests finds."""

import pickle
import re
import unittest
from contextlib import suppress
from datetime import timedelta

import pytest
from django.core import mail
from django.db import IntegrityError, connection, models, transaction
from hypothesis import HealthCheck, Phase, settings

from integration.onboarding.machine import onboarding
from integration.onboarding.models import Team
from integration.testing import pipeline_test
from integration.testing.commits import Commits
from integration.testing.trouble import FAULTS, Broken
from integration.testing.ways import reach_a_goal
from integration.testing.world import World
from statemachine import LeaseLost
from tests.integration.test_mutants import MUTANTS, broken
from tests.papers.models import Journal, Leaflet, Paper, Printable, Remark

FROM_EVERY_STATE = "test_a_goal_is_reached_from_every_state"
INTERRUPTED = "test_a_stage_that_is_interrupted_leaves_what_one_attempt_leaves"
WHATEVER_HAPPENS = "test_a_goal_is_reached_whatever_happens_on_the_way"
ALL = [FROM_EVERY_STATE, INTERRUPTED, WHATEVER_HAPPENS]

FEW = settings(
    max_examples=6,
    stateful_step_count=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
UNSHRUNK = settings(FEW, max_examples=100, phases=[Phase.generate], report_multiple_bugs=False)


def finish(stage):
    stage.progress(1, 1)
    with stage.finish():
        pass


def remark(stage):
    stage.progress(1, 1)
    with stage.finish():
        Remark.objects.create(paper=stage.row, text=stage.idempotency_key)


def a_team():
    return Team.objects.create(name="Ours", source="nowhere")


TASKS = {step.task for state in onboarding.graph for step in state.steps}

TestPaper = pipeline_test(Paper, "status", tasks={"papers.check": remark}, settings=FEW)
TestJournal = pytest.mark.slow(pipeline_test(Journal, "print_status", settings=FEW))
TestTeam = pytest.mark.slow(
    pipeline_test(
        Team,
        "onboarding_pipeline_status",
        create=a_team,
        tasks=dict.fromkeys(TASKS, finish),
        settings=settings(FEW, max_examples=15, stateful_step_count=15),
    )
)


def test_it_is_sent_to_other_processes_as_the_name_that_it_was_assigned_to():
    again = pickle.loads(pickle.dumps(TestPaper(FROM_EVERY_STATE)))
    assert type(again) is TestPaper
    assert again.id() == TestPaper(FROM_EVERY_STATE).id()


# What it finds

pytestmark = pytest.mark.django_db(transaction=True)


def told_by(test, name):
    """What a test says that fails; empty when it passes."""
    result = unittest.TestResult()
    unittest.TestSuite([test(name)]).run(result)
    return "\n".join(text for _, text in [*result.failures, *result.errors])


def story_in(told):
    """The lines of the story, without their numbers."""
    lines = told[told.index("The story:") :].splitlines()[1:]
    return [re.sub(r"entry \d+", "entry N", line[5:]) for line in lines if re.match(r" *\d+\. ", line)]


def paper_test(**options):
    return pipeline_test(Paper, **{"settings": UNSHRUNK, **options})


def counts_again(stage):
    models.QuerySet(Paper).filter(pk=stage.row.pk).update(title=f"{stage.row.title}!")


def test_a_body_that_counts_twice_is_found_and_the_story_is_told():
    told = told_by(paper_test(tasks={"papers.check": counts_again}, faults=["crash"]), INTERRUPTED)
    assert (
        "papers.check was disturbed, and then tried again: what it leaves is not what one attempt leaves.\n"
        "  too much: 1 papers.Paper (title='A paper!!', worth=True, error='', status='scoring')\n"
        "  missing: 1 papers.Paper (title='A paper!', worth=True, error='', status='scoring')\n"
    ) in told
    assert story_in(told)[4:13] == [
        "a worker takes the message for papers.check, entry N",
        "  works on papers.check, attempt 1",
        "  commits what it wrote to papers_paper",
        "  dies when it has done the body",
        "a sweep rings what is overdue",
        "a worker takes the message for papers.check, entry N",
        "  works on papers.check, attempt 2",
        "  commits what it wrote to papers_paper",
        "  the message is finished",
    ]


def appends(stage):
    Remark.objects.create(paper=stage.row, text=str(stage.attempt))


def test_a_row_that_is_written_once_more_by_each_attempt_is_found():
    told = told_by(paper_test(tasks={"papers.check": appends}, faults=["crash"]), INTERRUPTED)
    assert "too much: 1 papers.Remark (text='2')" in told


def test_what_no_two_attempts_write_alike_can_be_named():
    def stamps(stage):
        with stage.finish():
            appends(stage)

    options = {"tasks": {"papers.check": stamps}, "faults": ["crash"]}
    assert "papers.Remark (text='2')" in told_by(paper_test(**options), INTERRUPTED)
    assert told_by(paper_test(volatile=["papers.Remark.text"], **options), INTERRUPTED) == ""


def once_only(stage):
    Remark.objects.create(paper=stage.row, text="mine")


def test_what_stands_in_the_way_of_the_next_attempt_is_found():
    told = told_by(paper_test(tasks={"papers.check": once_only}, faults=["crash"]), INTERRUPTED)
    assert "it ends in 'rejected', and in 'scoring' when nothing disturbs it" in told
    assert "its body raises IntegrityError" in told


def test_a_guard_that_always_refuses_is_found():
    test = paper_test(create=lambda: Paper.objects.create(worth=False))
    told = told_by(test, FROM_EVERY_STATE)
    assert "The row is stuck in 'rejected': it never reaches 'published'." in told
    assert "Tried there: 'revise' (1×)" in told
    assert "it is refused: no guard let it pass" in told


def test_what_a_person_brings_along_lets_a_guard_pass():
    def revise(paper):
        models.QuerySet(Paper).filter(pk=paper.pk).update(worth=True)
        paper.refresh_from_db()
        paper.revise()

    test = paper_test(create=lambda: Paper.objects.create(worth=False), drive={"revise": revise})
    assert told_by(test, FROM_EVERY_STATE) == ""


def skips(stage):
    models.QuerySet(Paper).filter(pk=stage.row.pk).update(status="published")


@pytest.mark.parametrize("name", [FROM_EVERY_STATE, WHATEVER_HAPPENS])
def test_a_body_that_writes_the_status_itself_is_found(name):
    told = told_by(paper_test(tasks={"papers.check": skips}), name)
    assert "was adopted: something moved the row from 'checking' to 'published' without a transition." in told


def test_a_side_effect_before_the_commit_is_found(monkeypatch):
    calls = []
    monkeypatch.setattr(Paper, "keep_error", lambda paper, event: calls.append(event))
    assert told_by(paper_test(), FROM_EVERY_STATE) == ""
    told = told_by(paper_test(outside=lambda: len(calls)), FROM_EVERY_STATE)
    assert "Something was done outside the database in a transaction, before it was committed" in told


def test_a_failure_that_cannot_be_handled_is_found(monkeypatch):
    def refuse(paper, event):
        raise ValueError("no room for the error")

    monkeypatch.setattr(Paper, "keep_error", refuse)
    told = told_by(paper_test(), FROM_EVERY_STATE)
    assert "A failed stage could not be given up, and waits for a person: " in told
    assert "ValueError: no room for the error" in told


@pytest.mark.filterwarnings("ignore:.*default mailer")  # of Django 6.1, whose own setting replaces it
def test_a_mail_before_the_commit_is_found(monkeypatch):
    def send(paper, event):
        mail.send_mail("Sorry", "It failed.", "us@example.org", ["you@example.org"])

    monkeypatch.setattr(Paper, "keep_error", send)
    assert "before it was committed" in told_by(paper_test(), FROM_EVERY_STATE)


def swallows(stage):
    for page in (1, 2):
        with suppress(LeaseLost):
            stage.checkpoint = page
        Remark.objects.update_or_create(paper=stage.row, defaults={"text": "read"})


def test_a_body_that_swallows_the_loss_of_its_lease_is_found():
    told = told_by(paper_test(tasks={"papers.check": swallows}), INTERRUPTED)
    assert "The body was told that its lease is lost, and went on to write: let LeaseLost end it." in told
    assert "falls asleep when it begins the body, and time passes" in told
    assert "its body is told that the lease is lost" in told


def fails(stage):
    raise ValueError("no luck")


def test_a_body_that_always_fails_is_found_with_its_error():
    told = told_by(paper_test(tasks={"papers.check": fails}, settings=UNSHRUNK), WHATEVER_HAPPENS)
    assert "The row is stuck in" in told
    assert "its body raises ValueError: no luck" in told


@pytest.mark.slow
def test_the_drawn_run_that_is_shown_is_the_shortest():
    shrunk = settings(UNSHRUNK, phases=[Phase.generate, Phase.shrink])
    told = told_by(paper_test(tasks={"papers.check": skips}, settings=shrunk), WHATEVER_HAPPENS)
    assert len(story_in(told)) <= 12


FOUND = [
    "a fence on the epoch alone",
    "a token without its attempt",
    "not armed in the commit",
    "a message after the commit and no sweep",
    "publishing before the commit",
    "a lease without a fence",
    "a heartbeat without a fence",
    "a next step without a fence",
    "adoption that keeps the epoch",
    "a finish beside its transaction",
]


@pytest.mark.slow
@pytest.mark.skipif(connection.vendor != "sqlite", reason="these break the portable way")
@pytest.mark.parametrize("mutant", FOUND)
def test_a_protocol_that_is_broken_is_found(mutant):
    test = paper_test(tasks={"papers.check": remark, "papers.explain": remark})
    with broken(MUTANTS[mutant]):
        assert any("Broken: " in told_by(test, name) for name in ALL)


def prints(stage):
    """Have leaflets printed, in a pipeline of their own, and wait until they are."""
    if stage.checkpoint is None:
        with transaction.atomic():
            leaflet = Leaflet.objects.create()
            leaflet.start()
        stage.checkpoint = leaflet.pk
    if Leaflet.objects.get(pk=stage.checkpoint).status != "printed":
        stage.wait(timedelta(minutes=1))


def test_a_stage_that_waits_for_a_row_of_another_pipeline_is_not_left_waiting():
    test = paper_test(tasks={"papers.check": prints})
    with transaction.atomic(), World(test.pipeline).opened() as world:
        world.fire("submit")
        world.answer(world.messages[0])
        world.messages.clear()
        reach_a_goal(world, test.pipeline.ways)
        assert world.where().status == "published"


def test_a_stage_that_waits_for_ever_is_told_and_the_story_is_not_endless(monkeypatch):
    monkeypatch.setattr("integration.testing.ways._ROUNDS", 25)

    def waits(stage):
        stage.wait(timedelta(minutes=1))

    test = paper_test(tasks={"papers.check": waits})
    with pytest.raises(Broken, match="never comes to rest: it is in 'checking'") as caught:  # noqa: SIM117
        with transaction.atomic(), World(test.pipeline).opened() as world:
            reach_a_goal(world, test.pipeline.ways)
    (note,) = caught.value.__notes__
    assert len(note.splitlines()) == 83
    assert "\n 40.   the message is waiting\n     … 25 more …\n 66. a worker takes" in note


# What it refuses


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"faults": ["crush"]}, f"There is no fault crush. There are: {', '.join(FAULTS)}."),
        (
            {"tasks": {"papers.chekc": finish}},
            "tasks names papers.chekc, which Paper.status has not. "
            "It has: papers.check, papers.explain, papers.score.",
        ),
        (
            {"drive": {"submitt": {}}},
            "drive names submitt, which Paper.status has not. "
            "It has: advance, discard, fail, note, revise, submit.",
        ),
    ],
)
def test_what_the_graph_does_not_know_is_refused_at_once(options, said):
    with pytest.raises(ValueError, match=r"has not|no fault") as caught:
        pipeline_test(Paper, **options)
    assert str(caught.value) == said


def test_a_model_with_two_fields_needs_the_name_of_one():
    with pytest.raises(ValueError, match=r"Journal has the state fields: status, print_status\. Pass"):
        pipeline_test(Journal)


@pytest.mark.parametrize(
    ("model", "why"), [(Printable, "is abstract, and has no rows"), (Remark, "has no StateField")]
)
def test_a_model_without_a_pipeline_is_refused(model, why):
    with pytest.raises(ValueError, match=rf"{model.__name__} {why}\."):
        pipeline_test(model)


def test_a_task_without_a_body_is_told(monkeypatch):
    from integration.stage import bodies

    monkeypatch.delitem(bodies, "papers.print")
    told = told_by(pipeline_test(Leaflet), FROM_EVERY_STATE)
    assert "No body is registered for papers.print: import the module that declares it" in told


def test_a_model_that_cannot_be_made_of_its_defaults_is_told_to_pass_create(monkeypatch):
    def refuse(*args, **kwargs):
        raise IntegrityError("a paper needs an author")

    monkeypatch.setattr(Paper, "save", refuse)
    told = told_by(paper_test(), FROM_EVERY_STATE)
    assert "a paper needs an author\nIt needs more than its defaults: pass create=…" in told
    assert "pass create=…" not in told_by(paper_test(create=Paper.objects.create), FROM_EVERY_STATE)


@pytest.mark.parametrize("create", [lambda: None, Paper, lambda: Journal.objects.create()])
def test_a_create_that_gives_no_stored_row_is_told(create):
    told = told_by(paper_test(create=create), FROM_EVERY_STATE)
    assert "it must save a Paper, and return it." in told


def test_a_guard_that_needs_what_a_person_brings_is_told_with_the_way_to_bring_it(monkeypatch):
    monkeypatch.setattr(Paper, "is_worth_it", lambda paper, event: event.kwargs["by"] == "Ada")
    told = told_by(paper_test(), FROM_EVERY_STATE)
    assert "KeyError: 'by'\nIf a person brings something along: drive={'revise': {…}}." in told
    assert told_by(paper_test(drive={"revise": {"by": "Ada"}}), FROM_EVERY_STATE) == ""


# The commits that it imitates


class Watching:
    """Writes down what it hears, and fails at a point."""

    def __init__(self, fails_at=""):
        self.heard, self.fails_at = [], fails_at

    def check_alive(self):
        pass

    def come_to(self, point, *, busy=False):
        self.heard.append(point)
        if point == self.fails_at:
            raise KeyboardInterrupt

    def begun(self):
        self.heard.append("begun")

    def ended(self):
        self.heard.append("ended")

    def committed(self, tables):
        self.heard.append(f"committed {sorted(tables)}")


@pytest.mark.django_db
class TestCommits:
    pytestmark = []

    def imitated(self, watching):
        return Commits("default", watching).imitated()

    def test_a_block_commits_and_its_callbacks_run_after_it(self):
        watching, order = Watching(), []
        with transaction.atomic(), self.imitated(watching):
            with transaction.atomic(durable=True):
                transaction.on_commit(lambda: order.append(list(watching.heard)))
                paper = Paper.objects.create()
            assert Paper.objects.filter(pk=paper.pk).exists()
        assert "committed ['papers_paper', 'statemachine_entry']" in order[0]
        assert not Paper.objects.filter(pk=paper.pk).exists()

    @pytest.mark.parametrize(("point", "left"), [("is about to commit", 0), ("has committed", 1)])
    def test_who_fails_before_the_commit_leaves_nothing_and_after_it_everything(self, point, left):
        rang = []

        @transaction.atomic
        def write():
            transaction.on_commit(lambda: rang.append(1))
            models.QuerySet(Leaflet).bulk_create([Leaflet()])

        with transaction.atomic(), self.imitated(Watching(point)):
            with pytest.raises(KeyboardInterrupt):
                write()
            assert Leaflet.objects.count() == left
            assert rang == []

    def test_a_statement_that_fails_alone_fails_nothing_else(self):
        with transaction.atomic(), self.imitated(Watching()):
            paper = Paper.objects.create()
            Remark.objects.create(paper=paper, text="one")
            with pytest.raises(IntegrityError):
                Remark.objects.create(paper=paper, text="one")
            assert Remark.objects.count() == 1

    def test_outside_of_a_transaction_there_is_nothing_to_undo(self):
        connection.ensure_connection()
        commits = Commits("default", Watching())
        commits.connection = type("Connection", (), {"in_atomic_block": False})()
        with pytest.raises(RuntimeError, match="inside the transaction of a django"), commits.imitated():
            pass
