"""Savepoints as the store holds them: manifests under names that users chose, which retention never touches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..engine.ports.log import CheckpointLog
from ..engine.protocol.manifest import Manifest
from .manifests import from_json

FOLDER: Final = "savepoints/"
_SUFFIX: Final = ".json"


def savepoint_names(log: CheckpointLog) -> Sequence[str]:
    """Names of a job's savepoints, sorted."""
    listed = (name.removeprefix(FOLDER) for name in log.store.list(FOLDER))
    return [name.removesuffix(_SUFFIX) for name in listed if name.endswith(_SUFFIX) and "/" not in name]


def read_savepoint(log: CheckpointLog, name: str) -> Manifest:
    """Read and check a savepoint; raises what reading any manifest does."""
    path = f"{FOLDER}{name}{_SUFFIX}"
    return from_json(log.store.read(path), f"{log.store.url}/{path}")
