"""The checkpoint log: attempts and manifests of one job as objects whose names are locks.

`attempts/000007.json` is attempt 7, `checkpoints/000000000812.json` the manifest of epoch 812. Other names in these
folders are not ours and are passed over.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ..engine.errors import CorruptError, StoreExistsError, StoreMissingError
from ..engine.ports.store import CheckpointStore
from ..engine.protocol.manifest import Manifest
from .manifests import from_json, to_json
from .sealed import seal, unseal
from .stores import open_store

ATTEMPTS: Final = "attempts/"
CHECKPOINTS: Final = "checkpoints/"
_RELISTS_MAX: Final = 10
_NUMBER = re.compile(r"(\d+)\.json", re.ASCII)


def open_log(storage: str, job: str) -> StoreLog:
    """Open the log of a job; makes nothing."""
    return StoreLog(open_store(storage, job), job)


def attempt_name(attempt: int) -> str:
    """Name of an attempt's object."""
    return f"{ATTEMPTS}{attempt:06d}.json"


def manifest_name(epoch: int) -> str:
    """Name of the manifest of an epoch."""
    return f"{CHECKPOINTS}{epoch:012d}.json"


class StoreLog:
    """Attempts and manifests of one job, on a checkpoint store. Threads may share it; one claims and decides."""

    def __init__(self, store: CheckpointStore, job: str) -> None:
        self._store = store
        self._job = job
        self._claims: dict[int, bytes] = {}

    @property
    def store(self) -> CheckpointStore:
        """The objects underneath."""
        return self._store

    @property
    def job(self) -> str:
        """The job whose log this is."""
        return self._job

    def attempts(self) -> Sequence[int]:
        """All attempt numbers ever taken, ascending."""
        return self._numbers(ATTEMPTS, attempt_name)

    def claim(self, attempt: int, about: Mapping[str, object]) -> bool:
        """Take an attempt number; a random token tells our own lost answer from another claim with the same words."""
        data = self._claims.setdefault(
            attempt, seal({"about": dict(about), "attempt": attempt, "token": secrets.token_hex(16)})
        )
        try:
            self._store.create(attempt_name(attempt), data)
        except StoreExistsError:
            return False
        return True

    def read_attempt(self, attempt: int) -> Mapping[str, object]:
        """Return what an attempt said about itself when it claimed its number."""
        where = self._where(attempt_name(attempt))
        about = unseal(self._store.read(attempt_name(attempt)), where).get("about")
        if not isinstance(about, dict):
            raise CorruptError(f"{where} says nothing about its attempt")
        return about

    def epochs(self) -> Sequence[int]:
        """Epochs that have a manifest, ascending."""
        return self._numbers(CHECKPOINTS, manifest_name)

    def read(self, epoch: int) -> Manifest:
        """Read and check a manifest; one of another job or epoch under this name is damage."""
        name = manifest_name(epoch)
        manifest = from_json(self._store.read(name), self._where(name))
        if (manifest.job, manifest.epoch) != (self._job, epoch):
            raise CorruptError(
                f"{self._where(name)} is the manifest of job {manifest.job!r}, epoch {manifest.epoch};"
                f" expected job {self._job!r}, epoch {epoch}",
                hint="objects were swapped; put the original object back",
            )
        return manifest

    def newest(self) -> Manifest | None:
        """Read the manifest of the highest epoch; lists again when that one retired in between."""
        for _ in range(_RELISTS_MAX):
            epochs = self.epochs()
            if not epochs:
                return None
            try:
                return self.read(epochs[-1])
            except StoreMissingError:
                continue
        raise CorruptError(
            f"{self._where(manifest_name(epochs[-1]))} is listed, but could not be read in {_RELISTS_MAX} tries",
            hint="the store's listing contradicts its objects; check the store",
        )

    def decide(self, manifest: Manifest) -> bool:
        """Write a manifest if its epoch is undecided: True = ours, False = somebody else's."""
        try:
            self._store.create(manifest_name(manifest.epoch), to_json(manifest))
        except StoreExistsError:
            return False
        return True

    def _numbers(self, prefix: str, name_of: Callable[[int], str]) -> Sequence[int]:
        found = []
        for name in self._store.list(prefix):
            match = _NUMBER.fullmatch(name.removeprefix(prefix))
            if match and name_of(int(match[1])) == name:
                found.append(int(match[1]))
        return sorted(found)

    def _where(self, name: str) -> str:
        return f"{self._store.url}/{name}"
