"""A repository on GitHub as a source, over REST: its merged pull requests, their reviews and its people.

GitHub does not tell addresses, so a person is known by the no-reply address that GitHub gives each account.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from ..ports import (
    Change,
    Contributor,
    Person,
    SourceError,
    SourceRateLimited,
    SourceUnavailable,
    Window,
    each_once,
)
from .commits import readable, trailers
from .rest import Answer, NoAnswer, ask, is_http

__all__ = ["API", "GitHubSource"]

API = "https://api.github.com"
NEXT = re.compile(r'<([^<>]+)>;\s*rel="next"')
NAME = re.compile(r"\w[\w-]*/(?!\.\.?$)[\w.-]+", re.ASCII)

Json = dict[str, Any]


class GitHubSource:
    """Merged pull requests as changes, by the instant of their merge.

    The list costs one request for 100 pull requests, each change three more: sizes, reviews and paths. A pull
    request that is touched while the list is read may be missing from it.

    Args:
        name: ``owner/name``.
        token: Without one, 60 requests an hour are answered, with one 5,000.
        api: The base of the REST interface.
        timeout: For one request.

    Raises:
        SourceError: At once when the name or the base cannot be right.
    """

    def __init__(
        self, name: str, *, token: str = "", api: str = API, timeout: timedelta = timedelta(seconds=30)
    ) -> None:
        if not NAME.fullmatch(name) or not is_http(api):
            raise SourceError(
                f"'{name}' at '{api}' is no repository on GitHub",
                remedy="Give owner/name, and an http or https address of the REST interface.",
            )
        self.name = name
        self._base = f"{api.rstrip('/')}/repos/{name}"
        self._token = token
        self._timeout = timeout

    def people(self) -> Iterator[Contributor]:
        with _understanding():
            found = [_contributor(item) for item in self._pages("contributors?per_page=100&anon=1")]
        yield from sorted(found, key=lambda who: (-who.commits, who.person.email))

    def newest(self) -> datetime:
        with _understanding():
            return self._latest_merge() or self._nothing_merged()

    def _latest_merge(self) -> datetime | None:
        latest: datetime | None = None
        for pull in self._latest_first:
            if latest and _instant(pull["updated_at"]) < latest:
                break
            if pull["merged_at"]:
                merged_at = _instant(pull["merged_at"])
                latest = max(latest or merged_at, merged_at)
        return latest

    def count(self, window: Window) -> int:
        with _understanding():
            return len(self._within(window))

    def changes(self, window: Window, skip: int = 0) -> Iterator[Change]:
        with _understanding():
            numbers = [pull["number"] for pull in self._within(window)]
        for number in numbers[skip:]:
            with _understanding():
                change = self._change(number)
            yield change

    def _nothing_merged(self) -> datetime:
        raise SourceError(
            f"{self.name} on GitHub has no changes to read",
            cause="no pull request has been merged",
            remedy="Merge one, or clone the repository and give the path of the clone.",
        )

    @property
    def _latest_first(self) -> Iterator[Json]:
        return self._pages("pulls?state=closed&sort=updated&direction=desc&per_page=100")

    def _within(self, window: Window) -> list[Json]:
        """Oldest merge first. Nothing is merged after its last update, which ends the listing."""
        found: dict[int, Json] = {}
        for pull in self._latest_first:
            if _instant(pull["updated_at"]) <= window.start:
                break
            if pull["merged_at"] and _instant(pull["merged_at"]) in window:
                found[pull["number"]] = pull
        return sorted(found.values(), key=lambda pull: (_instant(pull["merged_at"]), pull["number"]))

    def _change(self, number: int) -> Change:
        pull = self._get(f"pulls/{number}")
        reviews = self._pages(f"pulls/{number}/reviews?per_page=100")
        files = self._get(f"pulls/{number}/files?per_page=100")
        body = readable((pull["body"] or "").replace("\r\n", "\n").encode("utf-8", "replace"))
        author = _person(pull["user"])
        return Change(
            sha=pull["merge_commit_sha"],
            kind="merge",
            author=author,
            co_authors=tuple(who for who in _co_authors(body) if who.email != author.email),
            authored_at=_instant(pull["created_at"]),
            committed_at=_instant(pull["merged_at"]),
            title=readable(pull["title"].encode("utf-8", "replace")),
            body=body,
            additions=pull["additions"],
            deletions=pull["deletions"],
            files=pull["changed_files"],
            paths=tuple(readable(file["filename"].encode("utf-8", "replace")) for file in files),
            reviews=sum(1 for _ in reviews),
        )

    def _get(self, path: str) -> Any:
        return self._fetch(f"{self._base}/{path}").data

    def _pages(self, path: str) -> Iterator[Json]:
        url: str | None = f"{self._base}/{path}"
        while url:
            answer = self._fetch(url)
            yield from answer.data if isinstance(answer.data, list) else []
            url = self._next(answer)

    def _next(self, answer: Answer) -> str | None:
        found = NEXT.search(answer.headers.get("link", ""))
        # The token goes with the request: only to where it was meant for.
        return found[1] if found and urlsplit(found[1])[:2] == urlsplit(self._base)[:2] else None

    def _fetch(self, url: str) -> Answer:
        try:
            answer = ask(url, token=self._token, timeout=self._timeout)
        except NoAnswer as error:
            raise SourceUnavailable(
                "GitHub gave no answer", cause=str(error), remedy="Try again later."
            ) from error
        if answer.status >= 300:
            raise self._refusal(answer)
        return answer

    def _refusal(self, answer: Answer) -> SourceError:
        if retry_at := _rate_limit(answer):
            return SourceRateLimited(
                "GitHub answers no more requests for a while",
                cause=answer.message,
                remedy="Use a token to get more of them." if not self._token else "Try again later.",
                retry_at=retry_at,
            )
        problem = f"GitHub refused to show {self.name} with status {answer.status}"
        if answer.status >= 500:
            return SourceUnavailable(problem, cause=answer.message, remedy="Try again later.")
        return SourceError(
            problem,
            cause=answer.message,
            remedy="Check the name, and that the token may read the repository.",
        )


@contextmanager
def _understanding() -> Iterator[None]:
    """A proxy or a look-alike may answer with JSON of another shape."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceUnavailable(
            "GitHub's answer is not understood",
            cause=f"it lacks what the REST interface documents: {error!r}",
            remedy="Try again later; if it stays so, check the address of the REST interface.",
        ) from error


def _rate_limit(answer: Answer) -> datetime | None:
    """When to ask again, if it was a rate limit that refused: GitHub uses 403 for other things too."""
    if answer.status not in (403, 429):
        return None
    if answer.retry_at:
        return answer.retry_at
    reset = answer.headers.get("x-ratelimit-reset", "")
    if answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        return datetime.fromtimestamp(int(reset[:11]), UTC)
    # GitHub asks for a minute when it does not say how long.
    limited = answer.status == 429 or "rate limit" in answer.message.lower()
    return datetime.now(UTC) + timedelta(minutes=1) if limited else None


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _person(user: Json | None) -> Person:
    """A deleted account is nobody; GitHub shows it as its user "ghost"."""
    account = user or {"login": "ghost", "id": 10137}
    return Person(account["login"], f"{account['id']}+{account['login']}@users.noreply.github.com".lower())


def _contributor(item: Json) -> Contributor:
    if item.get("login"):
        return Contributor(_person(item), item["contributions"])
    email = readable((item.get("email") or "").encode("utf-8", "replace")).lower()
    name = readable((item.get("name") or "").encode("utf-8", "replace"))
    return Contributor(Person(name or email or "Unknown", email), item["contributions"])


def _co_authors(body: str) -> tuple[Person, ...]:
    found = trailers(body, "Co-authored-by")
    return each_once(Person(name or email, email.lower()) for name, email in found)
