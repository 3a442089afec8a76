"""Text topic -> "Processed: " + value -> topic, exactly once; no record needs to change its worker.

    tidegate run examples/processed_map.py --workers 2

Reads topic `lines` and writes topic `processed`, both at localhost:9092; the environment variables BOOTSTRAP, INPUT and
OUTPUT name others. Keys are kept. Both topics have to exist.
"""

from __future__ import annotations

import os

import polars as pl
import tidegate as tg

bootstrap = os.environ.get("BOOTSTRAP", "localhost:9092")
job = tg.Job("processed-map")

lines = tg.KafkaSource(
    os.environ.get("INPUT", "lines"), bootstrap=bootstrap, format=tg.Text(column="value", metadata=("key",))
)
(
    job.read(lines, uid="lines")
    .with_columns(value=pl.lit("Processed: ") + pl.col("value"))
    .write(
        tg.KafkaSink(
            os.environ.get("OUTPUT", "processed"), bootstrap=bootstrap, key="key", format=tg.Text(column="value")
        ),
        uid="out",
    )
)

if __name__ == "__main__":
    job.run(workers=2)
