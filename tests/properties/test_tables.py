"""Keyed tables against plain Polars: whatever the order of appends, takes, snapshots and restores, nothing is lost."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import polars as pl
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from polars.testing import assert_frame_equal
from tidegate.engine.ports.keyed import KEY_GROUP, KeyedTable, Merge, TableSpec
from tidegate.state import merging, tables
from tidegate.state.tables import new_table

FIRST, LAST = ("ft", "fo"), ("lt", "lo")
SCHEMA: dict[str, pl.DataType] = {
    "k1": pl.String(),
    "k2": pl.Int64(),
    "end": pl.Int64(),
    "total": pl.Int64(),
    "low": pl.Int32(),
    "high": pl.Float64(),
    "head": pl.String(),
    "ft": pl.Int64(),
    "fo": pl.Int64(),
    "tail": pl.String(),
    "lt": pl.Int64(),
    "lo": pl.Int64(),
}
MERGES = {
    "total": Merge("add"),
    "low": Merge("min"),
    "high": Merge("max"),
    **{column: Merge("first", FIRST) for column in ("head", *FIRST)},
    **{column: Merge("last", LAST) for column in ("tail", *LAST)},
}
KEYS = ("k1", "k2")
_small = st.integers(-3, 3)
_row = st.fixed_dictionaries(
    {
        "k1": st.sampled_from(["a", "b", None]),
        "k2": st.sampled_from([0, 1, None]),
        "end": st.sampled_from([10, 20, 30]),
        "total": _small | st.none(),
        "low": _small | st.none(),
        "high": st.none() | st.sampled_from([-1.5, 0.0, 2.5, float("nan"), float("inf")]),
        "head": st.text("xyz", max_size=2) | st.none(),
        "t": st.integers(0, 3),
    }
)


def _plain(rows: pl.DataFrame) -> pl.DataFrame:
    """What the rules say, written the plain way over everything at once."""
    total = pl.col("total")
    earliest, latest = rows.sort(FIRST), rows.sort(LAST)
    by = [KEY_GROUP, *KEYS, "end"]
    merged = (
        rows.group_by(by)
        .agg(
            pl.when(total.is_not_null().any()).then(total.sum()).alias("total"),
            pl.col("low").min(),
            pl.col("high").max(),
        )
        .join(earliest.group_by(by).agg(pl.col("head", *FIRST).first()), on=by, nulls_equal=True)
        .join(latest.group_by(by).agg(pl.col("tail", *LAST).last()), on=by, nulls_equal=True)
    )
    return merged.select(KEY_GROUP, *SCHEMA).sort("end", KEY_GROUP, *KEYS)


class TableMachine(RuleBasedStateMachine):
    """Runs a table and the list of all rows that it should stand for."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = pl.DataFrame(schema={KEY_GROUP: pl.UInt16(), **SCHEMA})
        self.seen = 0
        self.kept: list[tuple[list[pl.DataFrame], list[pl.DataFrame]]] = []
        self.unbucketed = False

    @initialize(
        unbucketed=st.booleans(), merge_rows=st.sampled_from([0, 4, 1000]), frames=st.sampled_from([1, 3, 1000])
    )
    def begin(self, unbucketed: bool, merge_rows: int, frames: int) -> None:
        """Take limits so small that every path is walked."""
        tables.MERGE_ROWS_MIN = merge_rows  # type: ignore[misc]  # restored in teardown
        tables.PENDING_FRAMES_MAX = frames  # type: ignore[misc]  # likewise
        tables.RUN_ROWS = merge_rows + 1  # type: ignore[misc]  # likewise
        merging.STREAMING_ROWS_MIN = merge_rows  # type: ignore[misc]  # likewise
        self.unbucketed = unbucketed
        self.table = self.fresh()

    def fresh(self) -> KeyedTable:
        """Make an empty table; without buckets, the window's end is one more key."""
        keys, bucket = ((*KEYS, "end"), None) if self.unbucketed else (KEYS, "end")
        return new_table(TableSpec("t", SCHEMA, keys, bucket, MERGES))

    @rule(given=st.lists(_row, max_size=12))
    def append(self, given: list[dict[str, Any]]) -> None:
        """Append rows; no two of them have the same order columns, as no two records have the same offset."""
        full = []
        for row in given:
            self.seen += 1
            order = {"ft": row["t"], "fo": self.seen, "lt": row["t"], "lo": self.seen, "tail": row["head"]}
            group = (ord(row["k1"] or "z") + (row["k2"] or 0)) % 3
            full.append({**row, **order, KEY_GROUP: group})
        frame = pl.DataFrame(full, schema=self.rows.schema)
        self.rows = pl.concat([self.rows, frame])
        self.table.append(frame)

    @rule(end=st.sampled_from([0, 10, 20, 30]))
    def take(self, end: int) -> None:
        """Take buckets."""
        taken = self.table.take(end)
        if self.unbucketed:
            assert taken.is_empty()
            return
        due = pl.col("end") <= end
        assert_frame_equal(taken, _plain(self.rows.filter(due)))
        self.rows = self.rows.filter(~due)

    @rule()
    def snapshot(self) -> None:
        """Compare a snapshot, and keep it to see later that it did not change."""
        runs = list(self.table.snapshot())
        together = pl.concat([self.rows.clear(), *runs])
        order = [KEY_GROUP, *KEYS, "end"] if self.unbucketed else ["end", KEY_GROUP, *KEYS]
        assert_frame_equal(together, _plain(self.rows).sort(order))
        self.kept.append((runs, [run.clone().rechunk() for run in runs]))

    @rule()
    def restore(self) -> None:
        """Go on with a table that was filled from a snapshot."""
        runs = self.table.snapshot()
        self.table = self.fresh()
        self.table.restore(runs)

    @invariant()
    def handed_out_frames_never_change(self) -> None:
        """Every run that was handed out still looks as it did."""
        for runs, copies in self.kept:
            assert all(run.equals(copy) for run, copy in zip(runs, copies, strict=True))

    def teardown(self) -> None:
        """Put the limits back, and compare what is left."""
        if hasattr(self, "table"):
            self.take(30)
        tables.MERGE_ROWS_MIN, tables.PENDING_FRAMES_MAX = 262_144, 512  # type: ignore[misc]  # as they were
        tables.RUN_ROWS, merging.STREAMING_ROWS_MIN = 262_144, 65_536  # type: ignore[misc]  # as they were


TestTables = TableMachine.TestCase
TestTables.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
