"""The catalog of a job whose checkpoints are on a real S3 server: any machine that can read them has its own copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tidegate.state.catalog import open_catalog, rebuild
from tidegate.state.catalog_publish import reader_path
from tidegate.state.log import StoreLog, open_log
from tidegate.state.sql import query

from services.s3 import S3Server
from support.state import checkpoint, partials


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.make_bucket("bucket")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def storage(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "coordinator"))
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture
def log(storage: str) -> StoreLog:
    made = open_log(storage, "job")
    assert made.claim(1, {"workers": 2})
    checkpoint(made, 0)
    checkpoint(made, 1, partials(a=1))
    return made


def test_another_machine_answers_from_the_manifests_and_keeps_a_copy(
    storage: str, log: StoreLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = open_catalog(storage, "job", log)
    catalog.attempt(1, "running", {"workers": 2})
    catalog.failed(2, 1, "known to the coordinator alone")
    catalog.close()
    sql = "select (select count(*) from checkpoints), (select count(*) from failed_tries), n from state('totals')"
    assert query(storage, "job", sql).rows == [(2, 1, 1)]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert query(storage, "job", sql).rows == [(2, 0, 1)]
    path = reader_path(storage, "job")
    assert path is not None
    kept = path.stat().st_ino
    checkpoint(log, 2, partials(a=2))
    assert query(storage, "job", sql).rows == [(3, 0, 2)]
    assert path.stat().st_ino != kept
    kept = path.stat().st_ino
    assert query(storage, "job", sql).rows == [(3, 0, 2)]
    assert path.stat().st_ino == kept, "nothing was new, so nothing was written"


def test_a_copy_is_rebuilt_from_the_bucket(storage: str, log: StoreLog) -> None:
    assert rebuild(storage, "job") == 2
    path = reader_path(storage, "job")
    assert path is not None
    assert path.exists()
