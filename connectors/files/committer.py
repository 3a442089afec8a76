"""Commits output to a folder: exactly-once by name, or at-least-once as it comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ...engine.ports.sink import CommitOutcome, Fence, LedgerEntry, Permit, SinkContext
from .names import Names
from .visible import HiddenFile, sync, unavailable


@dataclass(frozen=True)
class FolderFence:
    """Nobody can be kept from writing a file, and nobody needs to be: a late writer writes the same bytes."""

    subtask: int


class FilesCommitter:
    """A `SinkCommitter` over a folder. What an epoch holds was decided, so its file is the same whoever writes it."""

    def __init__(self, context: SinkContext) -> None:
        self._uid = context.uid
        self._folder = Path(str(context.target["folder"]))
        self._names = Names(context.uid, context.job_uid, str(context.target["ending"]))

    def fence(self, subtasks: Sequence[int]) -> Sequence[Fence]:
        """Return fences that keep nobody away."""
        return [FolderFence(subtask) for subtask in subtasks]

    def last_committed(self, fences: Sequence[Fence]) -> Mapping[int, LedgerEntry | None]:
        """Read the newest epoch of each subtask off the names in the folder."""
        try:
            newest = self._names.newest(entry.name for entry in self._folder.iterdir())
            # A name that a dying process has just given may not be durable yet; what counts as committed has to be.
            sync(self._folder)
        except OSError as error:
            raise unavailable(self._uid, self._folder, error) from error
        return {fence.subtask: newest.get(fence.subtask) for fence in fences}

    def commit(self, _fence: Fence, permit: Permit, batches: Iterable[pa.RecordBatch]) -> CommitOutcome:
        """Write one file and show it under its name; an error means that it is not there, or there as a whole."""
        file = HiddenFile(self._uid, self._folder, self._names.of(permit))
        try:
            for batch in batches:
                file.write(batch)
            file.show()
        finally:
            file.discard()
        return CommitOutcome.COMMITTED

    def close(self) -> None:
        """Nothing is open."""


class FilesWriter:
    """A `SinkWriter`: what comes between two flushes becomes a file of its own."""

    def __init__(self, context: SinkContext) -> None:
        self._uid = context.uid
        self._attempt = context.attempt
        self._folder = Path(str(context.target["folder"]))
        self._names = Names(context.uid, context.job_uid, str(context.target["ending"]))
        self._number = 0
        self._file: HiddenFile | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Write rows to a hidden file."""
        if self._file is None:
            self._number += 1
            self._file = HiddenFile(self._uid, self._folder, self._names.new(self._attempt, self._number))
        self._file.write(batch)

    def flush(self) -> None:
        """Show what was written."""
        file, self._file = self._file, None
        if file is not None:
            file.show()

    def close(self) -> None:
        """Forget what was not flushed."""
        file, self._file = self._file, None
        if file is not None:
            file.discard()
