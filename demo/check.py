"""Checks the demo's output against a plain Polars computation over the same orders."""

from __future__ import annotations

from pathlib import Path

import polars as pl

WINDOW_MS = 10_000


def expected(folder: Path) -> pl.DataFrame:
    """Compute what the job has to put out: country, customer, start (ms), n, net."""
    orders = pl.read_ndjson(sorted(folder.glob("*.jsonl")))
    return (
        orders.filter(pl.col("cents") > 0)
        .with_columns(net=pl.col("cents") * 81 // 100, start=pl.col("ts") // WINDOW_MS * WINDOW_MS)
        .group_by("country", "customer", "start")
        .agg(n=pl.len().cast(pl.Int64), net=pl.col("net").sum())
    )


def output(folder: Path) -> pl.DataFrame:
    """Read what the job put out, in the same columns."""
    rows = pl.read_ndjson(sorted(folder.glob("*.jsonl")))
    start = pl.col("window_start").str.to_datetime(time_unit="ms", time_zone="UTC").dt.epoch("ms")
    return rows.select("country", "customer", start.alias("start"), "n", "net")


def differences(want: pl.DataFrame, have: pl.DataFrame) -> tuple[int, int]:
    """Compare as multisets; return how many rows are missing, and how many are too many."""
    keys = want.columns
    left = want.group_by(keys).agg(want=pl.len().cast(pl.Int64))
    right = have.group_by(keys).agg(have=pl.len().cast(pl.Int64))
    both = left.join(right, on=keys, how="full", coalesce=True).with_columns(pl.col("want", "have").fill_null(0))
    missing = both.select((pl.col("want") - pl.col("have")).clip(lower_bound=0).sum()).item()
    more = both.select((pl.col("have") - pl.col("want")).clip(lower_bound=0).sum()).item()
    return int(missing), int(more)
