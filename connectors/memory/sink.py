"""The memory sink: committed rows by name, with a ledger, fencing as Kafka does it, and mishaps that tests ask for."""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import polars as pl
import pyarrow as pa

from ...engine.errors import (
    FencedError,
    JobInvalidError,
    LedgerMismatchError,
    ProtocolError,
    SinkError,
    SinkUnavailableError,
)
from ...engine.ports.sink import CommitOutcome, Fence, LedgerEntry, Permit, SinkContext
from ...engine.settings import AT_LEAST_ONCE, EXACTLY_ONCE
from ..formats.base import visible

Subtask = tuple[str, str, int]
"""Job uid, sink uid, subtask."""


class Mishap(Enum):
    """What happens to a commit that a test spoils."""

    FAILED = "failed"
    UNKNOWN_COMMITTED = "unknown, but it was committed"
    UNKNOWN_LOST = "unknown, and it was not committed"
    UNAVAILABLE = "the sink cannot be reached"


@dataclass
class _Target:
    """Everything that outlives owners: rows, ledgers, who owns which subtask."""

    id: str = field(default_factory=lambda: secrets.token_hex(8))
    lock: threading.Lock = field(default_factory=threading.Lock)
    rows: list[pa.RecordBatch] = field(default_factory=list)
    jobs: dict[str, str] = field(default_factory=dict)
    ledger: dict[Subtask, LedgerEntry] = field(default_factory=dict)
    owners: dict[Subtask, MemoryFence] = field(default_factory=dict)
    mishaps: deque[Mishap] = field(default_factory=deque)


_targets: Final[dict[str, _Target]] = {}


class MemorySink:
    """Keeps committed rows under `name`; fences as Kafka does: the last to fence a subtask owns it.

    `rows()` is what readers see. `spoil(...)` lets the next commits end in a mishap, one after the other. `forget()`
    empties the name.
    """

    kind = "memory"

    def __init__(self, name: str, *, delivery: str | None = None) -> None:
        if delivery not in {None, EXACTLY_ONCE, AT_LEAST_ONCE}:
            raise JobInvalidError(f"delivery is {delivery!r}", hint=f"use {EXACTLY_ONCE} or {AT_LEAST_ONCE}")
        self.delivery = delivery
        self.name = name

    @property
    def _target(self) -> _Target:
        return _targets.setdefault(self.name, _Target())

    def rows(self) -> pl.DataFrame:
        """Return all committed rows in the order of their commits."""
        with self._target.lock:
            frames = [pl.from_arrow(batch) for batch in self._target.rows]
        return pl.concat([frame for frame in frames if isinstance(frame, pl.DataFrame)]) if frames else pl.DataFrame()

    def spoil(self, *mishaps: Mishap) -> None:
        """Let the next commits end like this."""
        self._target.mishaps.extend(mishaps)

    def forget(self) -> None:
        """Begin anew: another target of the same name, without rows and ledgers."""
        _targets.pop(self.name, None)

    def check(self, schema: Mapping[str, pl.DataType]) -> None:
        """Refuse what Arrow cannot hold."""
        for name, dtype in schema.items():
            if dtype == pl.Object:
                raise JobInvalidError(f"memory sink '{self.name}' cannot hold column '{name}' ({dtype})")

    def describe(self) -> Mapping[str, object]:
        """Return the settings."""
        return {"name": self.name, "delivery": self.delivery}

    def prepare(self, job: str, job_uid: str, uid: str, previous: Mapping[str, object] | None) -> Mapping[str, object]:
        """Claim the ledger for the job."""
        target = self._target
        if previous is not None and previous.get("id") != target.id:
            raise SinkError(
                f"sink '{uid}': memory '{self.name}' is {target.id} now, output was decided for {previous.get('id')}",
                hint="it was forgotten meanwhile; start under a new job name",
            )
        with target.lock:
            other = target.jobs.setdefault(job, job_uid)
        if other != job_uid:
            raise LedgerMismatchError(
                f"sink '{uid}': memory '{self.name}' has a ledger of job '{job}' with uid {other}, this is {job_uid}",
                hint="another storage runs this job, or this one was wiped: use it, or choose a new job name",
            )
        return {"name": self.name, "id": target.id}

    def open_encoder(self, _context: SinkContext) -> MemoryEncoder:
        """Make an encoder."""
        return MemoryEncoder()

    def open_committer(self, context: SinkContext) -> MemoryCommitter:
        """Make a committer."""
        return MemoryCommitter(self._target, context)

    def open_writer(self, _context: SinkContext) -> MemoryWriter:
        """Make an at-least-once writer."""
        return MemoryWriter(self._target)

    def __repr__(self) -> str:
        return f"MemorySink({self.name!r})"


class MemoryEncoder:
    """Keeps rows as they are, without hidden columns."""

    def encode(self, frame: pl.DataFrame) -> pa.RecordBatch:
        """Return one batch."""
        table = visible(frame).to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
        batches = table.to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


@dataclass(eq=False)
class MemoryFence:
    """Ownership of one subtask until somebody else fences it, or a commit does not certainly succeed."""

    subtask: int
    void: bool = False


class MemoryCommitter:
    """A `SinkCommitter` over one target."""

    def __init__(self, target: _Target, context: SinkContext) -> None:
        self._target = target
        self._context = context
        self._own: dict[int, MemoryFence] = {}

    def _key(self, subtask: int) -> Subtask:
        return self._context.job_uid, self._context.uid, subtask

    def fence(self, subtasks: Sequence[int]) -> Sequence[Fence]:
        """Take these subtasks over."""
        with self._target.lock:
            fences = [MemoryFence(subtask) for subtask in subtasks]
            for fence in fences:
                self._target.owners[self._key(fence.subtask)] = fence
        self._own.update({fence.subtask: fence for fence in fences})
        return fences

    def last_committed(self, fences: Sequence[Fence]) -> Mapping[int, LedgerEntry | None]:
        """Read the ledger."""
        with self._target.lock:
            return {fence.subtask: self._target.ledger.get(self._key(fence.subtask)) for fence in fences}

    def commit(self, fence: Fence, permit: Permit, batches: Iterable[pa.RecordBatch]) -> CommitOutcome:
        """Show rows and write the ledger entry in one step, unless a mishap is due."""
        own = self._own.get(fence.subtask)
        if own is None or own is not fence or own.void or permit.subtask != fence.subtask:
            raise ProtocolError(
                f"sink '{self._context.uid}': the fence of subtask {permit.subtask} is not valid any more"
            )
        rows = list(batches)
        target, key = self._target, self._key(permit.subtask)
        with target.lock:
            if target.owners[key] is not own:
                raise FencedError(f"sink '{self._context.uid}': somebody else fenced subtask {permit.subtask}")
            mishap = target.mishaps.popleft() if target.mishaps else None
            own.void = mishap is not None
            if mishap is None or mishap is Mishap.UNKNOWN_COMMITTED:
                target.rows += rows
                target.ledger[key] = LedgerEntry(permit.attempt, permit.epoch, permit.part, permit.parts)
        match mishap:
            case None:
                return CommitOutcome.COMMITTED
            case Mishap.UNAVAILABLE:
                raise SinkUnavailableError(f"sink '{self._context.uid}': {mishap.value}")
            case Mishap.FAILED:
                return CommitOutcome.FAILED
            case _:
                return CommitOutcome.UNKNOWN

    def close(self) -> None:
        """Nothing is open."""


class MemoryWriter:
    """A `SinkWriter`: rows show when they are flushed."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._kept: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep rows."""
        self._kept.append(batch)

    def flush(self) -> None:
        """Show what was kept."""
        with self._target.lock:
            self._target.rows += self._kept
        self._kept = []

    def close(self) -> None:
        """Forget what was not flushed."""
        self._kept = []
