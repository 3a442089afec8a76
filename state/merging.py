"""Combines rows of one key by a table's merge rules, in one pass over the rows of one bucket.

| rule | result per key |
|---|---|
| add | sum of the values that are not null; null where all are |
| min, max | smallest, largest value that is not null; null where all are |
| first, last | value, also null, of the row with the smallest, largest order columns; a null orders below all else |

Results have the types of the table's schema. Every rule is associative and commutative (floats up to rounding), so it
does not matter which rows were merged before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from ..engine.ports.keyed import KEY_GROUP, Merge, TableSpec

STREAMING_ROWS_MIN: Final = 65_536
"""From here on the streaming engine groups in half the time; it promises no order, and none is needed here."""


class Merger:
    """The merge of one table as expressions that are made once."""

    def __init__(self, spec: TableSpec) -> None:
        self._keys = [KEY_GROUP, *spec.keys]
        self._columns = [KEY_GROUP, *spec.schema]
        orders = sorted({merge.order for merge in spec.merges.values() if merge.order})
        ranks = {order: f"__rank_{number}" for number, order in enumerate(orders)}
        # Of rows with equal order columns one wins, and it is the same one in every column.
        self._ranks = [pl.struct(order).rank("ordinal").alias(name) for order, name in ranks.items()]
        self._combined = [
            _combined(pl.col(column), merge, ranks).cast(spec.schema[column]).alias(column)
            for column, merge in spec.merges.items()
        ]
        self._bucket = spec.bucket

    def merge(self, frames: Sequence[pl.DataFrame], bucket: int | None) -> pl.DataFrame:
        """Return one row per key of frames that hold rows of this bucket, in no particular order."""
        rows = pl.concat(frames)
        plan = rows.lazy()
        if self._ranks:
            plan = plan.with_columns(self._ranks)
        plan = plan.group_by(self._keys).agg(self._combined)
        if self._bucket is not None:
            plan = plan.with_columns(pl.lit(bucket, pl.Int64).alias(self._bucket))
        return plan.select(self._columns).collect(
            engine="streaming" if rows.height >= STREAMING_ROWS_MIN else "in-memory"
        )


def _combined(source: pl.Expr, merge: Merge, ranks: dict[tuple[str, ...], str]) -> pl.Expr:
    match merge.rule:
        case "add":
            return pl.when(source.count() > 0).then(source.sum())
        case "min":
            return source.min()
        case "max":
            return source.max()
        case "first":
            return source.min_by(ranks[merge.order])
        case "last":
            return source.max_by(ranks[merge.order])
    raise AssertionError(f"merge rule {merge.rule!r} is not known")
