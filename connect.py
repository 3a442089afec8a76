"""The ports for custom sources and sinks: what they implement, what they are given, and the errors they raise."""

from __future__ import annotations

from .engine.errors import (
    FencedError,
    JobInvalidError,
    LedgerMismatchError,
    RecordInvalidError,
    SinkError,
    SinkUnavailableError,
    SourceError,
    SourceUnavailableError,
)
from .engine.ids import OFFSET, SPLIT, TIME
from .engine.ports.sink import (
    CommitOutcome,
    Fence,
    LedgerEntry,
    Permit,
    Sink,
    SinkCommitter,
    SinkContext,
    SinkEncoder,
    SinkWriter,
)
from .engine.ports.source import (
    Position,
    ReaderContext,
    Source,
    SourceBatch,
    SourceReader,
    Split,
    SplitEnumerator,
)

__all__ = [
    "OFFSET",
    "SPLIT",
    "TIME",
    "CommitOutcome",
    "Fence",
    "FencedError",
    "JobInvalidError",
    "LedgerEntry",
    "LedgerMismatchError",
    "Permit",
    "Position",
    "ReaderContext",
    "RecordInvalidError",
    "Sink",
    "SinkCommitter",
    "SinkContext",
    "SinkEncoder",
    "SinkError",
    "SinkUnavailableError",
    "SinkWriter",
    "Source",
    "SourceBatch",
    "SourceError",
    "SourceReader",
    "SourceUnavailableError",
    "Split",
    "SplitEnumerator",
]
