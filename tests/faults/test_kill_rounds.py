"""Rounds of kill -9 at random times: what a read_committed reader sees equals the Polars computation."""

from __future__ import annotations

import sys

import pytest

from .conftest import MakeScene


def tell(request: pytest.FixtureRequest, text: str) -> None:
    """Write a line to the terminal, also when output is captured: the figures are what these tests are for."""
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        sys.stdout.write(f"\n{text}\n")
        sys.stdout.flush()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("job", ["map", "window"])
def test_output_is_exact_after_kills_of_any_process_with_local_checkpoints(
    job: str, make_scene: MakeScene, request: pytest.FixtureRequest
) -> None:
    scene = make_scene(job)
    scene.feeder.start()
    scene.rounds.run(request.config.getoption("--rounds"))
    report = scene.finish()
    tell(request, f"{job}, local checkpoints: {report}")
    assert report.exact, report


@pytest.mark.timeout(7200)
def test_output_is_exact_after_kills_of_any_process_with_checkpoints_on_s3(
    make_scene: MakeScene, s3_storage: str, request: pytest.FixtureRequest
) -> None:
    scene = make_scene("window", storage=s3_storage)
    scene.feeder.start()
    scene.rounds.run(max(request.config.getoption("--rounds") // 2, 2))
    report = scene.finish()
    tell(request, f"window, checkpoints on S3: {report}")
    assert report.exact, report
