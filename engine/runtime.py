"""The implementations that the engine runs on, put in by the package facade so that the engine never imports them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from .errors import TidegateError
from .ports.keyed import TableFactory
from .ports.log import CheckpointLog
from .protocol.manifest import FileRef, Manifest


class Catalog(Protocol):
    """The index of checkpoints that SQL reads. Used by one thread; its failures are warnings, never a job's failure."""

    def attempt(self, attempt: int, phase: str, about: Mapping[str, object]) -> None:
        """Record that an attempt entered a phase."""

    def decided(self, manifest: Manifest, durations_ms: Mapping[str, float], trigger: str) -> None:
        """Record a decided checkpoint."""

    def committed(self, epoch: int, at_ms: int) -> None:
        """Record that all output up to `epoch` is committed."""

    def failed(self, epoch: int, tries: int, reason: str) -> None:
        """Record a failed checkpoint try."""

    def retired(self, epochs: list[int]) -> None:
        """Forget checkpoints whose manifests are gone."""

    def publish(self) -> None:
        """Replace the reader's copy."""

    def close(self) -> None:
        """Publish and release the database; may be called twice."""


class LivenessLock(Protocol):
    """Tells whether another attempt of the job is alive. Only refuses starts; safety never rests on it."""

    def acquire(self) -> bool:
        """Take the lock; False if another process shows signs of life (may wait for one, within a bound)."""

    def beat(self) -> None:
        """Show a sign of life; called about once a second."""

    def release(self) -> None:
        """Give the lock back; may be called twice."""


class Retired(Protocol):
    """What one call of `Retirement.retire` did."""

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs whose manifests are gone."""

    @property
    def reason(self) -> str:
        """Why nothing was deleted although it was asked for."""


class Retirement(Protocol):
    """Deletes checkpoints that are no longer kept, for one attempt. Used by one thread."""

    def remember(self, manifest: Manifest) -> None:
        """Spare the reading of a manifest that this attempt has decided or read."""

    def retire(self) -> Retired:
        """Delete what the rules allow; stops by itself when a newer attempt exists."""


@dataclass(frozen=True)
class Runtime:
    """What the engine needs from outside: log, catalog, liveness, tables and the two file formats."""

    open_log: Callable[[str, str], CheckpointLog]
    """(storage url or path, job id) -> log"""
    open_catalog: Callable[[str, str, CheckpointLog], Catalog]
    """(storage, job id, log) -> catalog, brought up to date from the log's manifests"""
    open_lock: Callable[[str, str, CheckpointLog], LivenessLock]
    """(storage, job id, log) -> lock"""
    open_retirement: Callable[[CheckpointLog, int, int], Retirement]
    """(log, our attempt, checkpoints to keep) -> what deletes superseded checkpoints"""
    new_table: TableFactory
    write_run: Callable[[pl.DataFrame, Mapping[str, object]], bytes]
    """(keyed-state run, how SQL shows its columns) -> Parquet bytes"""
    read_run: Callable[[bytes, int, int], pl.DataFrame]
    """(verified Parquet bytes, first key group, end key group) -> rows of these groups"""
    read_file: Callable[[CheckpointLog, FileRef], bytes]
    """read an object and verify size and hash; raises CorruptError with path and both hashes"""


_installed: list[Runtime] = []


def install(runtime: Runtime) -> None:
    """Make `runtime` the one that jobs of this process run on."""
    _installed[:] = [runtime]


def installed() -> Runtime:
    """Return the runtime of this process."""
    if not _installed:
        raise TidegateError("no runtime is installed", hint="import tidegate, not its inner folders")
    return _installed[0]
