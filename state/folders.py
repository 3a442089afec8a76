"""Walks from a job's folder to a file by directory descriptors, so that no symbolic link is followed on the way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NoReturn

from ..engine.errors import StoreDeniedError, StoreFullError, StoreMissingError, StoreUnavailableError, TidegateError

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_DENIED: Final = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV),
    *(errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
}


@contextmanager
def open_root(root: Path, *, make: bool) -> Iterator[int]:
    """Open the job's folder itself; the way to it may hold links, as the user chose it."""
    if make:
        make_folder(root)
    fd = os.open(root, _FOLDER_FLAGS)
    try:
        yield fd
    finally:
        os.close(fd)


def make_folder(path: Path) -> None:
    """Make a folder and the one above it for this user alone, durably; what is there already stays as it is."""
    if path.is_dir():
        return
    path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=FOLDER_MODE)
    for changed in (path.parent, path.parent.parent):
        sync_folder(changed)


@contextmanager
def open_below(root: int, segments: list[str], *, make: bool) -> Iterator[int]:
    """Open the folder `segments` below `root`, making what is missing if `make` says so."""
    fd = os.dup(root)
    try:
        for segment in segments:
            try:
                step = os.open(segment, _FOLDER_FLAGS, dir_fd=fd)
            except FileNotFoundError:
                if not make:
                    raise
                with suppress(FileExistsError):
                    os.mkdir(segment, FOLDER_MODE, dir_fd=fd)
                os.fsync(fd)
                step = os.open(segment, _FOLDER_FLAGS, dir_fd=fd)
            os.close(fd)
            fd = step
        yield fd
    finally:
        os.close(fd)


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable; a folder that we may not open is not ours to sync."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; a short write is no error of the system, so it is repeated."""
    view = memoryview(data)
    while view.nbytes:
        view = view[os.write(fd, view) :]


def read_all(fd: int) -> bytes:
    """Read to the end; one allocation for a file that does not grow."""
    with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
        return file.read()


def raise_store_error(error: OSError, what: str, path: Path) -> NoReturn:
    """Turn an operating system's error into the one of the store port."""
    raise store_error(error, what, path) from error


def store_error(error: OSError, what: str, path: Path) -> TidegateError:
    """Choose the store port's error for an operating system's one."""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StoreFullError(
            f"no room left to {what} {path}: {reason}",
            hint="free space or raise the quota there; the job goes on from its last checkpoint",
        )
    if error.errno == errno.ENOENT:
        return StoreMissingError(f"{path} does not exist")
    if error.errno in _DENIED:
        return StoreDeniedError(
            f"cannot {what} {path}: {reason}",
            hint="storage must be a folder that this user may write; below a job's folder no symbolic link is followed",
        )
    return StoreUnavailableError(f"cannot {what} {path}: {reason}", hint="check the disk under the storage folder")
