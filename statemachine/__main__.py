"""``python -m statemachine``: verify, draw or export a machine from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import reduce
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from statemachine import diagrams, export
from statemachine.diagrams.files import as_file, as_text, format_of
from statemachine.diagrams.kept import check, keep
from statemachine.errors import DeclarationError, StateMachineError
from statemachine.graph import Graph
from statemachine.verify import verify
from statemachine.verify.places import Place, place_of
from statemachine.verify.sarif import Verified, as_sarif

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 when it did what was asked, 1 when a property does not hold or a drawing shows something else, 2
        when it could not be asked.
    """
    options = _parser().parse_args(arguments)
    # As Python does for a script, and not for an installed command.
    sys.path.insert(0, str(Path.cwd()))
    try:
        return int(options.run(options))
    except (StateMachineError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m statemachine", description="Verify, draw or export a machine."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    verifying = commands.add_parser("verify", help="prove that no run gets stuck, or show how one does")
    verifying.set_defaults(run=_verify)
    verifying.add_argument("--format", choices=("text", "json", "sarif"), default="text")
    verifying.add_argument(
        "--property",
        action="append",
        metavar="NAME|FORMULA",
        help="check this alone, such as 'AG(dashboard -> AG dashboard)'; may be repeated",
    )
    drawing = commands.add_parser("draw", help="draw the states and the edges between them")
    drawing.set_defaults(run=_draw)
    drawing.add_argument(
        "--format", choices=tuple(diagrams.FORMATS), help="by the suffix of FILE, or mermaid"
    )
    place = drawing.add_mutually_exclusive_group()
    place.add_argument("--output", type=Path, metavar="FILE", help="write there, and not to the terminal")
    place.add_argument("--check", type=Path, metavar="FILE", help="fail when FILE shows something else")
    exporting = commands.add_parser("export", help="write the states and edges for other programs")
    exporting.set_defaults(run=_export)
    exporting.add_argument("--format", choices=tuple(export.FORMATS), help="by the suffix of FILE, or json")
    exporting.add_argument("--output", type=Path, metavar="FILE", help="write there, and not to the terminal")
    for command in (verifying, drawing, exporting):
        command.add_argument(
            "machine",
            metavar="module:machine",
            help="such as papers.machine:review, or an exported FILE.json or FILE.scxml",
        )
    return parser


def _verify(options: argparse.Namespace) -> int:
    report = verify(_graph(options.machine), options.property)
    if options.format == "sarif":
        verified = Verified(report=report, name=report.name, place=_place(options.machine))
        print(json.dumps(as_sarif([verified]), indent=2))
    else:
        print(json.dumps(report.as_dict(), indent=2) if options.format == "json" else report)
    return 0 if report.ok else 1


def _draw(options: argparse.Namespace) -> int:
    graph = _graph(options.machine)
    if options.check is not None:
        comparison = check(graph, options.check, options.format or format_of(options.check))
        print(comparison)
        return 0 if comparison.ok else 1
    format = options.format or format_of(options.output)
    drawing = keep(diagrams.draw(graph, format), graph, format)
    if options.output is None:
        print(as_text(drawing), end="")
    else:
        options.output.write_bytes(as_file(drawing, format, options.output))
    return 0


def _export(options: argparse.Namespace) -> int:
    text = export.export(_graph(options.machine), options.format or export.format_of(options.output))
    if options.output is None:
        print(text, end="")
    else:
        options.output.write_bytes(text.encode())
    return 0


def _graph(machine: str) -> Graph:
    """Import what ``module:attribute`` names, or read what was exported.

    Raises:
        DeclarationError: There is no such module or attribute, or it is no machine.
        OSError: The file cannot be read.
    """
    if machine.endswith(export.READABLE):
        return export.read(Path(machine))
    module, colon, attribute = machine.partition(":")
    if not (module and colon and attribute):
        raise DeclarationError(
            f"{machine!r} names no machine.",
            hint="Write module:machine, such as papers.machine:review, or name an exported FILE.json or "
            "FILE.scxml.",
        )
    found = _attribute(_imported(module), attribute)
    graph = found if isinstance(found, Graph) else getattr(found, "graph", None)
    if not isinstance(graph, Graph):
        raise DeclarationError(
            f"{machine!r} is no machine but of type {type(found).__name__!r}.",
            hint="Name a StateMachine or a Graph.",
        )
    return graph


def _place(machine: str) -> Place | None:
    """Where a machine is declared that could be read: the exported file, or at least the module named."""
    if machine.endswith(export.READABLE):
        return Place(file=Path(machine))
    name, _, attribute = machine.partition(":")
    module = _imported(name)
    place = place_of(_attribute(module, attribute))
    return Place(file=Path(module.__file__)) if place is None and module.__file__ else place


def _imported(module: str) -> ModuleType:
    try:
        return import_module(module)
    except StateMachineError:
        raise
    except (Exception, SystemExit) as error:
        # The module is the user's: it may raise anything, or exit like a script, and look like success.
        raise DeclarationError(
            f"The module {module!r} cannot be imported: {type(error).__name__}: {str(error).rstrip('.')}.",
            hint="Run this where `import` finds it; a module that needs Django is verified with manage.py.",
        ) from error


def _attribute(module: ModuleType, path: str) -> Any:
    try:
        return reduce(getattr, path.split("."), module)
    except AttributeError as error:
        machines = [name for name, value in vars(module).items() if _is_machine(value)]
        raise DeclarationError(
            f"The module {module.__name__!r} has no {path!r}.",
            hint=f"Its machines are: {', '.join(machines) or 'none'}.",
        ) from error


def _is_machine(value: object) -> bool:
    # Asked of the type: a machine that is declared wrongly raises when its graph is read.
    return isinstance(value, Graph) or hasattr(type(value), "graph")


if __name__ == "__main__":
    sys.exit(main())
