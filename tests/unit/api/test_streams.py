"""Streams: what each operator makes of the schema and of a batch, and that hidden columns survive it."""

from __future__ import annotations

import polars as pl
import polars.selectors as cs
import pytest
import tidegate as tg
from polars.testing import assert_frame_equal
from tidegate.engine.graph import MapNode
from tidegate.engine.ids import HIDDEN, OFFSET, SPLIT, TIME

from support.flows import BuiltSink, BuiltSource, batch, graph_of, orders, run

SCHEMA = {"k": pl.String(), "n": pl.Int64(), "x": pl.Float64(), "tags": pl.List(pl.String)}
ROWS = batch(
    {"k": ["a", "b", None], "n": [0, 1, 2], "x": [0.5, None, 2.5], "tags": [["p", "q"], [], None]}, times=[10, 20, 30]
).cast({"tags": pl.List(pl.String)})


def made(stream: tg.Stream) -> pl.DataFrame:
    """What this stream makes of ROWS; its visible columns are those that were derived when it was built."""
    result = run(stream, ROWS)
    assert {name: dtype for name, dtype in result.schema.items() if name not in HIDDEN} == stream.schema
    assert {TIME, SPLIT, OFFSET} <= set(result.columns)
    return result


def stream() -> tg.Stream:
    return orders(SCHEMA)


def test_filter_keeps_rows_for_which_all_predicates_are_true() -> None:
    assert made(stream().filter(pl.col("x") < 5, pl.col("n") > 0))[OFFSET].to_list() == [2]
    assert made(stream().filter([pl.col("n") > 0]))[OFFSET].to_list() == [1, 2]


def test_filter_over_every_column_does_not_see_hidden_ones() -> None:
    # The first row has offset 0, the predicate must not look at it.
    kept = made(stream().select("n", "x").filter(pl.all_horizontal(cs.numeric() >= 0), pl.col("n") < 1))
    assert kept[OFFSET].to_list() == [0]
    assert kept.drop(HIDDEN).rows() == [(0, 0.5)]


def test_select_keeps_and_computes_columns_in_order() -> None:
    result = made(stream().select("x", pl.col("n") * 2, label=pl.col("k") + "!", one=1))
    assert result.columns[:4] == ["x", "n", "label", "one"]
    assert result["label"].to_list() == ["a!", "b!", None]
    assert result[TIME].to_list() == [10, 20, 30]


def test_select_of_constants_alone_has_as_many_rows_as_before() -> None:
    assert made(stream().select(one=pl.lit(1)))["one"].to_list() == [1, 1, 1]


def test_selectors_do_not_touch_hidden_columns() -> None:
    result = made(stream().with_columns(cs.numeric() * 10))
    assert result["n"].to_list() == [0, 10, 20]
    assert result.select(HIDDEN).equals(ROWS.select(HIDDEN))
    assert made(stream().select(pl.all(), y=pl.lit(1))).columns[:5] == [*SCHEMA, "y"]
    assert made(stream().select("*")).columns[:4] == list(SCHEMA)
    assert made(stream().select(pl.exclude("k", "tags"))).columns[:2] == ["n", "x"]
    assert made(stream().select(pl.col("^n|x$"))).columns[:2] == ["n", "x"]


def test_a_selector_that_matches_nothing_adds_nothing() -> None:
    assert made(stream().select(cs.boolean(), one=pl.lit(1))).select("one", TIME).rows() == [(1, 10), (1, 20), (1, 30)]
    assert made(stream().with_columns(cs.boolean())).columns == ROWS.columns


def test_drop_and_rename_change_the_columns_only() -> None:
    assert list(made(stream().drop("k", ["tags"])).columns) == ["n", "x", *HIDDEN]
    swapped = made(stream().rename({"n": "x", "x": "n"}))
    assert swapped["x"].to_list() == [0, 1, 2]
    assert swapped.columns[:4] == ["k", "x", "n", "tags"]


def test_explode_makes_a_row_of_every_element_and_repeats_the_others() -> None:
    result = made(stream().explode("tags"))
    assert result.select("k", "tags", TIME, OFFSET).rows() == [
        ("a", "p", 10, 0),
        ("a", "q", 10, 0),
        (None, None, 30, 2),
    ]


def test_streams_are_immutable_and_may_be_read_by_several_branches() -> None:
    start = stream()
    left, right = start.select("n"), start.filter(pl.col("n") > 0)
    assert list(start.schema) == list(SCHEMA)
    left.write(BuiltSink(), uid="left")
    right.write(BuiltSink(), uid="right")
    graph = start.upstream.builder.graph("orders")
    assert graph.readers(0) == (1, 2)
    assert list(graph.sinks()) == ["left", "right"]


def test_changing_a_schema_that_was_handed_out_changes_no_stream() -> None:
    start = stream()
    start.schema.clear()
    assert list(start.schema) == list(SCHEMA)


def test_union_joins_several_sources() -> None:
    job = tg.Job("j")
    first, second, third = (job.read(BuiltSource(), uid=uid) for uid in ("one", "two", "three"))
    first.union(second, third).write(BuiltSink(), uid="out")
    graph = job.graph()
    assert graph.nodes[3].inputs == (0, 1, 2)
    assert graph.nodes[3].schema == first.schema


def test_neighbouring_operators_run_as_one_query(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = []
    collect = pl.LazyFrame.collect

    def counted(lazy: pl.LazyFrame, **how: object) -> object:
        queries.append(how)
        return collect(lazy, **how)  # type: ignore[call-overload]  # passed through

    built = stream().filter(pl.col("n") > 0).with_columns(y=pl.col("n") * 2).select("y").rename({"y": "z"})
    nodes = graph_of(built).nodes
    assert sum(isinstance(node, MapNode) for node in nodes) == 4
    again = stream().filter(pl.col("n") > 0).with_columns(y=pl.col("n") * 2).select("y").rename({"y": "z"})
    monkeypatch.setattr(pl.LazyFrame, "collect", counted)
    queries.clear()
    assert run(again, ROWS)["z"].to_list() == [2, 4]
    assert queries == [{"engine": "in-memory"}]


def test_operators_give_the_same_rows_however_the_stream_is_cut_into_batches() -> None:
    def built() -> tg.Stream:
        step = stream().with_columns(cs.float().fill_null(0.0), label=pl.col("k").replace({"a": "first"}))
        return step.explode("tags").filter(pl.all_horizontal(cs.numeric() >= 0)).select(pl.all(), twice=pl.col("x") * 2)

    whole = run(built(), ROWS)
    assert_frame_equal(pl.concat([run(built(), ROWS[i : i + 1]) for i in range(3)]), whole)
    assert whole["label"].to_list() == ["first", "first", None]


def test_keys_and_window_results_are_columns() -> None:
    windowed = stream().key_by("k").window(tg.tumbling("10s", offset="3s"))
    result = windowed.agg(tg.count().alias("uid"), n=tg.count(), total=tg.sum("n"), uid="w")
    bounds = pl.Datetime("ms", "UTC")
    assert result.schema == {
        "k": pl.String(), "window_start": bounds, "window_end": bounds,
        "uid": pl.Int64(), "n": pl.Int64(), "total": pl.Int64(),
    }  # fmt: skip
    assert list(result.schema) == ["k", "window_start", "window_end", "uid", "n", "total"]
