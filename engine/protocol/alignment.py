"""Barrier alignment of one operator with several inputs.

Rules: an input that delivered the barrier is held until all have; then the barrier passes once and every input is
released. A later barrier voids the one being aligned: its inputs are released and wait for the later one. A barrier
that is not later than the last one passed or abandoned is stale and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from ..elements import Barrier
from .table import Machine, Row


class Phase(Enum):
    """Whether some inputs wait for others."""

    OPEN = "open"
    ALIGNING = "aligning"


@dataclass(frozen=True)
class Arrived:
    """A barrier came in on one input."""

    channel: int
    barrier: Barrier


@dataclass(frozen=True)
class Abandoned:
    """The coordinator gave up this try."""

    barrier: Barrier


@dataclass(frozen=True)
class Pass:
    """All inputs delivered the barrier: hand over and send it on."""

    barrier: Barrier


class Alignment(Machine):
    """Aligns `channels` inputs. `held` are the inputs that must not be read now."""

    def __init__(self, channels: int) -> None:
        super().__init__(Phase.OPEN)
        self.channels = channels
        self.held: frozenset[int] = frozenset()
        self.current: Barrier | None = None
        self.floor: Barrier | None = None

    def _stale(self, barrier: Barrier) -> bool:
        return self.floor is not None and barrier <= self.floor

    def _start(self, event: Arrived) -> tuple[Phase, list[Pass]]:
        if self._stale(event.barrier):
            return Phase.OPEN, []
        self.current = event.barrier
        self.held = frozenset()
        return self._hold(event)

    def _hold(self, event: Arrived) -> tuple[Phase, list[Pass]]:
        self.held |= {event.channel}
        if len(self.held) < self.channels:
            return Phase.ALIGNING, []
        self.floor, self.current, self.held = event.barrier, None, frozenset()
        return Phase.OPEN, [Pass(event.barrier)]

    def _another(self, event: Arrived) -> tuple[Phase, list[Pass]]:
        if self.current is None or event.barrier < self.current or self._stale(event.barrier):
            return Phase.ALIGNING, []
        return self._hold(event) if event.barrier == self.current else self._start(event)

    def _abandon(self, event: Abandoned) -> tuple[Phase, list[Pass]]:
        if self.floor is None or event.barrier > self.floor:
            self.floor = event.barrier
        if self.current is not None and self.current <= event.barrier:
            self.current, self.held = None, frozenset()
        return (Phase.OPEN if self.current is None else Phase.ALIGNING), []

    TABLE: ClassVar[Mapping[tuple[Enum, type], Row]] = {
        (Phase.OPEN, Arrived): Row(_start, (Phase.OPEN, Phase.ALIGNING)),
        (Phase.OPEN, Abandoned): Row(_abandon, (Phase.OPEN,)),
        (Phase.ALIGNING, Arrived): Row(_another, (Phase.OPEN, Phase.ALIGNING)),
        (Phase.ALIGNING, Abandoned): Row(_abandon, (Phase.OPEN, Phase.ALIGNING)),
    }
