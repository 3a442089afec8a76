"""Orders in files -> revenue per country and 10 s of event time -> files, exactly once; no broker needed.

    tidegate run examples/files_window.py --workers 2

Reads the orders in `data/orders` beside this folder and writes to `./revenue`; the environment variables INPUT and
OUTPUT name other folders. The job finishes by itself. Started again, it finds that everything is done; to run it once
more from the beginning, remove `./revenue` and `./.tidegate/files-window`.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import tidegate as tg

job = tg.Job("files-window")

orders = tg.FileSource(
    os.environ.get("INPUT", Path(__file__).resolve().parents[1] / "data" / "orders"),
    format=tg.Json({"country": pl.String, "cents": pl.Int64, "ts": pl.Int64}),
    event_time=tg.epoch_ms("ts"),
    max_out_of_orderness="2s",
)
(
    job.read(orders, uid="orders")
    .filter(pl.col("cents") > 0)
    .key_by("country")
    .window(tg.tumbling("10s"))
    .agg(n=tg.count(), cents=tg.sum("cents"), largest=tg.max("cents"), uid="revenue-10s")
    .write(tg.FilesSink(os.environ.get("OUTPUT", "revenue")), uid="out")
)

if __name__ == "__main__":
    job.run(workers=2)
