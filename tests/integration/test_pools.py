"""Workers of each pool that are told to stop in the middle of a stage: it costs no strike.

What breaks in them is in `test_celery_errors`; that a kill loses nothing, in `test_services`.
"""

import signal

import pytest
from django.db import connection

from tests import services
from tests.integration.rows import agree, trail
from tests.integration.workers import environment_of, running, sending, stuck, wait_until
from tests.papers.models import Paper, Remark

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="run by test_services, on PostgreSQL"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(240),
]

STRAIGHT = ["created draft", "submit checking", "advance scoring", "step scoring", "advance published"]


def published(*papers):
    return Paper.objects.filter(pk__in=[paper.pk for paper in papers], status="published").count() == len(
        papers
    )


def strikes(paper):
    return [(entry.attempt, entry.strikes) for entry in paper.entries.exclude(task="")]


@pytest.mark.parametrize("late", [False, True], ids=["acknowledged early", "acknowledged late"])
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_warm_shutdown_lets_the_stage_end_and_costs_no_strike(pool, late, queue):
    """The stage that runs is finished, those behind it are answered by the next worker: once each."""
    url = services.address("redis")
    environment = environment_of(url, queue, ACKS_LATE=str(int(late)))
    papers = [Paper.objects.create(title=title) for title in ("in the middle", "well", "well")]
    with sending(url, queue):
        with running(pool, environment, app="tests.breaking_app") as worker:
            papers[0].submit()
            wait_until(stuck().exists, worker=worker)
            for paper in papers[1:]:
                paper.submit()
            worker.process.send_signal(signal.SIGTERM)
            Paper.objects.filter(pk=papers[0].pk).update(title="go on")
            assert worker.process.wait(timeout=60) == 0
        assert papers[0].entries.filter(state="scoring").exists()
        with running(pool, environment, app="tests.breaking_app") as worker:
            wait_until(lambda: published(*papers), worker=worker)
    for paper in papers:
        assert trail(paper) == STRAIGHT
        assert strikes(paper) == [(1, 1)] * 3
        assert agree(paper)
    assert Remark.objects.count() == 9


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_cold_shutdown_gives_the_stage_back_and_costs_no_strike(pool, queue):
    """Threads cannot be interrupted: there a lease runs out, as after a kill."""
    url = services.address("redis")
    environment = environment_of(url, queue)
    paper = Paper.objects.create(title="in the middle")
    with sending(url, queue):
        with running(pool, environment, app="tests.breaking_app") as worker:
            paper.submit()
            wait_until(stuck().exists, worker=worker)
            worker.stop(signal.SIGQUIT)
        entry = paper.entries.get(open=True)
        assert (entry.attempt, entry.strikes, entry.worker) == (1, 0, "")
        with running(pool, environment, app="tests.breaking_app") as worker:
            wait_until(lambda: published(paper), worker=worker)
    assert trail(paper) == STRAIGHT
    assert strikes(paper) == [(2, 1), (1, 1), (1, 1)]
