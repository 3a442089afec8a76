"""Two starts of one job: the second is refused or takes over, and what was replaced publishes nothing more."""

from __future__ import annotations

from typing import Final

import pytest

from services.processes import wait_until

from .conftest import MakeScene

REFUSED: Final = 5
FENCED: Final = 4
EXIT_TIMEOUT_S: Final = 60.0


@pytest.mark.timeout(600)
def test_a_second_start_is_refused_and_a_takeover_fences_the_first(make_scene: MakeScene) -> None:
    scene = make_scene("window")
    scene.feeder.start()
    scene.job.start()
    scene.await_output()
    second = scene.another("second")
    second.start()
    assert second.wait(EXIT_TIMEOUT_S) == REFUSED
    assert "already running" in second.log
    successor = scene.another("successor", "--takeover")
    successor.start()
    assert scene.job.wait(EXIT_TIMEOUT_S) == FENCED, scene.job.log[-2000:]
    assert "attempt 1 found attempt 2 and stopped" in scene.job.log
    try:
        scene.await_output(successor)
        report = scene.finish(successor)
    finally:
        successor.kill(successor.pid, *successor.workers)
    assert report.exact, report


@pytest.mark.timeout(600)
@pytest.mark.parametrize("frozen", ["coordinator", "everything"])
def test_a_frozen_job_that_was_replaced_publishes_nothing_when_it_goes_on(frozen: str, make_scene: MakeScene) -> None:
    scene = make_scene("window")
    scene.feeder.start()
    scene.job.start()
    scene.await_output()
    zombies = [scene.job.pid] if frozen == "coordinator" else [scene.job.pid, *scene.job.workers]
    scene.job.freeze(*zombies)
    successor = scene.another("successor", "--takeover")
    successor.start()
    try:
        scene.await_output(successor)
        scene.job.thaw(*zombies)
        assert scene.job.wait(EXIT_TIMEOUT_S) == FENCED, scene.job.log[-2000:]
        assert "found attempt 2 and stopped" in scene.job.log
        scene.await_output(successor)
        report = scene.finish(successor)
    finally:
        successor.kill(successor.pid, *successor.workers)
    assert report.exact, report


@pytest.mark.timeout(600)
def test_a_worker_frozen_longer_than_its_timeout_is_replaced(make_scene: MakeScene) -> None:
    scene = make_scene("window", "--worker-timeout", "3s")
    scene.feeder.start()
    scene.job.start()
    scene.await_output()
    frozen = scene.job.workers[0]
    scene.job.freeze(frozen)
    wait_until("the frozen worker to be replaced", lambda: frozen not in scene.job.workers, EXIT_TIMEOUT_S)
    scene.await_output()
    assert "has been silent for" in scene.job.log
    report = scene.finish()
    assert report.exact, report
