"""Which columns of a source a job uses, so that decoders may leave the others out."""

from __future__ import annotations

import polars as pl
import polars.selectors as cs
import pytest
import tidegate as tg
from tidegate.engine.projection import used_columns

from support.flows import BuiltSink, graph_of, orders

WINDOW = tg.tumbling("10s")


def used(stream: tg.Stream) -> set[str] | None:
    found = used_columns(graph_of(stream), 0)
    return None if found is None else set(found)


def test_a_window_uses_its_keys_and_inputs_and_what_stands_before_it_reads() -> None:
    stream = orders().filter(pl.col("items") > 0).with_columns(total=pl.col("amount") * 2)
    assert used(stream.key_by("country").window(WINDOW).agg(t=tg.sum("total"), uid="w")) == {
        "items",
        "amount",
        "country",
    }
    assert used(orders().key_by("country").window(WINDOW).agg(n=tg.count(), uid="w")) == {"country"}


def test_a_select_uses_what_it_reads_whatever_follows() -> None:
    assert used(orders().select(x=pl.col("items") + pl.col("ts"))) == {"items", "ts"}
    assert used(orders().select("items").map_batches(lambda f: f, {"items": pl.Int32})) == {"items"}


@pytest.mark.parametrize(
    "stream",
    [
        orders().filter(pl.col("items") > 0),
        orders().map_batches(lambda f: f.select("items"), {"items": pl.Int32}),
        orders().select(cs.numeric()),
        orders().rename({"items": "n"}).select("n"),
    ],
    ids=["sink", "function", "selector", "rename"],
)
def test_where_it_is_not_known_every_column_is_used(stream: tg.Stream) -> None:
    assert used(stream) is None


def test_branches_add_up() -> None:
    stream = orders()
    stream.select("items").write(BuiltSink(), uid="one")
    stream.drop("tags").key_by("country").window(WINDOW).agg(tg.max("ts"), uid="w").write(BuiltSink(), uid="two")
    assert set(used_columns(stream.upstream.builder.graph("j"), 0) or ()) == {"items", "country", "ts"}
