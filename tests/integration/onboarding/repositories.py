"""Git repositories made for tests, the same bytes on every run, and what git itself says of them."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

NEWEST = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)

ADA = b"Ada Lovelace <ada@example.org>"
ADA_AT_HOME = b"ada <Ada@Home.example>"
BOB = b"Bob <bob@example.org>"
CLARA = b"Clara <clara@example.org>"

MAILMAP = b"""\
# Everybody once.
Ada King <ada@example.org>
Ada King <ADA@example.org> <ada@HOME.example>
Robert <robert@example.org> bob <bob@example.org>

this line makes no sense
"""


class Repository:
    """A repository at a path, written with the git program and no configuration but its own."""

    def __init__(self, path: Path, *options: str) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main", *options)

    def git(
        self, *arguments: str | bytes, stdin: bytes = b"", env: Mapping[str, bytes] | None = None
    ) -> bytes:
        """What the command prints; a failure raises."""
        command = ["git", "-c", "core.autocrlf=false", "-c", "gc.auto=0", *arguments]
        done = subprocess.run(
            command, cwd=self.path, env=_isolated(env or {}), input=stdin, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout

    def lines(self, *arguments: str) -> list[str]:
        return self.git(*arguments).decode(errors="replace").splitlines()

    def write(self, files: Mapping[str | bytes, bytes]) -> None:
        for name, content in files.items():
            file = Path(os.fsdecode(os.path.join(os.fsencode(self.path), os.fsencode(name))))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def commit(
        self,
        message: str | bytes,
        at: datetime = NEWEST,
        *,
        author: bytes = ADA,
        files: Mapping[str | bytes, bytes] | None = None,
        written_at: datetime | None = None,
        zone: str = "+0000",
        encoding: str = "UTF-8",
    ) -> str:
        """Commit everything in the working tree; the sha."""
        self.write(files or {})
        self.git("add", "-A")
        text = message if isinstance(message, bytes) else message.encode()
        env = signature_env(author, at, written_at or at, zone)
        self.git(
            "-c", f"i18n.commitEncoding={encoding}", "commit", "-q", "--allow-empty",
            "--allow-empty-message", "--cleanup=verbatim", "-F", "-", stdin=text, env=env,
        )  # fmt: skip
        return self.head()

    def branch(self, name: str, start: str = "HEAD") -> None:
        self.git("checkout", "-q", "-b", name, start)

    def merge(self, *branches: str, at: datetime, edit: Mapping[str | bytes, bytes] | None = None) -> str:
        """Merge into main, never as a fast-forward; with `edit` it is evil: it changes what no side did."""
        self.git("checkout", "-q", "main")
        env = signature_env(ADA, at, at, "+0100")
        self.git("merge", "-q", "--no-ff", "--no-commit", *branches, env=env)
        return self.commit(f"Merge branch '{branches[0]}'", at, zone="+0100", files=edit)

    def raw_commit(self, headers: bytes, message: bytes, *parents: str) -> str:
        """A commit object with any bytes for its author and committer lines, at HEAD."""
        tree = self.git("write-tree").strip()
        lines = [b"tree " + tree, *(b"parent " + parent.encode() for parent in parents), headers]
        data = b"\n".join(lines) + b"\n\n" + message
        sha = self.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=data)
        self.git("update-ref", "HEAD", sha.strip().decode())
        return sha.strip().decode()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD").strip().decode()


def signature_env(author: bytes, at: datetime, written_at: datetime, zone: str) -> dict[str, bytes]:
    name, _, email = author.rstrip(b">").partition(b" <")
    return {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": email,
        "GIT_AUTHOR_DATE": f"{int(written_at.timestamp())} {zone}".encode(),
        "GIT_COMMITTER_DATE": f"{int(at.timestamp())} {zone}".encode(),
    }


def _isolated(extra: Mapping[str, bytes]) -> dict[bytes, bytes]:
    """No configuration of the machine or its user, and no committer but one."""
    env = {
        "PATH": os.environ["PATH"].encode(),
        "HOME": b"/nonexistent",
        "LC_ALL": b"C.UTF-8",
        "GIT_CONFIG_GLOBAL": os.devnull.encode(),
        "GIT_CONFIG_SYSTEM": os.devnull.encode(),
        "GIT_CONFIG_NOSYSTEM": b"1",
        "GIT_COMMITTER_NAME": b"Committer",
        "GIT_COMMITTER_EMAIL": b"committer@example.org",
        **extra,
    }
    return {key.encode(): value for key, value in env.items()}


def days(count: float) -> datetime:
    """So many days before the newest commit."""
    return NEWEST - timedelta(days=count)


def grown(path: Path) -> Repository:
    """A history of 125 days with everything that a real one has; the newest commit is at `NEWEST`."""
    repository = Repository(path)
    _before_the_windows(repository)
    _in_the_second_phase(repository)
    _in_the_first_phase(repository)
    return repository


def _before_the_windows(repository: Repository) -> None:
    text = b"".join(b"line %d\n" % n for n in range(50))
    repository.commit(
        "Initial commit", days(125), files={"a.txt": text, "b/deep.txt": text, "blob.bin": bytes(range(256))}
    )
    repository.commit("fix: by another name", days(100), author=BOB, files={"a.txt": text + b"more\n"})
    repository.commit("just outside of phase 2", days(91), author=CLARA, files={"c.txt": b"c\n"})


def _in_the_second_phase(repository: Repository) -> None:
    repository.commit("first of phase 2", days(91) + SECOND, author=ADA_AT_HOME, files={"c.txt": b"d\n"})
    repository.git("mv", "b/deep.txt", "moved.txt")
    repository.commit("Rename only", days(60), author=BOB, zone="-0330")
    repository.git("mv", "a.txt", "renamed.txt")
    with (repository.path / "renamed.txt").open("ab") as file:
        file.write(b"and changed\n")
    repository.commit("Rename and change", days(59), written_at=days(70))
    repository.commit(
        "Größe geändert\n\nà la mode".encode("latin-1"),
        days(45),
        author="José <jose@example.org>".encode("latin-1"),
        encoding="ISO-8859-1",
        files={"blob.bin": bytes(reversed(range(256)))},
    )
    repository.commit("a clock that runs late", days(50), author=CLARA, files={"c.txt": b"e\n"})
    bad = b"Bad \xff\xfe <bad\xff@example.org> %d +0000" % days(40).timestamp()
    # `git commit` would mend the bytes; older versions and other programs did not.
    repository.raw_commit(
        b"author " + bad + b"\ncommitter " + bad, b"bad \xff title\n\nbad \xfe body", repository.head()
    )
    repository.commit("last of phase 2", days(31), files={"d": b"e\n"})


def _in_the_first_phase(repository: Repository) -> None:
    repository.commit("first of phase 1", days(31) + SECOND, author=BOB, files={"d": b"f\n"})
    repository.branch("feature/zones")
    repository.commit("east", days(25), author=CLARA, zone="+0545", files={"east.txt": b"1\n2\n3\n"})
    repository.commit("west", days(24), author=BOB, zone="-0800", files={"west.txt": b"1\n2\n"})
    repository.git("checkout", "-q", "main")
    repository.commit("meanwhile", days(23), files={"main.txt": b"1\n"})
    repository.merge("feature/zones", at=days(20))
    repository.branch("evil")
    repository.commit("soon merged", days(15), author=CLARA, files={"evil.txt": b"1\n"})
    repository.merge("evil", at=days(10), edit={"evil.txt": b"1\n2\n3\n", "main.txt": b"2\n"})
    repository.branch("left", "main")
    repository.commit("left", days(9), author=BOB, files={"left.txt": b"l\n"})
    repository.branch("right", "main")
    repository.commit("right", days(9), author=CLARA, files={"right.txt": b"r\n"})
    repository.merge("left", "right", at=days(8))
    repository.commit(CO_AUTHORED, days(5), author=BOB, files={"together.txt": b"t\n"})
    (repository.path / "c.txt").unlink()
    (repository.path / "c.txt").symlink_to("d")
    repository.commit("A file becomes a link", days(4))
    repository.commit("Add a mailmap", days(3), files={".mailmap": MAILMAP})
    repository.commit("an odd path", days(2), files={b"caf\xe9.txt": b"x\n", "sp ace\t.txt": b"y\n"})
    repository.commit("newest", NEWEST, author=ADA_AT_HOME, zone="+1300", files={"d": b"g\n"})


CO_AUTHORED = b"""feat: work together

In pairs.

Reviewed-by: Clara <clara@example.org>
Co-authored-by: ada <ADA@home.example>
co-authored-by: Clara <clara@example.org>
Co-authored-by: Clara again <clara@example.org>
Co-authored-by: Bob <bob@example.org>
Co-authored-by: nobody
Co-authored-by: No Address <>
Co-authored-by: <broken@
"""


def shortlog(repository: Repository) -> dict[str, int]:
    """Commits by address in lower case, as ``git shortlog -sne HEAD`` counts them."""
    people: Counter[str] = Counter()
    for line in repository.lines("shortlog", "-sne", "HEAD"):
        count, _, who = line.partition("\t")
        people[who.rpartition("<")[2].rstrip(">").lower()] += int(count)
    return dict(people)


def shas_between(repository: Repository, start: datetime, end: datetime) -> set[str]:
    """Of the commits after `start` and up to `end`, as ``git log`` selects them."""
    # git's --since includes the second that it names.
    since = f"--since-as-filter={(start + SECOND).isoformat()}"
    return set(repository.lines("log", "--format=%H", since, f"--until={end.isoformat()}", "HEAD"))


def numstat(repository: Repository, sha: str) -> tuple[int, int, int]:
    """Additions, deletions and files against the first parent, as ``git log --numstat`` counts them."""
    rows = repository.lines(
        "log", "-1", "--format=", "--numstat", "-M", "-m", "--first-parent", "--root", sha
    )
    pairs = [row.split("\t")[:2] for row in rows]
    added, deleted = (sum(int(pair[n]) for pair in pairs if pair[n] != "-") for n in (0, 1))
    return added, deleted, len(pairs)
