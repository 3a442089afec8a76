"""A job at work on the real broker, with everything it needs to be hurt and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import polars as pl
import pytest

from services.kafka import KafkaBroker
from services.processes import wait_until
from services.topics import Topics, read_topic

from .bench import Bench
from .feeder import Feeder
from .job_process import JobProcess
from .rounds import Report, Rounds, committed_end, judge_map, judge_window

PARTITIONS: Final = 4
PER_SECOND: Final = 2_000
SETTLE_TIMEOUT_S: Final = 120.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """How many rounds of kills and faults; CI runs few."""
    parser.addoption("--rounds", type=int, default=8, help="kill rounds per job and storage")
    parser.addoption("--fault-rounds", type=int, default=4, help="rounds of random faults per job and storage")
    parser.addoption("--fault-seed", type=int, default=1, help="chooses the faults, their order and their moments")
    parser.addoption("--minutes", type=float, default=0.0, help="how long the soak under random faults lasts at least")


class Scene:
    """A feeder, a job process and an output topic; `finish` ends all three and judges the output."""

    def __init__(
        self, broker: KafkaBroker, job: str, storage: str, folder: Path, seed: int, options: tuple[str, ...]
    ) -> None:
        self.broker = broker
        self.kind = job
        topics = Topics(broker.client)
        self.input = topics.create("in", PARTITIONS)
        self.output = topics.create("out", PARTITIONS)
        self.storage = storage
        self.failpoints = folder / "failpoints"
        self.failpoints.mkdir()
        self.name = topics.name(job)
        self.environment = {
            "BROKER": broker.bootstrap,
            "IN": self.input,
            "OUT": self.output,
            "STORAGE": storage,
            "JOB": self.name,
            "TIDEGATE_FAILPOINTS": str(self.failpoints),
        }
        self._folder = folder
        self.feeder = Feeder(broker.bootstrap, self.input, PARTITIONS, PER_SECOND, seed)
        self.job = self.another("log", *options)
        self.rounds = Rounds(broker.bootstrap, self.job, self.feeder, self.output, PARTITIONS, seed)

    def another(self, log: str, *options: str) -> JobProcess:
        """Return a further process of the same job, not started yet."""
        interval = ("--checkpoint-interval", "1s") if "--checkpoint-interval" not in options else ()
        workers = ("--workers", "2") if "--workers" not in options else ()
        return JobProcess(
            self.kind, self.environment, self._folder / log, *workers, *interval, "--restarts", "1000", *options
        )

    def arm(self, failpoint: str, *, after: int = 0) -> None:
        """Have the process die that comes to this failpoint next, or after it was passed `after` times."""
        (self.failpoints / failpoint).write_text(str(after))

    def fired(self, failpoint: str) -> bool:
        """Whether a process died at an armed failpoint."""
        return not (self.failpoints / failpoint).exists()

    def end(self) -> int:
        """How many records (and transaction markers) a read_committed reader may see."""
        return committed_end(self.broker.client, self.output, PARTITIONS)

    def await_output(self, job: JobProcess | None = None, timeout_s: float = SETTLE_TIMEOUT_S) -> None:
        """Wait until new output appears; a job that ended by itself meanwhile is an error."""
        running, before = job or self.job, self.end()

        def grown() -> bool:
            assert running.alive, f"the job ended by itself:\n{running.log[-3000:]}"
            return self.end() > before

        wait_until("new output", grown, timeout_s)

    def finish(self, job: JobProcess | None = None) -> Report:
        """Stop feeding, wait for everything, stop the job with a final checkpoint, and judge."""
        running = job or self.job
        self.feeder.finish()
        expected = self.expected()

        def complete() -> bool:
            assert running.alive, f"the job ended by itself:\n{running.log[-3000:]}"
            return self.read().height >= expected

        wait_until("all output", complete, SETTLE_TIMEOUT_S)
        assert running.stop() == 0, running.log[-3000:]
        return self.judge()

    def expected(self) -> int:
        """How many records there have to be in the end."""
        if self.kind == "map":
            return len(self.feeder.rows) + PARTITIONS
        frame = self.feeder.frame().filter(pl.col("amount") > 0)
        return int(frame.select(pl.struct("key", pl.col("ts") // 10_000).n_unique()).item())

    def read(self) -> pl.DataFrame:
        """Everything that a read_committed reader sees."""
        return read_topic(self.broker.client, self.output, "read_committed")

    def judge(self) -> Report:
        """Compare the output with the input."""
        report = self.rounds.report
        (judge_map if self.kind == "map" else judge_window)(report, self.feeder, self.read())
        return report

    def close(self) -> None:
        """Leave nothing running."""
        for pid in [*self.job.workers, *([self.job.pid] if self.job.process else [])]:
            self.job.thaw(pid)
            self.job.kill(pid)


MakeScene = Callable[..., Scene]


@pytest.fixture
def make_scene(kafka: KafkaBroker, tmp_path: Path) -> Iterator[MakeScene]:
    """Call with a job (`map`, `window`) for a scene on the shared broker (or on `broker`); all are ended afterwards."""
    scenes: list[Scene] = []

    def make(
        job: str,
        *options: str,
        storage: str | None = None,
        broker: KafkaBroker | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Scene:
        folder = tmp_path / f"scene-{len(scenes)}"
        folder.mkdir()
        scene = Scene(broker or kafka, job, storage or str(folder / "store"), folder, len(scenes) + 1, options)
        scene.environment.update(environment or {})
        scenes.append(scene)
        return scene

    yield make
    for scene in scenes:
        scene.close()


@pytest.fixture
def bench(kafka: KafkaBroker, topics: Topics, tmp_path: Path) -> Iterator[Bench]:
    """A bench; whatever still runs is killed in the end."""
    made = Bench(kafka, topics, tmp_path)
    yield made
    for process in made.processes:
        if process.alive:
            made.kill_everything(process)
