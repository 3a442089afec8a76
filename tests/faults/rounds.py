"""Rounds of `kill -9` against a job at work, judged by what a read_committed reader sees.

    pytest tests/faults/test_kill_rounds.py --rounds 100

A round waits until new output has appeared since the last kill, waits a random moment longer, and kills a random choice
of processes. At the end the output topic is compared with a plain Polars computation over the same input.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import polars as pl
from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from services.processes import wait_until

from .feeder import Feeder
from .job_process import JobProcess

PROGRESS_TIMEOUT_S: Final = 90.0
MOMENT_MAX_S: Final = 1.5
VICTIMS: Final = ("worker", "workers", "coordinator", "everything")
WINDOW_MS: Final = 10_000


@dataclass
class Report:
    """What the rounds came to."""

    rounds: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)
    records: int = 0
    expected: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    disordered: int = 0

    @property
    def exact(self) -> bool:
        """Whether the output is what it should be."""
        return not (self.lost or self.doubled or self.wrong or self.disordered)

    @property
    def figures(self) -> str:
        """What the comparison found."""
        return (
            f"records {self.records} of {self.expected}; lost {self.lost}, doubled {self.doubled}, "
            f"wrong {self.wrong}, out of order {self.disordered}"
        )

    def __str__(self) -> str:
        kills = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kills.items()))
        longest = max(self.recovery_s, default=0.0)
        return f"rounds {self.rounds} ({kills}); {self.figures}; longest recovery {longest:.1f} s"


def committed_end(client: Mapping[str, str], topic: str, partitions: int) -> int:
    """Sum of the offsets up to which a read_committed reader may read.

    Asked by a client of its own each time: one that remembers the leaders of before a restart is refused for a minute.
    """
    asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in range(partitions)}
    deadline = time.monotonic() + PROGRESS_TIMEOUT_S
    while True:
        admin = AdminClient({**client, "log_level": "0"})
        try:
            answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=20)
            return sum(answer.result().offset for answer in answers.values())
        except KafkaException:
            # A topic that was just made has no leader for a moment; a broker may be away on purpose.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


class Rounds:
    """Runs kill rounds over one job."""

    def __init__(
        self, bootstrap: str, job: JobProcess, feeder: Feeder, output: str, partitions: int, seed: int
    ) -> None:
        self._client = {"bootstrap.servers": bootstrap}
        self._job = job
        self._feeder = feeder
        self._output = output
        self._partitions = partitions
        self._random = random.Random(seed)
        self.report = Report()

    def _end(self) -> int:
        return committed_end(self._client, self._output, self._partitions)

    def run(self, rounds: int) -> None:
        """Run the rounds; the job is left running."""
        self._job.start()
        seen = self._end()
        killed_at: float | None = None
        for number in range(rounds + 1):
            self._await_output(seen)
            if killed_at is not None:
                self.report.recovery_s.append(time.monotonic() - killed_at)
            if number == rounds:
                return
            time.sleep(self._random.random() * MOMENT_MAX_S)
            seen = self._end()
            killed_at = time.monotonic()
            self._kill(self._random.choice(VICTIMS))
            self.report.rounds += 1

    def _await_output(self, seen: int) -> None:
        def grown() -> bool:
            if not self._job.alive:
                code = self._job.process.returncode if self._job.process else None
                raise AssertionError(f"the job ended by itself with exit code {code}:\n{self._job.log[-4000:]}")
            return self._end() > seen

        wait_until("new output", grown, PROGRESS_TIMEOUT_S)

    def _kill(self, victims: str) -> None:
        coordinator = self._job.process.pid if self._job.process else 0
        workers = self._job.workers
        if victims == "worker" and workers:
            self._job.kill(self._random.choice(workers))
        elif victims == "workers":
            self._job.kill(*workers)
        elif victims == "coordinator":
            self._job.kill(coordinator)
        else:
            self._job.kill(coordinator, *workers)
        self.report.kills[victims] += 1
        if not self._job.alive:
            self._job.start()


def judge_map(report: Report, feeder: Feeder, output: pl.DataFrame) -> None:
    """Compare the map job's output (columns partition, offset, key, value) with the input."""
    expected = pl.DataFrame(
        {
            "value": [
                f'Processed: {{"id": {i}, "key": "{key}", "amount": {amount}, "ts": {ts}}}'
                for i, key, amount, ts, _ in feeder.rows
            ]
        }
    ).with_row_index("id")
    got = output.sort("partition", "offset").with_columns(
        pl.col("value").cast(pl.String), pl.col("key").cast(pl.String)
    )
    got = got.filter(~pl.col("value").str.contains('"id": -', literal=True))
    compare(report, expected.select("value"), got.select("value"))
    ids = got.with_columns(id=pl.col("value").str.extract(r'"id": (\d+)').cast(pl.Int64))
    report.disordered = ids.filter(pl.col("id") <= pl.col("id").shift(1).over("key")).height


def judge_window(report: Report, feeder: Feeder, output: pl.DataFrame) -> None:
    """Compare the window job's output (columns partition, offset, value) with a plain Polars computation."""
    frame = feeder.frame().filter(pl.col("amount") > 0)
    expected = (
        frame.with_columns(start=pl.col("ts") // WINDOW_MS * WINDOW_MS)
        .group_by("key", "start")
        .agg(n=pl.len().cast(pl.Int64), total=(pl.col("amount") * 100).sum())
        .select("key", "n", "total", "start")
    )
    schema = pl.Struct({"key": pl.String, "n": pl.Int64, "total": pl.Int64, "start": pl.Int64})
    got = (
        output.sort("partition", "offset")
        .select(pl.col("value").cast(pl.String).str.json_decode(schema).alias("row"))
        .unnest("row")
        .filter(~pl.col("key").str.starts_with("end"))
    )
    compare(report, expected, got)
    report.disordered = got.filter(pl.col("start") <= pl.col("start").shift(1).over("key")).height


def compare(report: Report, expected: pl.DataFrame, got: pl.DataFrame) -> None:
    """Compare two frames as multisets."""
    keys = expected.columns
    left = expected.group_by(keys).agg(want=pl.len().cast(pl.Int64))
    right = got.group_by(keys).agg(have=pl.len().cast(pl.Int64))
    both = left.join(right, on=keys, how="full", coalesce=True).with_columns(pl.col("want", "have").fill_null(0))
    report.expected, report.records = expected.height, got.height
    report.lost = int(both.select((pl.col("want") - pl.col("have")).clip(lower_bound=0).sum()).item())
    more = both.with_columns(more=(pl.col("have") - pl.col("want")).clip(lower_bound=0))
    report.doubled = int(more.filter(pl.col("want") > 0)["more"].sum())
    report.wrong = int(more.filter(pl.col("want") == 0)["more"].sum())
