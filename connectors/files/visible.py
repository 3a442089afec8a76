"""Makes files of lines visible: as a whole, durably, and under their names only once."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc

from ...engine.errors import SinkUnavailableError

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
HIDDEN: Final = "."
"""How names begin that readers pass over."""


class HiddenFile:
    """A file that is written under a hidden name and shown when it is whole. Raises `SinkUnavailableError`."""

    def __init__(self, uid: str, folder: Path, name: str) -> None:
        self._uid = uid
        self._folder = folder
        self._name = name
        self._path = folder / f"{HIDDEN}{name}.{secrets.token_hex(6)}"
        self._stream: BinaryIO | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a line for every row."""
        try:
            if self._stream is None:
                self._stream = self._path.open("xb")
            self._stream.write(lines_of(batch.column("value")))
        except OSError as error:
            self.discard()
            raise unavailable(self._uid, self._folder, error) from error

    def show(self) -> None:
        """Make it durable, then visible; if the name is taken it holds the same output, and that is that."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
            _take(self._path, self._folder / self._name)
            sync(self._folder)
        except OSError as error:
            raise unavailable(self._uid, self._folder, error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the hidden name; may be called twice. What cannot be removed now is swept at the next start."""
        stream, self._stream = self._stream, None
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def _take(hidden: Path, name: Path) -> None:
    """Give the file its name unless it is taken."""
    try:
        os.link(hidden, name)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # A file system without hard links. Whoever else writes under this name writes the same lines.
        hidden.replace(name)


def sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path, names: Iterable[str], prefix: str) -> None:
    """Remove hidden files that never got their names; an older attempt that still writes one is a zombie."""
    for name in names:
        if name.startswith(HIDDEN + prefix):
            (folder / name).unlink(missing_ok=True)


def lines_of(values: pa.Array) -> memoryview:
    """Return all values with a line end behind each."""
    nothing, line_end = (pa.scalar(text, values.type) for text in (b"", b"\n"))
    ended = pc.binary_join_element_wise(values, nothing, line_end)
    _, offsets, data = ended.buffers()
    width = pa.types.is_large_binary(ended.type)
    places = memoryview(offsets).cast("q" if width else "i")
    return memoryview(data)[places[ended.offset] : places[ended.offset + len(ended)]]


def unavailable(uid: str, folder: Path, error: OSError) -> SinkUnavailableError:
    """Say that a folder cannot be written to now."""
    hint = "make room there" if error.errno in NO_ROOM else "check the folder and the rights on it"
    return SinkUnavailableError(f"sink '{uid}': folder {folder}: {error.strerror}", hint=f"{hint}; the job tries again")
