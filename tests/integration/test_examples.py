"""The examples run as their docstrings say, on a real broker, across two workers, with exact results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from services.kafka import KafkaBroker
from services.processes import wait_until
from services.topics import Topics

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
BASE_MS: Final = 1_795_392_000_000
OUTPUT_TIMEOUT_S: Final = 60.0
PARTITIONS: Final = 4


def run_example(
    name: str, kafka: KafkaBroker, source: str, sink: str, folder: Path, wanted: int, topics: Topics
) -> pl.DataFrame:
    """Run an example until its output is there, stop it with Ctrl-C, and return the output."""
    environment = {**os.environ, "BOOTSTRAP": kafka.bootstrap, "INPUT": source, "OUTPUT": sink}
    command = [
        sys.executable,
        "-m",
        "tidegate",
        "run",
        str(EXAMPLES / name),
        "--workers",
        "2",
        "--storage",
        str(folder),
    ]
    with (folder / "log").open("wb") as log:
        job = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:

        def complete() -> bool:
            assert job.poll() is None, (folder / "log").read_text()
            return topics.read(sink).height >= wanted

        wait_until(f"{wanted} records of output", complete, OUTPUT_TIMEOUT_S)
        job.send_signal(signal.SIGINT)
        assert job.wait(OUTPUT_TIMEOUT_S) == 0, (folder / "log").read_text()
    finally:
        if job.poll() is None:
            job.kill()
    return topics.read(sink)


def test_the_windowed_example_counts_and_sums_by_country(kafka: KafkaBroker, topics: Topics, tmp_path: Path) -> None:
    source, sink = topics.create("orders", PARTITIONS), topics.create("revenue", PARTITIONS)
    random = np.random.default_rng(3)
    count = 5_000
    orders = pl.DataFrame(
        {
            "country": np.array(["DE", "FR", "JP"])[random.integers(0, 3, count)],
            "amount": random.integers(-200, 5_000, count) / 4,
            "ts": BASE_MS + np.arange(count) * 10 + random.integers(0, 1_000, count),
        }
    )
    # A record that is no JSON is skipped; one late record per partition closes the windows.
    end = json.dumps({"country": "ZZ", "amount": 1.0, "ts": BASE_MS + 10_000_000})
    for partition in range(PARTITIONS):
        mine = orders.gather_every(PARTITIONS, partition).to_dicts()
        topics.produce(source, [*(json.dumps(row) for row in mine), "not json", end], partition=partition)
    want = (
        orders.filter(pl.col("amount") > 0)
        .group_by("country", start=pl.col("ts") // 10_000 * 10_000)
        .agg(n=pl.len().cast(pl.Int64), revenue=pl.col("amount").sum())
        .sort("country", "start")
    )
    output = run_example("orders_window.py", kafka, source, sink, tmp_path, want.height, topics)
    have = pl.DataFrame([json.loads(value) for value in output["value"]])
    have = have.with_columns(start=pl.col("window_start").str.to_datetime(time_zone="UTC").dt.epoch("ms"))
    assert have.select(want.columns).sort("country", "start").equals(want)
    keys = [key.decode() for key in output["key"]]
    assert keys == have["country"].to_list()


def test_the_map_example_keeps_keys_and_their_order(kafka: KafkaBroker, topics: Topics, tmp_path: Path) -> None:
    source, sink = topics.create("lines", PARTITIONS), topics.create("processed", PARTITIONS)
    sent = [(f"k{n % 7}", f"line {n}") for n in range(2_000)]
    topics.produce(source, [line for _, line in sent], keys=[key for key, _ in sent])
    output = run_example("processed_map.py", kafka, source, sink, tmp_path, len(sent), topics).sort(
        "partition", "offset"
    )
    got = [(key.decode(), value.decode()) for key, value in zip(output["key"], output["value"], strict=True)]
    for key in {key for key, _ in sent}:
        assert [value for k, value in got if k == key] == [f"Processed: {line}" for k, line in sent if k == key]
    assert len(got) == len(sent)
