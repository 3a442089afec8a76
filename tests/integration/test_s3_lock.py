"""The liveness lock on a real S3 server, between processes of one machine and of two."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tidegate.engine.runtime import LivenessLock
from tidegate.state.heartbeat import NAME, WATCH_S
from tidegate.state.lock import open_lock
from tidegate.state.log import open_log

from services.s3 import S3Server

HOLDER = (
    "import sys, time; from tidegate.state.lock import open_lock; from tidegate.state.log import open_log\n"
    "lock = open_lock(sys.argv[1], 'job', open_log(sys.argv[1], 'job'))\n"
    "print(lock.acquire(), flush=True)\n"
    "while True: lock.beat(); time.sleep(0.5)"
)
AT_ONCE_S = 1.0


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
    _move_to(tmp_path, "here", monkeypatch)
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture
def holder(storage: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, storage], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    yield process
    process.kill()
    process.wait(10)
    process.stdout.close()


def _move_to(tmp_path: Path, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another runtime folder holds another lock file, as on another machine or in another container."""
    folder = tmp_path / machine
    folder.mkdir(exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))


def _lock(storage: str) -> LivenessLock:
    return open_lock(storage, "job", open_log(storage, "job"))


def _timed_acquire(lock: LivenessLock) -> tuple[bool, float]:
    started = time.monotonic()
    return lock.acquire(), time.monotonic() - started


def test_on_the_same_machine_a_second_start_is_refused_at_once(storage: str, holder: subprocess.Popen[str]) -> None:
    assert _lock(storage).acquire() is False


def test_after_kill_9_a_start_on_the_same_machine_need_not_wait(storage: str, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait(10)
    lock = _lock(storage)
    acquired, seconds = _timed_acquire(lock)
    assert acquired
    assert seconds < AT_ONCE_S
    lock.release()


def test_on_another_machine_a_second_start_is_refused_while_the_first_beats_and_not_for_ever_after_its_death(
    storage: str, holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _move_to(tmp_path, "there", monkeypatch)
    acquired, seconds = _timed_acquire(_lock(storage))
    assert not acquired
    assert seconds < WATCH_S
    os.kill(holder.pid, 9)
    holder.wait(10)
    lock = _lock(storage)
    acquired, seconds = _timed_acquire(lock)
    assert acquired
    assert WATCH_S <= seconds < WATCH_S + 3
    lock.release()


def test_after_a_clean_end_a_start_on_another_machine_need_not_wait(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _lock(storage)
    assert first.acquire()
    first.beat()
    first.release()
    _move_to(tmp_path, "there", monkeypatch)
    second = _lock(storage)
    acquired, seconds = _timed_acquire(second)
    assert acquired
    assert seconds < AT_ONCE_S
    second.release()


def test_beats_never_wait_for_a_frozen_server_and_go_on_afterwards(storage: str, server: S3Server) -> None:
    lock = _lock(storage)
    assert lock.acquire()
    server.freeze()
    try:
        started = time.monotonic()
        for _ in range(10):
            lock.beat()
        assert time.monotonic() - started < AT_ONCE_S
    finally:
        server.thaw()
    before = open_log(storage, "job").store.read(NAME)
    lock.beat()
    until = time.monotonic() + 15
    while open_log(storage, "job").store.read(NAME) == before:
        assert time.monotonic() < until
        lock.beat()
        time.sleep(0.2)
    lock.release()
