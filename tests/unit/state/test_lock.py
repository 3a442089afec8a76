"""Liveness locks on this machine."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tidegate.engine.errors import StoreDeniedError
from tidegate.engine.runtime import LivenessLock
from tidegate.state.lock import FileLock, SharedLock, open_lock, runtime_folder
from tidegate.state.log import open_log

HOLDER = (
    "import sys, time; from tidegate.state.lock import open_lock; from tidegate.state.log import open_log\n"
    "lock = open_lock(sys.argv[1], 'job', open_log(sys.argv[1], 'job'))\n"
    "print(lock.acquire(), flush=True); time.sleep(60)"
)


def _lock(storage: str, job: str = "job") -> LivenessLock:
    return open_lock(storage, job, open_log(storage, job))


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "storage") if request.param == "local" else f"memory://{tmp_path.name}"


def test_a_second_start_is_refused_until_the_first_ends(storage: str) -> None:
    first, second = _lock(storage), _lock(storage)
    assert first.acquire()
    assert not second.acquire()
    first.beat()
    assert not second.acquire()
    first.release()
    assert second.acquire()
    second.release()


def test_acquiring_again_and_releasing_twice_are_harmless(storage: str) -> None:
    lock, other = _lock(storage), _lock(storage)
    assert lock.acquire()
    assert lock.acquire()
    lock.release()
    lock.release()
    assert other.acquire()
    lock.release()
    assert not _lock(storage).acquire()
    other.release()


def test_jobs_are_locked_one_by_one(storage: str) -> None:
    one, other = _lock(storage, "one"), _lock(storage, "other")
    assert one.acquire()
    assert other.acquire()
    one.release()
    other.release()


def test_after_a_takeover_the_lock_comes_with_a_later_beat(storage: str) -> None:
    old, new = _lock(storage), _lock(storage)
    assert old.acquire()
    assert not new.acquire()
    new.beat()
    old.release()
    new.beat()
    assert not _lock(storage).acquire()
    new.release()


def test_the_lock_is_no_object_of_the_job(tmp_path: Path) -> None:
    lock = _lock(str(tmp_path))
    assert lock.acquire()
    assert list(open_log(str(tmp_path), "job").store.list("")) == []
    assert stat.S_IMODE((tmp_path / "job").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "job/lock~").stat().st_mode) == 0o600
    lock.release()


def test_kill_9_frees_the_lock_at_once(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline().strip() == "True"
        lock = _lock(str(tmp_path))
        assert not lock.acquire()
        os.kill(holder.pid, signal.SIGSTOP)
        assert not lock.acquire()
        holder.kill()
        holder.wait(10)
        assert lock.acquire()
        lock.release()
    finally:
        holder.kill()
        holder.wait(10)
        holder.stdout.close()


def test_a_lock_file_that_was_swapped_is_not_taken_for_the_lock(tmp_path: Path) -> None:
    held, other = FileLock(tmp_path / "x" / "lock"), FileLock(tmp_path / "x" / "lock")
    assert held.acquire()
    identity = held.identity
    (tmp_path / "x" / "lock").unlink()
    assert other.acquire()
    assert other.identity != identity
    held.release()
    other.release()


def test_a_symlink_as_lock_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    (tmp_path / "job/lock~").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreDeniedError, match="lock~"):
        _lock(str(tmp_path)).acquire()
    assert not (tmp_path / "elsewhere").exists()


def test_a_runtime_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").symlink_to(tmp_path / "theirs")
    with pytest.raises(StoreDeniedError, match="XDG_RUNTIME_DIR"):
        FileLock(tmp_path / "ours" / "x.lock", private=True).acquire()


def test_the_runtime_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_folder() == tmp_path / "tidegate"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert runtime_folder().name == f"tidegate-{os.getuid()}"


def test_storage_in_s3_has_a_lock_for_this_machine_and_one_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    log = open_log(f"memory://{tmp_path.name}", "job")
    lock = open_lock("s3://bucket/prefix", "job", log)
    assert isinstance(lock, SharedLock)
    assert lock.acquire()
    assert len(list((tmp_path / "tidegate").glob("*.lock"))) == 1
    assert list(log.store.list("alive/")) == ["alive/heartbeat.json"]
    assert not open_lock("s3://bucket/prefix", "job", log).acquire()
    lock.release()
