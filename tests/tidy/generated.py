"""Generates those parts of the documentation that the code knows better: diagrams, options, tables of the catalog.

    python -m tests.tidy.generated

What stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->` is replaced. Everything else on these pages is
written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from tidegate.engine.options import OPTIONS
from tidegate.engine.protocol.alignment import Alignment
from tidegate.engine.protocol.checkpoint import Checkpoints
from tidegate.engine.protocol.commit import CommitCycle
from tidegate.engine.protocol.recovery import Recovery
from tidegate.engine.protocol.table import Machine, diagram
from tidegate.engine.settings import Settings
from tidegate.state.catalog_schema import TABLES

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
PAGES: Final = (DOCS / "protocol.md", DOCS / "operations.md", DOCS / "sql.md")
MACHINES: Final[tuple[type[Machine], ...]] = (Alignment, Checkpoints, CommitCycle, Recovery)
_PLACE: Final = re.compile(r"<!-- generated: (\w+) -->\n.*?<!-- end of \1 -->", re.DOTALL)


def picture(machine: type[Machine]) -> str:
    """Return the diagram of a machine, beginning at the phase of its table's first row."""
    first, *rest = diagram(machine).splitlines()
    start = next(iter(machine.TABLE))[0].value
    return "\n".join([first, f"    [*] --> {start}", *rest])


def rules_and_picture(machine: type[Machine]) -> str:
    """Return the rules that the docstring of the machine's module states, and its diagram."""
    text = inspect.getdoc(sys.modules[machine.__module__]) or ""
    rules = text.partition("\n\n")[2].strip()
    return f"{rules}\n\n```mermaid\n{picture(machine)}\n```"


def options() -> str:
    """Return the table of options with their defaults."""
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for option in OPTIONS.values():
        value = getattr(Settings(), option.field)
        if option.is_flag:
            shown = "off"
        elif option.metavar == "SIZE":
            shown = f"`{value >> 20}MiB`"
        elif option.metavar == "TIME":
            shown = f"`{value:g}s`"
        else:
            shown = f"`{value}`"
        lines.append(f"| `{option.spelled_on_command_line}` | {shown} | {option.help} |")
    return "\n".join(lines)


def tables() -> str:
    """Return the catalog's tables with their columns."""
    parts = []
    for table in TABLES[1:]:
        rows = [f"| `{column.name}` | {column.type} | {column.comment} |" for column in table.columns]
        parts.append(
            "\n".join([f"### {table.name}", "", table.comment, "", "| column | type | |", "|---|---|---|", *rows])
        )
    return "\n\n".join(parts)


GENERATED: Final[Mapping[str, Callable[[], str]]] = {
    **{machine.__name__: partial(rules_and_picture, machine) for machine in MACHINES},
    "options": options,
    "tables": tables,
}


def page(text: str) -> str:
    """Return a page with everything generated made anew. Raises `KeyError` for a name that nothing generates."""

    def block(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- generated: {name} -->\n{GENERATED[name]()}\n<!-- end of {name} -->"

    return _PLACE.sub(block, text)


def main() -> None:
    """Bring all pages up to date."""
    for path in PAGES:
        path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
