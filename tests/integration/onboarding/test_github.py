"""GitHub as a source, against a real server on this machine that speaks its REST interface."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from integration.onboarding.adapters import source_for
from integration.onboarding.adapters.github import API, GitHubSource
from integration.onboarding.ports import (
    Contributor,
    Person,
    Source,
    SourceError,
    SourceRateLimited,
    SourceUnavailable,
    Window,
)

from .loopback import Asked, Loopback, Reply, loopback

NEWEST = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAGE = 3


def account(login: str, number: int) -> dict[str, Any]:
    return {"login": login, "id": number}


def pull(number: int, days: float, *, merged: bool = True, touched: float | None = None) -> dict[str, Any]:
    def ago(count: float) -> str:
        return (NEWEST - timedelta(days=count)).strftime("%Y-%m-%dT%H:%M:%SZ")

    return {
        "number": number,
        "title": f"feat: change {number}",
        "body": "Why.\r\n\r\nCo-authored-by: Bob <Bob@example.org>" if number % 2 else None,
        "user": account("Ada", 1) if number % 2 else None,
        "created_at": ago(days + 1),
        "updated_at": ago(days if touched is None else touched),
        "merged_at": ago(days) if merged else None,
        "merge_commit_sha": f"{number:040x}",
        "additions": 10 * number,
        "deletions": number,
        "changed_files": 2,
    }


PULLS = [
    pull(1, 0, touched=0),
    pull(2, 5, merged=False),
    pull(3, 30.9),
    pull(4, 31),
    pull(5, 90.9),
    pull(6, 91),
    pull(7, 200, touched=-1),
    pull(8, 31),
]
REVIEWS = 4
CONTRIBUTORS = [
    {**account("Bot", 9), "contributions": 3},
    {"type": "Anonymous", "name": "Zoe", "email": "Zoe@Example.org", "contributions": 1},
    {**account("Ada", 1), "contributions": 40},
    {"type": "Anonymous", "name": None, "email": None, "contributions": 1},
]


def github(asked: Asked) -> Reply:
    """As much of GitHub's REST interface as a source needs, a few items a page."""
    parts = urlsplit(asked.path)
    match parts.path.split("/")[1:]:
        case ["repos", "ada", "engine", "contributors"]:
            return page(asked, CONTRIBUTORS)
        case ["repos", "ada", "engine", "pulls"]:
            return page(asked, sorted(PULLS, key=lambda one: one["updated_at"], reverse=True))
        case ["repos", "ada", "engine", "pulls", number]:
            return Reply(next(one for one in PULLS if one["number"] == int(number)))
        case ["repos", "ada", "engine", "pulls", _, "reviews"]:
            return page(asked, [{"id": n} for n in range(REVIEWS)])
        case ["repos", "ada", "engine", "pulls", _, "files"]:
            return Reply([{"filename": "a.py"}, {"filename": "docs/b\0.md"}])
    return Reply({"message": "Not Found"}, 404)


def page(asked: Asked, items: list[dict[str, Any]]) -> Reply:
    number = int(parse_qs(urlsplit(asked.path).query).get("page", ["1"])[0])
    some = items[(number - 1) * PAGE : number * PAGE]
    if number * PAGE >= len(items):
        return Reply(some)
    base = asked.path.split("&page=")[0]
    following = f"http://{asked.headers['host']}{base}&page={number + 1}"
    return Reply(some, headers={"Link": f'<{following}>; rel="next", <http://x/>; rel="last"'})


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback(github) as serving:
        yield serving


@pytest.fixture
def source(server: Loopback) -> GitHubSource:
    return GitHubSource("ada/engine", token="secret", api=server.url)


def caught(answer: Callable[[Asked], Reply]) -> SourceError:
    with loopback(answer) as server, pytest.raises(SourceError) as error:
        list(GitHubSource("ada/engine", token="secret", api=server.url).people())
    assert "secret" not in str(error.value)
    return error.value


def test_people_of_all_pages_come_the_most_active_first(source: GitHubSource) -> None:
    assert list(source.people()) == [
        Contributor(Person("Ada", "1+ada@users.noreply.github.com"), 40),
        Contributor(Person("Bot", "9+bot@users.noreply.github.com"), 3),
        Contributor(Person("Unknown", ""), 1),
        Contributor(Person("Zoe", "zoe@example.org"), 1),
    ]


def test_the_newest_instant_is_the_last_merge_and_not_the_last_touch(source: GitHubSource) -> None:
    assert source.newest() == NEWEST


def test_the_windows_have_the_pull_requests_merged_in_them_oldest_first(source: GitHubSource) -> None:
    first, second = Window.phase_1(NEWEST), Window.phase_2(NEWEST)
    assert [int(one.sha, 16) for one in source.changes(first)] == [3, 1]
    assert [int(one.sha, 16) for one in source.changes(second)] == [5, 4, 8]
    assert (source.count(first), source.count(second)) == (2, 3)
    assert [int(one.sha, 16) for one in source.changes(second, skip=1)] == [4, 8]


def test_the_list_is_read_only_as_far_as_the_window_reaches(source: GitHubSource, server: Loopback) -> None:
    source.count(Window(NEWEST, 0, 1))
    assert len(server.asked) == 1


def test_a_change_has_sizes_reviews_paths_and_people(source: GitHubSource) -> None:
    (change,) = source.changes(Window(NEWEST, 0, 0))
    assert change.author == Person("Ada", "1+ada@users.noreply.github.com")
    assert change.co_authors == (Person("Bob", "bob@example.org"),)
    assert (change.additions, change.deletions, change.files, change.reviews) == (10, 1, 2, REVIEWS)
    assert change.paths == ("a.py", "docs/b.md")
    assert (change.kind, change.title, change.committed_at) == ("merge", "feat: change 1", NEWEST)
    assert change.body.startswith("Why.\n\nCo-authored-by")


def test_the_pull_request_of_a_deleted_account_is_of_the_ghost(source: GitHubSource) -> None:
    ghost = [one.author.name for one in source.changes(Window.phase_2(NEWEST))]
    assert ghost == ["Ada", "ghost", "ghost"]


def test_the_token_is_sent(source: GitHubSource, server: Loopback) -> None:
    list(source.people())
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer secret"}


@pytest.mark.parametrize("status", [301, 307])
def test_a_moved_repository_is_followed_on_the_same_host_and_the_token_goes_nowhere_else(status: int) -> None:
    with loopback(lambda _: Reply([])) as thief:

        def moved(asked: Asked) -> Reply:
            if asked.path.startswith("/repositories/7"):
                return Reply(CONTRIBUTORS)
            elsewhere = thief.url if "stolen" in asked.path else f"http://{asked.headers['host']}"
            return Reply({}, status, {"Location": f"{elsewhere}/repositories/7"})

        with loopback(moved) as server:
            assert len(list(GitHubSource("ada/engine", api=server.url).people())) == len(CONTRIBUTORS)
            with pytest.raises(SourceError, match=f"status {status}"):
                list(GitHubSource("ada/stolen", token="secret", api=server.url).people())
        assert thief.asked == []


def test_a_next_page_on_another_host_is_not_fetched() -> None:
    with loopback(lambda _: Reply([])) as thief:
        reply = Reply(CONTRIBUTORS, headers={"Link": f'<{thief.url}/x>; rel="next"'})
        with loopback(lambda _: reply) as server:
            list(GitHubSource("ada/engine", token="secret", api=server.url).people())
        assert thief.asked == []


def test_a_used_up_rate_limit_says_when_it_is_over() -> None:
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(NEWEST.timestamp()))}
    error = caught(lambda _: Reply({"message": "API rate limit exceeded"}, 403, reset))
    assert isinstance(error, SourceRateLimited)
    assert error.retry_at == NEWEST


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"message": "slow down"}, 403, {"Retry-After": "60"}),
        Reply({"message": "You have exceeded a secondary rate limit"}, 403),
        Reply({}, 429),
    ],
)
def test_a_secondary_rate_limit_asks_for_about_a_minute(reply: Reply) -> None:
    error = caught(lambda _: reply)
    assert isinstance(error, SourceRateLimited)
    assert timedelta(0) < error.retry_at - datetime.now(UTC) <= timedelta(seconds=60)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_that_stays_is_permanent(status: int) -> None:
    error = caught(lambda _: Reply({"message": "Not for you"}, status))
    assert type(error) is SourceError
    assert str(error) == (
        f"GitHub refused to show ada/engine with status {status}: Not for you. "
        "Check the name, and that the token may read the repository."
    )


@pytest.mark.parametrize("reply", [Reply("oops", 502), Reply("<html>"), Reply([{"login": "x"}]), Reply([7])])
def test_trouble_that_passes_can_be_retried(reply: Reply) -> None:
    error = caught(lambda _: reply)
    assert isinstance(error, SourceUnavailable)
    assert not isinstance(error, SourceRateLimited)


def test_nobody_at_the_address_can_be_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SourceUnavailable, match="GitHub gave no answer"):
        GitHubSource("ada/engine", api=f"http://127.0.0.1:{port}").newest()


def test_a_repository_without_merged_pull_requests_is_refused() -> None:
    with (
        loopback(lambda _: Reply([pull(1, 1, merged=False)])) as server,
        pytest.raises(SourceError, match="no pull request has been merged"),
    ):
        GitHubSource("ada/engine", api=server.url).newest()


@pytest.mark.parametrize(
    "name", ["ada", "ada/engine/x", "../..", "ada/..", "ada/engine\n", "adä/engine", "ada/engine?x=1"]
)
def test_a_name_that_is_no_repository_is_refused_at_once(name: str) -> None:
    with pytest.raises(SourceError, match="no repository on GitHub"):
        GitHubSource(name)


@pytest.mark.parametrize("api", ["file:///etc", "", "https://"])
def test_an_interface_that_is_not_http_is_refused_at_once(api: str) -> None:
    with pytest.raises(SourceError, match="no repository on GitHub"):
        GitHubSource("ada/engine", api=api)


@pytest.mark.parametrize(
    "where",
    [
        "github:ada/engine",
        "https://github.com/ada/engine",
        "https://github.com/ada/engine.git",
        "https://www.github.com/ada/engine/tree/main",
        "https://user@github.com/ada/engine/",
        "git@github.com:ada/engine.git",
        "ssh://git@github.com/ada/engine.git",
    ],
)
def test_every_way_to_name_a_repository_on_github_is_understood(where: str) -> None:
    source = source_for(where, token="t")
    assert isinstance(source, GitHubSource)
    assert isinstance(source, Source)
    assert (source.name, source._base) == ("ada/engine", f"{API}/repos/ada/engine")
