"""Collects what sources, keyed operators and sinks hand over for one barrier, and passes it on when it is complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import polars as pl
import pyarrow as pa

from .dataflow import Dataflow
from .elements import Barrier
from .uploads import Parts


class Handover:
    """The checkpoint in the making of one worker. Used by the data thread."""

    def __init__(self, submit: Callable[[Parts], None]) -> None:
        self._submit = submit
        self._parts: Parts | None = None
        self.flow = Dataflow()

    def begin(self, barrier: Barrier) -> Parts:
        """Begin a new checkpoint; what was collected for an earlier barrier is void."""
        entries = self.flow.sources.values()
        read = {
            "rows_in": sum(entry.rows_in for entry in entries),
            "skipped": sum(entry.skipped for entry in entries),
        }
        self._parts = Parts(barrier, self.flow.participants, counters=read)
        return self._parts

    def abandon(self, barrier: Barrier) -> None:
        """Forget a checkpoint that was given up."""
        if self._parts is not None and self._parts.barrier <= barrier:
            self._parts = None

    def state(self, uid: str, runs: Sequence[pl.DataFrame]) -> None:
        """Take the runs of a keyed operator."""
        if self._parts is not None:
            self._parts.states[uid] = runs
            # As of the barrier: the other parts may take their time, and this operator goes on meanwhile.
            self._parts.watermarks[uid] = self.flow.windows[uid].floor
            self._parts.count("late", self.flow.windows[uid].late)
            self.one_more()

    def output(self, uid: str, batches: Sequence[pa.RecordBatch]) -> None:
        """Take the outbox of a sink."""
        if self._parts is not None:
            self._parts.outputs[uid] = batches
            self._parts.count("rows_out", self.flow.outboxes[uid].rows_out)
            self.one_more()

    def flushed(self, uid: str) -> None:
        """Note that an at-least-once sink has everything acknowledged."""
        if self._parts is not None:
            self._parts.count("rows_out", self.flow.direct[uid].rows_out)
            self.one_more()

    def one_more(self) -> None:
        """Count a part; pass everything on when it was the last."""
        parts = self._parts
        if parts is None:
            return
        parts.handed += 1
        if parts.complete:
            self._parts = None
            self._submit(parts)
