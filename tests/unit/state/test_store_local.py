"""The local checkpoint store: what a folder adds to the port's contract."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tidegate.engine.errors import (
    StoreDeniedError,
    StoreExistsError,
    StoreFullError,
    StoreMissingError,
    StoreUnavailableError,
)
from tidegate.state.store_local import TEMPORARY, LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "storage" / "job")


def test_looking_leaves_nothing_behind(store: LocalStore, tmp_path: Path) -> None:
    assert store.list("checkpoints/") == []
    with pytest.raises(StoreMissingError):
        store.read("a")
    store.delete(["a"])
    assert list(tmp_path.iterdir()) == []


def test_folders_and_files_are_for_this_user_alone(store: LocalStore, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store.create("state/totals/1.parquet", b"x")
        store.replace("alive/x", b"x")
    finally:
        os.umask(old)
    for path in (tmp_path / "storage").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "storage").stat().st_mode) == 0o700


def test_no_temporary_file_stays(store: LocalStore, tmp_path: Path) -> None:
    store.create("a", b"1")
    store.replace("b", b"1")
    with pytest.raises(StoreExistsError):
        store.create("a", b"2")
    assert list((tmp_path / "storage/job" / TEMPORARY).iterdir()) == []
    assert list(store.list("")) == ["a", "b"]


def test_temporary_files_of_the_dead_go_and_those_of_the_living_stay(store: LocalStore, tmp_path: Path) -> None:
    folder = tmp_path / "storage/job" / TEMPORARY
    folder.mkdir(parents=True)
    (folder / "dead").write_bytes(b"half")
    living = os.open(folder / "living", os.O_CREAT | os.O_WRONLY)
    fcntl.flock(living, fcntl.LOCK_EX)
    try:
        store.create("a", b"1")
        assert [path.name for path in folder.iterdir()] == ["living"]
    finally:
        os.close(living)


def test_a_writer_killed_before_the_link_leaves_no_object(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from tidegate.state.store_local import LocalStore\n"
        "os.link = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        "LocalStore(Path(sys.argv[1])).create('checkpoints/1', b'x' * 100_000)"
    )
    root = tmp_path / "job"
    ended = subprocess.run([sys.executable, "-c", code, str(root)], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    assert len(list((root / TEMPORARY).iterdir())) == 1
    store = LocalStore(root)
    assert store.list("") == []
    store.create("checkpoints/1", b"other")
    assert list((root / TEMPORARY).iterdir()) == []


def test_file_and_folder_are_synced_before_success(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("a/first", b"1")
    synced: list[bool] = []
    real = os.fsync

    def spy(fd: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(fd).st_mode))
        real(fd)

    monkeypatch.setattr(os, "fsync", spy)
    store.create("a/second", b"2")
    assert synced == [False, True]
    synced.clear()
    store.create("a/second", b"2")
    assert synced[-1] is True


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_said_with_its_path_and_leaves_nothing(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreFullError, match="outbox/out/1") as refused:
            store.create("outbox/out/1", b"rows")
    assert refused.value.retryable
    assert "free space" in refused.value.hint
    assert list(store.list("")) == []
    assert list((tmp_path / "storage/job" / TEMPORARY).iterdir()) == []
    store.create("outbox/out/1", b"rows")


def test_a_failed_sync_is_an_unknown_outcome_that_a_second_call_resolves(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("checkpoints/0", b"0")
    real = os.fsync

    def fails_for_folders(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails_for_folders)
        with pytest.raises(StoreUnavailableError):
            store.create("checkpoints/1", b"1")
    store.create("checkpoints/1", b"1")
    with pytest.raises(StoreExistsError):
        store.create("checkpoints/1", b"2")


def test_a_symlink_as_object_is_refused(store: LocalStore, tmp_path: Path) -> None:
    store.create("state/t/1", b"x")
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "storage/job/state/t/2").symlink_to(secret)
    with pytest.raises(StoreDeniedError, match="symbolic link"):
        store.read("state/t/2")
    with pytest.raises(StoreDeniedError):
        store.create("state/t/2", b"x")
    assert list(store.list("state/")) == ["state/t/1"]
    store.delete(["state/t/2"])
    assert secret.read_bytes() == b"secret"


def test_a_symlink_on_the_way_is_refused(store: LocalStore, tmp_path: Path) -> None:
    store.create("state/t/1", b"x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1").write_bytes(b"mine")
    (tmp_path / "storage/job/state/u").symlink_to(outside)
    for call in (
        lambda: store.read("state/u/1"),
        lambda: store.create("state/u/2", b"x"),
        lambda: store.delete(["state/u/1"]),
        lambda: store.replace("state/u/1", b"x"),
    ):
        with pytest.raises(StoreDeniedError):
            call()
    assert list(store.list("state/")) == ["state/t/1"]
    assert (outside / "1").read_bytes() == b"mine"


def test_a_job_folder_that_is_a_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "job").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreDeniedError):
        LocalStore(tmp_path / "job").create("a", b"x")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_storage_reached_through_a_symlink_is_the_users_choice(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "storage").symlink_to(tmp_path / "disk")
    LocalStore(tmp_path / "storage" / "job").create("a", b"x")
    assert (tmp_path / "disk/job/a").read_bytes() == b"x"


def test_a_pipe_where_an_object_should_be_never_blocks(store: LocalStore, tmp_path: Path) -> None:
    store.create("a", b"x")
    os.mkfifo(tmp_path / "storage/job/b")
    with pytest.raises(StoreDeniedError, match="not a regular file"):
        store.read("b")
    with pytest.raises(StoreExistsError):
        store.create("b", b"x")


def test_storage_that_is_a_file_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreDeniedError, match="file"):
        LocalStore(tmp_path / "file" / "job").create("a", b"x")
    with pytest.raises(StoreDeniedError):
        LocalStore(tmp_path / "file" / "job").list("a/")


def test_no_descriptor_leaks(store: LocalStore) -> None:
    store.create("state/t/0", b"x")
    before = len([*Path("/proc/self/fd").iterdir()])
    for i in range(20):
        store.create(f"state/t/{i}", b"x")
        with pytest.raises(StoreExistsError):
            store.create(f"state/t/{i}", b"y")
        store.read(f"state/t/{i}")
        store.list("state/")
        with pytest.raises(StoreMissingError):
            store.read("state/u/none")
    store.delete([f"state/t/{i}" for i in range(20)])
    assert len([*Path("/proc/self/fd").iterdir()]) == before
