"""A broker that is away for a while: output waits where it is safe, and the job goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from services.kafka import KafkaBroker
from services.processes import wait_until

from .conftest import MakeScene, Scene

AWAY_S: Final = 12.0
PENDING_TIMEOUT_S: Final = 30.0
MakeKafka = Callable[..., KafkaBroker]


def await_pending(scene: Scene) -> None:
    """Wait for a new checkpoint that lists output which is not committed."""
    checkpoints = Path(scene.storage) / scene.name / "checkpoints"
    before = set(checkpoints.glob("*.json"))

    def pending() -> bool:
        return any(b'"committables":[{' in path.read_bytes() for path in set(checkpoints.glob("*.json")) - before)

    wait_until("a checkpoint with pending output", pending, PENDING_TIMEOUT_S)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_broker_that_is_away_for_a_while_costs_nothing_but_time(
    how: str, make_kafka: MakeKafka, make_scene: MakeScene
) -> None:
    broker = make_kafka()
    scene = make_scene("window", broker=broker)
    scene.feeder.start()
    scene.job.start()
    scene.await_output()
    (broker.kill if how == "killed" else broker.freeze)()
    time.sleep(AWAY_S)  # the length of the outage is what is tested
    (broker.start if how == "killed" else broker.thaw)()
    scene.await_output()
    report = scene.finish()
    assert report.exact, report


@pytest.mark.timeout(600)
def test_a_job_that_died_while_the_broker_was_away_commits_what_it_had_decided(
    make_kafka: MakeKafka, make_scene: MakeScene
) -> None:
    broker = make_kafka()
    scene = make_scene("map", broker=broker)
    scene.feeder.start()
    scene.job.start()
    scene.await_output()
    broker.freeze()
    await_pending(scene)
    scene.job.kill(scene.job.pid, *scene.job.workers)
    broker.thaw()
    scene.job.start()
    scene.await_output()
    report = scene.finish()
    assert report.exact, report
