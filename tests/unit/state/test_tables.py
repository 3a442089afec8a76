"""Keyed tables: merge rules, buckets, and frames that never change after they were handed out."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tidegate.engine.ports.keyed import KEY_GROUP, KeyedTable, Merge, TableSpec
from tidegate.state import tables
from tidegate.state.tables import new_table

ORDER = ("t", "o")
SPEC = TableSpec(
    "totals",
    {
        "user": pl.String(),
        "end": pl.Int64(),
        "n": pl.Int64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "head": pl.String(),
        "t": pl.Int64(),
        "o": pl.Int64(),
    },
    ("user",),
    "end",
    {
        "n": Merge("add"),
        "low": Merge("min"),
        "high": Merge("max"),
        "head": Merge("first", ORDER),
        "t": Merge("first", ORDER),
        "o": Merge("first", ORDER),
    },
)


def row(user: str | None, end: int = 10, **values: Any) -> dict[str, Any]:
    group = 0 if user is None else ord(user[0]) % 128
    return {
        KEY_GROUP: group,
        "user": user,
        "end": end,
        "n": 1,
        "low": 1.0,
        "high": 1.0,
        "head": "",
        "t": 0,
        "o": 0,
    } | values


def rows(*given: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(given), schema={KEY_GROUP: pl.UInt16(), **SPEC.schema})


def table(*frames: pl.DataFrame) -> KeyedTable:
    made = new_table(SPEC)
    for frame in frames:
        made.append(frame)
    return made


def test_rows_of_one_key_become_one() -> None:
    merged = table(
        rows(row("a", n=1, low=3.0, high=3.0, head="late", t=5, o=1)),
        rows(row("a", n=2, low=2.0, high=9.0, head="early", t=4, o=9), row("b")),
    ).take(10)
    assert merged.rows() == [
        (97, "a", 10, 3, 2.0, 9.0, "early", 4, 9),
        (98, "b", 10, 1, 1.0, 1.0, "", 0, 0),
    ]


def test_equal_times_are_told_apart_by_the_next_order_column() -> None:
    merged = table(rows(row("a", head="second", t=4, o=2)), rows(row("a", head="first", t=4, o=1))).take(10)
    assert merged.get_column("head").to_list() == ["first"]


def test_first_may_be_null() -> None:
    merged = table(rows(row("a", head="x", t=2)), rows(row("a", head=None, t=1))).take(10)
    assert merged.get_column("head").to_list() == [None]


def test_add_passes_over_nulls_and_is_null_where_all_are() -> None:
    merged = table(rows(row("a", n=None), row("b", n=None)), rows(row("a", n=2), row("b", n=None))).take(10)
    assert merged.get_column("n").to_list() == [2, None]


def test_take_gives_whole_buckets_ordered_by_bucket_group_and_key() -> None:
    made = table(rows(row("b", 20), row("c", 10), row("a", 30), row("b2", 20), row("a", 20), row(None, 20)))
    assert made.take(9).is_empty()
    assert made.take(20).select("end", "user").rows() == [(10, "c"), (20, None), (20, "a"), (20, "b"), (20, "b2")]
    assert made.take(20).is_empty()
    assert made.rows == 1


def test_an_empty_result_has_the_columns_of_the_table() -> None:
    empty = new_table(SPEC).take(10)
    assert empty.schema == rows().schema
    assert list(new_table(SPEC).snapshot()) == []


def test_no_rows_are_no_bucket() -> None:
    made = table(rows(), rows(row("a")), rows())
    assert [run.height for run in made.snapshot()] == [1]


def test_a_snapshot_is_not_changed_by_what_comes_after() -> None:
    made = table(rows(row("a")))
    runs = made.snapshot()
    made.append(rows(row("a"), row("b")))
    assert [run.get_column("n").to_list() for run in runs] == [[1]]
    assert [run.get_column("n").to_list() for run in made.snapshot()] == [[2, 1]]


def test_a_restored_table_goes_on_where_the_snapshot_was() -> None:
    made = table(rows(row("a"), row("b", 20)))
    restored = new_table(SPEC)
    restored.restore(made.snapshot())
    restored.append(rows(row("a")))
    assert restored.take(20).select("user", "n").rows() == [("a", 2), ("b", 1)]


def test_small_buckets_share_a_run_and_large_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RUN_ROWS", 3)
    made = table(
        *(rows(*(row(name, end) for name in names)) for end, names in [(10, "a"), (20, "ab"), (30, "abcd"), (40, "a")])
    )
    assert [run.get_column("end").to_list() for run in made.snapshot()] == [[10, 20, 20], [30] * 4, [40]]


def test_partial_rows_are_merged_before_they_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MERGE_ROWS_MIN", 10)
    made = new_table(SPEC)
    for _ in range(100):
        made.append(rows(row("a"), row("b")))
    assert made.rows <= 12
    assert made.take(10).get_column("n").to_list() == [100, 100]


def test_thousands_of_tiny_frames_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PENDING_FRAMES_MAX", 4)
    made = tables.MemoryTable(SPEC)
    for _ in range(100):
        made.append(rows(row("a")))
    assert max(len(bucket.pending) for bucket in made._buckets.values()) <= 4
    assert made.take(10).get_column("n").to_list() == [100]


def test_a_bucket_that_got_no_rows_is_handed_over_without_work() -> None:
    made = table(rows(row("a", 10)))
    (before,), (after,) = made.snapshot(), made.snapshot()
    one, other = (run.get_column("n").to_arrow().buffers()[1].address for run in (before, after))
    assert one == other


def test_a_table_without_buckets_keeps_one_row_per_key() -> None:
    spec = TableSpec("running", {"user": pl.String(), "n": pl.Int64()}, ("user",), None, {"n": Merge("add")})
    made = new_table(spec)
    frame = pl.DataFrame(
        {KEY_GROUP: [1, 0, 1], "user": ["b", "a", "b"], "n": [1, 2, 3]}, schema_overrides={KEY_GROUP: pl.UInt16}
    )
    made.append(frame)
    made.append(frame)
    (run,) = made.snapshot()
    expected = pl.DataFrame(
        {KEY_GROUP: [0, 1], "user": ["a", "b"], "n": [4, 8]}, schema_overrides={KEY_GROUP: pl.UInt16}
    )
    assert_frame_equal(run, expected)
    assert made.take(10**9).is_empty()


def test_columns_keep_the_types_of_the_table() -> None:
    schema: dict[str, pl.DataType] = {
        "k": pl.Int8(),
        "small": pl.Int8(),
        "money": pl.Decimal(12, 2),
        "flag": pl.Boolean(),
    }
    spec = TableSpec("t", schema, ("k",), None, {"small": Merge("add"), "money": Merge("add"), "flag": Merge("max")})
    made = new_table(spec)
    frame = pl.DataFrame({KEY_GROUP: [0], "k": [1], "small": [3], "money": ["1.25"], "flag": [True]})
    types: Any = {KEY_GROUP: pl.UInt16(), **schema}
    frame = frame.cast(types)
    made.append(frame)
    made.append(frame)
    (run,) = made.snapshot()
    assert run.schema == {KEY_GROUP: pl.UInt16(), **schema}
    assert [str(value) for value in run.row(0)] == ["0", "1", "6", "2.50", "True"]


def test_gauges_tell_rows_and_bytes() -> None:
    made = new_table(SPEC)
    assert (made.rows, made.bytes) == (0, 0)
    made.append(rows(row("a"), row("a", 20)))
    assert made.rows == 2
    assert made.bytes > 100
    made.take(20)
    assert (made.rows, made.bytes) == (0, 0)
