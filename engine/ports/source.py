"""The source port: splits with serialisable positions, enumerated in the coordinator and read in the workers.

| who calls | in which process | when |
|---|---|---|
| `Source.open_enumerator` | coordinator | once per attempt |
| `SplitEnumerator.discover` | coordinator | before manifest 0, then every `discovery_interval_s` while running |
| `SplitEnumerator.report` | coordinator, background thread | after an epoch is committed; failures are warnings |
| `Source.open_reader` | every worker | once per attempt, also when no split is assigned yet |
| `SourceReader.assign` | worker, before the first `read` and at barriers | adds splits |
| `SourceReader.read` | worker, one thread of its own | over and over; never concurrently with `assign` or `close` |

Positions are JSON values that only the source understands. The engine stores them in manifests and hands them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import polars as pl

Position = object
"""A JSON value (null, bool, number, string, list or object) that names the next record of a split."""


@dataclass(frozen=True)
class Split:
    """A resumable part of a source: a Kafka partition, a file.

    `index` is unique within the source and never reused. `start` is the position of the first record to read; `end`,
    where given, is the position at which a bounded read stops (exclusive). `first` is where the split itself begins:
    a split that is discovered while the job runs starts there, whatever the source's `start` says.
    """

    id: str
    index: int
    start: Position
    first: Position
    end: Position | None = None


@dataclass(frozen=True)
class ReaderContext:
    """What a reader may know about where it runs. `order_columns` asks for the hidden columns split and offset.

    `columns` names the columns that the job uses downstream (projection); a reader may deliver only these, in schema
    order. None asks for all of them.
    """

    job: str
    uid: str
    subtask: int
    parallelism: int
    order_columns: bool = False
    columns: frozenset[str] | None = None


@dataclass(frozen=True)
class SourceBatch:
    """Rows read from one or more splits, and exactly how far the reader has come after them.

    `frame` has the source's columns plus the hidden column TIME (and SPLIT, OFFSET when asked for); rows of one split
    are in the split's order. `positions` holds the next position of every split that moved, also when all of its
    records were skipped. `max_time` is the largest event time (ms) seen per split in this batch. `caught_up` names
    the splits known to have no further record at this moment, `finished` those that reached their bounded end.
    """

    frame: pl.DataFrame
    positions: Mapping[str, Position]
    max_time: Mapping[str, int] = field(default_factory=dict)
    skipped: int = 0
    caught_up: frozenset[str] = frozenset()
    finished: frozenset[str] = frozenset()


class SourceReader(Protocol):
    """Reads the splits of one subtask. Used by one thread at a time."""

    def assign(self, splits: Sequence[Split]) -> None:
        """Add splits, to be read from `split.start` up to `split.end`. A split is never assigned twice."""

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        """Return what is there, waiting at most `timeout_s` for the first row; None when nothing changed.

        Raises `RecordInvalidError` for a record that the policy `fail` refuses, `SourceError` for a split that cannot
        be read on, `SourceUnavailableError` after the source's own bounded retries.
        """

    def close(self) -> None:
        """Release everything; may be called twice."""


class SplitEnumerator(Protocol):
    """Finds the splits of a source. Used by one thread at a time, in the coordinator."""

    def discover(self) -> Sequence[Split]:
        """Return all splits that exist now, with resolved start and end positions, in a stable order.

        `start` and `end` follow the source's settings at the moment of the call; the engine calls this once before
        manifest 0 and keeps the answer, so that `latest` is never resolved twice. Later calls only serve to find
        new splits. Raises `SourceError` (missing topic) or `SourceUnavailableError` within a bound.
        """

    def report(self, positions: Mapping[str, Position]) -> None:
        """Tell lag tools how far committed epochs have come; never used to restore. May raise; that is a warning."""

    def close(self) -> None:
        """Release everything; may be called twice."""


@runtime_checkable
class Source(Protocol):
    """A source as the job file describes it: settings only, no connection."""

    @property
    def kind(self) -> str:
        """Short name for plans and messages, e.g. `kafka`."""

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Columns that readers deliver, in order, without hidden ones."""

    @property
    def seekable(self) -> bool:
        """Whether a split can be read again from a position; exactly-once needs it."""

    @property
    def max_out_of_orderness_ms(self) -> int:
        """How far behind the largest event time seen a record may still be on time."""

    @property
    def idle_after_ms(self) -> int | None:
        """After how long a caught-up split without records stops holding back the watermark; None = never."""

    @property
    def discovery_interval_s(self) -> float | None:
        """How often to look for new splits while running; None = never."""

    def bounded(self, until_end: bool) -> Source:
        """Return this source, reading up to the end positions that exist at start if `until_end` asks for it."""

    def describe(self) -> Mapping[str, object]:
        """Settings for plans and the catalog, with secrets redacted."""

    def open_enumerator(self, job: str, uid: str) -> SplitEnumerator:
        """Connect for split discovery."""

    def open_reader(self, context: ReaderContext) -> SourceReader:
        """Connect for reading."""
