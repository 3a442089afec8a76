"""The coordinator's checkpoint cycle of one attempt, from trigger to decision.

Rules: epochs are decided one after the other, *e+1* only after *e*. A failed try gives up neither its rows nor its
number: the same epoch is tried again under a new try number. A decision of unknown outcome is resolved before anything
else happens. Losing the race for a manifest's name means that somebody else decided, and stops this attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from .manifest import Kind
from .table import Machine, Row


class Phase(Enum):
    """Where the epoch in hand stands."""

    IDLE = "idle"
    COLLECTING = "collecting"
    DECIDING = "deciding"
    UNRESOLVED = "unresolved"
    ENDED = "ended"


@dataclass(frozen=True)
class Due:
    """A checkpoint is wanted: the interval has passed, or the job ends with `kind`."""

    kind: Kind = Kind.PERIODIC


@dataclass(frozen=True)
class Acknowledged:
    """All files of one worker for this try are durable."""

    worker: int
    epoch: int
    tries: int


@dataclass(frozen=True)
class TryFailed:
    """A worker could not finish its part, or the try ran out of time."""

    epoch: int
    tries: int
    reason: str


@dataclass(frozen=True)
class DecisionWon:
    """The manifest exists, and it is ours."""


@dataclass(frozen=True)
class DecisionLost:
    """The manifest's name was taken by somebody else."""


@dataclass(frozen=True)
class DecisionUnknown:
    """The store did not say whether the manifest was written."""

    reason: str


@dataclass(frozen=True)
class ResolveDue:
    """It is time to ask again about an unresolved decision."""


@dataclass(frozen=True)
class SendBarriers:
    """Tell every worker to close the epoch."""

    epoch: int
    tries: int
    kind: Kind


@dataclass(frozen=True)
class Abandon:
    """Tell every worker that this try is void."""

    epoch: int
    tries: int
    reason: str


@dataclass(frozen=True)
class Decide:
    """Write the manifest (again, with the same bytes, while unresolved)."""

    epoch: int
    tries: int
    kind: Kind


@dataclass(frozen=True)
class ResolveLater:
    """Send `ResolveDue` after a pause."""


@dataclass(frozen=True)
class Announce:
    """The epoch is decided: everybody commits it."""

    epoch: int
    tries: int
    kind: Kind


@dataclass(frozen=True)
class GiveUp:
    """Too many tries failed in a row: end the attempt, recover from the last manifest."""

    reason: str


@dataclass(frozen=True)
class StandDown:
    """Another attempt decided this epoch: end this one."""

    epoch: int


Instruction = SendBarriers | Abandon | Decide | ResolveLater | Announce | GiveUp | StandDown


class Checkpoints(Machine):
    """Drives epochs from `epoch` on over a fixed set of workers."""

    def __init__(self, epoch: int, workers: frozenset[int], tolerated: int) -> None:
        super().__init__(Phase.IDLE)
        self.epoch = epoch
        self.tries = 0
        self.kind = Kind.PERIODIC
        self.workers = workers
        self.waiting: frozenset[int] = frozenset()
        self.tolerated = tolerated
        self.failed_in_row = 0

    def _trigger(self, event: Due) -> tuple[Phase, list[Instruction]]:
        self.kind = event.kind
        self.tries += 1
        self.waiting = self.workers
        return Phase.COLLECTING, [SendBarriers(self.epoch, self.tries, self.kind)]

    def _current(self, event: Acknowledged | TryFailed) -> bool:
        return (event.epoch, event.tries) == (self.epoch, self.tries)

    def _acknowledge(self, event: Acknowledged) -> tuple[Phase, list[Instruction]]:
        if not self._current(event):
            return Phase.COLLECTING, []
        self.waiting -= {event.worker}
        if self.waiting:
            return Phase.COLLECTING, []
        return Phase.DECIDING, [Decide(self.epoch, self.tries, self.kind)]

    def _fail(self, event: TryFailed) -> tuple[Phase, list[Instruction]]:
        if not self._current(event):
            return Phase.COLLECTING, []
        self.failed_in_row += 1
        if self.failed_in_row > self.tolerated:
            reason = f"{self.failed_in_row} checkpoint tries failed in a row, the last one: {event.reason}"
            return Phase.ENDED, [GiveUp(reason)]
        return Phase.IDLE, [Abandon(self.epoch, self.tries, event.reason)]

    def _won(self, _event: DecisionWon) -> tuple[Phase, list[Instruction]]:
        announced = Announce(self.epoch, self.tries, self.kind)
        self.epoch += 1
        self.tries = 0
        self.failed_in_row = 0
        return Phase.IDLE, [announced]

    def _lost(self, _event: DecisionLost) -> tuple[Phase, list[Instruction]]:
        return Phase.ENDED, [StandDown(self.epoch)]

    def _unknown(self, event: DecisionUnknown) -> tuple[Phase, list[Instruction]]:
        self.failed_in_row += 1
        if self.failed_in_row > self.tolerated:
            return Phase.ENDED, [GiveUp(f"the decision of epoch {self.epoch} stayed unknown: {event.reason}")]
        return Phase.UNRESOLVED, [ResolveLater()]

    def _resolve(self, _event: ResolveDue) -> tuple[Phase, list[Instruction]]:
        return Phase.DECIDING, [Decide(self.epoch, self.tries, self.kind)]

    def _stay(self, _event: object) -> tuple[Enum, list[Instruction]]:
        return self.phase, []

    TABLE: ClassVar[Mapping[tuple[Enum, type], Row]] = {
        (Phase.IDLE, Due): Row(_trigger, (Phase.COLLECTING,)),
        (Phase.IDLE, Acknowledged): Row(_stay, (Phase.IDLE,)),
        (Phase.IDLE, TryFailed): Row(_stay, (Phase.IDLE,)),
        (Phase.COLLECTING, Acknowledged): Row(_acknowledge, (Phase.COLLECTING, Phase.DECIDING)),
        (Phase.COLLECTING, TryFailed): Row(_fail, (Phase.COLLECTING, Phase.IDLE, Phase.ENDED)),
        (Phase.DECIDING, DecisionWon): Row(_won, (Phase.IDLE,)),
        (Phase.DECIDING, DecisionLost): Row(_lost, (Phase.ENDED,)),
        (Phase.DECIDING, DecisionUnknown): Row(_unknown, (Phase.UNRESOLVED, Phase.ENDED)),
        (Phase.DECIDING, Acknowledged): Row(_stay, (Phase.DECIDING,)),
        (Phase.DECIDING, TryFailed): Row(_stay, (Phase.DECIDING,)),
        (Phase.UNRESOLVED, ResolveDue): Row(_resolve, (Phase.DECIDING,)),
        (Phase.UNRESOLVED, Acknowledged): Row(_stay, (Phase.UNRESOLVED,)),
        (Phase.UNRESOLVED, TryFailed): Row(_stay, (Phase.UNRESOLVED,)),
    }
