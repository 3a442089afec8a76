"""User functions over batches: what they get, what they may return, and how their mistakes are reported."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import polars.selectors as cs
import pytest
import tidegate as tg
from tidegate.engine.errors import OperatorError
from tidegate.engine.expressions import IntoSchema
from tidegate.engine.graph import MapNode
from tidegate.engine.ids import HIDDEN, OFFSET, SPLIT, TIME
from tidegate.engine.operators.stateless import compile_chain

from support.flows import batch, orders, refused, run

ROWS = batch({"k": ["a", "b", "c"], "n": [1, 2, 3]}, times=[10, 20, 30])
Function = Callable[[pl.DataFrame], pl.DataFrame]


def mapped(function: Function, schema: IntoSchema, *, event_time: bool = False) -> tg.Stream:
    source = orders({"k": pl.String(), "n": pl.Int64()})
    return source.map_batches(function, schema, event_time=event_time)


def failure(function: Function, schema: IntoSchema, *, event_time: bool = False) -> str:
    with pytest.raises(OperatorError) as caught:
        run(mapped(function, schema, event_time=event_time), ROWS)
    return str(caught.value)


def test_a_function_gets_the_visible_columns_and_hidden_ones_are_put_back() -> None:
    seen = []

    def double(frame: pl.DataFrame) -> pl.DataFrame:
        seen.append(frame.columns)
        return frame.select(cs.numeric() * 2)

    result = run(mapped(double, {"n": pl.Int64}), ROWS)
    assert seen == [["k", "n"]]
    assert result.columns == ["n", *HIDDEN]
    assert result["n"].to_list() == [2, 4, 6]
    assert result.select(HIDDEN).equals(ROWS.select(HIDDEN))


def test_columns_are_brought_into_the_declared_order() -> None:
    result = run(mapped(lambda f: f, {"n": int, "k": str}), ROWS)
    assert result.columns[:2] == ["n", "k"]


def test_another_number_of_rows_needs_event_times() -> None:
    message = failure(lambda f: f.head(1), {"k": pl.String, "n": pl.Int64})
    assert "returned 1 rows for 3" in message
    assert "map_batches(fn, schema, event_time=True)" in message


def test_with_event_time_a_function_may_return_any_number_of_rows() -> None:
    def twice(frame: pl.DataFrame) -> pl.DataFrame:
        assert frame.columns == ["k", "n", TIME]
        return pl.concat([frame, frame.with_columns(pl.col(TIME) + 1)]).select("k", TIME)

    result = run(mapped(twice, {"k": pl.String}, event_time=True), ROWS)
    assert result[TIME].to_list() == [10, 20, 30, 11, 21, 31]
    assert result.select(SPLIT, OFFSET).unique().rows() == [(0, 0)]
    assert result.schema[SPLIT] == pl.Int32


def test_with_event_time_a_function_may_return_no_rows() -> None:
    assert run(mapped(lambda f: f.clear(), {"k": pl.String, "n": pl.Int64}, event_time=True), ROWS).height == 0


def test_event_times_have_to_come_back_complete() -> None:
    lost = failure(lambda f: f.drop(TIME), {"k": pl.String, "n": pl.Int64}, event_time=True)
    assert "the result needs the column '__time'" in lost
    unknown = failure(
        lambda f: f.with_columns(pl.lit(None, pl.Int64).alias(TIME)), {"k": pl.String, "n": pl.Int64}, event_time=True
    )
    assert "returned nulls in '__time'" in unknown


def test_a_result_with_other_columns_is_compared_with_the_declared_schema() -> None:
    message = failure(lambda f: f.select("k", pl.col("n")), {"k": pl.String, "total": pl.Int64})
    assert "returned columns [k, n]; declared schema is [k, total]" in message
    assert 'did you forget .alias("total")?' in message
    assert "map_batches(<lambda>) at test_map_batches.py:" in message
    assert "leave the other columns out" in failure(lambda f: f, {"k": pl.String})


def test_a_result_with_other_dtypes_is_compared_with_the_declared_schema() -> None:
    message = failure(lambda f: f, {"k": pl.String, "n": pl.Int32})
    assert "returned columns [k (String), n (Int64)]; declared schema is [k (String), n (Int32)]" in message


def test_a_result_that_is_no_frame_is_refused() -> None:
    assert "returned NoneType, not a polars DataFrame" in failure(lambda _: None, {"k": pl.String})  # type: ignore[arg-type,return-value]  # the mistake


def test_what_a_function_raises_is_told_with_its_line() -> None:
    def broken(frame: pl.DataFrame) -> pl.DataFrame:
        raise KeyError("rate")

    message = failure(broken, {"k": pl.String})
    assert "map_batches(broken) at test_map_batches.py:" in message
    assert "raised KeyError on a batch of 3 rows: 'rate' (test_map_batches.py:" in message


def test_a_failing_expression_is_found_among_the_operators_of_its_query() -> None:
    stream = orders({"k": pl.String(), "n": pl.Int64()}).filter(pl.col("n") > 1)
    stream = stream.with_columns(number=pl.col("k").cast(pl.Int64)).select("number")
    with pytest.raises(OperatorError) as caught:
        run(stream, ROWS)
    message = str(caught.value)
    assert message.startswith("with_columns at test_map_batches.py:")
    assert "failed on a batch of 3 rows: InvalidOperationError" in message
    assert "cast(..., strict=False)" in message
    assert "filter at" not in message


def test_a_python_function_in_an_expression_with_a_wrong_type_is_refused_when_the_job_is_built() -> None:
    halved = pl.col("n").map_batches(lambda s: s * 0.5, return_dtype=pl.Int64, is_elementwise=True)
    message = refused(lambda: orders({"n": pl.Int64()}).select(x=halved))
    assert "select at test_map_batches.py:" in message
    assert "set `return_dtype`" in message


def test_a_query_that_makes_other_dtypes_than_were_derived_stops() -> None:
    node = MapNode("select", "select at x.py:1", (0,), {"n": pl.Int32()}, lazy=lambda frame: frame)
    with pytest.raises(OperatorError, match=r"select at x\.py:1 made n \(Int64\); the job was built for n \(Int32\)"):
        compile_chain([node])(ROWS.drop("k"))


def test_functions_and_expressions_alternate_in_order() -> None:
    stream = orders({"k": pl.String(), "n": pl.Int64()}).with_columns(pl.col("n") + 1)
    stream = stream.map_batches(lambda f: f.select(pl.col("n") * 10), {"n": pl.Int64}).filter(pl.col("n") > 20)
    assert run(stream, ROWS).select("n", OFFSET).rows() == [(30, 1), (40, 2)]


def test_a_batch_of_which_nothing_is_left_runs_no_further_operator() -> None:
    called = []
    stream = orders({"k": pl.String(), "n": pl.Int64()}).filter(pl.col("n") > 99)
    stream = stream.map_batches(lambda f: called.append(f) or f, {"k": pl.String, "n": pl.Int64})  # type: ignore[func-returns-value]  # notes the call
    assert run(stream, ROWS).height == 0
    assert called == []
