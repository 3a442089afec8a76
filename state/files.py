"""Verified reads: no byte of a state file or an outbox is parsed before its size and hash are those of the manifest."""

from __future__ import annotations

import hashlib

from ..engine.errors import CorruptError, StoreMissingError
from ..engine.ports.log import CheckpointLog
from ..engine.protocol.manifest import FileRef


def read_file(log: CheckpointLog, file: FileRef) -> bytes:
    """Read a file that a manifest names.

    Raises `CorruptError` with path and both hashes, `StoreMissingError` or `StoreUnavailableError`.
    """
    path = f"{log.store.url}/{file.name}"
    try:
        data = log.store.read(file.name)
    except StoreMissingError as error:
        raise StoreMissingError(
            f"{path} is missing; a manifest names it with {file.size} bytes, SHA-256 {file.sha256}",
            hint="it retired with its checkpoint, or somebody deleted it: restore a checkpoint whose files are there",
        ) from error
    actual = hashlib.sha256(data).hexdigest()
    if len(data) != file.size or actual != file.sha256:
        raise CorruptError(
            f"{path} has {len(data)} bytes, SHA-256 {actual}; expected {file.size} bytes, SHA-256 {file.sha256}",
            hint="nothing of it was used; put the original file back, or restore an older checkpoint",
        )
    return data
