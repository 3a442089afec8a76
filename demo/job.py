"""The demo's job: orders from files -> filter and map -> revenue per country, customer and 10 s window -> files."""

from __future__ import annotations

import os

import polars as pl
import tidegate as tg

folder = os.environ.get("DEMO_FOLDER", "tidegate-demo")
job = tg.Job("demo", storage=f"{folder}/checkpoints")

orders = tg.FileSource(
    f"{folder}/orders",
    format=tg.Json({"country": pl.String, "customer": pl.Int64, "cents": pl.Int64, "ts": pl.Int64}),
    event_time=tg.epoch_ms("ts"),
    max_out_of_orderness="2s",
)
(
    job.read(orders, uid="orders")
    .filter(pl.col("cents") > 0)
    .with_columns(net=pl.col("cents") * 81 // 100)
    .key_by("country", "customer")
    .window(tg.tumbling("10s"))
    .agg(n=tg.count(), net=tg.sum("net"), uid="revenue")
    .write(tg.FilesSink(f"{folder}/revenue"), uid="out")
)
