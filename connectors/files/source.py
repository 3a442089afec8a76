"""The file source as a job file describes it: a file, a folder or a pattern of line-oriented files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ...engine.durations import parse_ms
from ...engine.errors import JobInvalidError
from ..event_time import EventTime
from ..formats import Format

if TYPE_CHECKING:
    from ...engine.ports.source import ReaderContext
    from .reader import FileReader
    from .splits import FileEnumerator


@dataclass(frozen=True)
class FileSettings:
    """Checked settings, shared by enumerator and readers."""

    path: str
    format: Format
    event_time: EventTime | None


class FileSource:
    """Reads lines of files: one split per file, in the order of their names; the position is a byte offset.

    `path` is a file, a folder (its .jsonl, .ndjson, .json and .txt files) or a pattern such as `data/*.jsonl`.
    Every line that is not empty is one record for `format`. A file is read up to the size it had when the job first
    saw it, so a job over files finishes by itself; a file should be whole before it appears there, and must not change
    afterwards. Files that appear later are found by the next start, as long as the job has not finished. `event_time`
    defaults to the file's time of change. Lines of one file keep their order.
    """

    kind = "files"
    seekable = True
    discovery_interval_s: float | None = None

    def __init__(
        self,
        path: str | Path,
        *,
        format: Format,  # noqa: A002 (the word users know)
        event_time: EventTime | None = None,
        max_out_of_orderness: str | float | timedelta = 0,
        idle_after: str | float | timedelta | None = None,
    ) -> None:
        if not str(path):
            raise JobInvalidError("path is empty", hint="give a file, a folder or a pattern")
        if format.metadata:
            raise JobInvalidError(
                f"files have no record metadata ({', '.join(format.metadata)})",
                hint="leave metadata=... out of the format",
            )
        schema = dict(format.schema)
        if event_time is not None and event_time.column not in schema:
            raise JobInvalidError(
                f"event time column '{event_time.column}' is not in the format's schema {list(schema)}",
                hint="add it to the schema",
            )
        self._settings = FileSettings(str(path), format, event_time)
        self._schema = schema
        self.max_out_of_orderness_ms = parse_ms(max_out_of_orderness, "max_out_of_orderness")
        self.idle_after_ms = None if idle_after is None else parse_ms(idle_after, "idle_after")

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """The format's columns."""
        return self._schema

    def bounded(self, until_end: bool) -> FileSource:  # noqa: ARG002 (files always end)
        """Return this source: files are bounded by nature."""
        return self

    def describe(self) -> Mapping[str, object]:
        """Return the settings."""
        return {"path": self._settings.path, "format": repr(self._settings.format)}

    def open_enumerator(self, job: str, uid: str) -> FileEnumerator:  # noqa: ARG002 (the port's signature)
        """Look at the files."""
        from .splits import FileEnumerator  # noqa: PLC0415 (only the coordinator needs it)

        return FileEnumerator(self._settings.path, uid)

    def open_reader(self, context: ReaderContext) -> FileReader:
        """Read files."""
        from .reader import FileReader  # noqa: PLC0415 (only workers need it)

        return FileReader(self._settings, self._schema, context)

    def __repr__(self) -> str:
        return f"FileSource({self._settings.path!r})"
