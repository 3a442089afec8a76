"""Rounds of kill -9 at random times: what a read_committed reader sees equals the Polars computation."""

from __future__ import annotations

import pytest

from .conftest import MakeScene


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("job", ["map", "window"])
def test_output_is_exact_after_kills_of_any_process_with_local_checkpoints(
    job: str, make_scene: MakeScene, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = make_scene(job)
    scene.feeder.start()
    scene.rounds.run(request.config.getoption("--rounds"))
    report = scene.finish()
    with capsys.disabled():
        print(f"\n{job}, local checkpoints: {report}")
    assert report.exact, report


@pytest.mark.timeout(7200)
def test_output_is_exact_after_kills_of_any_process_with_checkpoints_on_s3(
    make_scene: MakeScene, s3_storage: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = make_scene("window", storage=s3_storage)
    scene.feeder.start()
    scene.rounds.run(max(request.config.getoption("--rounds") // 2, 2))
    report = scene.finish()
    with capsys.disabled():
        print(f"\nwindow, checkpoints on S3: {report}")
    assert report.exact, report
