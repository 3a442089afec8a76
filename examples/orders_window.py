"""Orders -> revenue per country and 10 s of event time, from topic to topic, exactly once.

    tidegate run examples/orders_window.py --workers 2

Reads topic `orders` (JSON: country, amount, ts in ms) and writes topic `revenue`, both at localhost:9092; the
environment variables BOOTSTRAP, INPUT and OUTPUT name others. Both topics have to exist.
"""

from __future__ import annotations

import os

import polars as pl
import tidegate as tg

bootstrap = os.environ.get("BOOTSTRAP", "localhost:9092")
job = tg.Job("orders-window")

orders = tg.KafkaSource(
    os.environ.get("INPUT", "orders"),
    bootstrap=bootstrap,
    group="orders-window",
    format=tg.Json({"country": pl.String, "amount": pl.Float64, "ts": pl.Int64}, on_error="skip"),
    event_time=tg.epoch_ms("ts"),
    max_out_of_orderness="2s",
)
(
    job.read(orders, uid="orders")
    .filter(pl.col("amount") > 0)
    .with_columns(amount=pl.col("amount").round(2))
    .key_by("country")
    .window(tg.tumbling("10s"))
    .agg(n=tg.count(), revenue=tg.sum("amount"), uid="revenue-10s")
    .write(tg.KafkaSink(os.environ.get("OUTPUT", "revenue"), bootstrap=bootstrap, key="country"), uid="out")
)

if __name__ == "__main__":
    job.run(workers=2)
