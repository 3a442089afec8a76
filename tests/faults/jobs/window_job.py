"""The windowed job of the kill rounds: orders -> filter and map -> 10 s tumbling count and sum by key -> topic."""

from __future__ import annotations

import os

import polars as pl
import tidegate as tg

job = tg.Job(os.environ["JOB"], storage=os.environ["STORAGE"])
orders = tg.KafkaSource(
    os.environ["IN"],
    bootstrap=os.environ["BROKER"],
    format=tg.Json({"id": pl.Int64, "key": pl.String, "amount": pl.Int64, "ts": pl.Int64}),
    event_time=tg.epoch_ms("ts"),
    max_out_of_orderness="2s",
)
(
    job.read(orders, uid="orders")
    .filter(pl.col("amount") > 0)
    .with_columns(cents=pl.col("amount") * 100)
    .key_by("key")
    .window(tg.tumbling("10s"))
    .agg(n=tg.count(), total=tg.sum("cents"), uid="totals")
    .select("key", "n", "total", start=pl.col("window_start").dt.epoch("ms"))
    .write(
        tg.KafkaSink(
            os.environ["OUT"],
            bootstrap=os.environ["BROKER"],
            key="key",
            format=tg.Json(),
            transaction_timeout=os.environ.get("TRANSACTION_TIMEOUT", "60s"),
        ),
        uid="out",
    )
)
