"""The last steps of a dataflow: rows are encoded and kept in an outbox, or sent at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
import pyarrow as pa

from .elements import Barrier
from .ports.sink import SinkEncoder, SinkWriter


class OutboxStep:
    """Encodes rows into the outbox of one sink subtask and keeps them until their epoch is decided.

    A failed try keeps its rows: they are simply still there when the next try of the same epoch hands over.
    """

    def __init__(self, uid: str, encoder: SinkEncoder, handed: Callable[[str, Sequence[pa.RecordBatch]], None]) -> None:
        self.uid = uid
        self.rows_out = 0
        self._encoder = encoder
        self._handed = handed
        self._batches: list[pa.RecordBatch] = []
        self._mark = 0

    def rows(self, frame: pl.DataFrame) -> None:
        """Encode and keep."""
        batch = self._encoder.encode(frame)
        if batch.num_rows:
            self.rows_out += batch.num_rows
            self._batches.append(batch)

    def watermark(self, value: int | None) -> None:
        """Sinks need no watermark."""

    def barrier(self, _barrier: Barrier) -> None:
        """Hand everything over that belongs to the open epoch."""
        self._mark = len(self._batches)
        self._handed(self.uid, self._batches[: self._mark])

    def decided(self) -> list[pa.RecordBatch]:
        """Return the decided epoch's batches and forget them here."""
        taken, self._batches, self._mark = self._batches[: self._mark], self._batches[self._mark :], 0
        return taken

    @property
    def bytes(self) -> int:
        """Memory held by rows of epochs that are not decided."""
        return sum(batch.nbytes for batch in self._batches)


class DirectStep:
    """At-least-once output: rows go to the sink at once, a barrier waits until they are acknowledged."""

    def __init__(self, uid: str, encoder: SinkEncoder, writer: SinkWriter, handed: Callable[[str], None]) -> None:
        self.uid = uid
        self.rows_out = 0
        self._encoder = encoder
        self._writer = writer
        self._handed = handed

    def rows(self, frame: pl.DataFrame) -> None:
        """Encode and send."""
        batch = self._encoder.encode(frame)
        if batch.num_rows:
            self.rows_out += batch.num_rows
            self._writer.write(batch)

    def watermark(self, value: int | None) -> None:
        """Sinks need no watermark."""

    def barrier(self, _barrier: Barrier) -> None:
        """Flush, then report."""
        self._writer.flush()
        self._handed(self.uid)
