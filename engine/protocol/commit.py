"""The commit cycle of one sink subtask: fence, read the ledger, commit what it does not know, in epoch order.

Rules: nothing is committed before the ledger was read after the fence in hand. A fence serves until the first outcome
that is not COMMITTED; then everything starts again with a new fence and a new read. Only the ledger decides whether an
unknown commit happened. An entry of a newer attempt, or of an epoch that was never decided, stops this attempt.
A ledger that knows less than a manifest already knew to be committed stops the job: it was lost or replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from ..ports.sink import CommitOutcome, LedgerEntry
from .table import Machine, Row


class Phase(Enum):
    """What is known about the right to commit."""

    UNFENCED = "unfenced"
    FENCING = "fencing"
    READING = "reading"
    READY = "ready"
    COMMITTING = "committing"
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Open:
    """Begin: nothing is fenced yet."""


@dataclass(frozen=True)
class FenceMade:
    """A new fence is in hand."""


@dataclass(frozen=True)
class Unavailable:
    """Fencing, reading or committing could not be done now, and nothing of ours became visible by it."""

    reason: str


@dataclass(frozen=True)
class LedgerRead:
    """What the ledger says, read after the fence in hand was made."""

    entry: LedgerEntry | None


@dataclass(frozen=True)
class DecidedEpoch:
    """An epoch with output of this subtask is decided."""

    epoch: int


@dataclass(frozen=True)
class CommitTried:
    """A commit came back."""

    outcome: CommitOutcome


@dataclass(frozen=True)
class FencedOff:
    """The sink said that somebody else fenced this subtask, or that its transaction was timed out."""


@dataclass(frozen=True)
class RetryDue:
    """The pause after `Unavailable` is over."""


@dataclass(frozen=True)
class MakeFence:
    """Fence this subtask with a new owner object."""


@dataclass(frozen=True)
class ReadLedger:
    """Read the ledger up to an end captured now."""


@dataclass(frozen=True)
class Commit:
    """Commit the output of this epoch with the fence in hand."""

    epoch: int


@dataclass(frozen=True)
class Done:
    """Everything up to this epoch is known to be committed."""

    epoch: int


@dataclass(frozen=True)
class RetryLater:
    """Send `RetryDue` after a pause."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """End the attempt.

    `newer` is the attempt that took over, where known. `ahead` is an epoch in the ledger that this attempt never saw
    decided: somebody else decided it, so the job recovers from what was decided. `behind` says in words that the ledger
    was lost or replaced. None of them: the sink said fenced, and only a look at the attempts tells by whom.
    """

    newer: int | None = None
    ahead: int | None = None
    behind: str = ""


Instruction = MakeFence | ReadLedger | Commit | Done | RetryLater | Stop


class CommitCycle(Machine):
    """Commits decided epochs of one sink subtask under one attempt.

    `known` is the last epoch that a manifest says is committed, `decided` the newest decided epoch; `queue` the decided
    epochs with output that are not known to be committed, ascending.
    """

    def __init__(self, attempt: int, known: int, decided: int, queue: tuple[int, ...]) -> None:
        super().__init__(Phase.UNFENCED)
        self.attempt = attempt
        self.known = known
        self.decided = decided
        self.queue = queue

    def _fence(self, _event: object) -> tuple[Phase, list[Instruction]]:
        return Phase.FENCING, [MakeFence()]

    def _read(self, _event: FenceMade) -> tuple[Phase, list[Instruction]]:
        return Phase.READING, [ReadLedger()]

    def _decide(self, event: LedgerRead) -> tuple[Phase, list[Instruction]]:
        entry = event.entry
        committed = entry.epoch if entry is not None else 0
        if entry is not None and entry.attempt > self.attempt:
            return Phase.STOPPED, [Stop(newer=entry.attempt)]
        if committed > self.decided:
            return Phase.STOPPED, [Stop(ahead=committed)]
        if committed < self.known:
            text = f"the ledger knows epoch {committed or 'none'}, the manifests know that {self.known} was committed"
            return Phase.STOPPED, [Stop(behind=text)]
        done: list[Instruction] = [Done(committed)] if committed > self.known else []
        self.known = committed
        self.queue = tuple(epoch for epoch in self.queue if epoch > committed)
        phase, more = self._next()
        return phase, done + more

    def _next(self) -> tuple[Phase, list[Instruction]]:
        if not self.queue:
            return Phase.READY, []
        return Phase.COMMITTING, [Commit(self.queue[0])]

    def _enqueue(self, event: DecidedEpoch) -> None:
        self.decided = max(self.decided, event.epoch)
        if event.epoch > self.known:
            self.queue = (*self.queue, event.epoch)

    def _enqueue_stay(self, event: DecidedEpoch) -> tuple[Enum, list[Instruction]]:
        self._enqueue(event)
        return self.phase, []

    def _enqueue_go(self, event: DecidedEpoch) -> tuple[Phase, list[Instruction]]:
        self._enqueue(event)
        return self._next()

    def _tried(self, event: CommitTried) -> tuple[Phase, list[Instruction]]:
        if event.outcome is CommitOutcome.UNKNOWN:
            return Phase.FENCING, [MakeFence()]
        if event.outcome is CommitOutcome.FAILED:
            return Phase.WAITING, [RetryLater(f"the commit of epoch {self.queue[0]} failed")]
        self.known, self.queue = self.queue[0], self.queue[1:]
        phase, more = self._next()
        return phase, [Done(self.known), *more]

    def _wait(self, event: Unavailable) -> tuple[Phase, list[Instruction]]:
        return Phase.WAITING, [RetryLater(event.reason)]

    def _stop(self, _event: FencedOff) -> tuple[Phase, list[Instruction]]:
        return Phase.STOPPED, [Stop()]

    def _ignore(self, _event: object) -> tuple[Phase, list[Instruction]]:
        return Phase.STOPPED, []

    TABLE: ClassVar[Mapping[tuple[Enum, type], Row]] = {
        (Phase.UNFENCED, Open): Row(_fence, (Phase.FENCING,)),
        (Phase.UNFENCED, DecidedEpoch): Row(_enqueue_stay, (Phase.UNFENCED,)),
        (Phase.FENCING, FenceMade): Row(_read, (Phase.READING,)),
        (Phase.FENCING, Unavailable): Row(_wait, (Phase.WAITING,)),
        (Phase.FENCING, FencedOff): Row(_stop, (Phase.STOPPED,)),
        (Phase.FENCING, DecidedEpoch): Row(_enqueue_stay, (Phase.FENCING,)),
        (Phase.READING, LedgerRead): Row(_decide, (Phase.READY, Phase.COMMITTING, Phase.STOPPED)),
        (Phase.READING, Unavailable): Row(_wait, (Phase.WAITING,)),
        (Phase.READING, DecidedEpoch): Row(_enqueue_stay, (Phase.READING,)),
        (Phase.READY, DecidedEpoch): Row(_enqueue_go, (Phase.READY, Phase.COMMITTING)),
        (Phase.COMMITTING, CommitTried): Row(_tried, (Phase.READY, Phase.COMMITTING, Phase.FENCING, Phase.WAITING)),
        (Phase.COMMITTING, Unavailable): Row(_wait, (Phase.WAITING,)),
        (Phase.COMMITTING, FencedOff): Row(_stop, (Phase.STOPPED,)),
        (Phase.COMMITTING, DecidedEpoch): Row(_enqueue_stay, (Phase.COMMITTING,)),
        (Phase.WAITING, RetryDue): Row(_fence, (Phase.FENCING,)),
        (Phase.WAITING, DecidedEpoch): Row(_enqueue_stay, (Phase.WAITING,)),
        (Phase.STOPPED, DecidedEpoch): Row(_ignore, (Phase.STOPPED,)),
        (Phase.STOPPED, RetryDue): Row(_ignore, (Phase.STOPPED,)),
    }
