"""What a job may find when it starts again: positions resolved once, other layouts, older storages, an end reached."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from typing import Final

import pytest
from confluent_kafka import Consumer, TopicPartition

from services.processes import wait_until

from .bench import PARTITIONS, SEEN_TIMEOUT_S, Bench

FAILED: Final = 1


def test_latest_is_resolved_once_although_the_job_dies_before_its_first_checkpoint(bench: Bench) -> None:
    bench.environment["START"] = "latest"
    bench.write("old", 40)
    bench.arm("coordinator.identity-written")
    bench.job()
    bench.await_death("coordinator.identity-written")
    new = bench.write("new", 60)
    job = bench.job()
    bench.await_seen(job, len(new))
    assert job.stop() == 0
    bench.check(new)


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 3)])
def test_pending_output_is_committed_by_another_number_of_workers(before: int, after: int, bench: Bench) -> None:
    first = bench.write("first", 80)
    # Nobody may commit: each worker dies at its first commit, and the job has no restarts.
    bench.arm("worker.before-commit")
    job = bench.job("--workers", str(before), "--restarts", "0")
    bench.await_death("worker.before-commit")
    bench.kill_everything(job)
    pending = len(first) - len(bench.seen())
    assert pending > 0
    second = bench.write("second", 80)
    job = bench.job("--workers", str(after))
    bench.await_seen(job, len(first) + len(second))
    assert job.stop() == 0
    bench.check(first + second)


@pytest.mark.parametrize(
    "failpoint", ["coordinator.before-closing-manifest", "coordinator.committed", "worker.before-commit"]
)
def test_a_run_to_the_end_that_is_killed_is_finished_by_the_next_one(failpoint: str, bench: Bench) -> None:
    values = bench.write("value", 200)
    bench.arm(failpoint)
    job = bench.job("--until-end", "--workers", "2", "--restarts", "0")
    bench.await_death(failpoint)
    job.wait()
    bench.kill_everything(job)
    # What arrives after the end was found is for the next job.
    bench.topics.produce(bench.input, ["too late"], partition=0)
    assert bench.job("--until-end", "--workers", "2").wait() == 0
    bench.check(values)
    assert bench.job("--until-end").wait() == 0
    bench.check(values)


def test_a_storage_set_back_to_an_older_checkpoint_is_refused(bench: Bench) -> None:
    bench.write("first", 40)
    job = bench.job()
    bench.await_seen(job, 40)
    assert job.stop() == 0
    backup = bench.storage.with_name("backup")
    shutil.copytree(bench.storage, backup)
    values = bench.write("second", 40)
    job = bench.job()
    bench.await_seen(job, 80)
    assert job.stop() == 0
    seen = bench.seen()
    shutil.rmtree(bench.storage)
    backup.rename(bench.storage)
    job = bench.job("--restarts", "2")
    assert job.wait() == FAILED
    assert "which this attempt never saw decided" in job.log
    assert "the storage was wiped or restored from an older copy" in job.log
    assert bench.seen() == seen
    assert len(values) == 40


def test_a_partition_that_is_added_while_the_job_runs_is_read_from_its_first_record(bench: Bench) -> None:
    first = bench.write("first", 20)
    job = bench.job("--workers", "2")
    bench.await_seen(job, len(first))
    bench.topics.add_partitions(bench.input, PARTITIONS + 1)
    bench.topics.produce(bench.input, ["new 0", "new 1"], keys=["new"] * 2, partition=PARTITIONS)
    bench.await_seen(job, len(first) + 2)
    job.kill(*job.workers[:1])
    bench.topics.produce(bench.input, ["new 2"], keys=["new"], partition=PARTITIONS)
    bench.await_seen(job, len(first) + 3)
    assert job.stop() == 0
    bench.check([*first, "new 0", "new 1", "new 2"])


def test_offsets_are_reported_to_the_group_after_the_commit(bench: Bench) -> None:
    bench.environment["GROUP"] = bench.name
    bench.write("value", 4 * PARTITIONS)
    job = bench.job()
    bench.await_seen(job, 4 * PARTITIONS)
    assert job.stop() == 0
    settings = {"bootstrap.servers": bench.environment["BROKER"], "group.id": bench.name}
    with closing(Consumer(settings)) as consumer:
        asked = [TopicPartition(bench.input, partition) for partition in range(PARTITIONS)]
        found = consumer.committed(asked, timeout=SEEN_TIMEOUT_S)
    assert [place.offset for place in found] == [4] * PARTITIONS


def test_two_storages_of_one_job_are_refused_by_name(bench: Bench) -> None:
    bench.write("first", 20)
    job = bench.job()
    bench.await_seen(job, 20)
    assert job.stop() == 0
    bench.environment["STORAGE"] = str(bench.storage.with_name("other"))
    job = bench.job()
    assert job.wait() == FAILED
    assert "this storage belongs to job uid" in job.log
    assert bench.name in job.log
    assert len(bench.seen()) == 20


def test_the_delivery_mode_may_change_after_a_clean_stop(bench: Bench) -> None:
    for number, delivery in enumerate(("exactly-once", "at-least-once", "exactly-once")):
        bench.write(f"run {number}", 40)
        job = bench.job("--delivery", delivery)
        bench.await_seen(job, len(bench.written))
        assert job.stop() == 0
    bench.check(bench.written)


def test_at_least_once_loses_nothing_when_workers_are_killed(bench: Bench) -> None:
    job = bench.job("--delivery", "at-least-once", "--workers", "2", "--restarts", "100")
    for number in range(3):
        before = len(set(bench.seen()))
        bench.write(f"round {number}", 400)
        wait_until("new output", _more_than(bench, before), SEEN_TIMEOUT_S)
        job.kill(*job.workers[:1])
    expected = {f"Processed: {value}" for value in bench.written}
    wait_until("all output", lambda: set(bench.seen()) == expected, SEEN_TIMEOUT_S)
    assert job.stop() == 0
    assert set(bench.seen()) == expected


def _more_than(bench: Bench, count: int) -> Callable[[], bool]:
    return lambda: len(set(bench.seen())) > count
