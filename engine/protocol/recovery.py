"""Recovery of a job: from a new attempt number to the moment when sources may read.

Rules: the attempt number is taken before anything is read. Every transactional id that the newest manifest names is
fenced and its ledger read before the newest manifest is listed again; if it moved, or a newer attempt exists, nothing
that was read may be used. Pending output is committed before the first record is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from .table import Machine, Row


class Phase(Enum):
    """How far recovery has come."""

    NEW = "new"
    CLAIMING = "claiming"
    READING = "reading"
    IDENTIFYING = "identifying"
    FENCING = "fencing"
    VERIFYING = "verifying"
    COMMITTING = "committing"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True)
class Begin:
    """`highest` is the highest attempt number taken so far (0 = none)."""

    highest: int


@dataclass(frozen=True)
class Claimed:
    """The attempt number is ours."""


@dataclass(frozen=True)
class ClaimLost:
    """Somebody else took the attempt number."""


@dataclass(frozen=True)
class NewestRead:
    """The newest manifest's epoch; None when the job has never started."""

    epoch: int | None


@dataclass(frozen=True)
class IdentityWritten:
    """Manifest 0 exists now; `ours` tells who wrote it."""

    ours: bool


@dataclass(frozen=True)
class WorkerFenced:
    """A worker has fenced its ids and read the ledger for them."""

    worker: int


@dataclass(frozen=True)
class Relisted:
    """The newest epoch and the highest attempt number, listed after all workers were done fencing and reading."""

    epoch: int
    highest: int


@dataclass(frozen=True)
class PendingCommitted:
    """All output decided so far is known to be committed."""


@dataclass(frozen=True)
class ClaimAttempt:
    """Take this attempt number with create-if-absent."""

    attempt: int


@dataclass(frozen=True)
class ReadNewest:
    """Read the newest manifest."""


@dataclass(frozen=True)
class WriteIdentity:
    """Resolve start and end positions and write manifest 0."""


@dataclass(frozen=True)
class StartWorkers:
    """Start workers from the newest manifest; they fence and read the ledger, but neither commit nor read sources."""

    epoch: int


@dataclass(frozen=True)
class ListAgain:
    """List attempts and manifests again."""


@dataclass(frozen=True)
class CommitPending:
    """Hand the newest manifest's committables to the workers."""


@dataclass(frozen=True)
class Run:
    """Sources seek and read."""


@dataclass(frozen=True)
class StartOver:
    """The newest manifest moved while fencing: stop the workers and recover again from what was decided."""

    epoch: int


@dataclass(frozen=True)
class StandDown:
    """A newer attempt exists: stop for good."""

    newer: int


Instruction = (
    ClaimAttempt | ReadNewest | WriteIdentity | StartWorkers | ListAgain | CommitPending | Run | StartOver | StandDown
)


class Recovery(Machine):
    """Brings one attempt from its number to running with `parallelism` workers."""

    def __init__(self, parallelism: int) -> None:
        super().__init__(Phase.NEW)
        self.attempt = 0
        self.epoch = 0
        self.waiting = frozenset(range(parallelism))

    def _claim(self, event: Begin) -> tuple[Phase, list[Instruction]]:
        self.attempt = event.highest + 1
        return Phase.CLAIMING, [ClaimAttempt(self.attempt)]

    def _claim_next(self, _event: ClaimLost) -> tuple[Phase, list[Instruction]]:
        self.attempt += 1
        return Phase.CLAIMING, [ClaimAttempt(self.attempt)]

    def _read(self, _event: object) -> tuple[Phase, list[Instruction]]:
        return Phase.READING, [ReadNewest()]

    def _found(self, event: NewestRead) -> tuple[Phase, list[Instruction]]:
        if event.epoch is None:
            return Phase.IDENTIFYING, [WriteIdentity()]
        self.epoch = event.epoch
        return Phase.FENCING, [StartWorkers(event.epoch)]

    def _fenced(self, event: WorkerFenced) -> tuple[Phase, list[Instruction]]:
        self.waiting -= {event.worker}
        if self.waiting:
            return Phase.FENCING, []
        return Phase.VERIFYING, [ListAgain()]

    def _verify(self, event: Relisted) -> tuple[Phase, list[Instruction]]:
        if event.highest > self.attempt:
            return Phase.ENDED, [StandDown(event.highest)]
        if event.epoch != self.epoch:
            return Phase.ENDED, [StartOver(event.epoch)]
        return Phase.COMMITTING, [CommitPending()]

    def _run(self, _event: PendingCommitted) -> tuple[Phase, list[Instruction]]:
        return Phase.RUNNING, [Run()]

    TABLE: ClassVar[Mapping[tuple[Enum, type], Row]] = {
        (Phase.NEW, Begin): Row(_claim, (Phase.CLAIMING,)),
        (Phase.CLAIMING, Claimed): Row(_read, (Phase.READING,)),
        (Phase.CLAIMING, ClaimLost): Row(_claim_next, (Phase.CLAIMING,)),
        (Phase.READING, NewestRead): Row(_found, (Phase.IDENTIFYING, Phase.FENCING)),
        (Phase.IDENTIFYING, IdentityWritten): Row(_read, (Phase.READING,)),
        (Phase.FENCING, WorkerFenced): Row(_fenced, (Phase.FENCING, Phase.VERIFYING)),
        (Phase.VERIFYING, Relisted): Row(_verify, (Phase.COMMITTING, Phase.ENDED)),
        (Phase.COMMITTING, PendingCommitted): Row(_run, (Phase.RUNNING,)),
    }
