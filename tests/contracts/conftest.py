"""Fixtures of the contract suites."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.s3_server import S3Server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running server with the bucket `contracts`."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.make_bucket("contracts")
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["memory", "local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage URL of every kind, empty."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    if request.param == "local":
        return str(tmp_path / "storage")
    server: S3Server = request.getfixturevalue("s3_server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://contracts/{tmp_path.name}"
