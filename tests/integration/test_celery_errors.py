"""Whatever Celery raises into a body, or does to its process, has an outcome: seen in real workers.

Each pool has one worker, with late acknowledgement or early, in which every stage breaks in another way.
"""

from pathlib import Path
from unittest.mock import ANY

import pytest
from django.db import connection

from tests import services
from tests.integration.rows import agree, trail
from tests.integration.workers import environment_of, running, sending, wait_until
from tests.papers.models import Paper, Remark

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "stages.md"

AGAIN = ["created draft", "submit checking", "advance scoring", "step scoring", "advance published"]
GIVEN_UP = ["created draft", "submit checking", "fail rejected"]

# What breaks the first stage: its way from there, its attempts and strikes, and the error that is kept.
OUTCOMES = {
    "well": (AGAIN, 1, 1, ""),
    "Retry": (AGAIN, 2, 1, "Retry: not yet"),
    "Ignore": (AGAIN, 2, 1, "Ignore: not me"),
    "Reject": (AGAIN, 2, 1, "Reject: ('not here', False)"),
    "SystemExit": (AGAIN, 2, 2, "SystemExit: 3"),
    "MemoryError": (AGAIN, 2, 2, "MemoryError: no more"),
    "WorkerLostError": (AGAIN, 2, 2, "WorkerLostError: a child of its own"),
    "PermanentFailure": (GIVEN_UP, 1, 1, "never"),
    "MemoryError always": (GIVEN_UP, 3, 3, "MemoryError: no more"),
}
# What only a pool of processes can do to one of its bodies without ending the worker.
OUTCOMES_OF_PROCESSES = {
    "SoftTimeLimitExceeded": (AGAIN, 2, 2, "SoftTimeLimitExceeded()"),
    # The process has a tenth of a second to write its error down.
    "a hard time limit": (AGAIN, 2, 2, ANY),
    "a hard time limit always": (GIVEN_UP, ANY, 3, ANY),
    "a killed process": (AGAIN, 2, 2, ""),
    "a killed process always": (GIVEN_UP, 4, 3, "no attempt ever reported back"),
}


def what_became_of(paper):
    entry = paper.entries.get(state="checking")
    paper.refresh_from_db()
    kept = paper.error if paper.status == "rejected" else entry.error
    return trail(paper), entry.attempt, entry.strikes, kept


def table():
    """What the reference says costs an attempt, and gives the stage up."""
    section = PAGE.read_text().split("### In a Celery worker\n")[1].split("\n\n")[1]
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines()[2:]]
    return {line.replace("`", ""): (cost, end) for line, cost, end in lines}


def test_the_table_in_the_reference_says_what_these_tests_see():
    seen = OUTCOMES | OUTCOMES_OF_PROCESSES
    assert set(table()) == {way for way in seen if way != "well" and not way.endswith("always")}
    for way, (cost, end) in table().items():
        trail, _, strikes, _ = seen[way]
        assert cost == ("one" if (strikes, trail) in [(2, AGAIN), (1, GIVEN_UP)] else "none")
        assert end.startswith("given up") == (trail == GIVEN_UP)


@pytest.mark.services
@pytest.mark.skipif(connection.vendor != "postgresql", reason="run by test_services, on PostgreSQL")
@pytest.mark.django_db(transaction=True)
@pytest.mark.timeout(240)
@pytest.mark.parametrize("late", [False, True], ids=["acknowledged early", "acknowledged late"])
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_whatever_breaks_an_attempt_has_its_outcome_and_every_pipeline_runs_to_its_end(pool, late, queue):
    url = services.address("redis")
    environment = environment_of(url, queue, ACKS_LATE=str(int(late)))
    expected = OUTCOMES | OUTCOMES_OF_PROCESSES if pool == "prefork" else OUTCOMES
    with sending(url, queue), running(pool, environment, app="tests.breaking_app") as worker:
        papers = [Paper.objects.create(title=way) for way in expected]
        for paper in papers:
            paper.submit()
        wait_until(lambda: not unfinished().exists(), limit=150, worker=worker)
    assert {paper.title: what_became_of(paper) for paper in papers} == expected
    assert all(agree(paper) for paper in papers)
    assert Remark.objects.count() == 3 * Paper.objects.filter(status="published").count()


def unfinished():
    return Paper.objects.exclude(status__in=["published", "rejected"])
