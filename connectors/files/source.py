"""The file source as a job file describes it: a file, a folder or a pattern of line-oriented files."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from ...engine.durations import parse_ms
from ...engine.errors import JobInvalidError, SourceError
from ...engine.ports.source import Position, Split
from ..event_time import EventTime
from ..formats import Format

if TYPE_CHECKING:
    from ...engine.ports.source import ReaderContext
    from .reader import FileReader

ENDINGS: Final = (".jsonl", ".ndjson", ".json", ".txt")
"""Files of a folder that are read."""
COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".zip")


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
    saw it, so a job over files finishes by itself. `event_time` defaults to the file's time of change. Lines of one
    file keep their order.
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
        return FileEnumerator(self._settings.path, uid)

    def open_reader(self, context: ReaderContext) -> FileReader:
        """Read files."""
        from .reader import FileReader  # noqa: PLC0415 (only workers need it)

        return FileReader(self._settings, self._schema, context)

    def __repr__(self) -> str:
        return f"FileSource({self._settings.path!r})"


class FileEnumerator:
    """Finds the files of a source. A split's id is the file's path as it is found."""

    def __init__(self, path: str, uid: str) -> None:
        self._path = path
        self._uid = uid

    def discover(self) -> Sequence[Split]:
        """Return all files by name, to be read from their beginning to their present end."""
        try:
            return [self._split(index, path) for index, path in enumerate(self._files())]
        except OSError as error:
            raise SourceError(
                f"source '{self._uid}': {error.filename} cannot be read: {error.strerror}", hint="check path and rights"
            ) from error

    def _files(self) -> list[Path]:
        path = Path(self._path)
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix in ENDINGS and not p.name.startswith("."))
        elif glob.has_magic(self._path):
            found = sorted(Path(name) for name in glob.glob(self._path))  # noqa: PTH207 (takes absolute patterns, too)
        else:
            found = [path] if path.exists() else []
        if not found:
            raise SourceError(
                f"source '{self._uid}': there is no file at {self._path}",
                hint=f"give a file, a pattern, or a folder with files ending in {', '.join(ENDINGS)}",
            )
        for file in found:
            if file.suffix in COMPRESSED:
                raise SourceError(
                    f"source '{self._uid}': {file} is compressed, so it cannot be read from a position in its middle",
                    hint="decompress it first",
                )
        return [file.resolve() for file in found]

    @staticmethod
    def _split(index: int, path: Path) -> Split:
        size = path.stat().st_size
        return Split(str(path), index, start={"byte": 0}, first={"byte": 0}, end={"byte": size})

    def report(self, positions: Mapping[str, Position]) -> None:
        """Nobody asks how far files were read."""

    def close(self) -> None:
        """Nothing is open."""
