"""The files sink: JSON lines (or text), one file per subtask and epoch, each of them exactly once.

A file is written under a hidden name, made durable and then linked to its final name, which says job, epoch and
subtask. What an epoch holds is fixed by its manifest, so whoever commits it, and how often, there is one file with the
same lines. The folder itself is the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ...engine.errors import JobInvalidError, SinkError
from ...engine.ports.sink import SinkContext
from ...engine.settings import AT_LEAST_ONCE, EXACTLY_ONCE
from ..formats import Format, Json
from .names import Names
from .visible import NO_ROOM, sweep, unavailable

if TYPE_CHECKING:
    from .committer import FilesCommitter, FilesWriter


class FilesSink:
    """Writes lines to files in `folder`: one new file per subtask and committed epoch; readers never see a part of one.

    Files of one subtask sort by name in the order of their epochs; lines keep the order of the subtask. Names that
    begin with a dot are work in progress. The files tell a restarted job what is committed: older ones may be moved
    away at any time, but the newest of each subtask has to stay as long as the job may be started again.
    """

    kind = "files"

    def __init__(
        self,
        folder: str | Path,
        *,
        format: Format | None = None,  # noqa: A002 (the word users know)
        delivery: str | None = None,
    ) -> None:
        if not str(folder):
            raise JobInvalidError("folder is empty", hint="give the folder that the files go to")
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
        """Make the folder and sweep it; refuse one with output of another job under the same sink uid."""
        folder = self._folder.resolve()
        target = {"folder": str(folder), "ending": ".jsonl" if isinstance(self._format, Json) else ".txt"}
        if previous is not None and previous != target:
            raise SinkError(
                f"sink '{uid}': output goes to {folder} as {target['ending']} files, "
                f"the job's output so far is in {previous.get('folder')} as {previous.get('ending')} files",
                hint="leave folder and format as they were, or start under a new job name",
            )
        names = Names(uid, job_uid, target["ending"])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            there = [entry.name for entry in folder.iterdir()]
            sweep(folder, there, names.prefix)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise unavailable(uid, folder, error) from error
            raise SinkError(
                f"sink '{uid}': folder {folder} cannot be used: {error.strerror}", hint="check path and rights"
            ) from error
        foreign = names.foreign(there)
        if foreign is not None:
            raise SinkError(
                f"sink '{uid}': folder {folder} holds output of another job, or of an earlier life of job '{job}' with "
                f"other checkpoints: '{foreign}'",
                hint="choose an empty folder, or move those files away",
            )
        return target

    def open_encoder(self, context: SinkContext) -> FilesEncoder:
        """Make an encoder."""
        return FilesEncoder(self._format, context.uid)

    def open_committer(self, context: SinkContext) -> FilesCommitter:
        """Make a committer."""
        from .committer import FilesCommitter  # noqa: PLC0415 (only workers need it)

        return FilesCommitter(context)

    def open_writer(self, context: SinkContext) -> FilesWriter:
        """Make an at-least-once writer."""
        from .committer import FilesWriter  # noqa: PLC0415 (only workers need it)

        return FilesWriter(context)

    def __repr__(self) -> str:
        return f"FilesSink({str(self._folder)!r})"


class FilesEncoder:
    """Turns rows into outbox rows with one column, `value`. Raises `SinkError` for a value that is not one line."""

    def __init__(self, record_format: Format, uid: str) -> None:
        self._format = record_format
        self._uid = uid
        self._escapes = isinstance(record_format, Json)

    def encode(self, frame: pl.DataFrame) -> pa.RecordBatch:
        """Encode all rows."""
        values = self._format.encode(frame)
        if values.null_count:
            self._refuse(
                "a row's value is null, which no line can say", "fill it with .fill_null(...), or filter it out"
            )
        if not self._escapes and len(values) and pc.any(pc.match_substring(values, "\n")).as_py():
            self._refuse("a row's value has a line end inside", "write format=tg.Json(), which escapes it")
        return pa.RecordBatch.from_arrays([values], ["value"])

    def _refuse(self, what: str, hint: str) -> None:
        raise SinkError(f"sink '{self._uid}': {what}", hint=hint)
