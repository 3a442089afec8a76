"""P1: topic -> filter, two computed columns -> topic."""

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
    os.environ["IN"], bootstrap=os.environ["BROKER"], format=tg.Json(schema), event_time=tg.epoch_ms("ts")
)
(
    job.read(orders, uid="orders")
    .filter(pl.col("amount") > 10)
    .with_columns(gross=pl.col("amount") * 1.2, note=pl.col("note").str.to_uppercase())
    .write(tg.KafkaSink(os.environ["OUT"], bootstrap=os.environ["BROKER"], key="key"), uid="out")
)
