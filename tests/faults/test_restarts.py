"""What a job may find when it starts again: positions resolved once, other layouts, older storages, an end reached."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from services.kafka import KafkaBroker
from services.processes import wait_until
from services.topics import Topics

from .job_process import JobProcess

FIRED_TIMEOUT_S: Final = 60.0
SEEN_TIMEOUT_S: Final = 60.0
PARTITIONS: Final = 4
FAILED: Final = 1


class Bench:
    """A map job on topics of its own: everything it writes is "Processed: " and the value."""

    def __init__(self, kafka: KafkaBroker, topics: Topics, folder: Path) -> None:
        self.topics, self._folder = topics, folder
        self.input = topics.create("in", PARTITIONS)
        self.output = topics.create("out", PARTITIONS)
        self.name = topics.name("map")
        self.storage = folder / "storage"
        self._failpoints = folder / "failpoints"
        self._failpoints.mkdir()
        self.environment = {
            "BROKER": kafka.bootstrap,
            "IN": self.input,
            "OUT": self.output,
            "STORAGE": str(self.storage),
            "JOB": self.name,
            "TIDEGATE_FAILPOINTS": str(self._failpoints),
        }
        self.processes: list[JobProcess] = []
        self.written: list[str] = []

    def write(self, what: str, count: int) -> list[str]:
        """Write records round the partitions; keys stay in order."""
        values = [f"{what} {number}" for number in range(count)]
        for partition in range(PARTITIONS):
            mine = values[partition::PARTITIONS]
            self.topics.produce(self.input, mine, keys=[f"key {partition}"] * len(mine), partition=partition)
        self.written += values
        return values

    def job(self, *options: str, kind: str = "map") -> JobProcess:
        """Start the job."""
        common = ("--checkpoint-interval", "200ms", "--restart-backoff", "50ms")
        process = JobProcess(kind, self.environment, self._folder / f"log-{len(self.processes)}", *common, *options)
        self.processes.append(process)
        process.start()
        return process

    def arm(self, failpoint: str) -> None:
        """Have the process die that comes to this failpoint next."""
        (self._failpoints / failpoint).write_text("0")

    def await_death(self, failpoint: str) -> None:
        """Wait until a process died at the failpoint."""
        wait_until(f"a death at {failpoint}", lambda: not (self._failpoints / failpoint).exists(), FIRED_TIMEOUT_S)

    def seen(self) -> list[str]:
        """Values that a read_committed reader sees, by partition and offset."""
        return [value.decode() for value in self.topics.read(self.output)["value"].to_list()]

    def await_seen(self, job: JobProcess, count: int) -> None:
        """Wait until that many records are visible."""

        def there() -> bool:
            assert job.alive, job.log[-3000:]
            return len(self.seen()) >= count

        wait_until(f"{count} visible records", there, SEEN_TIMEOUT_S)

    def check(self, values: list[str]) -> None:
        """Exactly these values are visible once, and each key keeps its order."""
        seen = self.topics.read(self.output)
        texts = [value.decode() for value in seen["value"].to_list()]
        assert sorted(texts) == sorted(f"Processed: {value}" for value in values)
        order = {f"Processed: {value}": number for number, value in enumerate(values)}
        for key in seen["key"].unique().to_list():
            numbers = [order[text] for text, k in zip(texts, seen["key"].to_list(), strict=True) if k == key]
            assert numbers == sorted(numbers), key

    def kill_everything(self, job: JobProcess) -> None:
        """Kill coordinator and workers."""
        job.kill(job.pid, *job.workers)


@pytest.fixture
def bench(kafka: KafkaBroker, topics: Topics, tmp_path: Path) -> Iterator[Bench]:
    """A bench; whatever still runs is killed in the end."""
    made = Bench(kafka, topics, tmp_path)
    yield made
    for process in made.processes:
        if process.alive:
            made.kill_everything(process)


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
