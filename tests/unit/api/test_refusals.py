"""A wrong job is refused at its line, before anything runs, with a message that says what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast

import polars as pl
import polars.selectors as cs
import pytest
import tidegate as tg

from support.flows import BuiltSink, BuiltSource, orders, refused

WINDOW = tg.tumbling("10s")


def test_an_unknown_column_is_named_with_line_neighbours_and_schema() -> None:
    message = refused(lambda: orders().filter(pl.col("contry") == "de"))
    assert re.search(r"filter at test_refusals\.py:\d+: there is no column 'contry'", message)
    assert "did you mean 'country'?" in message
    assert "amount (Float64)" in message
    assert "__time" not in message


@pytest.mark.parametrize(
    "build",
    [
        lambda s: s.select("contry"),
        lambda s: s.select(pl.col("country", "contry")),
        lambda s: s.with_columns(x=pl.col("contry")),
        lambda s: s.drop("contry"),
        lambda s: s.rename({"contry": "x"}),
        lambda s: s.explode("contry"),
        lambda s: s.key_by("contry"),
        lambda s: s.key_by("country").window(WINDOW).agg(tg.sum("contry"), uid="w"),
    ],
)
def test_every_operator_knows_its_columns(build: Callable[[tg.Stream], object]) -> None:
    message = refused(lambda: build(orders()))
    assert "there is no column 'contry'" in message
    assert "did you mean 'country'?" in message
    assert "test_refusals.py:" in message


def test_a_mistake_in_types_is_found_without_any_row() -> None:
    assert "select at" in refused(lambda: orders().select(pl.col("country") + 1))
    assert "country" in refused(lambda: orders().filter(pl.col("country")))
    assert "with_columns at" in refused(lambda: orders().with_columns(x=pl.col("amount").str.to_uppercase()))
    assert "is no list" in refused(lambda: orders().explode("country"))


# What `Expr.meta.is_row_separable()` of Polars 2.1 misses is marked.
DEPENDS_ON_THE_BATCH: dict[str, tuple[pl.Expr, str]] = {
    "shift": (pl.col("items").shift(), "neighbours"),
    "diff": (pl.col("items").diff(), "neighbours"),
    "forward_fill": (pl.col("items").forward_fill(), "neighbours"),
    "cum_sum": (pl.col("items").cum_sum(), "key_by(...).window(...).agg(...)"),
    "rolling": (pl.col("items").rolling_sum(3), "key_by(...).window(...).agg(...)"),
    "over": (pl.col("items").sum().over("country"), "instead of over(...)"),
    "sum": (pl.col("items").sum(), "key_by(...).window(...).agg(...)"),
    "len": (pl.len(), "key_by(...).window(...).agg(...)"),
    "first": (pl.col("items").first(), "key_by(...).window(...).agg(...)"),
    "rank": (pl.col("items").rank(), "not the whole stream"),
    "sort": (pl.col("items").sort(), "not the whole stream"),
    "unique": (pl.col("items").unique(), "not the whole stream"),
    "row numbers": (pl.int_range(pl.len()), "not the whole stream"),
    "a column of its own": (pl.lit(pl.Series([1, 2])), ""),
    "less the mean (missed)": (pl.col("items") - pl.col("items").mean(), "key_by"),
    "up to the largest (missed)": (pl.col("items").clip(0, pl.col("items").max()), "key_by"),
    "filter (missed)": (pl.col("items").filter(pl.col("items") > 1), ".filter(...) of the stream"),
    "drop_nulls (missed)": (pl.col("items").drop_nulls(), ".filter(...) of the stream"),
    "explode (missed)": (pl.col("tags").explode(), "use .explode(...) of the stream"),
    "is_in a column (missed)": (pl.col("ts").is_in(pl.col("items")), "list of values"),
    "a function over batches (missed)": (
        pl.col("items").map_batches(lambda s: s, pl.Int32),
        ".map_batches(fn, schema)",
    ),
    "of every column (missed)": (cs.numeric().cum_sum(), "key_by"),
}


@pytest.mark.filterwarnings("ignore:`is_in`:DeprecationWarning")
@pytest.mark.parametrize("name", DEPENDS_ON_THE_BATCH)
def test_an_expression_that_batch_boundaries_would_change_is_refused(name: str) -> None:
    expression, alternative = DEPENDS_ON_THE_BATCH[name]
    stream = orders()
    message = refused(lambda: stream.with_columns(expression))
    assert "with_columns at test_refusals.py:" in message
    assert "another result when rows are cut into batches differently" in message
    assert alternative in message


def test_the_part_of_an_expression_that_is_to_blame_is_named() -> None:
    message = refused(lambda: orders().select(share=pl.col("items") / pl.col("items").sum()))
    assert 'col("items").sum() in [(col("items")' in message


SEPARABLE: dict[str, pl.Expr] = {
    "constant": pl.lit("x"),
    "arithmetic": pl.col("items") * 2 + pl.col("amount"),
    "text": pl.lit("Processed: ") + pl.col("country"),
    "condition": pl.when(pl.col("items") > 1).then(pl.col("amount")).otherwise(None),
    "is_in values": pl.col("country").is_in(["de", "fr"]),
    "is_in a series": pl.col("country").is_in(pl.Series(["de"]).implode()),
    "replace": pl.col("country").replace({"de": "germany"}),
    "replace_strict inside": pl.col("country").replace_strict({"de": 1}, default=0) + 1,
    "inside lists": pl.col("tags").list.eval(pl.element().str.to_uppercase().sort()).list.first(),
    "horizontal": pl.sum_horizontal("items", "amount"),
    "every column": pl.all_horizontal(pl.all().is_not_null()),
    "struct": pl.struct("country", "items").struct.json_encode(),
    "moment": pl.from_epoch("ts", time_unit="ms").dt.truncate("1h"),
    "one value at a time": pl.col("items").map_elements(int.bit_length, return_dtype=pl.Int64),
    "format": pl.format("{}-{}", "country", "items"),
    "coalesce": pl.coalesce("items", pl.lit(0)),
}


@pytest.mark.parametrize("name", SEPARABLE)
def test_an_expression_over_one_row_is_taken(name: str) -> None:
    assert "x" in orders().with_columns(SEPARABLE[name].alias("x")).schema


def test_a_plan_that_cannot_be_read_leaves_the_answer_to_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl.LazyFrame, "show_graph", lambda *_, **__: "another form")
    orders().with_columns(x=pl.col("items") + 1)
    refused(lambda: orders().with_columns(x=pl.col("items").cum_sum()))
    refused(lambda: orders().with_columns(x=pl.col("items") - pl.col("items").mean()))


@pytest.mark.parametrize(
    "build",
    [
        lambda s: s.select("__time"),
        lambda s: s.with_columns(__time=1),
        lambda s: s.with_columns(pl.col("ts").alias("__offset")),
        lambda s: s.with_columns(pl.col("ts").name.prefix("__")),
        lambda s: s.select(cs.integer().name.prefix("__x")),
        lambda s: s.rename({"ts": "__ts"}),
        lambda s: s.map_batches(lambda f: f, {"__x": pl.Int64}),
        lambda s: s.key_by("country").window(WINDOW).agg(tg.count().alias("__n"), uid="w"),
    ],
)
def test_names_of_the_engine_are_out_of_reach(build: Callable[[tg.Stream], object]) -> None:
    message = refused(lambda: build(orders()))
    assert "begins with '__', which is kept for the engine" in message


def test_a_source_may_not_have_columns_of_the_engine() -> None:
    source = BuiltSource({"__time": pl.Int64()})
    assert "column '__time'" in refused(lambda: tg.Job("j").read(source, uid="s"))


def test_a_missing_uid_is_proposed() -> None:
    job = tg.Job("j")
    assert 'add uid="list-in"' in refused(lambda: job.read(BuiltSource()))
    job.read(BuiltSource(), uid="list-in")
    assert "this source has no uid" in refused(lambda: job.read(BuiltSource()))
    assert 'add uid="list-in-2"' in refused(lambda: job.read(BuiltSource()))
    assert "this sink has no uid" in refused(lambda: orders().write(BuiltSink()))
    windowed = orders({"the country": pl.String()}).key_by("the country").window(WINDOW)
    assert 'add uid="the-country-window"' in refused(lambda: windowed.agg(tg.count()))


def test_a_uid_is_used_once() -> None:
    stream = orders()
    message = refused(lambda: stream.write(BuiltSink(), uid="orders"))
    assert re.search(r"write at test_refusals\.py:\d+: uid 'orders' is taken by read at flows\.py:\d+", message)
    assert 'write uid="orders-2"' in message


@pytest.mark.parametrize("uid", ["", "a b", "a/b", "x" * 65, ".."])
def test_a_uid_or_job_id_that_could_not_be_a_file_name_is_refused(uid: str) -> None:
    assert f"uid {uid!r}" in refused(lambda: tg.Job("j").read(BuiltSource(), uid=uid))
    assert f"job id {uid!r}" in refused(lambda: tg.Job(uid))


def test_a_stream_that_nobody_reads_is_named_with_its_line() -> None:
    job = tg.Job("j")
    stream = job.read(BuiltSource(), uid="s")
    stream.write(BuiltSink(), uid="out")
    stream.filter(pl.col("items") > 1)
    message = refused(job.graph)
    assert re.search(r"filter at test_refusals\.py:\d+: nobody reads this stream", message)
    assert ".write(sink" in message


def test_a_job_without_source_is_refused() -> None:
    assert "job 'j' reads no source" in refused(tg.Job("j").graph)


def test_a_source_that_cannot_seek_is_refused_for_exactly_once() -> None:
    job = tg.Job("j")
    job.read(BuiltSource(seekable=False), uid="ticks").write(BuiltSink(), uid="out")
    message = refused(lambda: job.check_delivery("exactly-once"))
    assert "source 'ticks' (list) cannot go back" in message
    assert "sink 'out'" in message
    assert 'delivery="at-least-once"' in message
    job.check_delivery("at-least-once")


def test_the_delivery_of_the_sink_counts_before_that_of_the_job() -> None:
    job = tg.Job("j")
    job.read(BuiltSource(seekable=False), uid="ticks").write(BuiltSink(delivery="at-least-once"), uid="out")
    job.check_delivery("exactly-once")


def test_running_such_a_job_is_refused_before_anything_is_opened() -> None:
    job = tg.Job("j")
    job.read(BuiltSource(seekable=False), uid="ticks").write(BuiltSink(), uid="out")
    assert "cannot go back" in refused(job.run)


def test_a_function_per_row_points_to_the_alternatives() -> None:
    message = refused(lambda: orders().map(len))
    assert "map at test_refusals.py:" in message
    assert "with_columns(...)" in message
    assert "map_batches(fn, schema)" in message


def test_streams_of_different_schemas_are_told_apart() -> None:
    job = tg.Job("j")
    one = job.read(BuiltSource({"a": pl.Int64(), "b": pl.String()}), uid="one")
    two = job.read(BuiltSource({"a": pl.Int32(), "c": pl.String()}), uid="two")
    message = refused(lambda: one.union(two))
    assert "'b' is missing in the second, 'c' is missing in the first, 'a' is Int64 and Int32" in message
    assert "the order is a, b and b, a" in refused(lambda: one.union(one.select("b", "a")))
    assert "different jobs" in refused(lambda: one.union(orders()))
    assert "is not a stream" in refused(lambda: one.union(cast("tg.Stream", "two")))


@pytest.mark.parametrize("dtype", [pl.List(pl.Int64), pl.Struct({"x": pl.Int64})], ids=str)
def test_a_nested_column_is_no_key(dtype: pl.DataType) -> None:
    assert "cannot be a key" in refused(lambda: orders({"k": dtype}).key_by("k"))


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda j: j.read("topic", uid="x"), "'topic' is not a source"),
        (lambda j: j.read(BuiltSource(), uid="x").write("topic", uid="y"), "'topic' is not a sink"),
        (lambda j: j.read(BuiltSource(), uid="x").filter(3), "3 is not an expression"),
        (lambda j: j.read(BuiltSource(), uid="x").select(), "no expression given"),
        (lambda j: j.read(BuiltSource(), uid="x").drop(3), "3 is no column name"),
        (lambda j: j.read(BuiltSource(), uid="x").key_by(), "no column given"),
        (lambda j: j.read(BuiltSource(), uid="x").key_by("country").window("10s"), 'window(tg.tumbling("10s"))'),
        (lambda j: j.read(BuiltSource(), uid="x").map_batches(3, {}), "3 is not a function"),
        (lambda j: j.read(BuiltSource(), uid="x").map_batches(len, {"a": 3}), "is no schema"),
        (lambda j: tg.Job("j", key_groups=0), "key_groups is 0"),
        (lambda j: tg.Job("j", chekpoint_interval=1), "chekpoint_interval"),
        (lambda j: tg.tumbling("soon"), "window size is 'soon'"),
        (lambda j: tg.tumbling(0), "at least 1 ms"),
        (lambda j: tg.tumbling("1s", offset="-1s"), "window offset is '-1s'"),
    ],
)
def test_a_wrong_argument_says_what_to_write(build: Callable[[Any], object], text: str) -> None:
    assert text in refused(lambda: build(tg.Job("j")))


def test_a_sink_refuses_a_schema_when_the_job_is_built() -> None:
    assert "cannot hold column 'tags'" in refused(lambda: orders().write(BuiltSink(refuses="tags"), uid="out"))
