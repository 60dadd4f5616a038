"""The outside world behind the ports of `onboarding`, chosen by what the user typed."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from ..ports import Analyst, Source, SourceError

__all__ = ["analyst_for", "source_for"]

GITHUB = re.compile(
    r"(?:github:|(?:https?|ssh|git)://(?:[^/@]+@)?(?:www\.)?github\.com/|git@github\.com:)"
    r"(?P<name>[\w.-]+/[\w.-]+?)(?:\.git)?(?:/.*)?$",
    re.IGNORECASE | re.ASCII,
)
REMOTE = re.compile(r"^[a-z][a-z0-9+.-]+://|^[\w.-]+@[\w.-]+:", re.IGNORECASE)


def source_for(url_or_path: str, *, token: str = "", api: str = "") -> Source:
    """GitHub for ``github:owner/name`` and addresses on github.com, a local repository for anything else.

    Args:
        url_or_path: A ``file://`` URL is a path too.
        token: For GitHub; without one, 60 requests an hour are answered.
        api: Another address of GitHub's REST interface, such as that of an enterprise server.

    Raises:
        SourceError: There is no readable repository at that path, or the address is of neither kind.
    """
    where = url_or_path.strip()
    if found := GITHUB.match(where):
        from .github import API, GitHubSource

        return GitHubSource(found["name"], token=token, api=api or API)
    # pygit2 is optional: a team on GitHub does without.
    from .git import GitSource

    return GitSource(_path(where))


def _path(where: str) -> str:
    if where.lower().startswith("file://"):
        return unquote(urlsplit(where).path)
    if not where or REMOTE.match(where) or where.lower().startswith("github:"):
        raise SourceError(
            f"'{where}' is no source that can be read",
            cause="it is neither a path of this machine nor a repository on GitHub",
            remedy="Give a path, github:owner/name, or clone the repository and give the path of the clone.",
        )
    return where


def analyst_for(url: str | None, *, model: str = "", api_key: str = "") -> Analyst:
    """An OpenAI-compatible endpoint when there is a URL, the embedded rules when there is none.

    Raises:
        AnalystError: The URL is no http or https one, or the model's name is missing.
    """
    if not url:
        from .rules import Rules

        return Rules()
    from .openai import OpenAIAnalyst

    return OpenAIAnalyst(url, model=model, api_key=api_key)
