"""JSON: the value is one JSON object, decoded and encoded in columns.

Decoding reads only the fields that are asked for. A missing or null field is null, further fields are passed over. A
number or boolean where the schema has String is read as its text, a number in a string as that number. Everything else
that does not fit its dtype makes the record undecodable: invalid JSON or UTF-8, no object, a null value, text that is
no number, a number out of range, a fraction where the schema has an integer.

Most batches take the first of two steps: DuckDB's strict conversion, all fields at once. Records that it refuses are
looked at again field by field, which tells a missing field from a wrong one.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ...engine.errors import JobInvalidError
from .base import REASONS_MAX, Decoded, checked_metadata, checked_policy, utf8_texts, visible

if TYPE_CHECKING:
    import duckdb

TIMESTAMPS: Final = ("iso", "epoch_ms")
_SQL_TYPES: Final[dict[type[pl.DataType], str]] = {
    pl.Int8: "TINYINT",
    pl.Int16: "SMALLINT",
    pl.Int32: "INTEGER",
    pl.Int64: "BIGINT",
    pl.UInt8: "UTINYINT",
    pl.UInt16: "USMALLINT",
    pl.UInt32: "UINTEGER",
    pl.UInt64: "UBIGINT",
    pl.Float32: "FLOAT",
    pl.Float64: "DOUBLE",
    pl.Boolean: "BOOLEAN",
    pl.String: "VARCHAR",
}
_INTEGERS = frozenset({pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64})


class Json:
    """Values are JSON objects.

    `schema` names the fields to read and their Polars dtypes; a sink needs none. `timestamps` tells how a sink writes
    Datetime columns: `iso` (`2026-11-23T10:00:00.000Z`) or `epoch_ms`. `metadata` adds record metadata as columns.
    """

    def __init__(
        self,
        schema: Mapping[str, pl.DataType | type[pl.DataType]] | None = None,
        *,
        on_error: str = "fail",
        timestamps: str = "iso",
        metadata: Mapping[str, str] | tuple[str, ...] = (),
    ) -> None:
        self._schema = None if schema is None else {n: t() if isinstance(t, type) else t for n, t in schema.items()}
        self.on_error = checked_policy(on_error)
        self.metadata: Mapping[str, str] = checked_metadata(metadata)
        if timestamps not in TIMESTAMPS:
            raise JobInvalidError(f"timestamps is {timestamps!r}", hint=f"use one of {', '.join(TIMESTAMPS)}")
        self._timestamps = timestamps
        for name, dtype in (self._schema or {}).items():
            _sql_type(name, dtype)

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """The fields to read."""
        if self._schema is None:
            raise JobInvalidError(
                "format Json of a source has no schema",
                hint='write tg.Json({"country": pl.String, "amount": pl.Float64})',
            )
        return self._schema

    def decode(self, values: pa.Array, columns: frozenset[str] | None) -> Decoded:
        """Decode records; see the module's text for what is undecodable."""
        fields = {n: t for n, t in self.schema.items() if columns is None or n in columns}
        count = len(values)
        if not count:
            return Decoded(pl.DataFrame(schema=dict(fields)))
        texts, utf8 = utf8_texts(values)
        rows, whole = _strict(texts, fields)
        good = whole
        reasons: dict[int, str] = {}
        if not whole.all():
            rest = np.flatnonzero(~whole)
            again, fits, wrong = _lenient(texts, rest, fields, utf8)
            rows = _merge(rows, whole, again, rest)
            good = whole.copy()
            good[rest] = fits
            reasons = wrong
        frame = rows if good.all() else rows.filter(pl.Series(good))
        return Decoded(frame, None if good.all() else good, reasons)

    def encode(self, frame: pl.DataFrame) -> pa.Array:
        """Encode rows as JSON objects with the columns as fields, in order. NaN and infinities become null."""
        shown = visible(frame)
        written = [self._written(name, dtype) for name, dtype in shown.schema.items()]
        encoded = shown.select(pl.struct(written).struct.json_encode().cast(pl.Binary).alias("value"))
        return encoded.to_series().to_arrow(compat_level=pl.CompatLevel.oldest())

    def _written(self, name: str, dtype: pl.DataType) -> pl.Expr:
        column = pl.col(name)
        if isinstance(dtype, pl.Datetime):
            if self._timestamps == "epoch_ms":
                return column.dt.epoch("ms").alias(name)
            return column.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").alias(name)
        if dtype.is_float():
            return pl.when(column.is_finite()).then(column).alias(name)
        if isinstance(dtype, pl.Decimal):
            return column.cast(pl.Float64).alias(name)
        return column

    def check_encode(self, schema: Mapping[str, pl.DataType]) -> None:
        """Binary and Object columns have no JSON form."""
        for name, dtype in schema.items():
            if dtype in {pl.Binary, pl.Object}:
                raise JobInvalidError(
                    f"format Json cannot write column '{name}' ({dtype})",
                    hint="leave it out or turn it into text first",
                )

    def __repr__(self) -> str:
        return f"Json({list(self._schema) if self._schema else ''})"


def _sql_type(name: str, dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List):
        return f"{_sql_type(name, dtype.inner)}[]"  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        inner = ", ".join(f'"{f.name}" {_sql_type(name, f.dtype)}' for f in dtype.fields)  # type: ignore[arg-type]
        return f"STRUCT({inner})"
    found = _SQL_TYPES.get(type(dtype))
    if found is None:
        raise JobInvalidError(
            f"format Json cannot read column '{name}' as {dtype}",
            hint="read it as String or Int64 and convert it with with_columns(...)",
        )
    return found


def _structure(fields: Mapping[str, pl.DataType], as_text: Container[str] = ()) -> str:
    shapes = {name: "VARCHAR" if name in as_text else _shape(dtype) for name, dtype in fields.items()}
    return json.dumps(shapes).replace("'", "''")


def _shape(dtype: object) -> object:
    if isinstance(dtype, pl.List):
        return [_shape(dtype.inner)]
    if isinstance(dtype, pl.Struct):
        return {f.name: _shape(f.dtype) for f in dtype.fields}
    return _SQL_TYPES[dtype if isinstance(dtype, type) else type(dtype)]  # type: ignore[index]


@lru_cache(maxsize=1)
def _database() -> duckdb.DuckDBPyConnection:
    import duckdb  # noqa: PLC0415 (only processes that decode JSON need it)

    return duckdb.connect(
        ":memory:", config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
    )


def _query(query: str, t: pa.Table) -> pl.DataFrame:  # noqa: ARG001 (DuckDB finds the table by its name)
    with _database().cursor() as cursor:
        found = pl.from_arrow(cursor.sql(query).to_arrow_table())
    assert isinstance(found, pl.DataFrame)
    return found


def _strict(texts: pa.Array, fields: Mapping[str, pl.DataType]) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
    """Convert all records in which every field is there and fits."""
    # Integers are read as text first: DuckDB would round 1.7 to 2 and take true for 1.
    whole_numbers = {name: dtype for name, dtype in fields.items() if dtype.is_integer()}
    rows = _query(
        f"SELECT TRY(from_json_strict(v, '{_structure(fields, as_text=whole_numbers)}')) AS j FROM t",  # noqa: S608
        pa.table({"v": texts}),
    )
    column = rows.get_column("j")
    frame = rows.unnest("j").with_columns(
        pl.col(name).cast(dtype, strict=False) for name, dtype in whole_numbers.items()
    )
    fits = column.is_not_null()
    for name in whole_numbers:
        fits &= frame.get_column(name).is_not_null()
    return frame.cast(dict(fields)), fits.to_numpy()  # type: ignore[arg-type]


def _lenient(
    texts: pa.Array, rest: npt.NDArray[np.int64], fields: Mapping[str, pl.DataType], utf8: npt.NDArray[np.bool_] | None
) -> tuple[pl.DataFrame, npt.NDArray[np.bool_], dict[int, str]]:
    """Convert records with missing fields; tell which fit, and why the first ones do not."""
    table = pa.table({"v": texts.take(pa.array(rest))})
    paths = [f"$.{json.dumps(name)}".replace("'", "''") for name in fields]
    kinds = ", ".join(
        f"json_type(s, '{path}') AS k{i}, json_extract_string(s, '{path}') AS x{i}" for i, path in enumerate(paths)
    )
    query = (
        f"SELECT TRY(from_json(s, '{_structure(fields)}')) AS j, json_type(s) AS k, {kinds or '1'} FROM "  # noqa: S608
        "(SELECT CASE WHEN json_valid(v) THEN v END AS s FROM t)"
    )
    found = _query(query, table)
    problems = [
        pl.when(pl.col("k").is_null()).then(pl.lit("the value is not JSON")),
        pl.when(pl.col("k") != "OBJECT").then(pl.lit("the value is not a JSON object")),
        *(_problem(i, name, dtype) for i, (name, dtype) in enumerate(fields.items())),
    ]
    checked = found.with_columns(pl.coalesce(problems).alias("problem"))
    fits = checked.get_column("problem").is_null().to_numpy()
    wrong: dict[int, str] = {}
    for position in np.flatnonzero(~fits)[:REASONS_MAX]:
        row = int(rest[position])
        wrong[row] = _reason(texts[row].as_py(), checked["problem"][int(position)], utf8 is not None and not utf8[row])
    return checked.select(pl.col("j").struct.unnest()).cast(dict(fields)), fits, wrong  # type: ignore[arg-type]


def _problem(index: int, name: str, dtype: pl.DataType) -> pl.Expr:
    """Return text where a field is there, not null, and did not become a value without loss."""
    kind, value = pl.col(f"k{index}"), pl.col("j").struct.field(name)
    there = kind.is_not_null() & (kind != "NULL")
    bad = there & value.is_null()
    if type(dtype) in _INTEGERS:
        text = pl.col(f"x{index}").cast(pl.Float64, strict=False)
        bad = bad | (there & (text != text.floor())) | (there & (kind == "BOOLEAN"))
    elif dtype.is_float():
        bad = bad | (there & (kind == "BOOLEAN"))
    return pl.when(bad).then(pl.lit(f"field '{name}' does not fit {dtype}"))


def _reason(text: str | None, problem: str, broken: bool) -> str:
    if broken:
        return "the value is not valid UTF-8"
    return "the value is null" if text is None else problem


def _merge(
    rows: pl.DataFrame, whole: npt.NDArray[np.bool_], again: pl.DataFrame, rest: npt.NDArray[np.int64]
) -> pl.DataFrame:
    """Put the records of the second look back into their places."""
    places = np.concatenate([np.flatnonzero(whole), rest])
    stacked = pl.concat([rows.filter(pl.Series(whole)), again], how="vertical")
    return stacked[np.argsort(places, kind="stable")]
