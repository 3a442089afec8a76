"""A job from files to files, hurt with `kill -9` at random moments: its output equals a plain Polars computation."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Final

import polars as pl
import pytest
from tidegate.demo.orders import write_orders

from faults.job_process import JobProcess
from services.processes import wait_until

JOB: Final = str(Path(__file__).parent / "jobs" / "files")
FILES: Final = 4
ROWS_PER_FILE: Final = 40_000
KILLS: Final = 5
MOMENT_MAX_S: Final = 0.6
PROGRESS_TIMEOUT_S: Final = 60.0
VICTIMS: Final = ("worker", "worker", "workers", "coordinator", "everything")
WINDOW_MS: Final = 10_000
KEYS: Final = ["country", "start"]


def process(folder: Path, delivery: str = "exactly-once") -> JobProcess:
    """The job with two workers; small batches, so that it takes a while."""
    return JobProcess(
        JOB,
        {"FOLDER": str(folder), "DELIVERY": delivery},
        folder / "log",
        *("--workers", "2", "--checkpoint-interval", "100ms", "--batch-rows-max", "200", "--restarts", "100"),
        *("--restart-backoff", "50ms"),
    )


def hurt(job: JobProcess, folder: Path, seed: int) -> Counter[str]:
    """Kill random processes of a running job, each time a random moment after new output; return who was killed."""
    chance, killed = random.Random(seed), Counter[str]()
    for _ in range(KILLS):
        seen = visible(folder)

        def grown(seen: int = seen) -> bool:
            return not job.alive or visible(folder) > seen

        wait_until("new output", grown, PROGRESS_TIMEOUT_S)
        time.sleep(chance.random() * MOMENT_MAX_S)
        if not job.alive:
            break
        victims, workers = chance.choice(VICTIMS), job.workers
        match victims:
            case "worker" if workers:
                job.kill(chance.choice(workers))
            case "workers":
                job.kill(*workers)
            case "coordinator":
                job.kill(job.pid)
            case _:
                job.kill(job.pid, *workers)
        killed[victims] += 1
        if not job.alive:
            job.start()
    return killed


def visible(folder: Path) -> int:
    """How many files readers see."""
    return len(list(folder.glob("map/*.jsonl")))


def rows_of(folder: Path, name: str) -> pl.DataFrame:
    """Everything that a sink wrote."""
    return pl.read_ndjson(sorted((folder / name).glob("*.jsonl")))


def orders_of(folder: Path) -> pl.DataFrame:
    """The input, without cancelled orders."""
    return pl.read_ndjson(sorted((folder / "in").glob("*.jsonl"))).filter(pl.col("cents") > 0)


def mapped(folder: Path) -> pl.DataFrame:
    """What the map has to write."""
    return orders_of(folder).select("id", doubled=pl.col("cents") * 2).sort("id")


def windowed(folder: Path) -> pl.DataFrame:
    """What the window has to write."""
    start = (pl.col("ts") // WINDOW_MS * WINDOW_MS).alias("start")
    sums = orders_of(folder).group_by("country", start).agg(n=pl.len().cast(pl.Int64), cents=pl.col("cents").sum())
    return sums.sort(KEYS)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_kills_neither_lose_nor_double_a_row(tmp_path: Path, seed: int) -> None:
    write_orders(tmp_path / "in", FILES, ROWS_PER_FILE, ms_per_row=5)
    job = process(tmp_path)
    job.start()
    killed = hurt(job, tmp_path, seed)
    assert job.wait() == 0, job.log[-4000:]
    assert killed.total() >= KILLS // 2, f"the job was too quick to be hurt: {killed}"
    assert rows_of(tmp_path, "map").sort("id").equals(mapped(tmp_path))
    start = pl.col("window_start").str.to_datetime(time_unit="ms", time_zone="UTC").dt.epoch("ms").alias("start")
    got = rows_of(tmp_path, "window").select("country", start, "n", "cents").sort(KEYS)
    assert got.equals(windowed(tmp_path))


def test_at_least_once_loses_nothing_and_doubles_only_whole_rows(tmp_path: Path) -> None:
    write_orders(tmp_path / "in", FILES, ROWS_PER_FILE, ms_per_row=5)
    job = process(tmp_path, "at-least-once")
    job.start()
    killed = hurt(job, tmp_path, 3)
    assert job.wait() == 0, job.log[-4000:]
    assert killed.total() >= KILLS // 2, f"the job was too quick to be hurt: {killed}"
    assert rows_of(tmp_path, "map").unique().sort("id").equals(mapped(tmp_path))
