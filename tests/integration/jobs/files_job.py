"""Files in, files out: a map that keeps every row, and a window; both branches of one source."""

from __future__ import annotations

import os

import polars as pl
import tidegate as tg

folder = os.environ["FOLDER"]
job = tg.Job("files", storage=f"{folder}/store", key_groups=16, delivery=os.environ.get("DELIVERY", "exactly-once"))

orders = job.read(
    tg.FileSource(
        f"{folder}/in",
        format=tg.Json({"id": pl.Int64, "country": pl.String, "cents": pl.Int64, "ts": pl.Int64}),
        event_time=tg.epoch_ms("ts"),
        max_out_of_orderness="2s",
    ),
    uid="orders",
).filter(pl.col("cents") > 0)

orders.select("id", doubled=pl.col("cents") * 2).write(tg.FilesSink(f"{folder}/map"), uid="map")
(
    orders.key_by("country")
    .window(tg.tumbling("10s"))
    .agg(n=tg.count(), cents=tg.sum("cents"), uid="revenue")
    .write(tg.FilesSink(f"{folder}/window"), uid="window")
)
