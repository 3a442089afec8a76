"""The files sink: JSON lines (or text), one file per subtask and epoch, each of them exactly once.

A file is written under a hidden name, made durable, then linked to its final name, which says job, epoch and subtask:
`<sink>-<job uid>-<epoch>-<subtask>.jsonl`. What an epoch holds is fixed by its manifest, so whoever commits it, and how
often, there is one file with the same bytes. The folder itself is the ledger.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ...engine.errors import JobInvalidError, SinkError, SinkUnavailableError
from ...engine.ports.sink import CommitOutcome, Fence, LedgerEntry, Permit, SinkContext
from ...engine.settings import AT_LEAST_ONCE, EXACTLY_ONCE
from ..formats import Format, Json

UID_SHOWN: Final = 8
"""Letters of the job uid in a file's name."""
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class FilesSink:
    """Writes lines to files in `folder`: one new file per subtask and committed epoch; readers never see a part of one.

    Files of one subtask sort by name in the order of their epochs; lines keep the order of the subtask.
    """

    kind = "files"

    def __init__(
        self,
        folder: str | Path,
        *,
        format: Format | None = None,  # noqa: A002 (the word users know)
        delivery: str | None = None,
    ) -> None:
        if delivery not in {None, EXACTLY_ONCE, AT_LEAST_ONCE}:
            raise JobInvalidError(f"delivery is {delivery!r}", hint=f"use {EXACTLY_ONCE} or {AT_LEAST_ONCE}")
        self.delivery = delivery
        self._folder = Path(folder)
        self._format = format or Json()

    def check(self, schema: Mapping[str, pl.DataType]) -> None:
        """Refuse rows that the format cannot write."""
        self._format.check_encode(schema)

    def describe(self) -> Mapping[str, object]:
        """Return the settings."""
        return {"folder": str(self._folder), "format": repr(self._format), "delivery": self.delivery}

    def prepare(self, job: str, job_uid: str, uid: str, previous: Mapping[str, object] | None) -> Mapping[str, object]:
        """Make the folder; refuse one with another job's files of the same sink uid."""
        folder = self._folder.resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            names = [entry.name for entry in folder.iterdir()]
        except OSError as error:
            raise SinkError(
                f"sink '{uid}': folder {folder} cannot be used: {error.strerror}", hint="check path and rights"
            ) from error
        if previous is not None and previous.get("folder") != str(folder):
            raise SinkError(
                f"sink '{uid}': folder is {folder}, the job's output so far is in {previous.get('folder')}",
                hint="move the files there and back, or start under a new job name",
            )
        own, pattern = job_uid[:UID_SHOWN], _pattern(uid)
        for name in sorted(names):
            found = pattern.fullmatch(name)
            if found and found["job"] != own:
                raise SinkError(
                    f"sink '{uid}': folder {folder} holds output of another run of a job ('{name}'), "
                    f"this is '{job}' with uid {own}",
                    hint="choose an empty folder, or remove the old files",
                )
        return {"folder": str(folder)}

    def open_encoder(self, context: SinkContext) -> FilesEncoder:  # noqa: ARG002 (the port's signature)
        """Make an encoder."""
        return FilesEncoder(self._format)

    def open_committer(self, context: SinkContext) -> FilesCommitter:
        """Make a committer."""
        return FilesCommitter(context)

    def open_writer(self, context: SinkContext) -> FilesWriter:
        """Make an at-least-once writer."""
        return FilesWriter(context)

    def __repr__(self) -> str:
        return f"FilesSink({str(self._folder)!r})"


class FilesEncoder:
    """Turns rows into outbox rows with one column, `value`."""

    def __init__(self, record_format: Format) -> None:
        self._format = record_format

    def encode(self, frame: pl.DataFrame) -> pa.RecordBatch:
        """Encode all rows."""
        return pa.RecordBatch.from_arrays([self._format.encode(frame)], ["value"])


@dataclass(frozen=True)
class FolderFence:
    """Nobody can be kept from writing a file, and nobody needs to be: a late writer writes the same bytes."""

    subtask: int


class FilesCommitter:
    """A `SinkCommitter` over a folder."""

    def __init__(self, context: SinkContext) -> None:
        self._uid = context.uid
        self._job = context.job_uid[:UID_SHOWN]
        self._folder = Path(str(context.target["folder"]))

    def fence(self, subtasks: Sequence[int]) -> Sequence[Fence]:
        """Return fences."""
        return [FolderFence(subtask) for subtask in subtasks]

    def last_committed(self, fences: Sequence[Fence]) -> Mapping[int, LedgerEntry | None]:
        """Read the newest epoch of each subtask off the names in the folder."""
        newest: dict[int, int] = {}
        pattern = _pattern(self._uid)
        try:
            names = [entry.name for entry in self._folder.iterdir()]
        except OSError as error:
            raise _unavailable(self._uid, self._folder, error) from error
        for name in names:
            found = pattern.fullmatch(name)
            if found and found["job"] == self._job:
                subtask, epoch = int(found["subtask"]), int(found["epoch"])
                newest[subtask] = max(epoch, newest.get(subtask, 0))
        return {f.subtask: LedgerEntry(0, newest[f.subtask]) if f.subtask in newest else None for f in fences}

    def commit(self, fence: Fence, permit: Permit, batches: Iterable[pa.RecordBatch]) -> CommitOutcome:
        """Write and link one file."""
        name = f"{self._uid}-{self._job}-{permit.epoch:012d}-{fence.subtask:04d}.jsonl"
        write_file(self._uid, self._folder, name, batches)
        return CommitOutcome.COMMITTED

    def close(self) -> None:
        """Nothing is open."""


class FilesWriter:
    """A `SinkWriter`: what comes between two flushes becomes a file of its own."""

    def __init__(self, context: SinkContext) -> None:
        self._uid = context.uid
        self._prefix = f"{context.uid}-{context.job_uid[:UID_SHOWN]}-{context.attempt:06d}"
        self._folder = Path(str(context.target["folder"]))
        self._batches: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep rows until the next flush."""
        self._batches.append(batch)

    def flush(self) -> None:
        """Write what was kept."""
        if self._batches:
            name = f"{self._prefix}-{secrets.token_hex(8)}.jsonl"
            write_file(self._uid, self._folder, name, self._batches)
            self._batches = []

    def close(self) -> None:
        """Nothing is open."""


def write_file(uid: str, folder: Path, name: str, batches: Iterable[pa.RecordBatch]) -> None:
    """Make a file of lines visible under its name, durably and as a whole; a name that is there already is done."""
    hidden = folder / f".{name}.{secrets.token_hex(6)}"
    try:
        with hidden.open("xb") as stream:
            for batch in batches:
                stream.write(_lines(batch.column("value")))
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(hidden, folder / name)
        except FileExistsError:
            pass
        finally:
            hidden.unlink()
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        hidden.unlink(missing_ok=True)
        raise _unavailable(uid, folder, error) from error


def _lines(values: pa.Array) -> memoryview:
    """Return all values with a line end behind each."""
    nothing, line_end = (pa.scalar(text, values.type) for text in (b"", b"\n"))
    ended = pc.binary_join_element_wise(values, nothing, line_end)
    _, offsets, data = ended.buffers()
    width = pa.types.is_large_binary(ended.type)
    first, last = (
        memoryview(offsets).cast("q" if width else "i")[i] for i in (ended.offset, ended.offset + len(ended))
    )
    return memoryview(data)[first:last]


def _pattern(uid: str) -> re.Pattern[str]:
    return re.compile(
        rf"{re.escape(uid)}-(?P<job>[0-9a-f]{{{UID_SHOWN}}})-(?P<epoch>\d{{12}})-(?P<subtask>\d{{4,}})\.jsonl"
    )


def _unavailable(uid: str, folder: Path, error: OSError) -> SinkUnavailableError:
    hint = "make room there" if error.errno in NO_ROOM else "check the folder and the rights on it"
    return SinkUnavailableError(f"sink '{uid}': folder {folder}: {error.strerror}", hint=f"{hint}; the job tries again")
