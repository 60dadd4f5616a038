"""What `--kill` checks at its end: that it would find what it looks for."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from integration.demo.crash import MOMENTS
from integration.demo.kill import plan
from integration.demo.ledger import lines, violations
from integration.entries import Entry
from integration.onboarding.machine import onboarding

GRAPH = onboarding.graph
START = datetime(2026, 3, 1, tzinfo=UTC)


def straight():
    """The entries of a run in which nothing goes wrong."""
    entries, epoch = [], -1
    for number, line in enumerate(lines(GRAPH)):
        epoch += line.step == 0
        before = entries[-1].state if entries else ""
        trigger = "step" if line.step else {"": "created", "not_started": "start"}.get(before, "advance")
        at = START + timedelta(seconds=number)
        entries.append(
            Entry(
                pk=number + 1, epoch=epoch, step=line.step, trigger=trigger, source=before, state=line.state,
                task=line.task, entered_at=at, left_at=at + timedelta(seconds=1), open=None,
            )
        )  # fmt: skip
    entries[-1].left_at, entries[-1].open = None, True
    return entries


def test_the_straight_run_has_fourteen_entries_and_no_violation():
    assert len(straight()) == 14
    assert violations(straight(), GRAPH) == []


def test_a_missing_entry_is_found():
    entries = straight()
    del entries[4]
    assert "There are 13 entries, and a straight run has 14." in violations(entries, GRAPH)


def test_an_entry_made_twice_is_found():
    entries = straight()
    entries.insert(4, entries[3])
    found = violations(entries, GRAPH)
    assert "Epoch 3, step 0 was entered 2 times." in found
    assert "There are 15 entries, and a straight run has 14." in found


def test_an_edge_that_is_not_declared_is_found():
    entries = straight()
    entries[3].trigger = "retry"
    assert violations(entries, GRAPH) == [
        "Entry 4, syncing to llm_processing by 'retry', is no declared edge."
    ]


def test_a_skipped_epoch_is_found():
    entries = straight()
    for entry in entries[3:]:
        entry.epoch += 1
    assert violations(entries, GRAPH) == ["The epoch went from 2 to 4 at entry 4."]


def test_a_step_out_of_order_is_found():
    entries = straight()
    entries[11].step = 3
    assert "Entry 12 is not the next step of entry 11." in violations(entries, GRAPH)


def test_an_entry_that_was_never_left_is_found():
    entries = straight()
    entries[5].open, entries[5].left_at = True, None
    assert violations(entries, GRAPH) == ["Entry 6 was never left."]


def test_a_run_without_an_open_entry_is_found():
    entries = straight()
    entries[-1].open = None
    assert violations(entries, GRAPH) == ["No entry is open."]


@pytest.mark.parametrize("seed", range(100))
def test_a_plan_has_every_moment_once_each_in_a_task_of_its_own(seed):
    points = plan(7, seed)
    works = [(line.state, line.step) for line in lines(GRAPH) if line.task]
    order = [works.index((point.state, point.step)) for point in points]
    assert sorted(point.moment for point in points) == sorted(MOMENTS)
    assert order == sorted(set(order))
    assert all(point.team == 7 for point in points)


def test_nothing_is_planned_where_it_could_not_be_seen():
    works = [line for line in lines(GRAPH) if line.task]
    inner = {(a.state, a.step) for a, b in pairwise(works) if a.state == b.state}
    last = (works[-1].state, works[-1].step)
    for point in (point for seed in range(300) for point in plan(1, seed)):
        if point.moment in ("uncommitted", "unanswered"):
            assert (point.state, point.step) not in inner
        if point.moment in ("unsent", "unanswered"):
            assert (point.state, point.step) != last
