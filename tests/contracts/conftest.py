"""Fixtures of the contract suites."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["memory", "local", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A storage URL of every kind, empty."""
    if request.param == "memory":
        return f"memory://{tmp_path.name}"
    if request.param == "local":
        return str(tmp_path / "storage")
    s3: str = request.getfixturevalue("s3_storage")
    return s3
