"""Aggregates: how they may be written, what they are called, their types, and that they give what Polars gives."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import polars as pl
import pytest
import tidegate as tg
from polars.testing import assert_frame_equal
from tidegate.engine.graph import Aggregate
from tidegate.engine.ids import TIME
from tidegate.engine.operators.window import WindowState, partial, table_spec
from tidegate.state.tables import new_table

from support.flows import batch, orders, refused, window_of

SCHEMA = {"k": pl.String(), "x": pl.Float64(), "n": pl.Int32(), "text": pl.String(), "l": pl.List(pl.Int64)}


def aggregates(*written: Any, **named: Any) -> tuple[Aggregate, ...]:
    """What a window over SCHEMA makes of these aggregates."""
    windowed = orders(SCHEMA).key_by("k").window(tg.tumbling("10s"))
    return window_of(windowed.agg(*written, uid="w", **named)).aggregates


def refusal(*written: Any, **named: Any) -> str:
    """Why a window over SCHEMA refuses these aggregates."""
    return refused(lambda: aggregates(*written, **named))


def test_aggregates_are_named_by_keyword_alias_or_column() -> None:
    assert aggregates(tg.count(), tg.sum("x"), tg.mean("n").alias("average"), largest=tg.max("x")) == (
        Aggregate("count", "count", None),
        Aggregate("sum", "x", "x"),
        Aggregate("mean", "average", "n"),
        Aggregate("max", "largest", "x"),
    )


def test_a_column_may_be_called_uid() -> None:
    assert aggregates(tg.count().alias("uid"))[0].name == "uid"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (pl.len(), Aggregate("count", "count", None)),
        (pl.len().alias("n"), Aggregate("count", "n", None)),
        (pl.col("x").sum(), Aggregate("sum", "x", "x")),
        (pl.sum("x").alias("total"), Aggregate("sum", "total", "x")),
        (pl.col("x").min(), Aggregate("min", "x", "x")),
        (pl.col("x").max(), Aggregate("max", "x", "x")),
        (pl.col("x").mean(), Aggregate("mean", "x", "x")),
        (pl.col("x").first(), Aggregate("first", "x", "x")),
        (pl.col("x").last().alias("newest"), Aggregate("last", "newest", "x")),
    ],
    ids=str,
)
def test_a_polars_aggregate_is_taken_where_it_is_incremental(expression: pl.Expr, expected: Aggregate) -> None:
    assert aggregates(expression) == (expected,)


@pytest.mark.parametrize(
    "expression",
    [
        pl.col("x").median(),
        pl.col("x").n_unique(),
        pl.col("x").sum() * 2,
        (pl.col("x") * 2).sum(),
        pl.col("x", "n").sum(),
        pl.all().sum(),
        pl.col("x"),
        pl.lit(1),
        "x",
        3,
    ],
    ids=str,
)
def test_any_other_expression_names_the_forms_there_are(expression: object) -> None:
    message = refusal(expression)
    assert "agg at test_aggregates.py:" in message
    assert "cannot be kept up to date row by row" in message
    assert 'tg.sum("x")' in message


def test_wrong_aggregates_are_told_apart() -> None:
    assert "no aggregate given" in refusal()
    assert "there is no column 'y'" in refusal(tg.sum("y"))
    assert "sum of column 'text' (String) needs numbers" in refusal(tg.sum("text"))
    assert "min of column 'l'" in refusal(tg.min("l"))
    assert "takes the name of a column" in refusal(tg.sum(pl.col("x")))  # type: ignore[arg-type]  # the mistake
    assert "output column 'x' is taken" in refusal(tg.sum("x"), tg.max("x"))
    assert "output column 'k' is taken" in refusal(k=tg.count())
    assert "output column 'window_end' is taken" in refusal(window_end=tg.count())


ALL = [
    *(make(column).alias(f"{make.__name__.strip('_')}_{column}")
      for make in (tg.sum, tg.min, tg.max, tg.mean, tg.first, tg.last) for column in ("v",)),
    tg.count().alias("rows"),
]  # fmt: skip
VALUES: dict[str, tuple[pl.DataType, list[object]]] = {
    "int8": (pl.Int8(), [100, 100, None, -1]),
    "int32 beyond its range": (pl.Int32(), [2**31 - 1, 2**31 - 1, 5, None]),
    "int64": (pl.Int64(), [2**52, 1, -7, 3]),
    "uint32": (pl.UInt32(), [2**32 - 1, 2**32 - 1, 0, None]),
    "float64": (pl.Float64(), [0.5, None, 2.25, -1.0]),
    "float with nan": (pl.Float64(), [0.5, float("nan"), 2.25, None]),
    "decimal": (pl.Decimal(4, 2), [Decimal("99.99"), Decimal("99.99"), None, Decimal("0.02")]),
    "only nulls": (pl.Int64(), [None, None, None, None]),
}


@pytest.mark.parametrize("name", VALUES)
def test_results_are_those_of_polars_in_the_declared_types(name: str) -> None:
    dtype, values = VALUES[name]
    rows = batch({"k": ["a"] * 4, "v": [0] * 4}, times=[3, 1, 2, 4]).with_columns(pl.Series("v", values, dtype))
    stream = orders({"k": pl.String(), "v": dtype}).key_by("k").window(tg.tumbling("10s")).agg(*ALL, uid="w")
    node = window_of(stream)
    state = WindowState(new_table(table_spec(node)), node)
    for i in (2, 0, 3, 1):  # one batch per row, and not in their order
        assert state.absorb(partial(node, rows[i : i + 1], 128), 0) == 0
    result = state.advance(10_000)
    assert result is not None
    assert result.drop(TIME).schema == stream.schema
    wide = pl.col("v").cast(stream.schema["sum_v"])
    ordered = rows.sort(TIME)
    expected = ordered.select(
        wide.sum().alias("sum_v"), pl.col("v").min().alias("min_v"), pl.col("v").max().alias("max_v"),
        pl.col("v").cast(pl.Float64).mean().alias("mean_v"), pl.col("v").first().alias("first_v"),
        pl.col("v").last().alias("last_v"), pl.len().cast(pl.Int64).alias("rows"),
    )  # fmt: skip
    assert_frame_equal(result.select(expected.columns), expected, rel_tol=1e-12)


def test_texts_and_moments_can_be_compared_and_picked() -> None:
    schema = {"k": pl.String(), "v": pl.String(), "at": pl.Datetime("ms", "UTC"), "ok": pl.Boolean()}
    windowed = orders(schema).key_by("k").window(tg.tumbling("1s"))
    result = windowed.agg(tg.min("v"), latest=tg.max("at"), ok=tg.first("ok"), uid="w")
    assert result.schema["v"] == pl.String
    assert result.schema["latest"] == schema["at"]
    assert result.schema["ok"] == pl.Boolean


def test_columns_with_names_of_partial_columns_do_not_collide() -> None:
    rows = batch({"k": ["a", "a"], "x": [1, 2], "_time_x": [8, 9], "n": [3, 4]})
    stream = orders(dict(rows.drop(TIME, "__split", "__offset").schema)).key_by("k").window(tg.tumbling("10s"))
    node = window_of(stream.agg(tg.first("x"), tg.first("_time_x"), tg.mean("n"), m=tg.mean("x"), uid="w"))
    state = WindowState(new_table(table_spec(node)), node)
    state.absorb(partial(node, rows, 128), 0)
    result = state.advance(10_000)
    assert result is not None
    assert result.select("x", "_time_x", "n", "m").rows() == [(1, 8, 3.5, 1.5)]
