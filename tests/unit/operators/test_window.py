"""The two halves of a window: bounds, late rows, ties, what SQL is told, and windows behind windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
import tidegate as tg
from tidegate.engine.graph import WindowNode
from tidegate.engine.hashing import key_groups
from tidegate.engine.ids import OFFSET, SPLIT, TIME, WATERMARK_MAX
from tidegate.engine.operators.window import END, WindowState, partial, split_by_worker, table_spec
from tidegate.engine.ports.keyed import KEY_GROUP
from tidegate.state.tables import new_table

from support.flows import batch, orders, window_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def window(*aggregates: Any, size: str = "10s", offset: str | int = 0, keys: tuple[str, ...] = ("k",)) -> WindowNode:
    """A window over columns k, j and n."""
    stream = orders({"k": pl.String(), "j": pl.Int64(), "n": pl.Int64()}).key_by(*keys)
    windowed = stream.window(tg.tumbling(size, offset=offset))
    return window_of(windowed.agg(*(aggregates or (tg.count().alias("n"),)), uid="w"))


def state_of(node: WindowNode, *, order_columns: bool = False) -> WindowState:
    """Empty state."""
    return WindowState(new_table(table_spec(node)), node, order_columns=order_columns)


def rows(times: list[int], **columns: list[Any]) -> pl.DataFrame:
    """Rows of one key unless columns say otherwise."""
    height = len(times)
    given: dict[str, list[Any]] = {"k": ["a"] * height, "j": [0] * height, "n": list(range(height))}
    return batch(given | columns, times=times)


@pytest.mark.parametrize(
    ("time", "offset", "end"),
    [(0, 0, 10_000), (9_999, 0, 10_000), (10_000, 0, 20_000), (-1, 0, 0), (-10_000, 0, 0), (-10_001, 0, -10_000),
     (2_999, "3s", 3_000), (3_000, "3s", 13_000), (-7_001, "3s", -7_000), (5, "23s", 3_000)],
)  # fmt: skip
def test_a_window_holds_its_start_and_not_its_end(time: int, offset: str | int, end: int) -> None:
    partials = partial(window(offset=offset), rows([time]), 128)
    assert partials[END].to_list() == [end]


def test_partials_have_one_row_per_key_and_window_with_its_key_group() -> None:
    node = window()
    partials = partial(node, rows([1, 2, 10_001, 3], k=["a", "a", "a", "b"]), 128).sort("k", END)
    assert partials.select("k", END, "__rows").rows() == [("a", 10_000, 2), ("a", 20_000, 1), ("b", 10_000, 1)]
    assert partials.schema[KEY_GROUP] == pl.UInt16
    assert partials[KEY_GROUP].to_list() == key_groups(partials, ("k",), 128).tolist()
    assert set(partials.columns) == {KEY_GROUP, *table_spec(node).schema}


def test_every_partial_goes_to_the_worker_of_its_key_group() -> None:
    partials = pl.DataFrame({KEY_GROUP: pl.Series(range(128), dtype=pl.UInt16), "n": range(128)})
    for parallelism in (1, 2, 3, 5, 128, 200):
        parts = split_by_worker(partials, parallelism, 128)
        assert len(parts) == parallelism
        got = {(worker, n) for worker, part in enumerate(parts) if part is not None for n in part["n"].to_list()}
        assert got == {(group * parallelism // 128, group) for group in range(128)}
        assert all(part is None or part.columns == partials.columns for part in parts)


def test_a_window_closes_when_the_watermark_reaches_its_end() -> None:
    node = window()
    state = state_of(node)
    assert state.absorb(partial(node, rows([1, 10_000]), 128), 0) == 0
    assert state.advance(9_999) is None
    closed = state.advance(10_000)
    assert closed is not None
    assert closed.rows(named=True) == [
        {"k": "a", "window_start": EPOCH, "window_end": EPOCH + timedelta(seconds=10), "n": 1, TIME: 9_999}
    ]
    assert state.advance(10_000) is None
    assert state.advance(19_999) is None
    last = state.advance(WATERMARK_MAX)
    assert last is not None
    assert last[TIME].to_list() == [19_999]
    assert state.rows == 0


def test_results_are_ordered_by_window_then_key_group() -> None:
    node = window()
    keys = [f"key-{i}" for i in range(50)]
    frame = rows([20_000] * 50 + [1] * 50, k=keys * 2)
    state = state_of(node)
    state.absorb(partial(node, frame, 128), 0)
    closed = state.advance(WATERMARK_MAX)
    assert closed is not None
    order = list(zip(closed[TIME].to_list(), key_groups(closed, ("k",), 128).tolist(), closed["k"], strict=True))
    assert len(order) == 100
    assert order == sorted(order)


def test_late_rows_are_counted_one_by_one_and_change_nothing() -> None:
    node = window()
    state = state_of(node)
    late = partial(node, rows([1, 2, 3, 10_001], k=["a", "a", "b", "a"]), 128)
    assert state.absorb(late, 10_000) == 3
    assert state.absorb(partial(node, rows([5, 6]), 128), 10_000) == 2
    closed = state.advance(WATERMARK_MAX)
    assert closed is not None
    assert closed.select("k", "n").rows() == [("a", 1)]


def test_first_and_last_go_by_event_time_then_split_and_offset_whatever_arrives_first() -> None:
    node = window(tg.first("n").alias("first"), tg.last("n").alias("last"))
    frame = rows([5, 5, 5, 7, 7], n=[10, 11, 12, 20, None]).with_columns(
        pl.Series(SPLIT, [1, 0, 0, 0, 0], pl.Int32), pl.Series(OFFSET, [0, 9, 8, 1, 2], pl.Int64)
    )
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]):
        together, alone = state_of(node), state_of(node)
        together.absorb(partial(node, frame[order], 128), 0)
        for index in order:
            alone.absorb(partial(node, frame[index], 128), 0)
        for state in (together, alone):
            closed = state.advance(10_000)
            assert closed is not None
            assert closed.select("first", "last").rows() == [(12, None)]


def test_rows_that_one_record_was_exploded_into_keep_their_order() -> None:
    node = window(tg.first("n").alias("first"), tg.last("n").alias("last"))
    frame = rows([5] * 40, n=list(range(40))).with_columns(pl.lit(3, pl.Int64).alias(OFFSET))
    partials = partial(node, frame, 128)
    assert partials.select("__first_n", "__last_n").rows() == [(0, 39)]


def test_a_window_behind_a_window_can_pick_first_and_last() -> None:
    inner = window(tg.last("n").alias("n"), keys=("k", "j"))
    state = state_of(inner, order_columns=True)
    state.absorb(partial(inner, rows([1, 2, 3], k=["a", "a", "b"], j=[1, 2, 1]), 128), 0)
    results = state.advance(10_000)
    assert results is not None
    assert results.select(TIME, SPLIT, OFFSET).n_unique() == results.height
    assert results.schema[SPLIT] == pl.Int32
    outer = window(tg.first("n").alias("first"), size="1m")
    assert partial(outer, results, 128).height == 2


def test_restored_state_goes_on_where_it_was() -> None:
    node = window(tg.sum("n").alias("total"), tg.mean("n").alias("mean"), tg.last("n").alias("last"))
    state = state_of(node)
    state.absorb(partial(node, rows([1, 2, 10_003], n=[1, 2, 3]), 128), 0)
    runs = list(state.snapshot())
    state.absorb(partial(node, rows([4], n=[100]), 128), 0)
    again = state_of(node)
    again.restore(runs)
    again.absorb(partial(node, rows([3], n=[6]), 128), 0)
    closed = again.advance(10_000)
    assert closed is not None
    assert closed.select("total", "mean", "last").rows() == [(9, 3.0, 6)]
    rest = again.advance(WATERMARK_MAX)
    assert rest is not None
    assert rest["total"].to_list() == [3]


def test_empty_state_restores_from_nothing() -> None:
    state = state_of(window())
    state.restore([])
    assert state.advance(WATERMARK_MAX) is None
    assert state.rows == 0


def test_sql_is_told_how_to_show_results_instead_of_partial_columns() -> None:
    node = window(tg.count().alias("n"), tg.mean("n").alias("mean"), tg.first("j").alias("first"), size="1m")
    view = state_of(node).view()
    assert view == {
        "keys": ["k"],
        "bucket": "__end",
        "size_ms": 60_000,
        "columns": {"n": ["col", "__rows"], "mean": ["div", "__meansum_n", "__n_n"], "first": ["col", "__first_j"]},
    }
    shown = {name for how in view["columns"].values() for name in how[1:]}  # type: ignore[attr-defined]  # a dict, see above
    assert shown <= set(table_spec(node).schema)


def test_null_is_a_key_of_its_own() -> None:
    node = window(keys=("k", "j"))
    state = state_of(node)
    state.absorb(partial(node, rows([1, 2, 3, 4], k=["", None, None, ""], j=[None, 1, 1, None]), 128), 0)
    closed = state.advance(10_000)
    assert closed is not None
    assert sorted(closed.select("k", "j", "n").rows(), key=repr) == [("", None, 2), (None, 1, 2)]
