"""The same pipeline over the same files: straight through, and killed and restored at another parallelism."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import polars as pl
import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
INPUT: Final = ROOT / "data" / "orders"
JOB: Final = ROOT / "examples" / "files_window.py"
RUN_TIMEOUT_S: Final = 120.0
KILLS: Final = (
    ("coordinator.before-barriers", 2, 3),
    ("coordinator.manifest-written", 3, 1),
    ("coordinator.after-announce", 1, 2),
    ("coordinator.before-closing-manifest", 2, 1),
    ("worker.mid-alignment", 3, 2),
    ("worker.mid-upload", 2, 3),
    ("worker.decided", 1, 3),
    ("worker.before-commit", 3, 1),
    ("worker.after-commit", 2, 1),
)
"""Where a process is killed, with how many workers, and how many go on."""


def run(folder: Path, workers: int, *options: str) -> int:
    """Run the example to its end and return the exit code."""
    environment = {
        **os.environ,
        "INPUT": str(INPUT),
        "OUTPUT": str(folder / "revenue"),
        "TIDEGATE_FAILPOINTS": str(folder / "failpoints"),
    }
    command = [sys.executable, "-m", "tidegate", "run", str(JOB), "--workers", str(workers)]
    with (folder / "log").open("ab") as log:
        return subprocess.run(
            [*command, "--storage", str(folder / "checkpoints"), "--checkpoint-interval", "50ms", *options],
            env=environment, cwd=folder, stdout=log, stderr=log, timeout=RUN_TIMEOUT_S, check=False,
        ).returncode  # fmt: skip


def expected() -> pl.DataFrame:
    """What the example has to write, computed by Polars alone."""
    start = (pl.col("ts") // 10_000 * 10_000).cast(pl.Datetime("ms", "UTC"))
    return (
        pl.read_ndjson(sorted(INPUT.glob("*.jsonl")))
        .filter(pl.col("cents") > 0)
        .group_by("country", window_start=start)
        .agg(n=pl.len().cast(pl.Int64), cents=pl.col("cents").sum(), largest=pl.col("cents").max())
        .with_columns(window_end=pl.col("window_start") + pl.duration(seconds=10))
        .sort("country", "window_start")
    )


def written(folder: Path) -> pl.DataFrame:
    """What the example wrote, in the order of the expected rows."""
    rows = pl.read_ndjson(sorted((folder / "revenue").glob("*.jsonl")))
    times = pl.col("window_start", "window_end").str.to_datetime(time_unit="ms", time_zone="UTC")
    return rows.with_columns(times).select(expected().columns).sort("country", "window_start")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_straight_run_equals_polars(tmp_path: Path, workers: int) -> None:
    assert run(tmp_path, workers) == 0, (tmp_path / "log").read_text()
    assert written(tmp_path).equals(expected())


@pytest.mark.parametrize(("failpoint", "before", "after"), KILLS)
def test_a_run_that_is_killed_and_restored_at_another_parallelism_equals_polars(
    tmp_path: Path, failpoint: str, before: int, after: int
) -> None:
    armed = tmp_path / "failpoints" / failpoint
    armed.parent.mkdir()
    armed.write_text("0")
    assert run(tmp_path, before, "--restarts", "0") != 0
    assert not armed.exists(), "nothing died there"
    assert run(tmp_path, after) == 0, (tmp_path / "log").read_text()
    assert written(tmp_path).equals(expected())


def test_a_finished_job_that_is_started_again_writes_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, 2) == 0
    names = sorted(path.name for path in (tmp_path / "revenue").iterdir())
    assert run(tmp_path, 1) == 0, (tmp_path / "log").read_text()
    assert sorted(path.name for path in (tmp_path / "revenue").iterdir()) == names


def test_the_input_is_what_the_generator_makes(tmp_path: Path) -> None:
    from tidegate.demo.orders import write_orders  # noqa: PLC0415 (only here is the generator needed)

    assert write_orders(tmp_path, 4, 1_000, ms_per_row=100) == 4_000
    for path in sorted(INPUT.glob("*.jsonl")):
        assert pl.read_ndjson(tmp_path / path.name).equals(pl.read_ndjson(path))
