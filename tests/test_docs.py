"""The documentation says what happens: every block of code in it is run, and every link leads somewhere.

The project that the tutorial builds is built once, from the tutorial's own blocks; each page runs in a
copy of it, in processes of its own. They are forked (``tests.processes``), but for those of the tutorial.
What a block is, its first line says:

* ``python`` beginning ``# papers/models.py`` is a file, ``# at the end of papers/models.py`` adds to one;
* ``python`` with prompts is a session, and its output is compared; other ``python`` is executed; blocks of a
  page share a namespace, until a file is written: then the interpreter starts anew;
* ``console`` are commands, and the output below them is compared where there is one;
* ``sql`` is executed, ``toml`` is parsed, ``mermaid`` is compared with the drawing of the reference app.

Comments that a reader does not see steer the next block: ``docs: background``, ``docs: fails``,
``docs: eventually``; ``docs: prelude`` holds code of its own, and ``docs: inline`` runs stages where they are
dispatched, in place of a worker.
"""

import doctest
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
from django.core.management import BaseCommand

import statemachine
from tests import processes
from tests.model import spin, tlc

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TUTORIAL = "docs/tutorial.md"
PAGES = sorted(str(page.relative_to(ROOT)) for page in [ROOT / "README.md", *DOCS.rglob("*.md")])

NOT_RUN = {
    "pip install onward": "the tests run where the package is installed already",
    'pip install "onward[postgresql,redis]"': "as above",
    'pip install ".[demo]" && python -m integration.demo': "the tests of the demo play it",
    'pip install "nox[uv]" && nox -s tests': "these are the tests",
    "nox -s chaos -- --seconds 60 --broker redis --json storm.json": "a storm takes a minute",
    "nox -s bench -- verify --json bench.json": "what it measures are minutes on an idle machine",
}
"""Commands that are not run, each with the reason."""

INLINE = """
from django.utils.module_loading import autodiscover_modules
from integration.testing import inline_stages
autodiscover_modules("tasks")
inline = inline_stages()
inline.__enter__()
"""

PATIENCE = 60


@dataclass(frozen=True)
class Block:
    """A block of code, or a comment that steers the next one."""

    page: str
    line: int
    language: str
    text: str
    orders: frozenset[str] = frozenset()

    def __str__(self):
        return f"{self.page}:{self.line}"

    @property
    def file(self):
        """The file that it is, or adds to."""
        found = re.match(r"# (at the end of )?([\w./-]+\.py)\n", self.text)
        return found and found[2] if self.language == "python" else None

    @property
    def appends(self):
        return self.text.startswith("# at the end of ")

    @property
    def commands(self):
        """Each command with the output that is shown below it."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)
        assert not parts[0].strip(), f"{self} begins with no command"
        return [part.partition("\n")[::2] for part in parts[1:]]


_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^ *```$|^<!-- docs: (?P<order>.*?)-->$",
    re.MULTILINE | re.DOTALL,
)


def blocks(page):
    source, orders, found = (ROOT / page).read_text(encoding="utf-8"), set(), []
    for match in _BLOCK.finditer(source):
        line = source.count("\n", 0, match.start()) + 1
        order = match["order"]
        if order is None:
            text = textwrap.dedent(match["text"])
            found.append(Block(page, line, match["language"], text, frozenset(orders)))
            orders.clear()
        elif order.strip() == "inline":
            found.append(Block(page, line, "prelude", INLINE))
        elif order.startswith("prelude\n"):
            found.append(Block(page, line, "prelude", order.removeprefix("prelude\n")))
        else:
            orders.add(order.strip())
    assert source.count("```") == 2 * sum(block.language != "prelude" for block in found), page
    assert not orders, f"{page} ends with orders for no block"
    return found


# Running a page

_INTERPRETER = """
import doctest, io, json, sys, traceback
import django
django.setup()
names, answers, sys.stdout = {"__name__": "page"}, sys.stdout, sys.stderr
runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)

def session(text):
    told = io.StringIO()
    test = doctest.DocTestParser().get_doctest(text, names, "page", None, None)
    runner.run(test, out=told.write, clear_globs=False)
    names.update(test.globs)
    return told.getvalue()

def execute(text):
    exec(compile(text, "page", "exec"), names)
    return ""

def sql(text):
    from django.db import connection
    with connection.cursor() as cursor:
        for statement in text.split(";"):
            if statement.strip():
                cursor.execute(statement)
    return ""

for line in sys.stdin:
    kind, text = json.loads(line)
    try:
        answer = {"session": session, "execute": execute, "sql": sql}[kind](text)
    except BaseException:
        answer = traceback.format_exc()
    print(json.dumps(answer), file=answers, flush=True)
"""


class Runner:
    """Runs the blocks of a page in a project, in the order in which they stand."""

    def __init__(self, folder, *, python=None):
        self.folder, self.background, self._interpreter = folder, [], None
        self.python = python or processes.python()
        programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
        sources = str(Path(statemachine.__file__).parents[1])
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "DATABASE_URL"},
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "PYTHONPATH": os.pathsep.join([str(folder), sources]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": os.pathsep.join(programs if python else [processes.folder_for_path(), *programs]),
            "NO_COLOR": "1",
            "DJANGO_COLORS": "nocolor",
            "TLA2TOOLS": str(tlc.JAR),
        }

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.restart()
        for process in self.background:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def run(self, block):
        if block.file:
            self.write(block)
        elif block.language == "python" and block.text.lstrip().startswith(">>>"):
            self.ask("session", block)
        elif block.language in ("python", "prelude"):
            self.ask("execute", block)
        elif block.language == "sql":
            self.ask("sql", block)
        elif block.language in ("console", "sh"):
            self.command(block)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "mermaid":
            from integration.onboarding.machine import onboarding

            assert block.text == onboarding.draw("mermaid"), f"{block} is no longer what draw() gives"
        else:
            pytest.fail(f"{block}: nobody knows how to run {block.language!r}")

    def write(self, block):
        self.restart()
        file = self.folder / block.file
        file.parent.mkdir(parents=True, exist_ok=True)
        text = block.text
        if block.appends:
            text = file.read_text() + "\n" + text.partition("\n")[2]
        file.write_text(text)

    def ask(self, kind, block):
        text = block.text if kind != "execute" else "\n" * block.line + block.text
        deadline = time.monotonic() + PATIENCE
        while answer := self._asked(kind, text):
            if "eventually" not in block.orders or time.monotonic() > deadline:
                pytest.fail(f"{block}\n{answer}{self.logs()}")
            time.sleep(0.2)

    def _asked(self, kind, text):
        if self._interpreter is None:
            self._interpreter = subprocess.Popen(
                [*self.python, "-c", _INTERPRETER],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        print(json.dumps([kind, text]), file=self._interpreter.stdin, flush=True)
        return json.loads(self._interpreter.stdout.readline() or '"the interpreter died"')

    def start(self, command):
        """Leave a command running until the page ends."""
        with (self.folder / f"background-{len(self.background)}.log").open("w") as log:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {command}"], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )
        # A process that was killed keeps its id until somebody has waited for it.
        threading.Thread(target=process.wait, daemon=True).start()
        self.background.append(process)

    def logs(self):
        """What the processes in the background said last."""
        return "".join(
            f"\n{log.name}: {log.read_text()[-2000:]}" for log in self.folder.glob("background-*.log")
        )

    def restart(self):
        """End the interpreter: what it has imported is no longer what stands in the files."""
        if self._interpreter is not None:
            self._interpreter.stdin.close()
            self._interpreter.wait(PATIENCE)
            self._interpreter.stdout.close()
            self._interpreter = None

    def command(self, block):
        commands = block.commands if block.language == "console" else [(block.text.strip(), "")]
        for command, expected in commands:
            if command in NOT_RUN or is_without_its_program(command):
                continue
            if "background" in block.orders:
                self.start(command)
                continue
            done = subprocess.run(
                command,
                shell=True,
                cwd=self.folder,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            said = f"{block}\n$ {command}\n{done.stdout}{done.stderr}"
            assert (done.returncode != 0) is ("fails" in block.orders), said
            if expected.strip():
                got = done.stdout + (done.stderr if "fails" in block.orders else "")
                same = doctest.OutputChecker().check_output(
                    expected.rstrip() + "\n", got.rstrip() + "\n", doctest.ELLIPSIS
                )
                assert same, f"{said}\nbut the page shows\n{expected}"


def is_without_its_program(command):
    missing = {
        "spin ": spin.MISSING and "ONWARD_EXPECT_SPIN" not in os.environ,
        "java ": tlc.MISSING and "ONWARD_EXPECT_TLC" not in os.environ,
    }
    return any(command.startswith(program) and is_missing for program, is_missing in missing.items())


def is_setup(block):
    """Whether the project of the tutorial is made of this block."""
    return bool(block.file) or (block.language == "console" and not block.orders and is_making(block))


def is_making(block):
    return all(
        re.match(r"django-admin|python manage.py (startapp|makemigrations|migrate)", c)
        for c, _ in block.commands
    )


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """The project of the tutorial, with empty tables."""
    folder = tmp_path_factory.mktemp("tutorial")
    with Runner(folder) as runner:
        for block in blocks(TUTORIAL):
            if is_setup(block):
                runner.run(block)
    with (folder / "mysite/settings.py").open("a") as settings:
        settings.write("STATEMACHINE_GRACE = timedelta(hours=1)  # nothing is overdue for a slow machine\n")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page != TUTORIAL])
def test_every_block_of_a_page_does_what_the_page_says(page, project, tmp_path):
    with Runner(shutil.copytree(project, tmp_path / "project")) as runner:
        for block in blocks(page):
            runner.run(block)


@pytest.mark.slow
def test_the_tutorial_leads_from_nothing_to_a_pipeline_that_survives_its_worker(tmp_path):
    with Runner(tmp_path, python=[sys.executable]) as runner:
        for block in blocks(TUTORIAL):
            runner.run(block)


def test_what_is_not_run_is_still_in_the_documentation():
    shown = {
        command
        for page in PAGES
        for block in blocks(page)
        if block.language in ("console", "sh")
        for command in (
            [c for c, _ in block.commands] if block.language == "console" else [block.text.strip()]
        )
    }
    assert set(NOT_RUN) <= shown


# What is listed is complete


def words(page):
    """Everything that the page sets as code."""
    return set(re.findall(r"`([^`\n]+)`", (ROOT / page).read_text(encoding="utf-8")))


def test_every_setting_is_in_the_reference():
    from integration.conf import Conf

    settings = {f"STATEMACHINE_{field.name.upper()}" for field in fields(Conf)}
    assert {
        word for word in words("docs/reference/settings.md") if word.startswith("STATEMACHINE_")
    } == settings


def test_every_column_of_an_entry_is_in_the_reference():
    from integration.entries import Entry

    assert {field.name for field in Entry._meta.fields} <= words("docs/reference/entries.md")


def test_every_property_is_explained_and_has_its_check():
    from integration.checks import NUMBERS
    from statemachine.verify import PROPERTIES

    assert set(PROPERTIES) <= words("docs/explanation/what-verify-proves.md")
    page = (ROOT / "docs/reference/checks.md").read_text()
    for name, number in NUMBERS.items():
        assert re.search(rf"`statemachine\.[EW]{number}`.* \| `{name}` \|", page), name


def test_every_error_is_in_the_reference():
    errors = {
        name
        for name in statemachine.__all__
        if isinstance(value := getattr(statemachine, name), type) and issubclass(value, Exception)
    }
    assert errors <= words("docs/reference/errors.md")


def test_every_verb_and_option_of_the_commands_is_in_the_reference():
    from django.core.management import load_command_class

    parser = load_command_class("integration", "statemachine").create_parser("manage.py", "statemachine")
    page = (ROOT / "docs/reference/command.md").read_text()
    django_own = {
        option for action in BaseCommand().create_parser("", "")._actions for option in action.option_strings
    }
    verbs = next(action for action in parser._actions if action.dest == "verb").choices
    for verb, of_verb in verbs.items():
        assert f"### {verb}\n" in page
        options = {o for action in of_verb._actions for o in action.option_strings if o.startswith("--")}
        assert {option for option in options - django_own if option not in page} == set(), verb


def test_every_key_of_an_exported_graph_is_in_the_reference():
    from statemachine.export.jsonformat import FIELDS

    page = words("docs/reference/command.md")
    assert {key for keys in FIELDS.values() for key in keys if key not in page} == set()


def test_every_mistake_is_shown_by_the_tests_that_the_page_names():
    named = {word for word in words("docs/explanation/why-not-a-chain.md") if word.startswith("test_")}
    written = (ROOT / "tests/integration/onboarding/test_hand_written.py").read_text()
    assert len(named) == 10
    assert {name for name in named if f"def {name}(" not in written} == set()


# Links

_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def prose(page):
    source = (ROOT / page).read_text(encoding="utf-8")
    return re.sub(r"`[^`\n]*`", "code", _BLOCK.sub("", source))


def anchors(page):
    """The anchors of the headings, as GitHub makes them."""
    source = _BLOCK.sub("", (ROOT / page).read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", source, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in _LINK.findall(prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), f"{page} links to {target}"
        if anchor:
            assert anchor in anchors(file.resolve().relative_to(ROOT)), f"{page} links to {target}"


def test_every_page_can_be_found_from_the_index():
    index = prose("docs/index.md")
    linked = {(DOCS / target.partition("#")[0]).resolve() for target in _LINK.findall(index)}
    assert {(ROOT / page).resolve() for page in PAGES} - linked == {DOCS / "index.md"}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_one_sentence_on_a_line(page):
    for number, line in enumerate(prose(page).splitlines(), 1):
        if not line.startswith("|"):
            assert not re.search(r"[a-z)`][.!?] [A-Z]", line), f"{page}, around line {number}: {line}"
