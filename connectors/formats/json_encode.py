"""JSON encoding in columns: rows become JSON objects in one Polars expression.

What Polars would write in a form of its own is brought into a common one first: Datetime as ISO 8601 in UTC (or as
milliseconds since the Unix epoch), also inside lists and structs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl
import pyarrow as pa

ISO_FORMATS: Final = {
    "ms": "%Y-%m-%dT%H:%M:%S%.3fZ",
    "us": "%Y-%m-%dT%H:%M:%S%.6fZ",
    "ns": "%Y-%m-%dT%H:%M:%S%.9fZ",
}
NO_JSON: Final = (pl.Binary, pl.Object)


def encode_objects(frame: pl.DataFrame, timestamps: str) -> pa.Array:
    """Return every row as a JSON object with the columns as fields, in order, in a large binary array."""
    if frame.width:
        written = [_written(pl.col(name), dtype, timestamps).alias(name) for name, dtype in frame.schema.items()]
        text = frame.select(pl.struct(written).struct.json_encode().cast(pl.Binary)).to_series()
    else:
        text = pl.repeat(b"{}", frame.height, dtype=pl.Binary, eager=True)
    return text.to_arrow(compat_level=pl.CompatLevel.oldest())


def without_json_form(dtype: object) -> pl.DataType | None:
    """Return the dtype, at whatever depth, that has no JSON form, or None if all of it has."""
    for part in _parts(dtype):
        if isinstance(part, NO_JSON):
            return part
    return None


def _parts(dtype: object) -> Iterator[pl.DataType]:
    """Yield the dtype and everything that it is made of."""
    if isinstance(dtype, type):
        dtype = dtype()
    assert isinstance(dtype, pl.DataType)
    yield dtype
    if isinstance(dtype, pl.List | pl.Array):
        yield from _parts(dtype.inner)
    if isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _parts(field.dtype)


def _written(column: pl.Expr, dtype: object, timestamps: str) -> pl.Expr:
    if not any(isinstance(part, pl.Datetime) for part in _parts(dtype)):
        return column
    if isinstance(dtype, pl.Datetime):
        if timestamps == "epoch_ms":
            return column.dt.epoch("ms")
        in_utc = column if dtype.time_zone is None else column.dt.convert_time_zone("UTC")
        return in_utc.dt.strftime(ISO_FORMATS[dtype.time_unit or "us"])
    if isinstance(dtype, pl.List):
        return column.list.eval(_written(pl.element(), dtype.inner, timestamps))
    if isinstance(dtype, pl.Array):
        return column.arr.to_list().list.eval(_written(pl.element(), dtype.inner, timestamps))
    assert isinstance(dtype, pl.Struct)
    fields = [_written(column.struct.field(f.name), f.dtype, timestamps).alias(f.name) for f in dtype.fields]
    return pl.when(column.is_not_null()).then(pl.struct(fields))
