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
import pyarrow as pa

from ...engine.errors import RecordInvalidError, SourceError
from ...engine.ids import OFFSET, SPLIT, TIME
from ...engine.ports.source import ReaderContext, SourceBatch, Split
from .source import FileSettings

BLOCK_BYTES: Final = 4 * 1024 * 1024
LINE_BYTES_MAX: Final = 256 * 1024 * 1024
SNIPPET: Final = 120
NEWLINE: Final = 10
RETURN: Final = 13


@dataclass
class _File:
    """One assigned file."""

    split: Split
    position: int
    end: int
    stream: BinaryIO | None = None
    modified_ms: int = 0


class FileReader:
    """A `SourceReader` that takes a block of each file in turn."""

    def __init__(
        self,
        settings: FileSettings,
        schema: Mapping[str, pl.DataType],
        context: ReaderContext,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self._s = settings
        self._context = context
        self._block = block_bytes
        wanted = context.columns
        self._delivered = [name for name in schema if wanted is None or name in wanted]
        event_time = settings.event_time
        self._columns = wanted | {event_time.column} if wanted is not None and event_time is not None else wanted
        self._turns: deque[_File] = deque()
        self._announce: set[str] = set()

    def assign(self, splits: Sequence[Split]) -> None:
        """Add files at their positions."""
        for split in splits:
            file = _File(split, _byte(split.start), _byte(split.end))
            if file.position >= file.end:
                self._announce.add(split.id)
            else:
                self._turns.append(file)

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        """Return the next lines of the next file; `max_rows` is a wish that long blocks of short lines exceed."""
        finished = frozenset(self._announce)
        self._announce.clear()
        if not self._turns:
            if not finished:
                time.sleep(timeout_s)  # everything is read: there is nothing else to wait for
                return None
            return SourceBatch(self._empty(), {}, finished=finished)
        file = self._turns.popleft()
        start = file.position
        data = self._lines(file, max_rows)
        batch = self._decode(file, start, data)
        done = file.position >= file.end
        if done:
            self._close(file)
        else:
            self._turns.append(file)
        over = finished | ({file.split.id} if done else set())
        return SourceBatch(
            batch.frame, {file.split.id: {"byte": file.position}}, batch.max_time, batch.skipped, finished=over
        )

    def _lines(self, file: _File, max_rows: int) -> bytes:
        """Read whole lines from the file's position on, and move it behind them."""
        stream = self._open(file)
        size = min(self._block, max(max_rows, 1) * 1024)
        while True:
            stream.seek(file.position)
            data = stream.read(min(size, file.end - file.position))
            at_end = file.position + len(data) >= file.end
            cut = len(data) if at_end else data.rfind(b"\n") + 1
            if cut:
                file.position += cut
                return data[:cut]
            if not data or size > LINE_BYTES_MAX:
                raise SourceError(
                    f"source '{self._context.uid}': {file.split.id} has no line end within {size} bytes "
                    f"from byte {file.position}",
                    hint="the source reads files of lines",
                )
            size *= 2

    def _open(self, file: _File) -> BinaryIO:
        path = Path(file.split.id)
        try:
            if file.stream is None:
                file.stream = path.open("rb")
                status = path.stat()
                file.modified_ms = int(status.st_mtime * 1000)
                if status.st_size < file.end:
                    raise SourceError(
                        f"source '{self._context.uid}': {path} has {status.st_size} bytes now, it had {file.end}",
                        hint="files must not change while a job reads them; restore it, or start under a new job name",
                    )
        except OSError as error:
            raise SourceError(
                f"source '{self._context.uid}': {path} cannot be read: {error.strerror}", hint="check path and rights"
            ) from error
        return file.stream

    @staticmethod
    def _close(file: _File) -> None:
        if file.stream is not None:
            file.stream.close()
            file.stream = None

    def _decode(self, file: _File, start: int, data: bytes) -> _Rows:
        values, offsets = split_lines(data, start)
        decoded = self._s.format.decode(values, self._columns)
        frame, places = decoded.frame, np.arange(len(offsets))
        if decoded.good is not None:
            self._bad(file, values, offsets, np.flatnonzero(~decoded.good), decoded.reasons)
            places = places[decoded.good]
        times = self._times(file, frame)
        if times.null_count():
            timed = times.is_not_null()
            untimed = places[~timed.to_numpy()]
            column = self._s.event_time.column if self._s.event_time is not None else ""
            reasons = {int(row): f"no event time in column '{column}'" for row in untimed[:1]}
            self._bad(file, values, offsets, untimed, reasons)
            frame, times, places = frame.filter(timed), times.filter(timed), places[timed.to_numpy()]
        frame = frame.select(self._delivered).with_columns(times.alias(TIME))
        if self._context.order_columns:
            index = pl.lit(file.split.index, pl.Int32)
            frame = frame.with_columns(index.alias(SPLIT), pl.Series(OFFSET, offsets[places]))
        latest = times.max()
        max_time = {file.split.id: latest} if isinstance(latest, int) else {}
        return _Rows(frame, max_time, len(offsets) - frame.height)

    def _times(self, file: _File, frame: pl.DataFrame) -> pl.Series:
        if self._s.event_time is None:
            return pl.repeat(file.modified_ms, frame.height, dtype=pl.Int64, eager=True)
        return frame.select(self._s.event_time.expression().alias(TIME)).to_series()

    def _bad(
        self,
        file: _File,
        values: pa.Array,
        offsets: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
        reasons: Mapping[int, str],
    ) -> None:
        if self._s.format.on_error != "fail" or not len(rows):
            return
        row = int(rows[0])
        value = values[row].as_py()
        shown = repr(value[:SNIPPET]) + ("..." if len(value) > SNIPPET else "")
        raise RecordInvalidError(
            f"source '{self._context.uid}': {file.split.id} at byte {int(offsets[row])}: "
            f"{reasons.get(row, 'cannot be decoded')}: {shown}",
            hint='correct the line, or pass over such lines with on_error="skip" in the format',
        )

    def _empty(self) -> pl.DataFrame:
        schema = {name: self._s.format.schema[name] for name in self._delivered}
        order = {SPLIT: pl.Int32(), OFFSET: pl.Int64()} if self._context.order_columns else {}
        return pl.DataFrame(schema={**schema, TIME: pl.Int64(), **order})

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


def split_lines(data: bytes, start: int) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """Return the lines of `data` that are not empty as a large binary array, and the byte at which each begins.

    `start` is where `data` begins in its file. A carriage return before the line end belongs to the line end.
    """
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw == NEWLINE)
    if len(raw) and (not len(ends) or ends[-1] != len(raw) - 1):
        ends = np.append(ends, len(raw))
    begins = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64) if len(ends) else np.zeros(0, np.int64)
    lengths = ends - begins
    returns = (lengths > 0) & (raw[np.minimum(np.maximum(ends - 1, 0), max(len(raw) - 1, 0))] == RETURN)
    lengths = lengths - returns
    # Lines lie one behind the other with line ends between them, which an Arrow array of offsets cannot leave out: a
    # view of every line can, and is copied once.
    keep = lengths > 0
    begins, lengths = begins[keep], lengths[keep]
    if not len(begins):
        return pa.array([], pa.large_binary()), begins
    offsets = np.empty(2 * len(begins) + 1, np.int64)
    offsets[0:-1:2], offsets[1::2], offsets[-1] = begins, begins + lengths, len(raw)
    between = pa.Array.from_buffers(
        pa.large_binary(), 2 * len(begins), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
    return between.take(pa.array(np.arange(0, 2 * len(begins), 2))), begins + start


def _byte(position: object) -> int:
    found = position.get("byte") if isinstance(position, dict) else None
    if not isinstance(found, int):
        raise SourceError(f"a position of a file has no byte but is {position!r}")
    return found
