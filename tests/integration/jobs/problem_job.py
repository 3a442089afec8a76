"""A job whose every setting comes from the environment, so that each can be wrong."""

from __future__ import annotations

import json
import os

import polars as pl
import tidegate as tg

client = json.loads(os.environ.get("CLIENT", "{}"))
job = tg.Job(os.environ["JOB"], storage="store", checkpoint_interval="200ms")
source = tg.KafkaSource(
    os.environ["IN"],
    bootstrap=os.environ["BROKER"],
    format=tg.Json({"n": pl.Int64, "ts": pl.Int64}, on_error=os.environ.get("ON_ERROR", "fail")),
    event_time=tg.epoch_ms("ts"),
    client=client,
)
sink = tg.KafkaSink(os.environ["OUT"], bootstrap=os.environ["BROKER"], format=tg.Json(), client=client)
rows = job.read(source, uid="in").select("n", pad=pl.lit("x").repeat_by("n").list.join(""))
rows.write(sink, uid="out")
