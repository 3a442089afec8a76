"""Reads assigned files in blocks, cut at line ends, decoded in columns."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...engine.errors import RecordInvalidError, SourceError
from ...engine.ids import OFFSET, SPLIT, TIME
from ...engine.ports.source import ReaderContext, SourceBatch, Split
from .lines import Lines, cut_lines
from .source import FileSettings
from .splits import head_of, place_of

BLOCK_BYTES: Final = 4 * 1024 * 1024
BLOCK_BYTES_MIN: Final = 64 * 1024
LINE_BYTES: Final = 128
"""How long lines are taken to be until some have been read."""
LINE_BYTES_MAX: Final = 256 * 1024 * 1024
SNIPPET: Final = 120
"""Most bytes of a bad line that a message shows."""


@dataclass
class _File:
    """One assigned file."""

    split: Split
    head: str
    position: int
    end: int
    line_bytes: float = LINE_BYTES
    stream: BinaryIO | None = None
    modified_ms: int = 0


class FileReader:
    """A `SourceReader` that takes a block of each file in turn."""

    def __init__(self, settings: FileSettings, schema: Mapping[str, pl.DataType], context: ReaderContext) -> None:
        self._s = settings
        self._context = context
        wanted = context.columns
        self._delivered = {name: dtype for name, dtype in schema.items() if wanted is None or name in wanted}
        event_time = settings.event_time
        self._columns = wanted | {event_time.column} if wanted is not None and event_time is not None else wanted
        self._turns: deque[_File] = deque()
        self._announce: set[str] = set()

    def assign(self, splits: Sequence[Split]) -> None:
        """Add files at their positions."""
        for split in splits:
            byte, head = place_of(self._context.uid, split.id, split.start)
            end, _ = place_of(self._context.uid, split.id, split.end)
            if byte >= end:
                self._announce.add(split.id)
            else:
                self._turns.append(_File(split, head, byte, end))

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        """Return the next lines of the next file."""
        finished = frozenset(self._announce)
        self._announce.clear()
        if not self._turns:
            if finished:
                return SourceBatch(self._empty(), {}, finished=finished)
            time.sleep(timeout_s)  # everything is read: there is nothing else to wait for
            return None
        file = self._turns.popleft()
        lines = self._lines(file, max_rows)
        batch = self._decode(file, lines)
        file.position += lines.length
        if file.position >= file.end:
            self._close(file)
            finished |= {file.split.id}
        else:
            self._turns.append(file)
        positions = {file.split.id: {"byte": file.position, "head": file.head}}
        return SourceBatch(batch.frame, positions, batch.max_time, batch.skipped, finished=finished)

    def _lines(self, file: _File, lines_max: int) -> Lines:
        """Read whole lines from the file's position on."""
        size = min(max(int(lines_max * file.line_bytes), BLOCK_BYTES_MIN), BLOCK_BYTES)
        while True:
            left = file.end - file.position
            lines = cut_lines(self._bytes(file, min(size, left)), file.position, lines_max, at_end=size >= left)
            if lines.length:
                file.line_bytes = max(lines.length / max(len(lines.begins), 1), 1)
                return lines
            if size > LINE_BYTES_MAX:
                raise SourceError(
                    f"{self._at(file.split.id)} has no line end within {size} bytes from byte {file.position}",
                    hint="the source reads files of lines",
                )
            size *= 2

    def _bytes(self, file: _File, size: int) -> bytes:
        try:
            stream = file.stream or self._open(file)
            stream.seek(file.position)
            data = stream.read(size)
        except OSError as error:
            raise SourceError(
                f"{self._at(file.split.id)} cannot be read: {error.strerror}", hint="check path and rights"
            ) from error
        if len(data) < size:
            raise self._changed(file, f"has {file.position + len(data)} bytes now, it had {file.end}")
        return data

    def _open(self, file: _File) -> BinaryIO:
        path = Path(file.split.id)
        stream = file.stream = path.open("rb")
        file.modified_ms = int(path.stat().st_mtime * 1000)
        if head_of(stream, file.end) != file.head:
            raise self._changed(file, "begins with other bytes than when the job first saw it")
        stream.seek(max(file.position - 1, 0))
        if file.position and stream.read(1) not in {b"\n", b""}:
            raise self._changed(file, f"has no line beginning at byte {file.position}, where the checkpoint says")
        return stream

    def _changed(self, file: _File, how: str) -> SourceError:
        return SourceError(
            f"{self._at(file.split.id)} {how}",
            hint="a file must not change while a job reads it: put the old one back, or start under a new job name",
        )

    def _at(self, where: str) -> str:
        return f"source '{self._context.uid}': {where}"

    @staticmethod
    def _close(file: _File) -> None:
        if file.stream is not None:
            file.stream.close()
            file.stream = None

    def _decode(self, file: _File, lines: Lines) -> _Rows:
        decoded = self._s.format.decode(lines.values, self._columns)
        frame, rows = decoded.frame, np.arange(len(lines.begins))
        if decoded.good is not None:
            self._bad(file, lines, rows[~decoded.good], decoded.reasons)
            rows = rows[decoded.good]
        times = self._times(file, frame)
        if times.null_count():
            timed = times.is_not_null()
            self._bad(file, lines, rows[~timed.to_numpy()], {})
            frame, times, rows = frame.filter(timed), times.filter(timed), rows[timed.to_numpy()]
        hidden = [times.alias(TIME)]
        if self._context.order_columns:
            index = pl.repeat(file.split.index, frame.height, dtype=pl.Int32, eager=True)
            hidden += [index.alias(SPLIT), pl.Series(OFFSET, lines.begins[rows])]
        frame = frame.with_columns(hidden).select(*self._delivered, *(column.name for column in hidden))
        latest = times.max()
        max_time = {file.split.id: latest} if isinstance(latest, int) else {}
        return _Rows(frame, max_time, len(lines.begins) - frame.height)

    def _times(self, file: _File, frame: pl.DataFrame) -> pl.Series:
        if self._s.event_time is None:
            return pl.repeat(file.modified_ms, frame.height, dtype=pl.Int64, eager=True)
        return frame.select(self._s.event_time.expression().alias(TIME)).to_series()

    def _bad(self, file: _File, lines: Lines, rows: npt.NDArray[np.int64], reasons: Mapping[int, str]) -> None:
        """Refuse the first of these lines if the policy says so; lines without a reason have no event time."""
        if self._s.format.on_error != "fail" or not len(rows):
            return
        row = int(rows[0])
        value = lines.values[row].as_py()
        shown = repr(value[:SNIPPET]) + ("..." if len(value) > SNIPPET else "")
        untimed = f"no event time in column '{self._s.event_time.column}'" if self._s.event_time else "undecodable"
        place = f"{file.split.id}:{self._line_number(file, int(lines.begins[row]))}"
        raise RecordInvalidError(
            f"{self._at(place)}: {reasons.get(row, untimed)}: {shown}",
            hint='correct the line, or pass over such lines with on_error="skip" in the format',
        )

    def _line_number(self, file: _File, byte: int) -> int:
        """Count the lines before a byte; only a message that ends the job needs it."""
        assert file.stream is not None
        file.stream.seek(0)
        number, left = 1, byte
        while left and (block := file.stream.read(min(BLOCK_BYTES, left))):
            number += block.count(b"\n")
            left -= len(block)
        return number

    def _empty(self) -> pl.DataFrame:
        order = {SPLIT: pl.Int32(), OFFSET: pl.Int64()} if self._context.order_columns else {}
        return pl.DataFrame(schema={**self._delivered, TIME: pl.Int64(), **order})

    def close(self) -> None:
        """Close all files."""
        for file in self._turns:
            self._close(file)


@dataclass(frozen=True)
class _Rows:
    """Decoded lines."""

    frame: pl.DataFrame
    max_time: Mapping[str, int]
    skipped: int
