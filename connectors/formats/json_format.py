"""The JSON format: a value is one JSON object, whose fields are the columns.

| dtype | is read from | and written as |
|---|---|---|
| String | a string | a string |
| integers | a number without loss: `1`, and also `1.0` and `1e2` below 2**53 | a number |
| Float32, Float64 | a number, to the nearest value; out of range is no value | a number; NaN and infinities as null |
| Boolean | true, false | true, false |
| Datetime | ISO 8601 text (UTC without a zone) or ms since the Unix epoch, as `timestamps` says | the same, in UTC |
| List, Struct | an array, an object, with these rules inside | an array, an object |
| Decimal | (read it as String) | text, so that no digit is lost |
| Date, Time, Duration, Categorical, Enum | (read them as String) | text |

A field that is missing or null is null, fields that nobody asks for are passed over unread, and of a repeated field the
first counts. Everything else makes the record undecodable: another kind of value than the dtype's (no number is read
from a string, and none as a string), invalid JSON or UTF-8, something else than an object, a null value. Two things
that are no JSON are passed over, because their meaning is beyond doubt: a comma before a closing bracket, and NaN or
infinities in fields that nobody asks for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa

from ...engine.errors import JobInvalidError
from .base import REASONS_MAX, Decoded, checked_metadata, checked_policy, utf8_texts, visible
from .json_decode import Mask, decode_objects
from .json_encode import encode_objects, without_json_form

TIMESTAMPS: Final = ("iso", "epoch_ms")
SHOWN_MAX: Final = 40
"""Characters of a wrong value that a message shows."""


class Json:
    """Values are JSON objects.

    `schema` names the fields to read and their Polars dtypes; a sink needs none. `timestamps` tells how Datetime
    columns are written and read: `iso` (`2026-11-23T10:00:00.000Z`) or `epoch_ms`. `metadata` adds record metadata as
    columns. `on_error` says what becomes of a record that cannot be decoded: `fail` stops the job with its place in
    the message, `skip` counts it.
    """

    def __init__(
        self,
        schema: Mapping[str, pl.DataType | type[pl.DataType]] | None = None,
        *,
        on_error: str = "fail",
        timestamps: str = "iso",
        metadata: Mapping[str, str] | tuple[str, ...] | list[str] = (),
    ) -> None:
        self._schema = None if schema is None else {name: _readable(name, dtype) for name, dtype in schema.items()}
        if self._schema is not None and not self._schema:
            raise JobInvalidError("format Json has an empty schema", hint="name at least one field")
        self.on_error = checked_policy(on_error)
        self.metadata: Mapping[str, str] = checked_metadata(metadata)
        if timestamps not in TIMESTAMPS:
            raise JobInvalidError(f"timestamps is {timestamps!r}", hint=f"use one of {', '.join(TIMESTAMPS)}")
        self._timestamps = timestamps

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
        """Decode records; see the module's text for what is undecodable.

        The first field is read when none is asked for, because the frame has to have the right height.
        """
        schema = self.schema
        fields = {name: dtype for name, dtype in schema.items() if columns is None or name in columns}
        fields = fields or dict(list(schema.items())[:1])
        if not len(values):
            return Decoded(pl.DataFrame(schema=fields))
        texts, utf8 = utf8_texts(values)
        frame, good, wrong = decode_objects(texts, fields, self._timestamps)
        for bad in wrong.values():
            good = good & ~bad
        if good.all():
            return Decoded(frame)
        reasons = {
            int(row): self._reason(values[row].as_py(), utf8 is None or bool(utf8[row]), wrong, row)
            for row in np.flatnonzero(~good)[:REASONS_MAX]
        }
        return Decoded(frame.filter(pl.Series(good)), good, reasons)

    def _reason(self, value: bytes | None, utf8: bool, wrong: Mapping[str, Mask], row: int) -> str:
        if value is None:
            return "the value is null"
        if not utf8:
            return "the value is not valid UTF-8"
        name = next((name for name, bad in wrong.items() if bad[row]), None)
        if name is not None:
            return f"field '{name}' is {_shown(value, name)}, which is no {self.schema[name]}"
        try:
            kind = _KINDS.get(type(json.loads(value.decode())))
        except (ValueError, RecursionError):
            kind = None
        return f"the value is {kind}, but no JSON object" if kind else "the value is not JSON"

    def encode(self, frame: pl.DataFrame) -> pa.Array:
        """Encode rows as JSON objects with the visible columns as fields, in order."""
        return encode_objects(visible(frame), self._timestamps)

    def check_encode(self, schema: Mapping[str, pl.DataType]) -> None:
        """Binary and Object have no JSON form, at any depth."""
        for name, dtype in schema.items():
            wrong = without_json_form(dtype)
            if wrong is not None:
                raise JobInvalidError(
                    f"format Json cannot write column '{name}' ({dtype}): {wrong} has no JSON form",
                    hint="leave it out or turn it into text first, e.g. with .bin.encode('base64')",
                )

    def __repr__(self) -> str:
        return f"Json({list(self._schema) if self._schema else ''})"


_KINDS: Final[dict[type, str]] = {
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "an array",
    type(None): "null",
}


def _shown(value: bytes, name: str) -> str:
    """Return a field as it stands in the record, shortened."""
    try:
        # Reversed, so that of a repeated field the first is left.
        found = json.loads(value, object_pairs_hook=lambda pairs: dict(reversed(pairs)))[name]
    except (ValueError, RecursionError, KeyError):
        return "unreadable"
    if isinstance(found, float) and not math.isfinite(found):
        return "a number out of range"
    text = json.dumps(found, ensure_ascii=False)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."


def _readable(name: str, dtype: object) -> pl.DataType:
    """Return the dtype as an instance. Raises `JobInvalidError` if it cannot be read."""
    if not name or "\0" in name:
        raise JobInvalidError(
            f"format Json cannot read a field whose name is {name!r}", hint="leave it out of the schema"
        )
    found = dtype() if isinstance(dtype, type) and issubclass(dtype, pl.DataType) else dtype
    if isinstance(found, pl.List):
        return pl.List(_readable(name, found.inner))
    if isinstance(found, pl.Struct) and found.fields:
        return pl.Struct({f.name: _readable(f"{name}.{f.name}" if f.name else "", f.dtype) for f in found.fields})
    simple = isinstance(found, pl.String | pl.Boolean | pl.Datetime)
    if isinstance(found, pl.DataType) and (simple or found.is_integer() or found.is_float()):
        return found
    raise JobInvalidError(
        f"format Json cannot read field '{name}' as {dtype}",
        hint="read it as String or Int64 and convert it with with_columns(...)",
    )
