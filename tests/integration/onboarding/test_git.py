"""A local repository as a source says what git says."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pygit2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygit2.enums import ConfigLevel

from integration.onboarding.adapters import source_for
from integration.onboarding.adapters.commits import RawCommit, Signature, readable, trailers
from integration.onboarding.adapters.git import MAX_PATHS, GitSource
from integration.onboarding.adapters.mailmap import Mailmap
from integration.onboarding.ports import Change, Person, Source, SourceError, SourceRateLimited, Window

from .repositories import (
    NEWEST,
    SECOND,
    Repository,
    days,
    grown,
    numstat,
    shas_between,
    shortlog,
)

WINDOWS = [(0, 30), (31, 90), (0, 90), (0, 0), (91, 200), (0, 20_000), (300, 400)]


@pytest.fixture(scope="module", autouse=True)
def no_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """libgit2 looks for configuration by itself; the environment of the git program does not concern it."""
    search, empty = pygit2.settings.search_path, tmp_path_factory.mktemp("configuration")
    levels = (ConfigLevel.GLOBAL, ConfigLevel.XDG, ConfigLevel.SYSTEM)
    before = {level: search[level] for level in levels}
    for level in levels:
        search[level] = str(empty)
    yield empty
    for level in levels:
        search[level] = before[level]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, no_configuration: Path) -> Repository:
    return grown(tmp_path_factory.mktemp("grown") / "repository")


@pytest.fixture(scope="module")
def everything(repository: Repository) -> list[Change]:
    return list(GitSource(repository.path).changes(Window(NEWEST, 0, 20_000)))


def change(changes: list[Change], title: str) -> Change:
    return next(one for one in changes if one.title == title)


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        GitSource(path)
    assert type(caught.value) is SourceError, "a person has to act, so no retry helps"
    return str(caught.value)


# People


def test_people_and_their_commits_are_those_of_git_shortlog(repository: Repository) -> None:
    people = {who.person.email: who.commits for who in GitSource(repository.path).people()}
    assert people == shortlog(repository)
    assert len(people) == 5, "the mailmap has joined what belongs together"


def test_people_come_with_the_name_of_the_mailmap_the_most_active_first(repository: Repository) -> None:
    people = list(GitSource(repository.path).people())
    assert [who.commits for who in people] == sorted((who.commits for who in people), reverse=True)
    assert {who.person.name for who in people} == {"Ada King", "Robert", "Clara", "José", "Bad \ufffd\ufffd"}


def test_a_person_with_several_names_and_no_mailmap_has_the_one_used_most(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    for name in (b"A. Lovelace", b"Ada", b"Ada"):
        repository.commit("x", author=name + b" <ada@example.org>")
    assert [who.person.name for who in GitSource(tmp_path).people()] == ["Ada"]


def test_a_bare_repository_is_read_with_the_mailmap_of_its_head(
    repository: Repository, tmp_path: Path
) -> None:
    repository.git("clone", "-q", "--bare", str(repository.path), str(tmp_path / "bare.git"))
    source = GitSource(tmp_path / "bare.git")
    assert {who.person.email: who.commits for who in source.people()} == shortlog(repository)


def test_a_mailmap_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    (tmp_path / "elsewhere").write_text("Somebody <ada@example.org>\n")
    (repository.path / ".mailmap").symlink_to(tmp_path / "elsewhere")
    repository.commit("x")
    assert [who.person.name for who in GitSource(repository.path).people()] == ["Ada Lovelace"]


MAPPED = [
    ("ada", "ADA@HOME.example"),
    ("Bob", "bob@example.org"),
    ("BOB", "BOB@example.org"),
    ("Other Bob", "bob@example.org"),
    ("Ada Lovelace", "ada@example.org"),
    ("Twice", "twice@example.org"),
    ("Again", "again@example.org"),
    ("Nobody", "nobody@example.org"),
]


@pytest.mark.parametrize(("name", "email"), MAPPED)
def test_the_mailmap_says_what_git_check_mailmap_says(tmp_path: Path, name: str, email: str) -> None:
    text = (
        "Ada King <ada@example.org>\nAda King <ADA@example.org> <ada@HOME.example> # a remark\n"
        "Robert <robert@example.org> bob <bob@example.org>\n Spaces <bob@example.org> \n"
        "<new@example.org> <twice@example.org>\nNew Name <twice@example.org>\n"
        "Other Name <again@example.org>\n<other@example.org> <again@example.org>\n"
        "#<x@y> <nobody@example.org>\nnonsense\n<half@example.org\n"
    )
    repository = Repository(tmp_path)
    repository.write({".mailmap": text.encode()})
    said = repository.lines("check-mailmap", f"{name} <{email}>")[0]
    assert "{} <{}>".format(*Mailmap.parse(text).resolve(name, email)) == said


# Windows


@pytest.mark.parametrize(("first", "last"), WINDOWS)
def test_a_window_has_exactly_the_commits_that_git_log_has(
    repository: Repository, first: int, last: int
) -> None:
    source, window = GitSource(repository.path), Window(NEWEST, first, last)
    shas = [one.sha for one in source.changes(window)]
    assert set(shas) == shas_between(repository, window.start, window.end)
    assert len(shas) == len(set(shas)) == source.count(window)


def test_the_two_phases_share_no_commit_and_leave_none_out(repository: Repository) -> None:
    source = GitSource(repository.path)
    one, two, both = (
        {change.sha for change in source.changes(window)}
        for window in (Window.phase_1(NEWEST), Window.phase_2(NEWEST), Window(NEWEST, 0, 90))
    )
    assert not one & two
    assert one | two == both


def test_commits_on_the_borders_are_in_the_window_that_is_closed_there(repository: Repository) -> None:
    source = GitSource(repository.path)
    first, second = (list(source.changes(phase(NEWEST))) for phase in (Window.phase_1, Window.phase_2))
    assert (first[0].title, first[-1].title) == ("first of phase 1", "newest")
    assert (second[0].title, second[-1].title) == ("first of phase 2", "last of phase 2")


@pytest.mark.parametrize("day", [0, 1, 30, 31, 90])
def test_each_instant_around_a_border_is_in_exactly_one_day(day: int) -> None:
    for nearby in (-SECOND, timedelta(0), SECOND, timedelta(microseconds=1)):
        instant = days(day) + nearby
        within = [n for n in range(100) if instant in Window(NEWEST, n, n)]
        assert within == ([] if instant > NEWEST else [within[0]])


def test_a_window_has_days_of_24_hours_also_when_the_clocks_change() -> None:
    spring = datetime(2026, 4, 10, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    assert Window(spring, 0, 30).end - Window(spring, 0, 30).start == timedelta(days=31)


@pytest.mark.parametrize(
    ("newest", "first", "last"), [(NEWEST, 5, 4), (NEWEST, -1, 4), (NEWEST.replace(tzinfo=None), 0, 1)]
)
def test_a_window_that_makes_no_sense_is_refused(newest: datetime, first: int, last: int) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(newest, first, last)


def test_the_newest_instant_is_that_of_the_newest_commit(repository: Repository) -> None:
    source = GitSource(repository.path)
    assert source.newest() == NEWEST
    assert source.newest() in Window.phase_1(source.newest())


def test_a_broken_clock_in_the_future_does_not_move_the_windows(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.commit("sane", NEWEST)
    repository.commit("in ten years", NEWEST + timedelta(days=3650))
    source = GitSource(tmp_path, clock=lambda: NEWEST)
    assert source.newest() == NEWEST
    assert [change.title for change in source.changes(Window.phase_1(source.newest()))] == ["sane"]


# Order and resuming


def test_changes_come_oldest_first_and_every_time_in_the_same_order(
    repository: Repository, everything: list[Change]
) -> None:
    times = [one.committed_at for one in everything]
    assert times == sorted(times)
    assert everything == list(GitSource(repository.path).changes(Window(NEWEST, 0, 20_000)))


@pytest.mark.parametrize("skip", [0, 1, 7, 1000])
def test_skipping_leaves_out_exactly_the_first(
    repository: Repository, everything: list[Change], skip: int
) -> None:
    source = GitSource(repository.path)
    assert list(source.changes(Window(NEWEST, 0, 20_000), skip=skip)) == everything[skip:]


# What a change says


def test_every_size_is_what_git_log_numstat_counts(repository: Repository, everything: list[Change]) -> None:
    sizes = {one.sha: (one.additions, one.deletions, one.files) for one in everything}
    assert sizes == {sha: numstat(repository, sha) for sha in sizes}


def test_every_author_time_and_title_is_what_git_log_shows(
    repository: Repository, everything: list[Change]
) -> None:
    format_ = "--format=%H%x1f%aN%x1f%aE%x1f%aI%x1f%cI%x1f%s"
    shown = [row.split("\x1f") for row in repository.lines("log", "--encoding=UTF-8", format_, "HEAD")]
    assert {
        one.sha: (one.author.name, one.author.email, one.authored_at, one.committed_at, one.title)
        for one in everything
    } == {
        sha: (name, email.lower(), datetime.fromisoformat(author), datetime.fromisoformat(committer), title)
        for sha, name, email, author, committer, title in shown
    }


def test_every_time_keeps_the_zone_it_was_recorded_in(everything: list[Change]) -> None:
    offsets = {change(everything, title).authored_at.utcoffset() for title in ("east", "west", "newest")}
    assert offsets == {timedelta(hours=5, minutes=45), timedelta(hours=-8), timedelta(hours=13)}


def test_merges_are_the_commits_with_several_parents(
    repository: Repository, everything: list[Change]
) -> None:
    merges = {one.sha for one in everything if one.kind == "merge"}
    assert merges == set(repository.lines("rev-list", "--min-parents=2", "HEAD"))
    assert len(merges) == 3


def test_a_pure_rename_is_one_file_and_no_lines(everything: list[Change]) -> None:
    rename = change(everything, "Rename only")
    assert (rename.additions, rename.deletions, rename.files, rename.paths) == (0, 0, 1, ("moved.txt",))


def test_a_binary_file_is_a_file_without_lines(everything: list[Change]) -> None:
    binary = change(everything, "Größe geändert")
    assert (binary.additions, binary.deletions, binary.paths) == (0, 0, ("blob.bin",))


def test_a_message_in_latin_1_is_read_by_its_declared_encoding(everything: list[Change]) -> None:
    latin = change(everything, "Größe geändert")
    assert (latin.author.name, latin.body) == ("José", "à la mode")


def test_bytes_that_are_no_text_become_replacement_characters(everything: list[Change]) -> None:
    bad = change(everything, "bad \ufffd title")
    assert bad.body == "bad \ufffd body"
    assert bad.author == Person("Bad \ufffd\ufffd", "bad\ufffd@example.org")
    assert "caf\ufffd.txt" in change(everything, "an odd path").paths


def test_co_authors_are_mapped_once_each_without_the_author_and_the_invalid(everything: list[Change]) -> None:
    together = change(everything, "feat: work together")
    assert together.author == Person("Robert", "robert@example.org")
    assert together.co_authors == (
        Person("Ada King", "ada@example.org"),
        Person("Clara", "clara@example.org"),
    )


def test_reviews_are_the_reviewed_by_trailers(everything: list[Change]) -> None:
    assert change(everything, "feat: work together").reviews == 1


def test_paths_are_capped_and_files_are_not(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.commit("many", files={f"{n}.txt": b"x\n" for n in range(MAX_PATHS + 5)})
    (many,) = GitSource(tmp_path).changes(Window.phase_1(NEWEST))
    assert (len(many.paths), many.files, many.knows_every_path) == (MAX_PATHS, MAX_PATHS + 5, False)


# Malformed histories


ODD_SIGNATURES = [
    b"author  <a@b> 100 +0000\ncommitter C <c@d> 100 +0000",
    b"author <> 100 +0000\ncommitter <> 100 +0000",
    b"author No Address 100 +0000\ncommitter C <c@d> 100 +0000",
    b"author X <<x@y>> 100 -0330\ncommitter C <c@d> 200 +9959",
    b"author N\0UL <n\0@d> 5 +0000\ncommitter C <c@d> 99999999999999999999999999 +0000",
    b"author \xff <\xff@d> -5 +0000\ncommitter C <c@d> x +0000\nencoding rot13",
    b"author A <a@b>\ncommitter",
    b"author A <a@b> 1 +0000\ncommitter C <c@d> 1 +0000\nencoding utf-16",
    b"nothing of the kind",
]


@pytest.mark.parametrize("headers", ODD_SIGNATURES)
def test_a_malformed_commit_is_read_as_far_as_it_goes(tmp_path: Path, headers: bytes) -> None:
    repository = Repository(tmp_path)
    root = repository.commit("sane", days(1), files={"a": b"a\n"})
    sha = repository.raw_commit(headers, b"title\0 with NUL\n\nbody \xff", root)
    source = GitSource(tmp_path)
    assert sum(who.commits for who in source.people()) == 2
    changes = {
        one.sha: one for one in source.changes(Window(datetime(9999, 12, 31, tzinfo=UTC), 0, 3_000_000))
    }
    assert changes.keys() == {root, sha}
    odd = changes[sha]
    for text in (odd.title, odd.body, odd.author.name, odd.author.email):
        assert "\0" not in text
        assert text.encode("utf-8").decode("utf-8") == text
    assert odd.author.name
    assert odd.committed_at.astimezone(UTC).year >= 1970


@given(
    st.binary(max_size=200),
    st.sampled_from(["", "latin-1", "utf-7", "utf-16", "rot13", "idna", "unicode_escape", "no"]),
)
def test_any_bytes_become_text_that_a_database_stores(raw: bytes, encoding: str) -> None:
    text = readable(raw, encoding)
    assert "\0" not in text
    assert text.encode("utf-8").decode("utf-8") == text


@given(st.binary(max_size=300))
def test_any_bytes_are_read_as_a_commit_without_an_error(raw: bytes) -> None:
    commit = RawCommit.parse(b"tree x\nauthor " + raw + b"\n\n" + raw)
    assert commit.author.at.tzinfo is not None
    assert Signature.parse(raw).at.astimezone(UTC).year <= 9999


@given(st.text())
def test_any_text_is_searched_for_trailers_and_read_as_a_mailmap_without_an_error(text: str) -> None:
    assert all("@" in email for _, email in trailers(text, "Co-authored-by"))
    assert Mailmap.parse(text).resolve("name", "nobody@nowhere") is not None


def test_a_lone_surrogate_is_no_text() -> None:
    assert readable(b"a+2AA-b", "utf-7") == "a?b"


def test_a_time_of_thousands_of_digits_is_the_last_instant_there_is() -> None:
    assert Signature.parse(b"Ada <ada@example.org> " + b"9" * 5000 + b" +0000").at.year == 9999


# Kinds of repository


def test_one_commit_is_a_history(tmp_path: Path) -> None:
    Repository(tmp_path).commit("only", files={"a": b"1\n2\n"})
    source = GitSource(tmp_path)
    (only,) = source.changes(Window.phase_1(source.newest()))
    assert (only.title, only.additions, only.kind) == ("only", 2, "commit")
    assert list(source.changes(Window.phase_2(source.newest()))) == []


def test_an_empty_commit_changes_nothing(tmp_path: Path) -> None:
    Repository(tmp_path).commit("")
    (empty,) = GitSource(tmp_path).changes(Window.phase_1(NEWEST))
    assert (empty.title, empty.files, empty.paths) == ("", 0, ())


def test_a_worktree_and_a_detached_head_are_read(repository: Repository, tmp_path: Path) -> None:
    repository.git("worktree", "add", "-q", "--detach", str(tmp_path / "tree"), "HEAD~1")
    try:
        older = GitSource(tmp_path / "tree")
        assert older.newest() == days(2)
        assert older.count(Window(NEWEST, 0, 1000)) == len(repository.lines("rev-list", "HEAD~1"))
    finally:
        repository.git("worktree", "remove", "--force", str(tmp_path / "tree"))


def test_a_replaced_commit_is_read_as_git_reads_it(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    old = repository.commit("old", days(2), files={"a": b"a\n"})
    repository.commit("new", days(1), files={"a": b"b\n"})
    repository.branch("other", old)
    better = repository.commit("better", days(2), author=b"Zoe <zoe@example.org>")
    repository.git("checkout", "-q", "main")
    repository.git("replace", old, repository.git("commit-tree", f"{better}^{{tree}}", "-m", "z", env={
        "GIT_AUTHOR_NAME": b"Zoe", "GIT_AUTHOR_EMAIL": b"zoe@example.org"}).strip().decode())  # fmt: skip
    people = {who.person.email: who.commits for who in GitSource(tmp_path).people()}
    assert people == shortlog(repository)
    assert "zoe@example.org" in people


def test_a_path_that_does_not_exist_is_refused_with_what_to_do(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == (
        f"There is nothing at {tmp_path / 'gone'}: the path does not exist on the machine that reads it, "
        "or may not be looked into. "
        "Give the path of a git repository as the worker sees it."
    )


@pytest.mark.parametrize("path", ["x" * 5000, "nul\0"])
def test_a_path_that_cannot_exist_is_refused_too(path: str) -> None:
    assert "There is nothing at" in refusal(Path(path))


def test_a_directory_that_is_no_repository_is_refused_even_inside_of_one(tmp_path: Path) -> None:
    Repository(tmp_path).commit("x", files={"inside/a": b"a\n"})
    assert "cannot be read as a git repository" in refusal(tmp_path / "inside")


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot be read as a git repository" in refusal(tmp_path / "file")


def test_a_repository_without_commits_is_refused_by_the_name_of_its_branch(tmp_path: Path) -> None:
    Repository(tmp_path)
    assert "has no commits to read: HEAD is at refs/heads/main, which has none." in refusal(tmp_path)


def test_a_shallow_clone_is_refused_with_the_command_that_completes_it(
    repository: Repository, tmp_path: Path
) -> None:
    clone = tmp_path / "with space"
    repository.git("clone", "-q", "--depth=3", f"file://{repository.path}", str(clone))
    assert refusal(clone).endswith(f"Fetch them: git -C '{clone}' fetch --unshallow")


def test_a_missing_object_is_a_source_error(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    sha = repository.commit("x", days(1), files={"a": b"a\n"})
    repository.commit("y", files={"a": b"b\n"})
    (tmp_path / ".git/objects" / sha[:2] / sha[2:]).unlink()
    with pytest.raises(SourceError, match="incomplete or damaged"):
        list(GitSource(tmp_path).people())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_repository_of_another_user_is_refused_until_the_operator_trusts_it(
    tmp_path: Path, no_configuration: Path
) -> None:
    Repository(tmp_path / "theirs").commit("x")
    path = tmp_path / "theirs"
    os.chown(path, 12345, 12345)
    os.chown(path / ".git", 12345, 12345)
    assert refusal(path).endswith(f"git config --global --add safe.directory {path}")
    (no_configuration / ".gitconfig").write_text(f"[safe]\n\tdirectory = {path}\n")
    try:
        assert GitSource(path).newest() == NEWEST
    finally:
        (no_configuration / ".gitconfig").unlink()


# Choosing a source


def test_a_path_or_a_file_url_is_a_local_repository(repository: Repository) -> None:
    for where in (str(repository.path), repository.path.as_uri(), f" {repository.path}/.git "):
        source = source_for(where)
        assert isinstance(source, GitSource)
        assert isinstance(source, Source)


@pytest.mark.parametrize(
    "where", ["https://gitlab.com/a/b", "git@example.org:a/b.git", "", "github:nonsense"]
)
def test_an_address_that_nothing_reads_is_refused(where: str) -> None:
    with pytest.raises(SourceError, match=r"clone the repository"):
        source_for(where)


def test_errors_survive_pickling() -> None:
    error = SourceRateLimited("Too many", cause="a limit", remedy="Wait.", retry_at=NEWEST)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.retry_at, type(copy)) == ("Too many: a limit. Wait.", NEWEST, SourceRateLimited)
