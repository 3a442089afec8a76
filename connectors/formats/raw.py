"""Raw: records as they are, with everything that Kafka knows about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl
import pyarrow as pa

from ...engine.errors import JobInvalidError
from .base import METADATA, Decoded, to_binary

BYTES: Final = (pl.Binary(), pl.String())
WRITTEN: Final = {name: dtype for name, dtype in METADATA.items() if name not in {"topic", "offset"}}
"""Metadata that a sink takes from columns of these names; a topic and an offset it has of its own."""


class Raw:
    """Values are bytes in column `value`; key, headers, topic, partition, offset and timestamp are columns, too.

    As a sink's format it writes `value`, and `key`, `headers`, `partition` and `timestamp` where the stream has them.
    """

    on_error = "fail"
    metadata: Mapping[str, str] = {name: name for name in METADATA}
    column = "value"

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """One Binary column."""
        return {self.column: pl.Binary()}

    def decode(self, values: pa.Array, _columns: frozenset[str] | None) -> Decoded:
        """Every value is good."""
        column = pl.from_arrow(values)
        assert isinstance(column, pl.Series)
        return Decoded(column.alias(self.column).to_frame())

    def encode(self, frame: pl.DataFrame) -> pa.Array:
        """Return the column's bytes."""
        return to_binary(frame.get_column(self.column))

    def check_encode(self, schema: Mapping[str, pl.DataType]) -> None:
        """There has to be a value, and what is there has to have the right dtype. Other columns are not written."""
        if schema.get(self.column) not in BYTES:
            raise JobInvalidError(
                f"format Raw writes column 'value' (Binary or String); the stream has {dict(schema)}",
                hint="make it with .select(value=...), or use another format",
            )
        for name, dtype in WRITTEN.items():
            if name in schema and schema[name] != dtype and not (name == "key" and schema[name] in BYTES):
                raise JobInvalidError(
                    f"format Raw: column '{name}' is {schema[name]}; it has to be {dtype}",
                    hint="cast it, or drop it to have it chosen by the sink",
                )

    def __repr__(self) -> str:
        return "Raw()"
