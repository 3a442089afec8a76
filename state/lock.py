"""The liveness lock: whether another attempt of a job is alive. It only refuses starts; safety never rests on it.

| storage | what is locked |
|---|---|
| local folder | a file in the job's folder, by `flock`: the kernel releases it when the process dies |
| S3 | such a file in this user's runtime folder, and a heartbeat object for processes elsewhere |
| memory | a name in this process |
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..engine.errors import StoreDeniedError
from ..engine.ports.log import CheckpointLog
from ..engine.runtime import LivenessLock
from .folders import FILE_MODE, make_folder, raise_store_error
from .heartbeat import Heartbeat
from .stores import is_local, local_path

LOCK_FILE: Final = "lock~"
_TRIES_MAX: Final = 10
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_held: Final[set[str]] = set()


def open_lock(storage: str, job: str, log: CheckpointLog) -> LivenessLock:
    """Open the lock of a job; nothing is locked yet."""
    if is_local(storage):
        return FileLock(local_path(storage) / job / LOCK_FILE)
    if storage.startswith("memory:"):
        return MemoryLock(log.store.url)
    key = hashlib.sha256(log.store.url.encode()).hexdigest()[:32]
    return SharedLock(FileLock(runtime_folder() / f"{key}.lock", private=True), Heartbeat(log.store))


def runtime_folder() -> Path:
    """Return this user's folder for locks, as a path; nobody else can write there."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "tidegate"
    return Path(tempfile.gettempdir()) / f"tidegate-{os.getuid()}"


class FileLock:
    """A lock that lives as long as its process. The file stays; only the lock on it counts."""

    def __init__(self, path: Path, *, private: bool = False) -> None:
        """Make the lock; `private` refuses a folder that another user made where everybody may write."""
        self._path = path
        self._private = private
        self._fd: int | None = None

    @property
    def identity(self) -> str:
        """What tells this very file on this very machine, since its last boot, from all others; empty if not held."""
        if self._fd is None:
            return ""
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            about = os.fstat(self._fd)
            return f"{boot}:{about.st_dev}:{about.st_ino}"
        return ""

    def acquire(self) -> bool:
        """Take the lock; False if another process, or another lock object of this one, holds it."""
        if self._fd is not None:
            return True
        try:
            self._make_folder()
            for _ in range(_TRIES_MAX):
                fd = os.open(self._path, _FLAGS, FILE_MODE)
                if not self._lock(fd):
                    os.close(fd)
                    return False
                if self._is_current(fd):
                    self._fd = fd
                    return True
                os.close(fd)
        except OSError as error:
            raise_store_error(error, "lock", self._path)
        return False

    def beat(self) -> None:
        """Take the lock if it is not ours yet: after a takeover the other process leaves it some time later."""
        self.acquire()

    def release(self) -> None:
        """Give the lock back; may be called twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _make_folder(self) -> None:
        folder = self._path.parent
        make_folder(folder)
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or (self._private and about.st_uid != os.getuid()):
            raise StoreDeniedError(
                f"{folder} is not a folder of this user",
                hint="move it away, or set XDG_RUNTIME_DIR to a folder of yours",
            )

    def _lock(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_current(self, fd: int) -> bool:
        """Whether the path still leads to the file that we locked."""
        try:
            there, ours = self._path.lstat(), os.fstat(fd)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


class SharedLock:
    """A lock for storage that several machines reach: a file lock for this machine, a heartbeat for the others."""

    def __init__(self, local: FileLock, heartbeat: Heartbeat) -> None:
        self._local = local
        self._heartbeat = heartbeat

    def acquire(self) -> bool:
        """Take both; a holder on this machine refuses at once, one elsewhere within the heartbeat's bound."""
        if not self._local.acquire():
            return False
        try:
            taken = self._heartbeat.acquire(self._local.identity)
        except BaseException:
            self._local.release()
            raise
        if not taken:
            self._local.release()
        return taken

    def beat(self) -> None:
        """Show a sign of life, without waiting for the store."""
        self._local.beat()
        self._heartbeat.beat(self._local.identity)

    def release(self) -> None:
        """Say that nobody holds it any more, then free the file; may be called twice."""
        self._heartbeat.release()
        self._local.release()


class MemoryLock:
    """A lock for storage in memory: one holder per name in this process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._mine = False

    def acquire(self) -> bool:
        """Take the lock; False if another lock object holds it."""
        if not self._mine and self._name not in _held:
            _held.add(self._name)
            self._mine = True
        return self._mine

    def beat(self) -> None:
        """Take the lock if it is free."""
        self.acquire()

    def release(self) -> None:
        """Give the lock back; may be called twice."""
        if self._mine:
            _held.discard(self._name)
        self._mine = False
