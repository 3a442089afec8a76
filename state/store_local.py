"""A checkpoint store in a local folder: an object is durable under its final name, or is not there at all.

An object is written and synced under a temporary name in `tmp~` and then linked to its own name, which exactly one of
several writers can do. The writer holds a lock on its temporary file, so that whoever finds an unlocked one may delete
it: its writer is dead.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ..engine.errors import StoreDeniedError, StoreExistsError, StoreUnavailableError
from .folders import FILE_MODE, open_below, open_root, raise_store_error, read_all, write_all
from .names import check_name, check_prefix

TEMPORARY: Final = "tmp~"
_TRIES_MAX: Final = 5
_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_WRITE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LocalStore:
    """Objects of one job as files. The folder is made by the first write, so that looking never leaves anything."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._clean = threading.Lock()
        self._cleaned = False

    @property
    def url(self) -> str:
        """Where the objects are, for messages."""
        return str(self._root)

    def create(self, name: str, data: bytes) -> None:
        """Write an object if the name is free: one sync of the file and one of its folder."""
        *folders, last = check_name(name).split("/")
        path = self._root / name
        try:
            with (
                open_root(self._root, make=True) as root,
                open_below(root, folders, make=True) as folder,
                self._temporary(root, data) as (temporaries, temporary),
            ):
                try:
                    os.link(temporary, last, src_dir_fd=temporaries, dst_dir_fd=folder, follow_symlinks=False)
                except FileExistsError:
                    self._expect_same(folder, last, path, data)
                os.fsync(folder)
        except OSError as error:
            raise_store_error(error, "write", path)

    def replace(self, name: str, data: bytes) -> None:
        """Write or overwrite an object atomically; not synced, as a sign of life need not survive a power loss."""
        *folders, last = check_name(name).split("/")
        path = self._root / name
        try:
            with (
                open_root(self._root, make=True) as root,
                open_below(root, folders, make=True) as folder,
                self._temporary(root, data, sync=False) as (temporaries, temporary),
            ):
                os.rename(temporary, last, src_dir_fd=temporaries, dst_dir_fd=folder)
        except OSError as error:
            raise_store_error(error, "write", path)

    def read(self, name: str) -> bytes:
        """Return the whole object."""
        *folders, last = check_name(name).split("/")
        path = self._root / name
        try:
            with open_root(self._root, make=False) as root, open_below(root, folders, make=False) as folder:
                return _read(folder, last, path)
        except OSError as error:
            raise_store_error(error, "read", path)

    def list(self, prefix: str) -> Sequence[str]:
        """Return the names below a folder, sorted."""
        folders = check_prefix(prefix).split("/")[:-1]
        try:
            with open_root(self._root, make=False) as root, open_below(root, folders, make=False) as folder:
                return sorted(_walk(folder, prefix))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise_store_error(error, "list", self._root / prefix)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, folder by folder, and sync each folder once, so that a power loss brings none back."""
        by_folder: dict[str, list[str]] = {}
        for name in names:
            parent, _, last = check_name(name).rpartition("/")
            by_folder.setdefault(parent, []).append(last)
        for parent, lasts in by_folder.items():
            try:
                with (
                    open_root(self._root, make=False) as root,
                    open_below(root, parent.split("/") if parent else [], make=False) as folder,
                ):
                    for last in lasts:
                        with suppress(FileNotFoundError):
                            os.unlink(last, dir_fd=folder)
                    os.fsync(folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise_store_error(error, "delete from", self._root / parent)

    def _expect_same(self, folder: int, last: str, path: Path, data: bytes) -> None:
        fd = os.open(last, _READ_FLAGS, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode) or read_all(fd) != data:
                raise StoreExistsError(f"{path} exists with other content")
            # Whoever linked it first may not have come to its own sync of the folder; the file itself was synced.
        finally:
            os.close(fd)

    @contextmanager
    def _temporary(self, root: int, data: bytes, *, sync: bool = True) -> Iterator[tuple[int, str]]:
        with open_below(root, [TEMPORARY], make=True) as folder:
            self._clean_once(folder)
            fd, name = _new_temporary(folder)
            try:
                write_all(fd, data)
                if sync:
                    os.fsync(fd)
                yield folder, name
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                os.close(fd)

    def _clean_once(self, folder: int) -> None:
        with self._clean:
            if self._cleaned:
                return
            self._cleaned = True
        for name in os.listdir(folder):
            with suppress(OSError):
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=folder)
                finally:
                    os.close(fd)


def _new_temporary(folder: int) -> tuple[int, str]:
    """Make a locked temporary file; a cleaner may take it between its making and its lock, then the next one serves."""
    for _ in range(_TRIES_MAX):
        name = secrets.token_hex(8)
        fd = os.open(name, _WRITE_FLAGS, FILE_MODE, dir_fd=folder)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        if os.fstat(fd).st_nlink:
            return fd, name
        os.close(fd)
    raise StoreUnavailableError(f"temporary files were deleted {_TRIES_MAX} times while they were being written")


def _read(folder: int, last: str, path: Path) -> bytes:
    fd = os.open(last, _READ_FLAGS, dir_fd=folder)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StoreDeniedError(f"{path} is not a regular file", hint="move away what lies in the job's folder")
        return read_all(fd)
    finally:
        os.close(fd)


def _walk(folder: int, prefix: str) -> Iterator[str]:
    """Names of regular files; links, and names that no object can have, are not there for us."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if "~" in entry.name:
                continue
            if entry.is_file(follow_symlinks=False):
                yield prefix + entry.name
            elif entry.is_dir(follow_symlinks=False):
                with suppress(FileNotFoundError), open_below(folder, [entry.name], make=False) as below:
                    yield from _walk(below, f"{prefix}{entry.name}/")
