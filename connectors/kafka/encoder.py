"""Turns rows into outbox rows: encoded key and value, partition as the Java client chooses it, timestamp, headers."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa

from ...engine.errors import SinkError
from ...engine.hashing import murmur2
from ...engine.ids import TIME
from ..formats.base import to_binary

if TYPE_CHECKING:
    from ...engine.ports.sink import SinkContext
    from .sink import SinkSettings

OVERHEAD_BYTES: Final = 128
"""Upper bound of what Kafka adds to a record of its own (batch header, varints), without its headers."""
FORMAT_RAW: Final = "Raw"


class KafkaEncoder:
    """A `SinkEncoder` for one topic."""

    def __init__(self, settings: SinkSettings, context: SinkContext) -> None:
        self._s = settings
        self._uid = context.uid
        self._partitions = int(str(context.target["partitions"]))
        self._bytes_max = int(str(context.target["bytes_max"]))
        self._turns = itertools.cycle(range(self._partitions))
        self._raw = type(settings.format).__name__ == FORMAT_RAW

    def encode(self, frame: pl.DataFrame) -> pa.RecordBatch:
        """Encode all rows. Raises `SinkError` for a row that the topic would never take."""
        values = self._s.format.encode(frame)
        keys = self._keys(frame)
        self._check_sizes(values, keys)
        columns: dict[str, pa.Array] = {
            "key": keys,
            "value": values,
            "partition": pa.array(self._partition(frame, keys)),
        }
        timestamp = self._timestamp(frame)
        if timestamp is not None:
            columns["timestamp"] = timestamp
        headers = self._s.headers or ("headers" if self._raw and "headers" in frame.columns else None)
        if headers is not None:
            columns["headers"] = frame.get_column(headers).to_arrow(compat_level=pl.CompatLevel.oldest())
        return pa.RecordBatch.from_pydict(columns)

    def _keys(self, frame: pl.DataFrame) -> pa.Array:
        names = self._s.key
        if names is None and self._raw and "key" in frame.columns:
            names = ("key",)
        if names is None:
            return pa.nulls(frame.height, pa.large_binary())
        if len(names) == 1 and (self._s.single_key or self._raw):
            column = frame.get_column(names[0])
            return to_binary(column if column.dtype in {pl.String, pl.Binary} else column.cast(pl.String))
        encoded = frame.select(pl.struct(names).struct.json_encode().cast(pl.Binary)).to_series()
        return encoded.to_arrow(compat_level=pl.CompatLevel.oldest())

    def _partition(self, frame: pl.DataFrame, keys: pa.Array) -> np.ndarray:
        if self._raw and "partition" in frame.columns:
            chosen = frame.get_column("partition").to_numpy().astype(np.int32)
            if len(chosen) and not 0 <= chosen.min() <= chosen.max() < self._partitions:
                raise SinkError(
                    f"sink '{self._uid}': partition {chosen.max()} is not one of the {self._partitions} "
                    f"of topic '{self._s.topic}'",
                    hint="drop column 'partition' to have rows placed by key",
                )
            return chosen
        turn = next(self._turns)
        if keys.null_count == len(keys):
            return np.full(len(keys), turn, np.int32)
        placed = ((murmur2(keys) & np.uint32(0x7FFFFFFF)) % np.uint32(self._partitions)).astype(np.int32)
        if keys.null_count:
            placed[keys.is_null().to_numpy(zero_copy_only=False)] = turn
        return placed

    def _timestamp(self, frame: pl.DataFrame) -> pa.Array | None:
        name = self._s.timestamp
        if self._raw and "timestamp" in frame.columns and name == "event_time":
            name = "timestamp"
        if name is None:
            return None
        column = frame.get_column(TIME if name == "event_time" else name)
        if isinstance(column.dtype, pl.Datetime):
            column = column.dt.epoch("ms")
        return column.cast(pl.Int64).to_arrow()

    def _check_sizes(self, values: pa.Array, keys: pa.Array) -> None:
        """Find records that could never be committed before they are decided."""
        limit = self._bytes_max - OVERHEAD_BYTES
        # All values together below the limit of one is the usual case for small batches, and costs nothing.
        if values.nbytes + keys.nbytes <= limit:
            return
        sizes = np.diff(_offsets(values)) + np.diff(_offsets(keys))
        if len(sizes) and sizes.max() > limit:
            row = int(sizes.argmax())
            raise SinkError(
                f"sink '{self._uid}': a record of {int(sizes[row])} bytes is over the limit of {self._bytes_max} bytes "
                f"(max.message.bytes) of topic '{self._s.topic}'",
                hint="raise max.message.bytes of the topic and message.max.bytes in client={...}, or make rows smaller",
            )


def _offsets(column: pa.Array) -> np.ndarray:
    return np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
