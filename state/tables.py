"""Keyed tables in memory: per bucket one merged run and the partial rows appended since, merged lazily.

A bucket's partials are merged when they outnumber its merged run (and MERGE_ROWS_MIN), so that every row takes part in
a bounded number of merges on average; `take` and `snapshot` merge what is left. Buckets without new rows are not
touched. The bucket is the same for all rows of a merge, so only key group and keys are grouped by.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from ..engine.ports.keyed import KEY_GROUP, KeyedTable, TableSpec
from .merging import Merger

MERGE_ROWS_MIN: Final = 262_144
"""Partial rows that may wait in a bucket whose merged run is smaller."""
PENDING_FRAMES_MAX: Final = 512
"""Frames that may wait in a bucket before they are copied into one: thousands of tiny ones would cost more."""
RUN_ROWS: Final = 262_144
"""Small buckets are put together into runs of about this many rows: a file for each would cost a request each."""


@dataclass
class _Bucket:
    """Rows of one bucket: `merged` has one row per key, `pending` may repeat keys."""

    value: int | None
    merged: pl.DataFrame | None = None
    is_sorted: bool = True
    pending: list[pl.DataFrame] = field(default_factory=list)
    pending_rows: int = 0

    @property
    def merged_rows(self) -> int:
        return 0 if self.merged is None else self.merged.height

    def frames(self) -> Iterator[pl.DataFrame]:
        if self.merged is not None:
            yield self.merged
        yield from self.pending


class MemoryTable:
    """A `KeyedTable` that keeps everything in memory. Handed out frames never change afterwards."""

    def __init__(self, spec: TableSpec) -> None:
        self._bucket = spec.bucket
        self._columns = [KEY_GROUP, *spec.schema]
        self._schema = {KEY_GROUP: pl.UInt16(), **spec.schema}
        self._merger = Merger(spec)
        self._order = [KEY_GROUP, *spec.keys]
        self._buckets: dict[int | None, _Bucket] = {}

    def append(self, rows: pl.DataFrame) -> None:
        """Add partial rows to their buckets; columns may come in any order. A bucket is never null."""
        if not rows.height:
            return
        rows = rows.select(self._columns)
        if self._bucket is None:
            self._add(None, rows)
            return
        values = rows.get_column(self._bucket)
        assert not values.null_count(), f"column {self._bucket} tells the bucket and is never null"
        low, high = values.min(), values.max()
        if low == high:
            assert isinstance(low, int)
            self._add(low, rows)
            return
        for (value,), part in rows.partition_by(self._bucket, as_dict=True).items():
            self._add(value, part)

    def _add(self, value: int | None, rows: pl.DataFrame) -> None:
        bucket = self._buckets.setdefault(value, _Bucket(value))
        bucket.pending.append(rows)
        bucket.pending_rows += rows.height
        if bucket.pending_rows > max(MERGE_ROWS_MIN, bucket.merged_rows):
            self._merge(bucket)
        elif len(bucket.pending) > PENDING_FRAMES_MAX:
            bucket.pending = [pl.concat(bucket.pending, rechunk=True)]

    def _merge(self, bucket: _Bucket) -> None:
        bucket.merged = self._merger.merge(list(bucket.frames()), bucket.value)
        bucket.is_sorted = False
        bucket.pending, bucket.pending_rows = [], 0

    def _settled(self, bucket: _Bucket) -> pl.DataFrame:
        """Return all rows of a bucket, one per key, sorted by key group and key."""
        if bucket.pending:
            self._merge(bucket)
        assert bucket.merged is not None, "a bucket exists because rows were added to it"
        if not bucket.is_sorted:
            bucket.merged = bucket.merged.sort(self._order)
            bucket.is_sorted = True
        return bucket.merged

    def take(self, bucket_max: int) -> pl.DataFrame:
        """Remove the buckets up to `bucket_max`; the frame is empty if there are none."""
        due = sorted(value for value in self._buckets if value is not None and value <= bucket_max)
        if not due:
            return pl.DataFrame(schema=self._schema)
        return pl.concat([self._settled(self._buckets.pop(value)) for value in due])

    def snapshot(self) -> Sequence[pl.DataFrame]:
        """Return runs in bucket order, each sorted by bucket, key group and key; a run holds one or more buckets."""
        runs: list[pl.DataFrame] = []
        waiting: list[pl.DataFrame] = []
        waiting_rows = 0
        for value in sorted(self._buckets, key=lambda value: value or 0):
            settled = self._settled(self._buckets[value])
            if waiting and waiting_rows + settled.height > RUN_ROWS:
                runs.append(pl.concat(waiting))
                waiting, waiting_rows = [], 0
            waiting.append(settled)
            waiting_rows += settled.height
        return [*runs, pl.concat(waiting)] if waiting else runs

    def restore(self, runs: Sequence[pl.DataFrame]) -> None:
        """Append all runs to an empty table."""
        assert not self._buckets, "only an empty table is restored"
        for run in runs:
            self.append(run)

    @property
    def rows(self) -> int:
        """Rows held, before lazy merges."""
        return sum(bucket.merged_rows + bucket.pending_rows for bucket in self._buckets.values())

    @property
    def bytes(self) -> int:
        """Estimated memory held."""
        return sum(int(frame.estimated_size()) for bucket in self._buckets.values() for frame in bucket.frames())


def new_table(spec: TableSpec) -> KeyedTable:
    """Make an empty table in memory."""
    return MemoryTable(spec)
