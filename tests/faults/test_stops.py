"""Long stops of parts of the system: nothing is lost, however long they last."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import pytest

from services.processes import wait_until
from services.s3 import S3Server

from .conftest import MakeScene

TRANSACTION_TIMEOUT_S: Final = 5.0
FREEZE_S: Final = 20.0
FIRED_TIMEOUT_S: Final = 60.0


@pytest.mark.timeout(600)
def test_a_stop_longer_than_the_transaction_timeout_between_decision_and_commit_loses_nothing(
    make_scene: MakeScene,
) -> None:
    scene = make_scene("window", environment={"TRANSACTION_TIMEOUT": f"{TRANSACTION_TIMEOUT_S:g}s"})
    scene.feeder.start()
    scene.job.start()
    scene.await_output()
    scene.arm("worker.before-commit")
    wait_until(
        "a worker to die between decision and commit", lambda: scene.fired("worker.before-commit"), FIRED_TIMEOUT_S
    )
    scene.job.kill(scene.job.pid, *scene.job.workers)
    time.sleep(2 * TRANSACTION_TIMEOUT_S)  # the length of the stop is what is tested
    scene.job.start()
    report = scene.finish()
    assert report.exact, report


@pytest.mark.timeout(600)
def test_a_job_frozen_longer_than_the_transaction_timeout_goes_on(make_scene: MakeScene) -> None:
    scene = make_scene("map", environment={"TRANSACTION_TIMEOUT": f"{TRANSACTION_TIMEOUT_S:g}s"})
    scene.feeder.start()
    scene.job.start()
    scene.await_output()
    processes = [scene.job.pid, *scene.job.workers]
    scene.job.freeze(*processes)
    time.sleep(2 * TRANSACTION_TIMEOUT_S)  # the length of the stop is what is tested
    scene.job.thaw(*processes)
    scene.await_output()
    report = scene.finish()
    assert report.exact, report


@pytest.mark.timeout(600)
def test_an_object_store_that_is_frozen_for_20_seconds_does_not_end_the_job(
    make_scene: MakeScene, make_s3: Callable[[], S3Server]
) -> None:
    server = make_s3()
    server.make_bucket("jobs")
    scene = make_scene("window", storage="s3://jobs/checkpoints", environment=dict(server.environment))
    scene.feeder.start()
    scene.job.start()
    scene.await_output()
    coordinator = scene.job.pid
    server.freeze()
    time.sleep(FREEZE_S)  # the length of the stop is what is tested
    server.thaw()
    scene.await_output()
    assert scene.job.pid == coordinator
    assert scene.job.alive
    report = scene.finish()
    assert report.exact, report
