"""Two sources joined, two branches, a window behind a window, all aggregates: everything at once, over files."""

from __future__ import annotations

import os

import polars as pl
import tidegate as tg

folder = os.environ["FOLDER"]
schema = {"id": pl.Int64, "key": pl.String, "n": pl.Int64, "ts": pl.Int64}
job = tg.Job("branches", storage=f"{folder}/store", key_groups=16)


def source(name: str) -> tg.FileSource:
    """The files of one folder."""
    return tg.FileSource(
        f"{folder}/{name}", format=tg.Json(schema), event_time=tg.epoch_ms("ts"), max_out_of_orderness="1s"
    )


left = job.read(source("left"), uid="left").filter(pl.col("n") != 0)
right = job.read(source("right"), uid="right").with_columns(n=-pl.col("n")).filter(pl.col("n") != 0)
both = left.union(right)
both.select("id", "n").write(tg.FilesSink(f"{folder}/all"), uid="all")
seconds = (
    both.key_by("key")
    .window(tg.tumbling("1s"))
    .agg(
        pl.col("n").sum().alias("total"),
        rows=tg.count(),
        low=tg.min("n"),
        high=tg.max("n"),
        mean=tg.mean("n"),
        first=tg.first("id"),
        last=tg.last("id"),
        uid="seconds",
    )
)
seconds.write(tg.FilesSink(f"{folder}/seconds"), uid="seconds-out")
(
    seconds.with_columns(parity=pl.col("total") % 2)
    .key_by("parity")
    .window(tg.tumbling("10s"))
    .agg(windows=tg.count(), rows=tg.sum("rows"), uid="tens")
    .write(tg.FilesSink(f"{folder}/tens"), uid="tens-out")
)
