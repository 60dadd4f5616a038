"""What people and probes are shown: where rows stand, and whether the work gets done."""

from datetime import UTC, datetime, timedelta

import pytest

from integration import protocol, recovery
from integration.entries import Entry
from integration.protocol import later
from integration.status import age, clock, health, status, strangers, unanswered
from tests.integration.rows import answer, elapse, paper_in, pending
from tests.papers.models import Paper

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def overdue_paper(state="checking", *, ago=2 * HOUR):
    paper = paper_in(state)
    elapse(paper, ago=ago)
    return paper


def swept(ago):
    """Let the last sweep have been a while ago."""
    protocol.turn("sweep", every=MINUTE, using="default")
    Entry.objects.filter(model="statemachine.turn").update(entered_at=later(None, -ago))


def test_the_status_counts_rows_by_state_and_what_is_wrong_with_them(mailbox):
    overdue_paper(ago=2 * MINUTE)
    overdue_paper(ago=7 * MINUTE)
    overdue_paper(ago=9 * MINUTE)
    paper_in("checking")
    paper_in("draft")
    parked = paper_in("scoring")
    parked.entries.filter(open=True).update(due_at=None, error="help")
    Entry.objects.filter(pk=pending(parked).pk).update(entered_at=later(None, -HOUR))
    standings = list(status())
    assert {
        standing.state: (standing.rows, standing.overdue, standing.unanswered, standing.parked)
        for standing in standings
    } == {"checking": (4, 3, 2, 0), "draft": (1, 0, 0, 0), "scoring": (1, 0, 0, 1)}
    assert {standing.model for standing in standings} == {"papers.paper"}
    assert standings[0].state == "scoring"
    assert [standing.longest is None for standing in standings] == [
        standing.state != "checking" for standing in standings
    ]
    assert set(Paper.objects.overdue()) == {Paper.objects.get(pk=pk) for pk in _overdue()}


def _overdue():
    return Entry.objects.open().overdue().values_list("object", flat=True)


def test_the_longest_unanswered_is_the_one_that_could_be_taken_first(mailbox):
    overdue_paper(ago=7 * MINUTE)
    oldest = overdue_paper(ago=9 * MINUTE)
    (standing,) = status()
    assert standing.longest == pending(oldest).ready_at == health().longest


def test_a_sweep_does_not_make_an_entry_look_answered(mailbox):
    paper = overdue_paper()
    assert recovery.sweep().rung == 1
    assert list(unanswered()) == [pending(paper)]
    assert health().due is None


def test_an_entry_that_is_held_or_backs_off_is_not_unanswered(mailbox, bodies):
    def fail(stage):
        assert not unanswered().exists()
        raise ValueError("no luck")

    bodies["papers.check"] = fail
    paper = overdue_paper()
    assert unanswered().exists()
    answer(paper)
    assert not unanswered().exists()


def test_an_entry_whose_worker_is_gone_for_long_is_unanswered(mailbox):
    overdue_paper().entries.open().update(worker="gone:1", attempt=1)
    assert unanswered().count() == 1


def test_what_waits_for_a_person_or_for_its_time_is_not_unanswered(mailbox):
    for state in ("draft", "rejected", "published"):
        paper_in(state)
    parked = overdue_paper()
    parked.entries.open().update(due_at=None, error="help")
    assert not unanswered().exists()


def test_how_long_a_project_waits_for_an_answer_is_a_setting(mailbox, settings):
    overdue_paper()
    settings.STATEMACHINE_UNANSWERED = 3 * HOUR
    assert not unanswered().exists()


def test_a_timer_that_nobody_answers_is_unanswered(mailbox):
    overdue_paper("rejected")
    assert health().unanswered == 1


# Health


def test_a_database_where_nothing_is_pending_is_well(mailbox):
    paper_in("draft")
    assert health()
    assert health().problems == ()


def test_unanswered_and_parked_entries_are_problems(mailbox):
    overdue_paper(ago=HOUR)
    paper_in("checking").entries.open().update(due_at=None, error="help")
    swept(timedelta())
    assert not health()
    assert health().problems == (
        "1 entries are unanswered, the longest for 1h: no worker is up that listens on their queues and has "
        "their tasks.",
        "1 entries are parked: only a person can help them.",
    )


def test_no_sweep_for_several_periods_is_a_problem_while_something_is_overdue(mailbox):
    assert health().is_swept
    paper = overdue_paper(ago=MINUTE)
    assert health().problems == ("No sweep runs while entries are overdue; none ever ran.",)
    swept(10 * MINUTE)
    assert health().problems == ("No sweep runs while entries are overdue; the last was 10m ago.",)
    swept(timedelta(seconds=3))
    assert health()
    swept(10 * MINUTE)
    elapse(paper, ago=timedelta(seconds=3))
    assert health()


def test_a_sweep_of_the_future_is_none_when_the_clock_was_set_back(mailbox):
    overdue_paper(ago=MINUTE)
    swept(-HOUR)
    assert not health().is_swept


def test_no_sweep_is_missed_where_workers_do_not_sweep(mailbox, settings):
    settings.STATEMACHINE_SWEEP = False
    overdue_paper(ago=MINUTE)
    assert health()


def test_health_asks_three_queries(mailbox, django_assert_num_queries):
    overdue_paper()
    with django_assert_num_queries(3):
        health()


def test_the_clock_is_the_databases(mailbox):
    assert abs(clock("default") - datetime.now(UTC)) < MINUTE
    paper = paper_in("checking")
    assert pending(paper).entered_at <= clock("default")


def test_strangers_are_what_no_code_here_answers(mailbox):
    paper_in("checking").entries.open().update(task="gone.task")
    (stranger,) = strangers()
    assert (stranger.state, stranger.task, stranger.rows) == ("checking", "gone.task", 1)


@pytest.mark.parametrize(
    ("ago", "told"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=59), "59s"),
        (timedelta(seconds=60), "1m"),
        (timedelta(hours=23, minutes=59), "23h"),
        (timedelta(days=400), "400d"),
        (timedelta(seconds=-5), "0s"),
    ],
)
def test_an_age_is_told_in_its_largest_unit(ago, told):
    now = datetime(2020, 1, 1, tzinfo=UTC)
    assert age(now - ago, now) == told
