"""The keyed-state port: columnar tables of mergeable rows, placed by key group, handed over as immutable runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

KEY_GROUP = "__group"
"""Column of a table's rows: key group, UInt16."""


@dataclass(frozen=True)
class Merge:
    """How two rows of one key combine in one column.

    `rule` is `add`, `min`, `max`, `first` or `last`; for `first` and `last` the columns `order`, compared one after
    the other, tell which row wins, and they are merged with it.
    """

    rule: str
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableSpec:
    """Shape of a table: key columns (KEY_GROUP is implied), an optional bucket column, and merge rules by column.

    `bucket` (Int64, e.g. a window's end in ms) is part of the key; whole buckets are taken out in ascending order.
    `schema` holds every column but KEY_GROUP.
    """

    uid: str
    schema: Mapping[str, pl.DataType]
    keys: tuple[str, ...]
    bucket: str | None
    merges: Mapping[str, Merge]


class KeyedTable(Protocol):
    """State of one operator in one subtask. Used by one thread."""

    def append(self, rows: pl.DataFrame) -> None:
        """Merge partial rows (spec columns plus KEY_GROUP) into the table; cheap, the merge itself is lazy."""

    def take(self, bucket_max: int) -> pl.DataFrame:
        """Remove and return all rows with bucket <= `bucket_max`, one per key, ordered by bucket, group, key."""

    def snapshot(self) -> Sequence[pl.DataFrame]:
        """Return immutable runs that together are the table now, one row per key and bucket; safe in other threads."""

    def restore(self, runs: Sequence[pl.DataFrame]) -> None:
        """Fill an empty table from runs (only rows of this subtask's key groups are given)."""

    @property
    def rows(self) -> int:
        """Rows held, before lazy merges."""

    @property
    def bytes(self) -> int:
        """Estimated memory held."""


class TableFactory(Protocol):
    """Makes tables; the state folder provides it."""

    def __call__(self, spec: TableSpec) -> KeyedTable:
        """Make an empty table."""
