"""Sources, unions, branches and windows behind windows give what Polars gives, also across kills and other layouts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import polars.testing
import pytest

from services.processes import wait_until

JOB: Final = Path(__file__).parent / "jobs" / "branches.py"
BASE_MS: Final = 1_795_392_000_000
RUN_TIMEOUT_S: Final = 120.0
ROWS: Final = 120_000


def write_input(folder: Path) -> pl.DataFrame:
    """Write two folders of files; ids are unique, event times too, so that first and last are."""
    random = np.random.default_rng(11)
    order = np.arange(ROWS * 2)
    frame = pl.DataFrame(
        {
            "id": order,
            "key": pl.Series(random.integers(0, 40, len(order))).cast(pl.String),
            "n": random.integers(-20, 20, len(order)),
            "ts": BASE_MS + order,
            "side": np.where(order % 2 == 0, "left", "right"),
        }
    )
    for side in ("left", "right"):
        (folder / side).mkdir()
        mine = frame.filter(pl.col("side") == side).drop("side")
        for number in range(3):
            # Neighbours change places now and then: out of order, but within the bound.
            part = mine.gather_every(3, number).with_columns(place=pl.col("ts") + pl.col("id") % 7 * 90).sort("place")
            part.drop("place").write_ndjson(folder / side / f"{number}.jsonl")
    return frame.with_columns(n=pl.when(pl.col("side") == "left").then("n").otherwise(-pl.col("n"))).filter(
        pl.col("n") != 0
    )


def read(folder: Path, name: str) -> pl.DataFrame:
    """Everything that a sink wrote."""
    return pl.read_ndjson(sorted((folder / name).glob("*.jsonl")))


def judge(folder: Path, rows: pl.DataFrame) -> None:
    """Compare all three outputs with Polars."""
    assert read(folder, "all").sort("id").equals(rows.select("id", "n").sort("id"))
    seconds = (
        rows.sort("ts")
        .group_by("key", start=pl.col("ts") // 1000 * 1000)
        .agg(
            total=pl.col("n").sum(),
            rows=pl.len().cast(pl.Int64),
            low=pl.col("n").min(),
            high=pl.col("n").max(),
            mean=pl.col("n").mean(),
            first=pl.col("id").first(),
            last=pl.col("id").last(),
        )
        .sort("key", "start")
    )
    start = pl.col("window_start").str.to_datetime(time_zone="UTC", time_unit="ms").dt.epoch("ms").alias("start")
    got = read(folder, "seconds").with_columns(start).select(seconds.columns).sort("key", "start")
    pl.testing.assert_frame_equal(got, seconds)
    tens = (
        seconds.group_by(parity=pl.col("total") % 2, start=pl.col("start") // 10_000 * 10_000)
        .agg(windows=pl.len().cast(pl.Int64), rows=pl.col("rows").sum())
        .sort("parity", "start")
    )
    got = read(folder, "tens").with_columns(start).select(tens.columns).sort("parity", "start")
    pl.testing.assert_frame_equal(got, tens)


def start(folder: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start the job."""
    command = [sys.executable, "-m", "tidegate", "run", str(JOB), "--workers", str(workers)]
    options = ["--checkpoint-interval", "200ms", "--batch-rows-max", "2000", "--exchange-bytes-max", "200000"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen([*command, *options], env={**os.environ, "FOLDER": str(folder)}, stdout=log, stderr=log)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_job_with_everything_equals_polars(workers: int, tmp_path: Path) -> None:
    rows = write_input(tmp_path)
    assert start(tmp_path, workers).wait(RUN_TIMEOUT_S) == 0, (tmp_path / "log").read_text()
    judge(tmp_path, rows)


def test_a_job_killed_and_started_with_other_numbers_of_workers_equals_polars(tmp_path: Path) -> None:
    rows = write_input(tmp_path)
    for workers in (2, 3, 1):
        job = start(tmp_path, workers)
        seen = len(list(tmp_path.glob("all/*.jsonl")))

        def grown(job: subprocess.Popen[bytes] = job, seen: int = seen) -> bool:
            return job.poll() is not None or len(list(tmp_path.glob("all/*.jsonl"))) > seen + 1

        wait_until("new output", grown, RUN_TIMEOUT_S)
        job.send_signal(signal.SIGKILL)
        job.wait(RUN_TIMEOUT_S)
    assert start(tmp_path, 2).wait(RUN_TIMEOUT_S) == 0, (tmp_path / "log").read_text()
    judge(tmp_path, rows)
