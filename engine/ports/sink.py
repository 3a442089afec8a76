"""The sink port: the engine owns outbox, decision and retries, so that a sink only encodes and commits.

| who calls | in which process | when |
|---|---|---|
| `Sink.check` | wherever the job is built | once; raises `JobInvalidError` for a schema that the sink cannot write |
| `Sink.prepare` | coordinator | once per attempt, before workers start; makes or checks ledger and target |
| `Sink.open_encoder`, `SinkEncoder.encode` | worker, data thread | every batch |
| `Sink.open_committer` | worker, commit thread | once per attempt |
| `SinkCommitter.fence` | worker, commit thread | before anything is committed, and again after every unknown outcome |
| `SinkCommitter.last_committed` | worker, commit thread | after *every* fence, before anything is committed |
| `SinkCommitter.commit` | worker, commit thread | once per decided committable that the ledger does not know yet |

With at-least-once delivery `open_writer` is used instead of outbox and committer.
A `Permit` can only be made from a decided manifest, and a `Fence` only by `fence`: `commit` needs both, so that neither
undecided output nor a producer that was fenced before the ledger was read can ever publish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

import polars as pl
import pyarrow as pa


class CommitOutcome(Enum):
    """What is known after a commit was tried.

    COMMITTED: visible, and nothing else happened on the way. FAILED: certainly not visible. UNKNOWN: only reading the
    ledger back can tell (failed, timed out, took too long, or the client reconnected or retried meanwhile).
    """

    COMMITTED = "committed"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class LedgerEntry:
    """The newest commit that the ledger knows for one subtask. `part` counts from 0, `parts` is their number."""

    attempt: int
    epoch: int
    part: int = 0
    parts: int = 1

    @property
    def complete(self) -> bool:
        """Whether every part of the epoch is committed."""
        return self.part + 1 >= self.parts


@dataclass(frozen=True)
class Permit:
    """The right to commit one part of one subtask's output of one decided epoch, under the attempt that holds it."""

    job_uid: str
    sink_uid: str
    subtask: int
    epoch: int
    attempt: int
    part: int = 0
    parts: int = 1


@dataclass(frozen=True)
class SinkContext:
    """Where a sink runs. `target` is what `prepare` returned in this attempt (JSON)."""

    job: str
    job_uid: str
    uid: str
    attempt: int
    parallelism: int
    target: Mapping[str, object]


class Fence(Protocol):
    """Proof that no older owner of a subtask's ids can commit; made by `SinkCommitter.fence`, opaque to the engine."""

    @property
    def subtask(self) -> int:
        """The subtask whose ids are fenced."""


class SinkEncoder(Protocol):
    """Turns rows into outbox rows; needs the job's code and formats, the committer does not."""

    def encode(self, frame: pl.DataFrame) -> pa.RecordBatch:
        """Encode all rows in order (hidden columns may be read). Raises `SinkError` naming a row that cannot be."""


class SinkCommitter(Protocol):
    """Commits outboxes of the subtasks that this worker owns. Used by one thread at a time."""

    def fence(self, subtasks: Sequence[int]) -> Sequence[Fence]:
        """Make sure that no older owner can commit for these subtasks after this returns; same order.

        Aborts what they left open and waits for what is committing. Runs in parallel inside where it pays. Raises
        `SinkUnavailableError` within a bound.
        """

    def last_committed(self, fences: Sequence[Fence]) -> Mapping[int, LedgerEntry | None]:
        """Read the ledger for these subtasks, up to an end that was captured after their fences were made.

        A torn transaction raises `LedgerMismatchError`, a ledger out of reach `SinkUnavailableError`.
        """

    def commit(self, fence: Fence, permit: Permit, batches: Iterable[pa.RecordBatch]) -> CommitOutcome:
        """Make the rows and the ledger entry visible in one atomic step.

        After FAILED or UNKNOWN the fence is void. Raises `FencedError` when somebody else fenced this subtask (which
        may also be the broker that timed a transaction out), `SinkError` when these rows can never be committed.
        """

    def close(self) -> None:
        """Release everything; may be called twice."""


class SinkWriter(Protocol):
    """At-least-once output: rows go out directly."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Send encoded rows; bounded blocking when the client's queue is full."""

    def flush(self) -> None:
        """Return when everything written is acknowledged; raises `SinkUnavailableError` within a bound."""

    def close(self) -> None:
        """Release everything; may be called twice."""


@runtime_checkable
class Sink(Protocol):
    """A sink as the job file describes it: settings only, no connection."""

    @property
    def kind(self) -> str:
        """Short name for plans and messages, e.g. `kafka`."""

    @property
    def delivery(self) -> str | None:
        """`exactly-once`, `at-least-once`, or None for the job's default."""

    def check(self, schema: Mapping[str, pl.DataType]) -> None:
        """Raise `JobInvalidError` if rows of this schema (hidden columns left out) cannot be written."""

    def describe(self) -> Mapping[str, object]:
        """Settings for plans and the catalog, with secrets redacted."""

    def prepare(self, job: str, job_uid: str, uid: str, previous: Mapping[str, object] | None) -> Mapping[str, object]:
        """Check and prepare the target; return what identifies it (JSON), e.g. cluster, topic, topic id, partitions.

        `previous` is what the newest manifest recorded. Raises `SinkError` when the target was replaced by another one
        of the same name or cannot be used, `LedgerMismatchError` when the ledger belongs to another job uid,
        `SinkUnavailableError` within a bound.
        """

    def open_encoder(self, context: SinkContext) -> SinkEncoder:
        """Make the encoder of one subtask."""

    def open_committer(self, context: SinkContext) -> SinkCommitter:
        """Make the committer of one worker."""

    def open_writer(self, context: SinkContext) -> SinkWriter:
        """Make the at-least-once writer of one subtask."""
