"""P2: topic -> 10 s tumbling count and sum by key -> topic."""

from __future__ import annotations

import os

import polars as pl
import tidegate as tg

schema = {
    "id": pl.Int64,
    "key": pl.String,
    "country": pl.String,
    "amount": pl.Float64,
    "ts": pl.Int64,
    "note": pl.String,
}
job = tg.Job(os.environ["RUN"])
orders = tg.KafkaSource(
    os.environ["IN"],
    bootstrap=os.environ["BROKER"],
    format=tg.Json(schema),
    event_time=tg.epoch_ms("ts"),
    max_out_of_orderness="1s",
)
(
    job.read(orders, uid="orders")
    .key_by("key")
    .window(tg.tumbling("10s"))
    .agg(n=tg.count(), total=tg.sum("amount"), uid="windows")
    .select("key", "n", "total", start=pl.col("window_start").dt.epoch("ms"))
    .write(tg.KafkaSink(os.environ["OUT"], bootstrap=os.environ["BROKER"], key="key"), uid="out")
)
