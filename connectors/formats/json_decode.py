"""JSON decoding in columns: DuckDB takes the asked fields out of all records, Polars turns their texts into values.

DuckDB's own conversions are too kind (1.7 becomes 2, "12" becomes 12, true becomes 1), so fields of every dtype but
String are taken out as JSON text and converted here. Strings are taken out as they are, which is quicker; the few that
could have been another kind of JSON value (`12`, `true`, `{...`) are looked at a second time.

A batch costs one parse of each record. Only when one of them is no JSON at all, the batch is parsed again with a check
first; nothing is ever done record by record, but for the reasons of the first bad ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    import duckdb
    from polars._typing import TimeUnit

Mask = npt.NDArray[np.bool_]
Schema = Mapping[str, pl.DataType]

WHOLE_MAX: Final = 2**53
"""Up to here a number written with a fraction or an exponent is exactly the integer it looks like."""
LOOKS_OTHER: Final = r"(?s)^(?:-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|-?(?i:nan|inf|infinity)|[\[{].*)$"
"""What a number, boolean, array or object looks like when it is read as a string."""
FIRST_BYTES: Final = np.isin(np.arange(256, dtype=np.uint8), np.frombuffer(b"-0123456789tf[{NnIi", np.uint8))
"""The bytes with which LOOKS_OTHER can begin."""
ZONE: Final = r"[-+][0-9]{2}(?::?[0-9]{2})?$"
ISO8601: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?"
    r"(?:Z|[-+][0-9]{2}(?::?[0-9]{2})?)?$"
)
BLANKS: Final = " \t\r\n"
LIST: Final = '["JSON"]'
ELEMENT: Final = "e"


class Column:
    """Values of one field, and where a value is there but does not fit its dtype (None = nowhere)."""

    def __init__(self, values: pl.Series, bad: Mask | None) -> None:
        self.values = values
        self.bad = bad if bad is not None and bad.any() else None


def decode_objects(texts: pa.Array, fields: Schema, timestamps: str) -> tuple[pl.DataFrame, Mask, dict[str, Mask]]:
    """Return the fields of JSON objects, which texts are objects, and per field which values do not fit its dtype.

    Null texts are no objects. Fields that are missing or null are null.
    """
    columns, known = _fields(texts, fields, timestamps)
    objects = ~_nulls(known)
    empty = objects.copy()
    for column in columns.values():
        empty &= column.values.is_null().to_numpy()
        if column.bad is not None:
            empty &= ~column.bad
        if not empty.any():
            break
    if empty.any():
        # Without any field it may be another kind of JSON value.
        rows = np.flatnonzero(empty)
        first = _text(texts).gather(rows).str.strip_chars_start(BLANKS).str.starts_with("{")
        objects[rows] = first.fill_null(value=False).to_numpy()
    bad = {name: column.bad for name, column in columns.items() if column.bad is not None}
    return pl.DataFrame({name: column.values for name, column in columns.items()}), objects, bad


@lru_cache(maxsize=1)
def _database() -> duckdb.DuckDBPyConnection:
    import duckdb  # noqa: PLC0415 (only processes that decode JSON need it)

    return duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "arrow_output_version": "1.4",
            "produce_arrow_string_view": True,
        },
    )


def _select(texts: pa.Array, expression: str) -> pa.Array:
    """Return an SQL expression over the column `v`."""
    with _database().cursor() as cursor:
        found = cursor.from_arrow(pa.table({"v": texts})).project(f"{expression} AS j").to_arrow_table()
    return found.column(0).combine_chunks()


def _extract(texts: pa.Array, structure: str) -> pa.Array:
    """Return what the structure takes out of JSON texts; null where a text is no JSON."""
    import duckdb  # noqa: PLC0415 (as above)

    quoted = structure.replace("'", "''")
    try:
        return _select(texts, f"from_json(v, '{quoted}')")
    except (duckdb.InvalidInputException, UnicodeDecodeError):
        # Some text is no JSON. (The second error is DuckDB's message itself, when it cuts the text inside a character.)
        return _select(texts, f"from_json(CASE WHEN json_valid(v) THEN v END, '{quoted}')")


def _fields(texts: pa.Array, fields: Schema, timestamps: str) -> tuple[dict[str, Column], pa.Array]:
    """Return the fields of objects, and an array that is null where a text is no JSON."""
    columns: dict[str, Column] = {}
    known: pa.Array | None = None
    for names in _groups(fields):
        shape = {name: "VARCHAR" if fields[name] == pl.String else "JSON" for name in names}
        known = _extract(texts, json.dumps(shape))
        for name, values in zip(names, known.flatten(), strict=True):
            columns[name] = _column(name, values, fields[name], texts, timestamps)
    assert known is not None
    return {name: columns[name] for name in fields}, known


def _groups(fields: Iterable[str]) -> list[list[str]]:
    """Part names so that no two of a group differ in case alone, which DuckDB takes for one name."""
    groups: list[dict[str, str]] = []
    for name in fields:
        folded = name.casefold()
        for group in groups:
            if folded not in group:
                group[folded] = name
                break
        else:
            groups.append({folded: name})
    return [list(group.values()) for group in groups]


def _column(name: str, values: pa.Array, dtype: pl.DataType, parents: pa.Array, timestamps: str) -> Column:
    text = _text(values).alias(name)
    if dtype == pl.String:
        return Column(text, _not_strings(name, values, text, parents))
    if isinstance(dtype, pl.List | pl.Struct):
        return _nested(text, dtype, timestamps)
    if isinstance(dtype, pl.Datetime):
        return _datetimes(text, dtype, timestamps)
    if dtype == pl.Boolean:
        return _booleans(text)
    return _integers(text, dtype) if dtype.is_integer() else _floats(text, dtype)


def _not_strings(name: str, values: pa.Array, text: pl.Series, parents: pa.Array) -> Mask | None:
    """Mark what was a number, boolean, array or object."""
    # A view has its length in the first four bytes and begins the text in the fifth.
    views = np.frombuffer(values.buffers()[1], np.uint8).reshape(-1, 16)[values.offset : values.offset + len(values)]
    rows = np.flatnonzero(FIRST_BYTES[views[:, 4]])
    if len(rows):
        rows = rows[text.gather(rows).str.contains(LOOKS_OTHER).fill_null(value=False).to_numpy()]
    if not len(rows):
        return None
    again = _extract(_arrow(_text(parents).gather(rows)), json.dumps({name: "JSON"}))
    strings = _text(again.flatten()[0]).str.starts_with('"')
    bad = np.zeros(len(values), np.bool_)
    bad[rows] = ~strings.fill_null(value=True).to_numpy()
    return bad


def _booleans(text: pl.Series) -> Column:
    found = pl.select(pl.when(text == "true").then(True).when(text == "false").then(False).alias(text.name)).to_series()
    return Column(found, _lost(text, found))


def _integers(text: pl.Series, dtype: pl.DataType) -> Column:
    found = text.cast(dtype, strict=False)
    bad = _lost(text, found)
    if bad is None:
        return Column(found, None)
    rows = np.flatnonzero(bad)
    numbers = text.gather(rows).cast(pl.Float64, strict=False)
    numbers = numbers.set((numbers != numbers.floor()) | (numbers.abs() > WHOLE_MAX), None)
    found = found.scatter(rows, numbers.cast(dtype, strict=False))
    return Column(found, _lost(text, found))


def _floats(text: pl.Series, dtype: pl.DataType) -> Column:
    found = text.cast(dtype, strict=False)
    finite = found.is_finite()
    if finite.null_count() == text.null_count() and finite.all():
        return Column(found, None)
    found = found.set(~finite, None)
    return Column(found, _lost(text, found))


def _datetimes(text: pl.Series, dtype: pl.Datetime, timestamps: str) -> Column:
    unit = dtype.time_unit or "us"
    if timestamps == "epoch_ms":
        numbers = _integers(text, pl.Int64()).values
        found = pl.select(pl.from_epoch(numbers, "ms").cast(pl.Datetime(unit))).to_series()
    else:
        found = _instants(text.str.strip_prefix('"').str.strip_suffix('"'), unit)
    bad = _lost(text, found)
    if dtype.time_zone is not None:
        found = found.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
    return Column(found.alias(text.name), bad)


def _instants(text: pl.Series, unit: TimeUnit) -> pl.Series:
    """Read ISO 8601, null where it is not; a text without a zone is in UTC."""
    text = text.set(~text.str.contains(ISO8601), None)
    local = text.str.replace(ZONE, "")  # DuckDB would pass over it
    kind = "TIMESTAMP_NS" if unit == "ns" else "TIMESTAMP"
    found = pl.Series(text.name, _select(_arrow(local), f"TRY_CAST(v AS {kind})")).cast(pl.Datetime(unit))
    if (text == local).all():
        return found
    zone = pl.col("zone").str.replace(":", "").str.pad_end(5, "0")
    minutes = zone.str.slice(1, 2).cast(pl.Int64) * 60 + zone.str.slice(3, 2).cast(pl.Int64)
    ahead = pl.duration(minutes=pl.when(zone.str.starts_with("-")).then(-minutes).otherwise(minutes).fill_null(0))
    frame = pl.DataFrame([text.str.extract(f"({ZONE})").alias("zone"), found.alias("local")])
    return frame.select((pl.col("local") - ahead).cast(pl.Datetime(unit)).alias(text.name)).to_series()


def _nested(text: pl.Series, dtype: pl.List | pl.Struct, timestamps: str) -> Column:
    if isinstance(dtype, pl.Struct):
        return _structs(text, {f.name: _instance(f.dtype) for f in dtype.fields}, timestamps)
    return _lists(text, _instance(dtype.inner), timestamps)


def _instance(dtype: object) -> pl.DataType:
    found = dtype() if isinstance(dtype, type) else dtype
    assert isinstance(found, pl.DataType)
    return found


def _lists(text: pl.Series, inner: pl.DataType, timestamps: str) -> Column:
    lists = _extract(_arrow(text), LIST)
    there = ~_nulls(lists)
    elements = _text(lists.flatten())
    lengths = np.where(there, np.diff(lists.offsets.to_numpy()), 0)
    # An element has no name, so each becomes the field of an object of its own.
    wrapped = pl.select('{"' + ELEMENT + '":' + elements + "}").to_series()
    fields, _ = _fields(_arrow(wrapped), {ELEMENT: inner}, timestamps)
    element = fields[ELEMENT]
    bad = text.is_not_null().to_numpy() & ~there
    if element.bad is not None:
        owners = np.repeat(np.arange(len(text)), lengths)
        bad[owners[element.bad]] = True
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    inside = _arrow(element.values)
    found = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), inside, mask=pa.array(~there))
    return Column(pl.Series(text.name, found, dtype=pl.List(inner)), bad)


def _structs(text: pl.Series, fields: Schema, timestamps: str) -> Column:
    frame, objects, wrong = decode_objects(_arrow(text), fields, timestamps)
    bad = text.is_not_null().to_numpy() & ~objects
    for mask in wrong.values():
        bad |= mask
    whole = pl.Series(objects)
    found = frame.select(pl.when(whole).then(pl.struct(list(fields))).alias(text.name)).to_series()
    return Column(found, bad)


def _lost(text: pl.Series, found: pl.Series) -> Mask | None:
    """Mark the texts that became no value."""
    if found.null_count() == text.null_count():
        return None
    lost: Mask = (text.is_not_null() & found.is_null()).to_numpy()
    return lost


def _text(values: pa.Array) -> pl.Series:
    found = pl.from_arrow(values)
    assert isinstance(found, pl.Series)
    return found


def _arrow(values: pl.Series) -> pa.Array:
    return values.to_arrow(compat_level=pl.CompatLevel.newest())


def _nulls(values: pa.Array) -> Mask:
    nulls: Mask = values.is_null().to_numpy(zero_copy_only=False)
    return nulls
