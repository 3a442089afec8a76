"""Event-time windows by key: the half before the exchange makes partial rows, the half behind it keeps and closes them.

A window is identified by its end (Int64, ms), which is the bucket of the keyed table. It closes when the watermark is
at or past its end. Every partial row carries the number of input rows in it, so late rows are counted exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Final

import polars as pl

from ..durations import parse_ms
from ..errors import JobInvalidError
from ..graph import Tumbling, WindowNode
from ..hashing import key_groups as groups_of
from ..ids import OFFSET, SPLIT, TIME
from ..ports.keyed import KEY_GROUP, KeyedTable, TableSpec
from .aggregates import ROWS, Partials, partials_of

END: Final = "__end"


def tumbling(size: str | float | timedelta, *, offset: str | float | timedelta = 0) -> Tumbling:
    """Windows of fixed size that follow each other, aligned to the Unix epoch plus `offset`.

    Both are durations such as "10s"; a window holds its start and not its end. Raises `JobInvalidError`.
    """
    size_ms = parse_ms(size, "window size")
    offset_ms = parse_ms(offset, "window offset")
    if size_ms < 1:
        raise JobInvalidError(f"window size is {size!r}; it must be at least 1 ms", hint='write tumbling("10s")')
    return Tumbling(size_ms, offset_ms % size_ms)


@lru_cache(maxsize=256)
def _plan(node: _ById) -> Partials:
    return partials_of(node.node.aggregates, node.node.input_schema)


class _ById:
    """A node as a cache key: nodes hold schemas, which cannot be hashed."""

    def __init__(self, node: WindowNode) -> None:
        self.node = node

    def __hash__(self) -> int:
        return id(self.node)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.node is other.node


def plan_of(node: WindowNode) -> Partials:
    """Return the partial columns of a window."""
    return _plan(_ById(node))


def table_spec(node: WindowNode) -> TableSpec:
    """Return the shape of the table that keeps a window's partial rows."""
    plan = plan_of(node)
    schema: dict[str, pl.DataType] = {key: node.schema[key] for key in node.keys}
    schema[END] = pl.Int64()
    return TableSpec(node.uid, schema | dict(plan.schema), node.keys, END, plan.merges)


def partial(node: WindowNode, frame: pl.DataFrame, key_groups: int) -> pl.DataFrame:
    """Aggregate one batch by key and window; columns as in `table_spec`, plus the key group."""
    size, offset = node.window.size_ms, node.window.offset_ms
    end = ((pl.col(TIME) - offset) // size + 1) * size + offset
    rows = frame.lazy()
    if any(agg.kind in {"first", "last"} for agg in node.aggregates):
        rows = rows.sort(TIME, SPLIT, OFFSET, maintain_order=True)
    partials = rows.group_by(*node.keys, end.alias(END)).agg(*plan_of(node).expressions).collect(engine="in-memory")
    return partials.with_columns(pl.Series(KEY_GROUP, groups_of(partials, node.keys, key_groups)))


def split_by_worker(partials: pl.DataFrame, parallelism: int, key_groups: int) -> Sequence[pl.DataFrame | None]:
    """Return the rows of each worker: key group g belongs to worker g * parallelism // key_groups."""
    if parallelism == 1:
        return [partials]
    owner = pl.col(KEY_GROUP).cast(pl.UInt32) * parallelism // key_groups
    parts = partials.with_columns(owner.alias("__owner")).partition_by("__owner", as_dict=True, include_key=False)
    return [parts.get((worker,)) for worker in range(parallelism)]


class WindowState:
    """The windows of one subtask's key groups.

    With `order_columns` results carry SPLIT and OFFSET, so that `first` and `last` work behind them: all results of a
    window have the same event time and are told apart by key group, then by their place in the order of keys.
    """

    def __init__(self, table: KeyedTable, node: WindowNode, *, order_columns: bool = False) -> None:
        self._table = table
        self._node = node
        self._order: list[pl.Expr] = []
        if order_columns:
            self._order = [
                pl.col(KEY_GROUP).cast(pl.Int32).alias(SPLIT),
                pl.int_range(pl.len(), dtype=pl.Int64).alias(OFFSET),
            ]
        self._plan = plan_of(node)
        self._first_end: int | None = None

    def absorb(self, partials: pl.DataFrame, watermark: int) -> int:
        """Merge partial rows; drop those of closed windows and return how many input rows they stood for."""
        smallest = partials.get_column(END).min()
        assert isinstance(smallest, int)
        late = 0
        if smallest <= watermark:
            closed = pl.col(END) <= watermark
            late = int(partials.filter(closed).get_column(ROWS).sum())
            partials = partials.filter(~closed)
            if not partials.height:
                return late
            smallest = int(partials.get_column(END).min())  # type: ignore[arg-type]  # Int64, and not empty
        self._first_end = smallest if self._first_end is None else min(self._first_end, smallest)
        self._table.append(partials)
        return late

    def advance(self, watermark: int) -> pl.DataFrame | None:
        """Return the results of the windows that close, ordered by window, key group and key; None if none does."""
        if self._first_end is None or self._first_end > watermark:
            return None
        closed = self._table.take(watermark)
        # The next window to close is at least one size further; an earlier look only costs a look.
        self._first_end = watermark + 1 if self._table.rows else None
        if not closed.height:
            return None
        size = self._node.window.size_ms
        bound = pl.Datetime("ms", "UTC")
        return closed.select(
            *self._node.keys,
            (pl.col(END) - size).cast(bound).alias("window_start"),
            pl.col(END).cast(bound).alias("window_end"),
            *self._plan.results,
            (pl.col(END) - 1).alias(TIME),
            *self._order,
        )

    def snapshot(self) -> Sequence[pl.DataFrame]:
        """Return immutable runs that together are the state now."""
        return self._table.snapshot()

    def restore(self, runs: Sequence[pl.DataFrame]) -> None:
        """Fill empty state from runs."""
        self._table.restore(runs)
        ends = [run.get_column(END).min() for run in runs if run.height]
        self._first_end = min((end for end in ends if isinstance(end, int)), default=None)

    def view(self) -> Mapping[str, object]:
        """Return how SQL shows the state: keys, window bounds and results instead of partial columns."""
        return {
            "keys": list(self._node.keys),
            "bucket": END,
            "size_ms": self._node.window.size_ms,
            "columns": dict(self._plan.shown),
        }

    @property
    def rows(self) -> int:
        """Rows held, before lazy merges."""
        return self._table.rows

    @property
    def bytes(self) -> int:
        """Estimated memory held."""
        return self._table.bytes
