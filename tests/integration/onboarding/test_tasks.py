"""What the stages write, compared with what git itself says."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from integration.onboarding import tasks
from integration.onboarding.models import Change, Team
from integration.onboarding.ports import AnalystUnavailable, SourceRateLimited, SourceUnavailable, Window
from integration.stage import Outcome
from tests.integration.onboarding.mailbox import mailbox
from tests.integration.onboarding.repositories import Repository, shas_between, shortlog

pytestmark = pytest.mark.django_db


def onboard(team):
    with mailbox() as box:
        team.start()
        box.deliver_all()
    return Team.objects.get(pk=team.pk)


def test_the_people_are_those_of_git_shortlog(team, grown_repository):
    team = onboard(team)
    assert {m.email: m.commits for m in team.members.all()} == shortlog(grown_repository)


def test_the_changes_of_each_window_are_those_of_git_log(team, grown_repository):
    team = onboard(team)
    for days in ((0, 30), (31, 90)):
        window = team.snapshot.window(*days)
        stored = {
            change.sha for change in team.changes.all() if window.start < change.committed_at <= window.end
        }
        assert stored == shas_between(grown_repository, window.start, window.end)
        assert stored


def test_the_weeks_add_up_to_the_changes(team):
    team = onboard(team)
    weeks = list(team.weeks.all())
    assert sum(week.changes for week in weeks) == team.changes.count()
    assert sum(week.merges for week in weeks) == team.changes.filter(merge=True).count()
    kinds = sum((Counter(week.kinds) for week in weeks), Counter())
    assert kinds == Counter(team.changes.values_list("kind", flat=True))
    assert sum(week.ai_assisted for week in weeks) == team.changes.filter(ai_assisted=True).count()


def test_every_change_is_analysed_and_the_summary_tells_of_every_insight(team):
    team = onboard(team)
    assert not team.changes.filter(kind="").exists()
    assert team.insights.count() >= 3
    assert team.snapshot.summary


def test_a_second_run_leaves_the_same_rows_as_the_first(team):
    def rows(team):
        return [
            sorted(team.members.values_list("email", "name", "commits")),
            sorted(team.changes.values_list("sha", "kind", "additions", "deletions", "files")),
            list(team.weeks.values_list("iso_year", "iso_week", "changes", "additions")),
            list(team.insights.values_list("position", "key", "title", "body")),
            team.snapshot.summary,
        ]

    team = onboard(team)
    first = rows(team)
    team.update_pipeline_status("syncing_members", reason="again")
    with mailbox() as box:
        box.deliver_all()
        team.refresh_from_db()
        team.update_pipeline_status("syncing_members", reason="and again")
        box.deliver_all()
    team.refresh_from_db()
    assert team.onboarding_pipeline_status == "complete"
    assert rows(team) == first


def test_the_instants_of_start_and_completion_are_kept(team):
    team = onboard(team)
    entries = {entry.state: entry for entry in team.entries.all()}
    started, completed = team.onboarding_pipeline_started_at, team.onboarding_pipeline_completed_at
    assert started <= entries["syncing_members"].entered_at <= entries["syncing"].entered_at
    assert entries["background_llm"].entered_at <= completed <= entries["complete"].entered_at


@pytest.mark.parametrize("name", ["no such folder", "a folder", "empty", "shallow"])
def test_a_source_that_cannot_be_read_fails_the_team_with_a_message(name, db, tmp_path):
    path = tmp_path / "there"
    if name != "no such folder":
        path.mkdir()
    if name in ("empty", "shallow"):
        repository = Repository(path)
    if name == "shallow":
        for number in range(3):
            repository.commit(f"change {number}", files={"file": str(number).encode()})
        clone = tmp_path / "clone"
        repository.git("clone", "-q", "--depth", "1", f"file://{path}", str(clone))
        path = clone
    team = onboard(Team.objects.create(name=name, source=str(path)))
    assert team.onboarding_pipeline_status == "failed"
    assert str(path) in team.onboarding_pipeline_error
    assert "Traceback" not in team.onboarding_pipeline_error
    assert team.entries.filter(state="syncing_members").get().attempt == 1


def test_a_failed_team_is_retried_where_it_failed_once_its_source_is_there(db, tmp_path):
    team = onboard(Team.objects.create(name="Late", source=str(tmp_path / "late")))
    assert team.onboarding_pipeline_status == "failed"
    Repository(tmp_path / "late").commit("first", files={"a": b"1\n"})
    with mailbox() as box:
        assert team.retry()
        box.deliver_all()
    team.refresh_from_db()
    assert team.onboarding_pipeline_status == "complete"
    assert team.onboarding_pipeline_error == ""


def test_a_repository_with_one_commit_is_onboarded(db, tmp_path):
    repository = Repository(tmp_path / "one")
    repository.commit("only", files={"a": b"1\n"})
    team = onboard(Team.objects.create(name="One", source=str(repository.path)))
    assert team.onboarding_pipeline_status == "complete"
    assert (team.changes.count(), team.members.count(), team.weeks.count()) == (1, 1, 1)


class Refusing:
    """A source at the edge: GitHub on a bad day."""

    def __init__(self, error):
        self.error = error

    def people(self, *args):
        raise self.error

    newest = count = changes = people


def test_a_source_that_asks_for_patience_is_waited_for_without_a_strike(team, monkeypatch):
    retry_at = datetime.now(UTC) + timedelta(hours=1)
    error = SourceRateLimited("too many requests", retry_at=retry_at)
    monkeypatch.setattr(tasks, "source_for", lambda *args, **kwargs: Refusing(error))
    with mailbox() as box:
        team.start()
        assert box.deliver() is Outcome.WAITING
    entry = team.entries.open().get()
    assert (entry.attempt, entry.strikes, entry.ready_at) == (1, 0, retry_at)


@pytest.mark.parametrize("error", [SourceUnavailable("no answer"), AnalystUnavailable("no answer")])
def test_an_outside_service_that_is_away_costs_an_attempt_and_is_tried_again(team, monkeypatch, error):
    monkeypatch.setattr(tasks, "source_for", lambda *args, **kwargs: Refusing(error))
    with mailbox() as box:
        team.start()
        assert box.deliver() is Outcome.BACKING_OFF
    entry = team.entries.open().get()
    assert (entry.attempt, entry.strikes) == (1, 1)
    assert "no answer" in entry.error


def test_a_team_that_was_never_synced_can_be_put_into_the_second_phase(team, grown_repository):
    with mailbox() as box:
        team.update_pipeline_status("background_syncing", reason="the first phase is of no use here")
        box.deliver_all()
    team.refresh_from_db()
    assert team.onboarding_pipeline_status == "complete"
    window = team.snapshot.window(31, 90)
    assert set(team.changes.values_list("sha", flat=True)) == shas_between(
        grown_repository, window.start, window.end
    )


def test_the_days_of_a_team_that_was_never_synced_are_not_counted_anew_by_a_second_attempt(team, monkeypatch):
    class Changing(Refusing):
        def newest(self):
            return next(instants)

    instants = iter([datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)])
    error = SourceUnavailable("no answer")
    monkeypatch.setattr(tasks, "source_for", lambda *args, **kwargs: Changing(error))
    with mailbox() as box:
        team.update_pipeline_status("syncing", reason="too early")
        [message] = box.commit()
        assert [box.hand(message), box.hand(message)] == [Outcome.BACKING_OFF] * 2
    assert team.entries.open().get().attempt == 2
    assert team.snapshot.newest_change_at == datetime(2026, 3, 1, tzinfo=UTC)


def test_windows_of_the_phases_neither_overlap_nor_leave_a_gap():
    newest = datetime(2026, 3, 1, tzinfo=UTC)
    assert Window.phase_1(newest).start == Window.phase_2(newest).end


def test_restart_forgets_what_the_first_run_found(team, grown_repository):
    team = onboard(team)
    at = team.snapshot.newest_change_at
    Change.objects.create(
        team=team, sha="0" * 40, merge=False, author_email="x", author_name="x", title="rebased away",
        authored_at=at, committed_at=at, additions=0, deletions=0, files=0,
    )  # fmt: skip
    team.update_pipeline_status("failed", reason="test")
    with mailbox() as box:
        assert team.restart()
        box.deliver_all()
    assert not team.changes.filter(sha="0" * 40).exists()
