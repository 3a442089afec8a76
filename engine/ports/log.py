"""The checkpoint log port: attempts and manifests of one job, on top of a checkpoint store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..protocol.manifest import Manifest
from .store import CheckpointStore


class CheckpointLog(Protocol):
    """Attempts and manifests. A manifest's name is a lock: the first writer of an epoch decides it."""

    @property
    def store(self) -> CheckpointStore:
        """The objects underneath, for state files and outboxes."""

    def attempts(self) -> Sequence[int]:
        """All attempt numbers ever taken, ascending."""

    def claim(self, attempt: int, about: Mapping[str, object]) -> bool:
        """Take an attempt number; False if somebody else has it."""

    def epochs(self) -> Sequence[int]:
        """Epochs that have a manifest, ascending (0 = identity and start)."""

    def read(self, epoch: int) -> Manifest:
        """Read and check a manifest. Raises `StoreMissingError`, `CorruptError`, `JobInvalidError` (newer format)."""

    def newest(self) -> Manifest | None:
        """Read the manifest of the highest epoch; None before manifest 0."""

    def decide(self, manifest: Manifest) -> bool:
        """Write a manifest with create-if-absent: True = decided by us, False = somebody else decided this epoch.

        An unknown outcome raises `StoreUnavailableError`; calling again with the same manifest resolves it.
        """
