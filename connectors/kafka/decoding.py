"""Turns raw batches into rows: decoded columns, record metadata, event times, and a policy for what is undecodable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from ...engine.errors import RecordInvalidError
from ...engine.ids import OFFSET, SPLIT, TIME
from ...engine.ports.source import ReaderContext
from .batches import RawBatch
from .enumerator import split_id

if TYPE_CHECKING:
    from .source import Settings

SNIPPET: Final = 120
"""Most bytes of a bad record that a message shows."""
REASONS_MAX: Final = 20


@dataclass(frozen=True)
class Rows:
    """Decoded rows with their hidden columns, the largest event time per split, and how many records were skipped."""

    frame: pl.DataFrame
    max_time: Mapping[str, int]
    skipped: int


class RecordDecoder:
    """Decodes the batches of one reader."""

    def __init__(self, settings: Settings, schema: Mapping[str, pl.DataType], context: ReaderContext) -> None:
        self._s = settings
        self._format = settings.format
        self._context = context
        wanted = context.columns
        self._delivered = {n: t for n, t in schema.items() if wanted is None or n in wanted}
        event_time = settings.event_time
        self._columns = wanted | {event_time.column} if wanted is not None and event_time is not None else wanted

    def empty(self) -> pl.DataFrame:
        """Return a frame without rows."""
        order = {SPLIT: pl.Int32(), OFFSET: pl.Int64()} if self._context.order_columns else {}
        return pl.DataFrame(schema={**self._delivered, TIME: pl.Int64(), **order})

    def decode(self, raw: RawBatch, indexes: Sequence[int]) -> Rows:
        """Decode a batch; `indexes` are the split indexes of `raw.places`. Raises `RecordInvalidError` under `fail`."""
        decoded = self._format.decode(raw.values, self._columns)
        frame, place, offsets = decoded.frame, raw.place, raw.offsets
        good = decoded.good
        if good is not None:
            self._bad(raw, np.flatnonzero(~good), decoded.reasons)
            place, offsets = place[good], offsets[good]
        frame = self._with_metadata(frame, raw, good)
        times, timed = self._times(frame, raw, good)
        if timed is not None:
            self._untimed(raw, np.flatnonzero(~timed), good)
            frame, times = frame.filter(pl.Series(timed)), times.filter(pl.Series(timed))
            place, offsets = place[timed], offsets[timed]
        hidden = [times.alias(TIME)]
        if self._context.order_columns:
            hidden += [pl.Series(SPLIT, np.array(indexes, np.int32)[place]), pl.Series(OFFSET, offsets)]
        # In this order: a selection of no column at all would forget how many rows there are.
        frame = frame.with_columns(hidden).select(*self._delivered, *(column.name for column in hidden))
        return Rows(frame, _max_times(raw.places, place, times.to_numpy()), len(raw) - frame.height)

    def _untimed(self, raw: RawBatch, rows: npt.NDArray[np.int64], good: npt.NDArray[np.bool_] | None) -> None:
        column = self._s.event_time.column if self._s.event_time is not None else ""
        among_all = np.flatnonzero(good)[rows] if good is not None else rows
        reasons = {int(row): f"no event time in column '{column}'" for row in among_all[:REASONS_MAX]}
        self._bad(raw, among_all, reasons)

    def _with_metadata(self, frame: pl.DataFrame, raw: RawBatch, good: npt.NDArray[np.bool_] | None) -> pl.DataFrame:
        columns: list[pl.Series] = []
        for column, name in self._format.metadata.items():
            if self._columns is not None and column not in self._columns:
                continue
            values = self._metadata(name, raw)
            columns.append((values if good is None else values.filter(pl.Series(good))).alias(column))
        return frame.with_columns(columns) if columns else frame

    @staticmethod
    def _metadata(name: str, raw: RawBatch) -> pl.Series:
        if name == "topic":
            return pl.Series([t for t, _ in raw.places]).gather(raw.place)
        if name == "partition":
            return pl.Series(np.array([p for _, p in raw.places], np.int32)[raw.place])
        if name == "offset":
            return pl.Series(raw.offsets)
        if name == "timestamp":
            return pl.Series(raw.timestamps)
        found = pl.from_arrow(raw.keys if name == "key" else raw.headers)
        assert isinstance(found, pl.Series)
        return found

    def _times(
        self, frame: pl.DataFrame, raw: RawBatch, good: npt.NDArray[np.bool_] | None
    ) -> tuple[pl.Series, npt.NDArray[np.bool_] | None]:
        """Return event times, and which rows have one (None = all)."""
        if self._s.event_time is None:
            assert raw.timestamps is not None
            return pl.Series(raw.timestamps if good is None else raw.timestamps[good]), None
        times = frame.select(self._s.event_time.expression().alias(TIME)).to_series()
        return times, times.is_not_null().to_numpy() if times.null_count() else None

    def _bad(self, raw: RawBatch, rows: npt.NDArray[np.int64], reasons: Mapping[int, str]) -> None:
        if self._format.on_error != "fail" or not len(rows):
            return
        row = int(rows[0])
        topic, partition = raw.places[int(raw.place[row])]
        value = raw.values[row].as_py()
        shown = "null" if value is None else repr(value[:SNIPPET]) + ("..." if len(value) > SNIPPET else "")
        raise RecordInvalidError(
            f"source '{self._context.uid}': topic '{topic}' partition {partition} offset {int(raw.offsets[row])}: "
            f"{reasons.get(row, 'cannot be decoded')}: {shown}",
            hint='correct the record\'s producer, or pass over such records with on_error="skip" in the format',
        )


def _max_times(
    places: list[tuple[str, int]], place: npt.NDArray[np.int32], times: npt.NDArray[np.int64]
) -> dict[str, int]:
    return {split_id(*places[int(index)]): int(times[place == index].max()) for index in np.unique(place)}
