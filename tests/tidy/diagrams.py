"""Generates the diagrams of docs/protocol.md from the tables of the protocol's state machines.

    python -m tests.tidy.diagrams

What stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->` is replaced: the rules from the docstring of
the machine's module, and the machine's table as a Mermaid diagram. Everything else on the page is written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Final

from tidegate.engine.protocol.alignment import Alignment
from tidegate.engine.protocol.checkpoint import Checkpoints
from tidegate.engine.protocol.commit import CommitCycle
from tidegate.engine.protocol.recovery import Recovery
from tidegate.engine.protocol.table import Machine, diagram

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
MACHINES: Final[dict[str, type[Machine]]] = {
    machine.__name__: machine for machine in (Alignment, Checkpoints, CommitCycle, Recovery)
}
_PLACE: Final = re.compile(r"<!-- generated: (\w+) -->\n.*?<!-- end of \1 -->", re.DOTALL)


def picture(machine: type[Machine]) -> str:
    """Return the diagram of a machine, beginning at the phase of its table's first row."""
    first, *rest = diagram(machine).splitlines()
    start = next(iter(machine.TABLE))[0].value
    return "\n".join([first, f"    [*] --> {start}", *rest])


def rules(machine: type[Machine]) -> str:
    """Return the rules that the docstring of the machine's module states."""
    text = inspect.getdoc(sys.modules[machine.__module__]) or ""
    return text.partition("\n\n")[2].strip()


def page(text: str) -> str:
    """Return the page with everything generated made anew. Raises `KeyError` for a machine that does not exist."""

    def block(found: re.Match[str]) -> str:
        name = found[1]
        machine = MACHINES[name]
        drawn = f"```mermaid\n{picture(machine)}\n```"
        return f"<!-- generated: {name} -->\n{rules(machine)}\n\n{drawn}\n<!-- end of {name} -->"

    return _PLACE.sub(block, text)


def main() -> None:
    """Bring the page up to date."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
