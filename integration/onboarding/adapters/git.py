"""A local git repository as a source, read with pygit2. Nothing in it is written or run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from shlex import quote

import pygit2
from pygit2.enums import DiffFind, RepositoryOpenFlag

from ..ports import Change, Contributor, Person, SourceError, Window, each_once
from .commits import Glance, RawCommit, Signature, readable, trailers
from .mailmap import Mailmap

__all__ = ["GitSource"]

MAX_PATHS = 100

# git's own defaults, said here so that no configuration file on the machine changes a team's numbers.
RENAME_LIMIT = 1000
RENAME_THRESHOLD = 50

# Clocks of different machines differ by minutes; a commit from next year is a broken clock.
CLOCK_SKEW = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Size:
    additions: int
    deletions: int
    files: int
    paths: tuple[str, ...]


class GitSource:
    """What is reachable from HEAD of a working tree, worktree or bare repository.

    People, counts and windows are those of ``git shortlog -sne HEAD`` and ``git log`` (by committer date),
    with addresses compared without case. `refs/replace` is honoured for commits. A commit dated more than a
    day after `clock` is in no window, unless all commits are.

    The history is read once, on first use, and kept: 100,000 commits take about 20 MB.

    Args:
        path: The directory of the repository itself; parent directories are not searched.
        clock: Aware instant of now.

    Raises:
        SourceError: At once when there is no repository that can be counted at `path`.
    """

    def __init__(
        self, path: str | Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.path = Path(path)
        self.clock = clock
        self._repository = _open(self.path)
        self._head = _head(self._repository, self.path)

    def people(self) -> Iterator[Contributor]:
        names: dict[str, Counter[str]] = {}
        for (line, encoding), commits in self._history.authors.items():
            author = Signature.parse(line, encoding.decode("ascii", "replace"))
            who = self._person(author.name, author.email)
            names.setdefault(who.email, Counter())[who.name] += commits
        for email, used in sorted(names.items(), key=lambda item: (-item[1].total(), item[0])):
            yield Contributor(Person(_usual(used), email), used.total())

    def newest(self) -> datetime:
        horizon = (self.clock() + CLOCK_SKEW).timestamp()
        times = [seconds for seconds, _ in self._history.commits]
        return _utc(max((seconds for seconds in times if seconds <= horizon), default=max(times)))

    def count(self, window: Window) -> int:
        return len(self._within(window))

    def changes(self, window: Window, skip: int = 0) -> Iterator[Change]:
        for sha in self._within(window)[skip:]:
            with _reading(self.path):
                change = self._change(sha)
            yield change

    @cached_property
    def _history(self) -> History:
        with _reading(self.path):
            return _walk(self._read, self._head)

    @cached_property
    def _mailmap(self) -> Mailmap:
        return Mailmap.parse(readable(_mailmap_bytes(self._repository)))

    @cached_property
    def _replaced(self) -> dict[str, str]:
        prefix = "refs/replace/"
        references = self._repository.references
        return {
            name.removeprefix(prefix): str(references[name].target)
            for name in references
            if name.startswith(prefix)
        }

    def _read(self, sha: str) -> bytes:
        return self._repository.read(self._replaced.get(sha, sha))[1]

    def _within(self, window: Window) -> list[str]:
        start, end = window.start.timestamp(), window.end.timestamp()
        return [sha for seconds, sha in self._history.commits if start < seconds <= end]

    def _person(self, name: str, email: str) -> Person:
        name, email = self._mailmap.resolve(name, email)
        return Person(name or email.partition("@")[0] or "Unknown", email.lower())

    def _change(self, sha: str) -> Change:
        commit = RawCommit.parse(self._read(sha))
        size = self._size(commit)
        author = self._person(commit.author.name, commit.author.email)
        return Change(
            sha=sha,
            kind="merge" if len(commit.parents) > 1 else "commit",
            author=author,
            co_authors=tuple(
                who for who in self._named(commit.body, "Co-authored-by") if who.email != author.email
            ),
            authored_at=commit.author.at,
            committed_at=commit.committer.at,
            title=commit.title,
            body=commit.body,
            additions=size.additions,
            deletions=size.deletions,
            files=size.files,
            paths=size.paths,
            reviews=len(self._named(commit.body, "Reviewed-by")),
        )

    def _named(self, body: str, key: str) -> tuple[Person, ...]:
        """The people of a trailer, each address once."""
        return each_once(self._person(name, email) for name, email in trailers(body, key))

    def _size(self, commit: RawCommit) -> Size:
        new = self._tree(commit.tree)
        old = self._tree(self._tree_of(commit.parents[0])) if commit.parents else None
        return _size(_diff(old, new))

    def _tree_of(self, sha: str) -> str:
        return RawCommit.parse(self._read(sha)).tree

    def _tree(self, sha: str) -> pygit2.Tree:
        return self._repository[sha].peel(pygit2.Tree)


@dataclass(frozen=True, slots=True)
class History:
    """What one walk over all commits leaves behind.

    Attributes:
        commits: Seconds since 1970 and sha, oldest first; the sha decides between commits of the same second.
        authors: How many commits have an author line and encoding, undecoded.
    """

    commits: list[tuple[int, str]]
    authors: Counter[tuple[bytes, bytes]]


def _walk(read: Callable[[str], bytes], head: str) -> History:
    commits, authors = [], Counter[tuple[bytes, bytes]]()
    seen, waiting = {head}, [head]
    while waiting:
        sha = waiting.pop()
        commit = Glance.at(read(sha))
        commits.append((commit.seconds, sha))
        authors[commit.author, commit.encoding] += 1
        new = [parent for parent in commit.parents if parent not in seen]
        seen.update(new)
        waiting.extend(new)
    return History(sorted(commits), authors)


def _usual(names: Counter[str]) -> str:
    """The name used most; the alphabet decides between equals."""
    return min(names, key=lambda name: (-names[name], name))


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _diff(old: pygit2.Tree | None, new: pygit2.Tree) -> pygit2.Diff:
    if old is None:
        diff = new.diff_to_tree(context_lines=0, swap=True)
    else:
        diff = old.diff_to_tree(new, context_lines=0)
    diff.find_similar(
        flags=DiffFind.FIND_RENAMES, rename_threshold=RENAME_THRESHOLD, rename_limit=RENAME_LIMIT
    )
    return diff


def _size(diff: pygit2.Diff) -> Size:
    # A file that becomes a link is deleted and added: two deltas, one file.
    paths = list(dict.fromkeys(delta.new_file.raw_path for delta in diff.deltas))
    shown = tuple(readable(path) for path in paths[:MAX_PATHS])
    return Size(diff.stats.insertions, diff.stats.deletions, len(paths), shown)


def _mailmap_bytes(repository: pygit2.Repository) -> bytes:
    """Of the working tree where there is one, else of HEAD, as git does. A person's own is not the team's."""
    if not repository.is_bare:
        file = Path(repository.workdir) / ".mailmap"
        # A link could point to any file of the machine; git does not follow it either.
        return file.read_bytes() if file.is_file() and not file.is_symlink() else b""
    try:
        blob = repository.revparse_single("HEAD:.mailmap")
    except KeyError:
        return b""
    return blob.data if isinstance(blob, pygit2.Blob) else b""


def _open(path: Path) -> pygit2.Repository:
    # Path.exists raises for what is too long or not to be looked into.
    if not os.path.exists(path):
        raise SourceError(
            f"There is nothing at {path}",
            cause="the path does not exist on the machine that reads it, or may not be looked into",
            remedy="Give the path of a git repository as the worker sees it.",
        )
    try:
        return pygit2.Repository(str(path), RepositoryOpenFlag.NO_SEARCH)
    except pygit2.GitError as error:
        raise _refusal(path, str(error)) from error


def _refusal(path: Path, reason: str) -> SourceError:
    # libgit2 tells the two apart by its message only. Its check of the owner is one switch for the process
    # and stays on: the path may be typed by a user, and who may be trusted is for the operator to say.
    if "not owned by" in reason:
        return SourceError(
            f"The repository at {path} is not read",
            cause="it belongs to another user of the machine",
            remedy=f"If it can be trusted, run as the worker's user: "
            f"git config --global --add safe.directory {quote(str(path.absolute()))}",
        )
    return SourceError(
        f"The directory {path} cannot be read as a git repository",
        cause=reason,
        remedy="Give the top directory of a working tree, or of a bare repository.",
    )


def _head(repository: pygit2.Repository, path: Path) -> str:
    if repository.is_shallow:
        raise SourceError(
            f"The repository at {path} is a shallow clone",
            cause="its older commits are missing, so people and sizes would be counted wrongly",
            remedy=f"Fetch them: git -C {quote(str(path))} fetch --unshallow",
        )
    if repository.head_is_unborn:
        branch = repository.lookup_reference("HEAD").target
        raise SourceError(
            f"The repository at {path} has no commits to read",
            cause=f"HEAD is at {branch}, which has none",
            remedy="Commit something, or check out a branch that has commits.",
        )
    with _reading(path):
        return str(repository.head.target)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Objects are missing from partial clones and damaged disks; pygit2 says so with three kinds of error."""
    try:
        yield
    except (pygit2.GitError, KeyError, ValueError, OSError) as error:
        raise SourceError(
            f"The repository at {path} is incomplete or damaged",
            cause=str(error),
            remedy=f"Look at it with: git -C {quote(str(path))} fsck. Clone a partial clone again in full.",
        ) from error
