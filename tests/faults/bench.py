"""A small map job on topics of its own, for tests that write a few records and look at exactly these."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from services.kafka import KafkaBroker
from services.processes import wait_until
from services.topics import Topics

from .job_process import JobProcess

FIRED_TIMEOUT_S: Final = 60.0
SEEN_TIMEOUT_S: Final = 60.0
PARTITIONS: Final = 4


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

    def job(self, *options: str, prefix: tuple[str, ...] = ()) -> JobProcess:
        """Start the job."""
        common = ("--checkpoint-interval", "200ms", "--restart-backoff", "50ms")
        log = self._folder / f"log-{len(self.processes)}"
        process = JobProcess("map", self.environment, log, *common, *options, prefix=prefix)
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
