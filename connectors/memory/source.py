"""The memory source: rows by name, in splits whose positions are row numbers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import polars as pl

from ...engine.durations import parse_ms
from ...engine.errors import JobInvalidError, RecordInvalidError, SourceError
from ...engine.ids import OFFSET, SPLIT, TIME
from ...engine.ports.source import Position, ReaderContext, SourceBatch, Split
from ..event_time import EventTime
from ..formats.base import checked_policy

Rows = pl.DataFrame | Sequence[Mapping[str, object]]

_inputs: Final[dict[str, list[pl.DataFrame]]] = {}


@dataclass(frozen=True)
class _Settings:
    """Checked settings, shared by enumerator and readers."""

    name: str
    schema: Mapping[str, pl.DataType]
    event_time: EventTime | None
    on_error: str
    until_end: bool


class MemorySource:
    """Reads rows kept under `name`: `splits` are DataFrames or lists of rows (dicts), of columns as `schema` says.

    Given splits replace what the name held; `append` adds rows, also while somebody reads. Without `event_time` every
    row happens at 0. A row without event time is undecodable, and `on_error` says what becomes of it. `seekable=False`
    only says so, for tests of how jobs refuse such sources.
    """

    kind = "memory"
    discovery_interval_s: float | None = None

    def __init__(
        self,
        name: str,
        splits: Sequence[Rows] | None = None,
        *,
        schema: Mapping[str, pl.DataType | type[pl.DataType]],
        event_time: EventTime | None = None,
        on_error: str = "fail",
        max_out_of_orderness: str | float | timedelta = 0,
        idle_after: str | float | timedelta | None = None,
        seekable: bool = True,
    ) -> None:
        dtypes = dict(pl.Schema(schema))
        if event_time is not None and event_time.column not in dtypes:
            raise JobInvalidError(f"event time column '{event_time.column}' is not in the schema {list(dtypes)}")
        self._settings = _Settings(name, dtypes, event_time, checked_policy(on_error), until_end=False)
        self.seekable = seekable
        self.max_out_of_orderness_ms = parse_ms(max_out_of_orderness, "max_out_of_orderness")
        self.idle_after_ms = None if idle_after is None else parse_ms(idle_after, "idle_after")
        if splits is not None:
            _inputs[name] = [self._frame(rows) for rows in splits]

    def _frame(self, rows: Rows) -> pl.DataFrame:
        schema = pl.Schema(self._settings.schema)
        frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows, schema)
        return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())

    def append(self, split: int, rows: Rows) -> None:
        """Add rows to a split; the next number makes a new one."""
        splits = _inputs.setdefault(self._settings.name, [])
        if split == len(splits):
            splits.append(self._frame([]))
        splits[split] = pl.concat([splits[split], self._frame(rows)])

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """The columns."""
        return self._settings.schema

    def bounded(self, until_end: bool) -> MemorySource:
        """Return this source, up to the rows that are there at start if asked for."""
        other = object.__new__(MemorySource)
        other.__dict__.update(self.__dict__)
        s = self._settings
        other._settings = _Settings(s.name, s.schema, s.event_time, s.on_error, until_end or s.until_end)
        return other

    def describe(self) -> Mapping[str, object]:
        """Return the settings."""
        return {"name": self._settings.name, "seekable": self.seekable}

    def open_enumerator(self, _job: str, _uid: str) -> MemoryEnumerator:
        """Look at the splits."""
        return MemoryEnumerator(self._settings)

    def open_reader(self, context: ReaderContext) -> MemoryReader:
        """Read rows."""
        return MemoryReader(self._settings, context)

    def __repr__(self) -> str:
        return f"MemorySource({self._settings.name!r})"


class MemoryEnumerator:
    """Lists the splits of a name, called `<name>:<number>`."""

    def __init__(self, settings: _Settings) -> None:
        self._s = settings

    def discover(self) -> Sequence[Split]:
        """Return all splits from their first row on."""
        splits = enumerate(_inputs.get(self._s.name, ()))
        return [
            Split(f"{self._s.name}:{i}", i, start=0, first=0, end=frame.height if self._s.until_end else None)
            for i, frame in splits
        ]

    def report(self, positions: Mapping[str, Position]) -> None:
        """Nobody asks how far rows were read."""

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class _Place:
    """One assigned split."""

    split: Split
    number: int
    next: int
    end: int | None
    told: bool = field(default=False)

    @property
    def rows(self) -> pl.DataFrame:
        """What is there to be read now."""
        name, _, _ = self.split.id.rpartition(":")
        there = _inputs[name][self.number]
        return there if self.end is None else there.head(self.end)


class MemoryReader:
    """A `SourceReader` that takes some rows of each split in turn."""

    def __init__(self, settings: _Settings, context: ReaderContext) -> None:
        self._s = settings
        self._context = context
        wanted = context.columns
        self._delivered = [name for name in settings.schema if wanted is None or name in wanted]
        self._turns: deque[_Place] = deque()

    def assign(self, splits: Sequence[Split]) -> None:
        """Add splits at their positions."""
        for split in splits:
            if not isinstance(split.start, int) or not isinstance(split.end, int | None):
                raise SourceError(
                    f"source '{self._context.uid}': split '{split.id}' is at {split.start!r}, no row number"
                )
            self._turns.append(_Place(split, int(split.id.rpartition(":")[2]), split.start, split.end))

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        """Return rows of the next split that has some, or says for the first time that it has none."""
        for _ in range(len(self._turns)):
            place = self._turns[0]
            self._turns.rotate(-1)
            rows = place.rows.slice(place.next, max_rows)
            if rows.height or not place.told:
                return self._batch(place, rows)
        time.sleep(timeout_s)
        return None

    def _batch(self, place: _Place, rows: pl.DataFrame) -> SourceBatch:
        frame = self._timed(place, rows)
        place.next += rows.height
        place.told = place.next >= place.rows.height
        here = frozenset({place.split.id} if place.told else ())
        finished = here if place.end is not None else frozenset[str]()
        if finished:
            self._turns.remove(place)
        latest = frame.get_column(TIME).max()
        return SourceBatch(
            frame,
            {place.split.id: place.next},
            {place.split.id: latest} if isinstance(latest, int) else {},
            rows.height - frame.height,
            caught_up=here - finished,
            finished=finished,
        )

    def _timed(self, place: _Place, rows: pl.DataFrame) -> pl.DataFrame:
        when = pl.lit(0, pl.Int64) if self._s.event_time is None else self._s.event_time.expression()
        hidden = [when.alias(TIME)]
        if self._context.order_columns:
            numbers = pl.int_range(place.next, place.next + rows.height, dtype=pl.Int64)
            hidden += [pl.lit(place.split.index, pl.Int32).alias(SPLIT), numbers.alias(OFFSET)]
        frame = rows.with_columns(hidden).select(*self._delivered, *(expr.meta.output_name() for expr in hidden))
        timed = frame.get_column(TIME).is_not_null()
        if not timed.all() and self._s.on_error == "fail":
            row = place.next + (timed.arg_min() or 0)
            raise RecordInvalidError(
                f"source '{self._context.uid}': {place.split.id} row {row} has no event time",
                hint='give it one, or pass over such rows with on_error="skip"',
            )
        return frame.filter(timed)

    def close(self) -> None:
        """Nothing is open."""
