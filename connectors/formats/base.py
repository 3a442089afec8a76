"""What every record format does: decode values into columns, encode columns into values, and say what it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute

from ...engine.errors import JobInvalidError
from ...engine.ids import HIDDEN_PREFIX

ON_ERROR: Final = ("fail", "skip")
REASONS_MAX: Final = 20
"""Bad records of a batch that are explained one by one; the others are only counted."""

METADATA: Final[Mapping[str, pl.DataType]] = {
    "key": pl.Binary(),
    "topic": pl.String(),
    "partition": pl.Int32(),
    "offset": pl.Int64(),
    "timestamp": pl.Int64(),
    "headers": pl.List(pl.Struct({"key": pl.String, "value": pl.Binary})),
}
"""Columns that a source can add to a format's own ones, with their dtypes; `timestamp` in ms since the Unix epoch."""


@dataclass(frozen=True)
class Decoded:
    """Columns of the good records, in order; `good` marks them among all records (None = all are good).

    `reasons` explains the first bad ones: position in the batch -> what is wrong.
    """

    frame: pl.DataFrame
    good: npt.NDArray[np.bool_] | None = None
    reasons: Mapping[int, str] = field(default_factory=dict)


class Format(Protocol):
    """A record format. `metadata` maps column names to the record metadata that a source puts there."""

    @property
    def on_error(self) -> str:
        """What becomes of a record that cannot be decoded: `fail` or `skip`."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Column name -> one of METADATA."""

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Columns that `decode` makes (without metadata). Raises `JobInvalidError` if the format cannot decode."""

    def decode(self, values: pa.Array, columns: frozenset[str] | None) -> Decoded:
        """Decode a binary array. Only `columns` need to be made (None = all), in schema order."""

    def encode(self, frame: pl.DataFrame) -> pa.Array:
        """Encode the visible columns of all rows into a large binary array of the same length."""

    def check_encode(self, schema: Mapping[str, pl.DataType]) -> None:
        """Raise `JobInvalidError` if rows of this schema cannot be encoded."""


def checked_policy(on_error: str) -> str:
    """Return the policy if there is one of this name."""
    if on_error not in ON_ERROR:
        raise JobInvalidError(f"on_error is {on_error!r}", hint=f"use one of {', '.join(ON_ERROR)}")
    return on_error


def checked_metadata(metadata: Mapping[str, str] | tuple[str, ...] | list[str]) -> dict[str, str]:
    """Return column name -> metadata name; a plain sequence uses the metadata's own names."""
    wanted = dict(metadata) if isinstance(metadata, Mapping) else {name: name for name in metadata}
    for column, name in wanted.items():
        if name not in METADATA:
            raise JobInvalidError(
                f"column '{column}': there is no record metadata '{name}'", hint=f"there is {', '.join(METADATA)}"
            )
    return wanted


def visible(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame without the engine's hidden columns."""
    names = [name for name in frame.columns if not name.startswith(HIDDEN_PREFIX)]
    return frame.select(names) if names else pl.DataFrame(height=frame.height)


def to_binary(column: pl.Series) -> pa.Array:
    """Return a String or Binary column as a large binary array."""
    return column.cast(pl.Binary).to_arrow(compat_level=pl.CompatLevel.oldest())


def utf8_texts(values: pa.Array) -> tuple[pa.Array, npt.NDArray[np.bool_] | None]:
    """Return binary values as strings, null where they are not UTF-8, and which ones are (None = all)."""
    kind = pa.large_string() if pa.types.is_large_binary(values.type) else pa.string()
    try:
        return values.cast(kind), None
    except pa.ArrowInvalid:
        valid = _valid_utf8(values)
        return pa.compute.if_else(pa.array(valid), values, None).cast(kind), valid


def _valid_utf8(values: pa.Array) -> npt.NDArray[np.bool_]:
    """Tell which values are UTF-8: all of plain ASCII, and those of the others that Python can decode."""
    _, offset_buffer, data_buffer = values.buffers()
    word = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    offsets = np.frombuffer(offset_buffer, word)[values.offset : values.offset + len(values) + 1]
    data = np.frombuffer(data_buffer, np.uint8)[offsets[0] : offsets[-1]]
    # A value has the high bytes between its two offsets.
    high = np.searchsorted(np.flatnonzero(data & 0x80), offsets - offsets[0])
    rows = np.flatnonzero(np.diff(high))
    valid = np.ones(len(values), np.bool_)
    valid[rows] = [_is_utf8(value) for value in values.take(pa.array(rows)).to_pylist()]
    return valid


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
