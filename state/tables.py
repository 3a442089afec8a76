"""Keyed tables in memory: per bucket one merged run and the partial rows appended since, merged lazily.

Partials are merged when they outnumber the merged run (at least MERGE_ROWS_MIN), so that each row takes part in a
logarithmic number of merges; `take` and `snapshot` merge what is left. Merge rules: `add` sums and passes over nulls
(null where every value is null), `min` and `max` pass over nulls, `first` and `last` take the whole row that comes first
or last by the rule's order columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from ..engine.ports.keyed import KEY_GROUP, KeyedTable, TableSpec

MERGE_ROWS_MIN: Final = 262_144


@dataclass
class _Bucket:
    """Rows of one bucket: `merged` has one row per key, `pending` may repeat keys."""

    merged: pl.DataFrame | None = None
    pending: list[pl.DataFrame] = field(default_factory=list)
    pending_rows: int = 0

    @property
    def rows(self) -> int:
        return self.pending_rows + (self.merged.height if self.merged is not None else 0)

    @property
    def bytes(self) -> int:
        frames = [*self.pending, *([self.merged] if self.merged is not None else [])]
        return sum(int(frame.estimated_size()) for frame in frames)


class MemoryTable:
    """A `KeyedTable` that keeps everything in memory."""

    def __init__(self, spec: TableSpec) -> None:
        self._spec = spec
        self._keys = [*([spec.bucket] if spec.bucket else []), KEY_GROUP, *spec.keys]
        self._columns = [KEY_GROUP, *spec.schema]
        self._schema = {KEY_GROUP: pl.UInt16(), **spec.schema}
        self._combine = [_combined(column, spec) for column in spec.merges]
        self._buckets: dict[int | None, _Bucket] = {}

    def append(self, rows: pl.DataFrame) -> None:
        """Add partial rows to their buckets."""
        rows = rows.select(self._columns)
        bucket = self._spec.bucket
        if bucket is None:
            self._add(None, rows)
            return
        values = rows.get_column(bucket)
        low, high = values.min(), values.max()
        if low == high:
            self._add(low, rows)  # type: ignore[arg-type]  # an Int64 column
            return
        for key, part in rows.partition_by(bucket, as_dict=True).items():
            self._add(key[0], part)

    def _add(self, key: int | None, rows: pl.DataFrame) -> None:
        bucket = self._buckets.setdefault(key, _Bucket())
        bucket.pending.append(rows)
        bucket.pending_rows += rows.height
        settled = bucket.merged.height if bucket.merged is not None else 0
        if bucket.pending_rows > max(MERGE_ROWS_MIN, settled):
            self._settle(bucket)

    def _settle(self, bucket: _Bucket) -> pl.DataFrame:
        if not bucket.pending:
            assert bucket.merged is not None
            return bucket.merged
        frames = [*([bucket.merged] if bucket.merged is not None else []), *bucket.pending]
        bucket.merged = (
            pl.concat(frames, how="vertical")
            .lazy()
            .group_by(self._keys)
            .agg(self._combine)
            .select(self._columns)
            .sort(KEY_GROUP)
            .collect(engine="in-memory")
        )
        bucket.pending, bucket.pending_rows = [], 0
        return bucket.merged

    def take(self, bucket_max: int) -> pl.DataFrame:
        """Remove the buckets up to `bucket_max`."""
        due = sorted(key for key in self._buckets if key is not None and key <= bucket_max)
        if not due:
            return pl.DataFrame(schema=self._schema)
        return pl.concat([self._settle(self._buckets.pop(key)) for key in due], how="vertical")

    def snapshot(self) -> Sequence[pl.DataFrame]:
        """Return one run per bucket, in bucket order."""
        return [self._settle(self._buckets[key]) for key in sorted(self._buckets, key=lambda k: k or 0)]

    def restore(self, runs: Sequence[pl.DataFrame]) -> None:
        """Append all runs to an empty table."""
        for run in runs:
            self.append(run)

    @property
    def rows(self) -> int:
        """Rows held, before lazy merges."""
        return sum(bucket.rows for bucket in self._buckets.values())

    @property
    def bytes(self) -> int:
        """Estimated memory held."""
        return sum(bucket.bytes for bucket in self._buckets.values())


def new_table(spec: TableSpec) -> KeyedTable:
    """Make an empty table in memory."""
    return MemoryTable(spec)


def _combined(column: str, spec: TableSpec) -> pl.Expr:
    merge, source = spec.merges[column], pl.col(column)
    if merge.rule == "add":
        return pl.when(source.count() > 0).then(source.sum()).alias(column)
    if merge.rule == "min":
        return source.min()
    if merge.rule == "max":
        return source.max()
    ordered = source.sort_by(*merge.order)
    return ordered.first() if merge.rule == "first" else ordered.last()
