"""Old history is forgotten from its beginning; what is open, or recent, stays."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from integration import protocol
from integration.audit import audit
from integration.entries import Entry
from integration.protocol import later
from integration.prune import prunable, prune
from tests.integration.rows import answer, paper_in, trail
from tests.papers.machine import review
from tests.papers.models import Journal, Paper

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def story(*ages):
    """A paper whose entries were left so many days ago, the first being the oldest; and its open one."""
    paper = paper_in("draft")
    for number in range(len(ages)):
        review.to_state(Paper.objects.get(pk=paper.pk), ("rejected", "draft")[number % 2], reason="so")
    for ago, entry in zip(ages, paper.entries.order_by("pk"), strict=False):
        Entry.objects.filter(pk=entry.pk).update(left_at=later(None, -ago * DAY))
    return paper


def test_entries_that_were_left_long_enough_ago_are_deleted(mailbox):
    paper = story(9, 8, 3, 2)
    assert prune(older_than=5 * DAY) == 2
    assert trail(paper) == ["to_state draft", "to_state rejected", "to_state draft"]
    assert prune(older_than=5 * DAY) == 0


def test_an_open_entry_stays_however_old(mailbox):
    paper = story(9)
    Entry.objects.update(entered_at=later(None, -99 * DAY))
    assert prune(older_than=timedelta()) == 1
    assert trail(paper) == ["to_state rejected"]
    Entry.objects.update(left_at=later(None, -99 * DAY))  # something else wrote it
    assert prune(older_than=timedelta()) == 0


def test_what_is_pruned_is_always_the_beginning_of_a_history(mailbox):
    paper = story(9, 3, 8, 7)
    assert prune(older_than=5 * DAY) == 1
    assert paper.entries.count() == 4
    assert list(audit()) == []
    assert prune(older_than=2 * DAY) == 3


def test_a_steps_history_is_pruned_from_its_beginning(mailbox, bodies):
    paper = paper_in("scoring")
    answer(paper)
    answer(paper)
    steps = paper.entries.filter(state="scoring")
    paper.entries.exclude(open=True).update(left_at=later(None, -9 * DAY))
    steps.filter(step=0).update(left_at=later(None))
    assert prune(older_than=DAY) == 1
    assert steps.count() == 2
    assert list(audit()) == []


@pytest.mark.parametrize("batch", range(1, 9))
def test_after_each_batch_the_audit_is_clean(batch, mailbox):
    stories = [story(9, 8, 7), story(9, 8, 7), story(9, 1, 1)]
    Journal.objects.create()
    left = []

    def look(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith("DELETE"):
            left.append(Entry.objects.count())
            assert list(audit()) == []
        return result

    before = Entry.objects.count()
    with connection.execute_wrapper(look):
        assert prune(older_than=5 * DAY, batch=batch) == 7
    assert all(previous - now <= batch for previous, now in zip([before, *left], left, strict=False))
    assert {paper.entries.count() for paper in stories} == {1, 3}


def test_what_would_be_pruned_can_be_counted(mailbox):
    story(9, 8, 3)
    assert prunable(older_than=5 * DAY).count() == 2
    assert Entry.objects.count() == 4


def test_the_librarys_own_entries_stay(mailbox):
    protocol.turn("sweep", every=DAY, using="default")
    Entry.objects.update(left_at=later(None, -99 * DAY))
    assert prune(older_than=DAY) == 0
    assert Entry.objects.count() == 1


def test_the_history_of_a_row_that_is_gone_is_pruned(mailbox):
    paper = story(9, 8)
    paper.entries.open().update(open=None, left_at=later(None, -7 * DAY), due_at=None)
    Paper.objects.filter(pk=paper.pk)._raw_delete("default")
    assert prune(older_than=DAY) == 3


def test_a_batch_is_two_statements(mailbox):
    for _ in range(4):
        story(9, 8, 7)
    with CaptureQueriesContext(connection) as queries:
        assert prune(older_than=DAY, batch=5) == 12
    told = [query["sql"].split()[0] for query in queries]
    assert told.count("SELECT") - 1 == told.count("DELETE") == 3


def test_a_duration_in_the_future_is_refused(mailbox):
    with pytest.raises(ValueError, match="is in the future: pass a duration of 0 or more"):
        prune(older_than=-DAY)
