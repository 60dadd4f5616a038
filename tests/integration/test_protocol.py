"""Every write of the protocol, and what it means when it finds nothing to write."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from integration import protocol
from integration.entries import Entry
from integration.fence import opened
from integration.portable import insert
from integration.protocol import Cause, Disagreement, Superseded, Token
from statemachine import LeaseLost, StaleState, TransitionNotAllowed
from tests.integration.rows import (
    agree,
    answer,
    elapse,
    is_due_in,
    paper_in,
    pending,
    raw,
    subject_of,
    trail,
    where,
)
from tests.papers.machine import printing, review
from tests.papers.models import BigPoster, Leaflet, Paper

pytestmark = pytest.mark.django_db

LEASE = timedelta(seconds=30)
MINUTE = timedelta(minutes=1)


def claim(row, **options):
    return protocol.claim(pending(row), **{"using": "default", "lease": LEASE, "worker": "w", **options})


def token(entry):
    return Token(entry.pk, entry.attempt)


def move(row, dest, **options):
    status, epoch = where(row)
    values = {"source": (status,), "epoch": epoch, "cause": Cause(trigger="test"), **options}
    with transaction.atomic():
        return protocol.move(subject_of(row), dest=review.graph.by_name[dest], **values)


# Fire


def test_a_fire_writes_the_row_leaves_its_entry_and_opens_the_next_one_armed():
    paper = Paper.objects.create()
    paper.submit(by="ada", reason="ready")
    left, entered = paper.entries.order_by("id")
    assert where(paper) == ("checking", 1) == (paper.status, paper.status_epoch)
    assert left.left_at is not None
    assert (left.open, left.due_at) == (None, None)
    assert (entered.trigger, entered.source, entered.state) == ("submit", "draft", "checking")
    assert (entered.by, entered.reason, entered.task) == ("ada", "ready", "papers.check")
    assert (entered.attempt, entered.strikes, entered.epoch, entered.step) == (0, 0, 1, 0)
    assert is_due_in(entered, timedelta(), timedelta(seconds=2))
    assert agree(paper)


def test_a_stale_copy_cannot_fire_and_stays_as_it_was():
    paper = Paper.objects.create()
    stale = Paper.objects.get(pk=paper.pk)
    paper.submit()
    with pytest.raises(StaleState) as caught:
        stale.submit()
    assert (caught.value.expected, caught.value.epoch, caught.value.trigger) == ("draft", 0, "submit")
    assert (stale.status, stale.status_epoch) == ("draft", 0)
    assert trail(paper) == ["created draft", "submit checking"]


def test_a_row_that_came_back_to_the_same_state_is_not_the_row_that_was_read():
    paper = paper_in("rejected")
    stale = Paper.objects.get(pk=paper.pk)
    review.to_state(paper, "draft", reason="back")
    review.to_state(paper, "rejected", reason="and forth")
    with pytest.raises(StaleState):
        stale.discard()
    assert where(paper) == ("rejected", 3)


def test_a_row_without_any_entry_fires_and_where_it_was_is_written_down():
    Paper.objects.bulk_create([Paper(status="rejected")])
    paper = Paper.objects.get()
    paper.revise()
    assert trail(paper) == ["adopted rejected", "revise draft"]
    assert agree(paper)


def test_a_fire_that_disagrees_with_the_open_entry_adopts_and_is_stale():
    paper = paper_in("checking")
    raw(paper, status="draft")
    stale = Paper.objects.get(pk=paper.pk)
    with pytest.raises(StaleState):
        stale.submit()
    assert (stale.status, stale.status_epoch) == ("draft", 1)
    assert trail(paper)[-1] == "adopted draft"
    assert where(paper) == ("draft", 2)
    stale.refresh_from_db()
    stale.submit()
    assert where(paper) == ("checking", 3)


def test_a_row_restored_below_its_entries_is_adopted_above_them():
    paper = paper_in("rejected")
    for _ in range(3):
        review.to_state(paper, "draft", reason="there")
        review.to_state(paper, "rejected", reason="and back")
    paper.entries.filter(open=True).update(open=None, left_at=datetime.now(UTC))
    raw(paper, status="draft", status_epoch=2)
    restored = Paper.objects.get(pk=paper.pk)
    with pytest.raises(StaleState):
        restored.submit()
    assert where(paper) == ("draft", 8)
    assert trail(paper)[-1] == "adopted draft"


def test_a_jump_of_a_row_restored_below_its_entries_goes_above_them():
    paper = paper_in("rejected")
    review.to_state(paper, "draft", reason="there")
    raw(paper, status="checking", status_epoch=0)
    restored = Paper.objects.get(pk=paper.pk)
    review.to_state(restored, "rejected", reason="restored")
    assert where(paper) == ("rejected", 3) == (restored.status, restored.status_epoch)
    assert agree(paper)


def test_a_jump_leaves_an_unknown_state_and_an_entry_that_does_not_agree():
    paper = paper_in("checking")
    raw(paper, status="nowhere")
    lost = Paper.objects.get(pk=paper.pk)
    review.to_state(lost, "draft", reason="found it")
    assert trail(paper)[-1] == "to_state draft"
    assert agree(paper)


def test_outside_a_stage_a_claim_does_not_stand_in_the_way_of_a_jump():
    paper = paper_in("checking")
    claim(paper)
    review.to_state(paper, "draft", reason="stop")
    assert agree(paper)


@pytest.mark.parametrize("situation", ["armed", "leased", "backing off"])
def test_without_the_token_done_and_failed_are_refused_while_the_entry_has_a_task(situation):
    paper = paper_in("checking")
    if situation != "armed":
        held = claim(paper)
        if situation == "backing off":
            protocol.release(token(held), using="default", delay=MINUTE, strike=True, error="no")
    for fire in (paper.advance, paper.fail):
        with pytest.raises(TransitionNotAllowed, match="whose task alone fires"):
            fire()
    assert not paper.may_advance()
    assert where(paper)[0] == "checking"


def test_a_move_without_its_row_is_superseded_and_writes_nothing():
    paper = paper_in("checking")
    with pytest.raises(Superseded):
        move(paper, "draft", source=("scoring",))
    with pytest.raises(Superseded):
        move(paper, "draft", epoch=7)
    assert agree(paper)


@pytest.mark.parametrize("claimed", [True, False])
def test_a_row_is_moved_from_any_of_the_names_that_its_state_is_stored_by(claimed):
    paper = paper_in("checking")
    held = claim(paper) if claimed else None
    raw(paper, status="once_checking")
    paper.entries.filter(open=True).update(state="once_checking")
    source = ("checking", "once_checking", "first_checking")
    entry = move(paper, "scoring", source=source, token=held and token(held))
    assert where(paper) == ("scoring", 2)
    assert entry.pk == pending(paper).pk
    assert agree(paper)


def test_a_move_with_a_superseded_token_undoes_the_row():
    paper = paper_in("checking")
    held = claim(paper)
    elapse(paper)
    claim(paper)
    with pytest.raises(Superseded):
        move(paper, "scoring", token=token(held))
    assert where(paper) == ("checking", 1)


def test_a_move_with_the_token_of_another_row_is_superseded():
    paper, other = paper_in("checking"), paper_in("checking")
    held = claim(other)
    with pytest.raises(Superseded):
        move(paper, "scoring", token=token(held))
    assert agree(paper)
    assert agree(other)


def test_a_move_over_another_epochs_entry_is_a_disagreement():
    paper = paper_in("checking")
    paper.entries.filter(open=True).update(epoch=9)
    with pytest.raises(Disagreement):
        move(paper, "draft")
    assert where(paper) == ("checking", 1)


def test_the_database_refuses_a_second_open_entry():
    paper = Paper.objects.create()
    state, cause = review.graph.by_name["draft"], Cause(trigger="test")
    second = opened(subject_of(paper), state, epoch=5, cause=cause)
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(second, "default")


def test_the_parents_table_is_written_where_a_child_is_fired():
    poster = BigPoster.objects.create()
    poster.start()
    assert poster.entries.get(open=True).model == "papers.poster"
    assert BigPoster.objects.get().status == "printing"


# Claim


def test_a_claim_bumps_attempt_and_strikes_and_leases_the_entry():
    paper = paper_in("checking")
    held = claim(paper, worker="host:1")
    entry = pending(paper)
    assert (entry.attempt, entry.strikes, entry.worker) == (1, 1, "host:1")
    assert is_due_in(entry, timedelta(seconds=20), LEASE)
    assert (held.attempt, held.strikes) == (1, 1)


def test_a_leased_entry_is_not_to_be_had_until_its_lease_is_over():
    paper = paper_in("checking")
    assert claim(paper)
    assert claim(paper) is None
    elapse(paper)
    assert claim(paper).attempt == 2


def test_two_messages_read_at_once_claim_once():
    paper = paper_in("checking")
    first = second = pending(paper)
    options = {"using": "default", "lease": -LEASE, "worker": "w"}
    assert protocol.claim(first, **options)
    assert protocol.claim(second, **options) is None


def test_a_claim_that_read_the_entry_before_it_was_given_back_is_dropped():
    paper = paper_in("checking")
    held = claim(paper)
    early = pending(paper)
    protocol.release(token(held), using="default", delay=-MINUTE)
    assert protocol.claim(early, using="default", lease=LEASE, worker="w") is None
    assert claim(paper).strikes == 1


def test_a_claim_knows_the_checkpoint_that_was_written_after_the_entry_was_read():
    paper = paper_in("checking")
    held = claim(paper)
    early = pending(paper)
    protocol.extend(token(held), using="default", lease=-MINUTE, checkpoint={"page": 3})
    assert protocol.claim(early, using="default", lease=LEASE, worker="w").checkpoint == {"page": 3}


@pytest.mark.parametrize("written", [{"due_at": None}, {"open": None}])
def test_a_parked_or_left_entry_is_not_to_be_had(written):
    paper = paper_in("checking")
    entry = pending(paper)
    Entry.objects.filter(pk=entry.pk).update(**written)
    assert protocol.claim(entry, using="default", lease=LEASE, worker="w") is None


# Heartbeat, progress, checkpoint


def test_extending_moves_ready_and_due_and_writes_what_it_is_given():
    paper = paper_in("checking")
    held = claim(paper, lease=timedelta(seconds=1))
    assert protocol.extend(token(held), using="default", lease=MINUTE, progress={"done": 1})
    entry = pending(paper)
    assert entry.progress == {"done": 1}
    assert is_due_in(entry, timedelta(seconds=50), MINUTE)


@pytest.mark.parametrize("how", ["claimed again", "moved", "given back", "parked", "deleted"])
def test_what_was_superseded_can_neither_extend_nor_release_nor_park(how):
    paper = paper_in("checking")
    held = token(claim(paper))
    assert protocol.holds(held, using="default")
    if how == "claimed again":
        elapse(paper)
        claim(paper)
    elif how == "moved":
        review.to_state(paper, "draft", reason="stop")
    elif how == "given back":
        protocol.release(held, using="default", delay=MINUTE)
    elif how == "parked":
        protocol.park(held, using="default", error="no")
    else:
        paper.delete()
    before = list(Entry.objects.values())
    assert not protocol.extend(held, using="default", lease=MINUTE, checkpoint=1)
    assert not protocol.release(held, using="default", delay=MINUTE, error="late")
    assert not protocol.park(held, using="default", error="late")
    assert not protocol.holds(held, using="default")
    assert list(Entry.objects.values()) == before


# Next step


def open_next(paper, held):
    state = review.graph.by_name["scoring"]
    return protocol.next_step(subject_of(paper), held, state=state, enqueue=state.steps[1], step=1, epoch=1)


def test_the_next_step_leaves_the_row_alone_and_keeps_its_epoch():
    paper = paper_in("scoring")
    held = claim(paper)
    with transaction.atomic():
        entry = open_next(paper, token(held))
    assert (entry.task, entry.step, entry.epoch, entry.attempt) == ("papers.explain", 1, 1, 0)
    assert where(paper) == ("scoring", 1)
    assert agree(paper)


def test_a_superseded_step_opens_nothing():
    paper = paper_in("scoring")
    held = claim(paper)
    elapse(paper)
    claim(paper)
    with pytest.raises(Superseded):
        open_next(paper, token(held))
    assert pending(paper).step == 0


# Release


def test_an_error_keeps_its_strike_and_its_text():
    paper = paper_in("checking")
    assert protocol.release(token(claim(paper)), using="default", delay=MINUTE, strike=True, error="no")
    entry = pending(paper)
    assert (entry.attempt, entry.strikes, entry.error, entry.worker) == (1, 1, "no", "")
    assert is_due_in(entry, timedelta(seconds=50), MINUTE)


def test_a_wait_gives_its_strike_back_never_its_attempt_and_keeps_an_earlier_error():
    paper = paper_in("checking")
    protocol.release(token(claim(paper)), using="default", delay=-MINUTE, strike=True, error="no")
    then = datetime(2100, 1, 1, tzinfo=UTC)
    protocol.release(token(claim(paper)), using="default", until=then)
    entry = pending(paper)
    assert (entry.attempt, entry.strikes, entry.error) == (2, 1, "no")
    assert (entry.ready_at, entry.due_at) == (then, then)


def test_a_parked_entry_stays_open_and_is_never_rung():
    paper = paper_in("checking")
    protocol.park(token(claim(paper)), using="default", error="help")
    entry = pending(paper)
    assert (entry.due_at, entry.error, entry.open) == (None, "help", True)
    assert answer(paper).value == "dropped"
    review.to_state(paper, "draft", reason="helped")
    assert agree(paper)


# Adoption


def test_a_row_that_was_put_back_to_work_by_raw_sql_is_adopted_with_a_task():
    paper = paper_in("rejected")
    raw(paper, status="checking")
    entry = protocol.adopt(subject_of(paper), review.graph.by_name)
    assert (entry.trigger, entry.source, entry.state) == ("adopted", "rejected", "checking")
    assert (entry.task, entry.epoch) == ("papers.check", 2)
    assert agree(paper)


def test_an_adoption_that_the_unique_key_refuses_leaves_everything_as_it_was(monkeypatch):
    paper = paper_in("rejected")
    raw(paper, status="checking")
    monkeypatch.setattr(protocol, "leave_any", lambda entries: 0)
    assert protocol.adopt(subject_of(paper), review.graph.by_name) is None
    assert where(paper) == ("checking", 1)
    assert trail(paper)[-1] == "to_state rejected"


def test_adoption_is_safe_to_repeat():
    paper = paper_in("rejected")
    raw(paper, status="checking")
    assert protocol.adopt(subject_of(paper), review.graph.by_name)
    assert protocol.adopt(subject_of(paper), review.graph.by_name) is None
    assert where(paper) == ("checking", 2)


def test_a_timer_is_adopted_with_its_delay():
    Paper.objects.bulk_create([Paper(status="rejected")])
    entry = protocol.adopt(subject_of(Paper.objects.get()), review.graph.by_name)
    assert is_due_in(entry, timedelta(days=29), timedelta(days=30))


def test_a_row_whose_state_now_has_a_task_is_adopted():
    paper = paper_in("checking")
    paper.entries.filter(open=True).update(task="", due_at=None)
    assert protocol.adopt(subject_of(paper), review.graph.by_name).task == "papers.check"


def test_a_row_in_a_state_that_is_unknown_here_is_left_alone():
    paper = paper_in("checking")
    raw(paper, status="nowhere")
    assert protocol.adopt(subject_of(paper), review.graph.by_name) is None
    assert where(paper) == ("nowhere", 1)


def test_an_orphan_is_closed_and_gives_way_to_a_new_row_with_its_key():
    paper = paper_in("checking")
    key = paper.pk
    Paper.objects.filter(pk=key)._raw_delete("default")
    assert protocol.adopt(subject_of(Paper(pk=key)), review.graph.by_name) is None
    assert not Entry.objects.open().exists()
    paper = Paper.objects.create(pk=key)
    assert where(paper) == ("draft", 2)


def test_a_row_that_appears_while_an_orphan_is_closed_keeps_its_entry():
    paper = paper_in("checking")
    key = paper.pk
    Paper.objects.filter(pk=key)._raw_delete("default")

    class Late(protocol.Subject):
        """Its row is not there when it is looked for, and is there then."""

        @property
        def rows(self):
            Paper.objects.create(pk=self.pk)
            return Paper.objects.none()

    assert protocol.adopt(Late(owner=Paper, pk=key, field="status", using="default"), {}) is None
    assert agree(Paper.objects.get())


def test_a_new_row_closes_the_orphan_of_an_old_one_by_itself():
    paper = paper_in("checking")
    key = paper.pk
    Paper.objects.filter(pk=key)._raw_delete("default")
    paper = Paper.objects.create(pk=key)
    assert (paper.status, paper.status_epoch) == where(paper) == ("draft", 2)
    paper.submit()
    assert agree(paper)


def test_deleting_a_row_deletes_its_entries():
    paper = paper_in("checking")
    Paper.objects.all().delete()
    assert not Entry.objects.exists()
    assert paper.pk


# Turns


def test_a_turn_is_given_once_in_each_period():
    assert protocol.turn("sweep", every=MINUTE, using="default")
    assert not protocol.turn("sweep", every=MINUTE, using="default")
    assert protocol.turn("scan", every=MINUTE, using="default")
    Entry.objects.filter(field="sweep").update(ready_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert protocol.turn("sweep", every=MINUTE, using="default")
    assert not Entry.objects.open().exists()


def test_a_clock_that_is_set_back_does_not_keep_the_turn_for_ever():
    assert protocol.turn("sweep", every=MINUTE, using="default")
    Entry.objects.filter(model="statemachine.turn").update(ready_at=protocol.later(None, 24 * 60 * MINUTE))
    assert protocol.turn("sweep", every=MINUTE, using="default")
    assert not protocol.turn("sweep", every=MINUTE, using="default")


def test_a_turn_that_was_taken_while_this_one_waited_for_the_lock_is_not_taken_again():
    assert protocol.turn("sweep", every=MINUTE, using="default")
    Entry.objects.filter(field="sweep").update(ready_at=protocol.later(None, MINUTE + timedelta(seconds=9)))
    assert not protocol.turn("sweep", every=MINUTE, using="default")


def test_a_shorter_period_counts_from_now_on():
    assert protocol.turn("sweep", every=60 * MINUTE, using="default")
    assert protocol.turn("sweep", every=MINUTE, using="default")
    assert not protocol.turn("sweep", every=MINUTE, using="default")


def test_a_turn_remembers_when_it_was_taken_last():
    assert protocol.last_turn("sweep", using="default") is None
    protocol.turn("sweep", every=-MINUTE, using="default")
    Entry.objects.filter(field="sweep").update(entered_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert protocol.turn("sweep", every=MINUTE, using="default")
    taken = protocol.last_turn("sweep", using="default")
    assert taken > datetime(2020, 1, 1, tzinfo=UTC)
    assert not protocol.turn("sweep", every=MINUTE, using="default")
    assert protocol.last_turn("sweep", using="default") == taken


def test_a_token_that_is_lent_to_a_row_fires_done_and_a_superseded_one_is_lost():
    paper = paper_in("checking")
    held = claim(paper)
    binding = review.binding_of(paper)
    binding.lend(paper, token(held))
    elapse(paper)
    claim(paper)
    with pytest.raises(LeaseLost) as caught:
        paper.advance()
    assert (caught.value.entry, caught.value.attempt) == (held.pk, 1)
    assert (paper.status, paper.status_epoch) == where(paper) == ("checking", 1)


def test_a_status_in_a_shared_declaration_belongs_to_each_model_alone():
    leaflet, poster = Leaflet.objects.create(), BigPoster.objects.create()
    printing.to_state(leaflet, "jammed", reason="paper")
    assert (leaflet.status, BigPoster.objects.get(pk=poster.pk).status) == ("jammed", "waiting")
