"""The reader's copy of a catalog: where it is, and how it is replaced as a whole while others read the old one.

| storage | copy |
|---|---|
| local folder | `<storage>/<job>/catalog/catalog.duckdb` |
| S3 | `$XDG_CACHE_HOME/tidegate/<hash of the storage URL>/<job>/catalog.duckdb` (`~/.cache` if that is not set) |
| memory | none |

Any DuckDB client may open it, best read-only. It is an index: losing it loses no result.
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .folders import FOLDER_MODE
from .stores import is_local, local_path

log = logging.getLogger(__name__)

PUBLISH_INTERVAL_S: Final = 1.0
SETTLE_S: Final = 0.1
"""How long a change waits for others that follow at once, so that they share a copy."""
JOIN_TIMEOUT_S: Final = 10.0
LEFTOVER_AGE_S: Final = 3600.0
_NAME: Final = "catalog.duckdb"
_IDLE_WAIT_S: Final = 60.0


def reader_path(storage: str, job: str) -> Path | None:
    """Return where the reader's copy of a job's catalog is, or None for storage in memory."""
    if is_local(storage):
        return local_path(storage) / job / "catalog" / _NAME
    if storage.startswith("memory:"):
        return None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    key = hashlib.sha256(storage.rstrip("/").encode()).hexdigest()[:16]
    return Path(base).expanduser() / "tidegate" / key / job / _NAME


def replace(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a new file and put it in place of the copy. Raises `OSError`, also for a symbolic link."""
    folder = path.parent
    folder.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if folder.is_symlink():
        raise OSError(f"{folder} is a symbolic link; the catalog is not written through one")
    new = folder / f".{os.getpid()}-{secrets.token_hex(4)}.new"
    try:
        write(new)
        # Left by somebody who opened the old copy for writing; it would not fit the new one.
        path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
        new.with_name(f"{new.name}.wal").unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Delete what killed processes left beside the copy; failing to is no matter."""
    try:
        for leftover in [*path.parent.glob(".*.new"), *path.parent.glob(".*.new.wal")]:
            if time.time() - leftover.lstat().st_mtime > LEFTOVER_AGE_S:
                leftover.unlink(missing_ok=True)
    except OSError as error:
        log.debug("leftovers in %s stay: %s", path.parent, error)


def move_aside(path: Path) -> Path:
    """Rename an unreadable copy, so that somebody can look at it; the one moved before goes. Raises `OSError`."""
    aside = path.with_name(f"unreadable-{path.name}")
    path.replace(aside)
    return aside


class Publisher:
    """Calls `publish` in a thread of its own after changes: soon after the first one, at most once per interval."""

    def __init__(self, publish: Callable[[], None]) -> None:
        self._publish = publish
        self._changed = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def change(self) -> None:
        """Say that there is something to publish."""
        if self._thread is None and not self._closed.is_set():
            self._thread = threading.Thread(target=self._run, name="catalog-publish", daemon=True)
            self._thread.start()
        self._changed.set()

    def close(self) -> None:
        """Stop the thread; what is not published by then is left to the caller. May be called twice."""
        self._closed.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        last = -PUBLISH_INTERVAL_S
        while not self._closed.is_set():
            if not self._changed.wait(_IDLE_WAIT_S):
                continue
            wait_s = max(SETTLE_S, last + PUBLISH_INTERVAL_S - time.monotonic())
            if self._closed.wait(wait_s):
                return
            self._changed.clear()
            last = time.monotonic()
            self._publish()
