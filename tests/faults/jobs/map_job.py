"""The map job of the kill rounds: text topic -> "Processed: " + value -> topic, without an exchange."""

from __future__ import annotations

import os

import polars as pl
import tidegate as tg

job = tg.Job(os.environ["JOB"], storage=os.environ["STORAGE"])
lines = tg.KafkaSource(
    os.environ["IN"],
    bootstrap=os.environ["BROKER"],
    format=tg.Text(column="value", metadata=("key",)),
    start=os.environ.get("START", "earliest"),
    group=os.environ.get("GROUP"),
    discovery_interval="1s",
)
(
    job.read(lines, uid="lines")
    .with_columns(value=pl.lit("Processed: ") + pl.col("value"))
    .write(
        tg.KafkaSink(
            os.environ["OUT"],
            bootstrap=os.environ["BROKER"],
            key="key",
            format=tg.Text(column="value"),
            transaction_timeout=os.environ.get("TRANSACTION_TIMEOUT", "60s"),
        ),
        uid="out",
    )
)
