"""A process is killed at every named step of the protocol, also in recovery itself; the output stays exact."""

from __future__ import annotations

from typing import Final

import pytest
from tidegate.engine.failpoints import NAMES

from services.processes import wait_until

from .conftest import MakeScene, Scene

FIRED_TIMEOUT_S: Final = 60.0
AT_FIRST_START: Final = ("coordinator.identity-written",)
AT_THE_END: Final = ("coordinator.before-closing-manifest",)
DURING_RECOVERY: Final = (
    "coordinator.attempt-claimed",
    "coordinator.workers-started",
    "coordinator.fenced-before-relist",
    "coordinator.before-commit-pending",
    "coordinator.before-run",
    "worker.set-up",
    "worker.restored",
    "worker.fenced",
    "worker.ledger-read",
    "worker.pending-received",
    "worker.running",
)
WINDOWS_ONLY: Final = ("worker.mid-alignment", "worker.aligned", "worker.snapshot-taken")
NEEDS_PENDING: Final = "worker.pending-received"
WHILE_RUNNING: Final = tuple(n for n in NAMES if n not in {*AT_FIRST_START, *AT_THE_END, *DURING_RECOVERY})


def let_fire(scene: Scene, failpoint: str) -> None:
    """Wait until a process has died at the armed failpoint, and make sure that the job goes on."""

    def died() -> bool:
        if not scene.job.alive:
            scene.job.start()
        return scene.fired(failpoint)

    wait_until(f"a process to die at {failpoint}", died, FIRED_TIMEOUT_S)


def kill_a_worker(scene: Scene) -> None:
    """Kill a worker as soon as there is one, which makes the job recover."""

    def there() -> bool:
        if not scene.job.alive:
            scene.job.start()
        return bool(scene.job.workers)

    wait_until("a worker to kill", there, FIRED_TIMEOUT_S)
    scene.job.kill(*scene.job.workers[:1])


def go_on(scene: Scene) -> None:
    """Start the job again if the coordinator died, and wait for new output."""
    before = scene.end()

    def grown() -> bool:
        if not scene.job.alive:
            scene.job.start()
        return scene.end() > before

    wait_until("new output after a failpoint", grown, FIRED_TIMEOUT_S)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("job", ["map", "window"])
def test_a_kill_at_every_failpoint_leaves_the_output_exact(job: str, make_scene: MakeScene) -> None:
    scene = make_scene(job, "--checkpoint-interval", "200ms", "--retain", "2", "--restart-backoff", "10ms")
    scene.feeder.start()
    for name in AT_FIRST_START:
        scene.arm(name)
        scene.job.start()
        let_fire(scene, name)
    go_on(scene)
    names = WHILE_RUNNING if job == "window" else [n for n in WHILE_RUNNING if n not in WINDOWS_ONLY]
    for name in names:
        scene.arm(name)
        let_fire(scene, name)
    go_on(scene)
    for name in DURING_RECOVERY:
        scene.arm(name)
        if name == NEEDS_PENDING:
            # Output is pending at recovery only if somebody died between decision and commit.
            scene.arm("worker.before-commit")
        else:
            kill_a_worker(scene)
        let_fire(scene, name)
        if name == NEEDS_PENDING:
            let_fire(scene, "worker.before-commit")
    go_on(scene)
    for name in AT_THE_END:
        scene.feeder.pause()
        scene.arm(name)
        scene.job.stop()
        assert scene.fired(name)
        scene.job.start()
        scene.feeder.go_on()
    report = scene.finish()
    assert report.exact, report
