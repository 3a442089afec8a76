"""State machines as tables: a transition that is not in the table raises and changes nothing.

A machine declares its phases, and for every (phase, event type) one row: the method that handles it and the phases it
may lead to. The table is the program; `diagram` turns it into the picture in the documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, NamedTuple

from ..errors import ProtocolError


class Row(NamedTuple):
    """One row of a table: the handler and every phase that it may lead to."""

    handler: Callable[[Any, Any], tuple[Enum, list[Any]]]
    to: tuple[Enum, ...]


class Machine:
    """Base of the pure machines: `on(event)` looks the row up, runs it and returns its instructions."""

    TABLE: ClassVar[Mapping[tuple[Enum, type], Row]]

    def __init__(self, phase: Enum) -> None:
        self.phase: Enum = phase

    def on(self, event: object) -> list[Any]:
        """Handle one event. Raises `ProtocolError` for an event that this phase does not know."""
        row = self.TABLE.get((self.phase, type(event)))
        if row is None:
            raise ProtocolError(f"{type(self).__name__} in phase {self.phase.value!r} does not know {event!r}")
        phase, instructions = row.handler(self, event)
        if phase not in row.to:
            raise ProtocolError(
                f"{type(self).__name__} left its table: {self.phase.value!r} -> {phase.value!r} on {event!r}"
            )
        self.phase = phase
        return instructions


def diagram(machine: type[Machine]) -> str:
    """Return the machine's table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    for (phase, event), row in machine.TABLE.items():
        lines += [f"    {phase.value} --> {to.value}: {event.__name__}" for to in row.to]
    return "\n".join(lines)
