"""A full disk under the checkpoints: tries fail with a reason, nothing is lost, and space is all it takes to go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from services.processes import wait_until
from support.small_disk import SmallDisk

from .bench import SEEN_TIMEOUT_S, Bench

MEGABYTES: Final = 24
FAILED: Final = 1


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of a few megabytes."""
    made = SmallDisk(tmp_path / "disk", MEGABYTES)
    yield made
    made.close()


def test_a_full_disk_fails_checkpoints_and_the_job_goes_on_when_there_is_space(bench: Bench, disk: SmallDisk) -> None:
    bench.environment["STORAGE"] = str(disk.path)
    job = bench.job("--tolerate-failed-checkpoints", "1000", prefix=disk.prefix)
    bench.write("before", 40)
    bench.await_seen(job, 40)
    disk.fill()
    bench.write("meanwhile", 40_000)
    wait_until("a failed checkpoint", lambda: "No space left on device" in job.log, SEEN_TIMEOUT_S)
    assert job.alive
    disk.free()
    bench.await_seen(job, len(bench.written))
    assert job.stop() == 0
    bench.check(bench.written)


def test_a_disk_that_stays_full_ends_the_job_with_a_reason_and_the_next_start_goes_on(
    bench: Bench, disk: SmallDisk
) -> None:
    bench.environment["STORAGE"] = str(disk.path)
    options = ("--tolerate-failed-checkpoints", "1", "--restarts", "1")
    job = bench.job(*options, prefix=disk.prefix)
    bench.write("before", 40)
    bench.await_seen(job, 40)
    disk.fill()
    bench.write("meanwhile", 40_000)
    assert job.wait() == FAILED
    assert "No space left on device" in job.log
    assert str(disk.path) in job.log
    assert "Traceback" not in job.log
    disk.free()
    job = bench.job(*options, prefix=disk.prefix)
    bench.await_seen(job, len(bench.written))
    assert job.stop() == 0
    bench.check(bench.written)
