"""Text: the value is one UTF-8 string."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
import pyarrow as pa

from ...engine.errors import JobInvalidError
from .base import REASONS_MAX, Decoded, checked_metadata, checked_policy, to_binary, utf8_texts


class Text:
    """Values are UTF-8 text, in one String column. A null value is a null string; other bytes are undecodable."""

    def __init__(
        self,
        column: str = "value",
        *,
        on_error: str = "fail",
        metadata: Mapping[str, str] | tuple[str, ...] = (),
    ) -> None:
        self.column = column
        self.on_error = checked_policy(on_error)
        self.metadata: Mapping[str, str] = checked_metadata(metadata)
        if column in self.metadata:
            raise JobInvalidError(
                f"metadata column '{column}' is also the format's own column",
                hint="name one of them otherwise: Text(column=...) or metadata={name: metadata}",
            )

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """One String column."""
        return {self.column: pl.String()}

    def decode(self, values: pa.Array, _columns: frozenset[str] | None) -> Decoded:
        """Check that values are UTF-8."""
        texts, valid = utf8_texts(values)
        column = pl.from_arrow(texts)
        assert isinstance(column, pl.Series)
        frame = column.alias(self.column).to_frame()
        if valid is None:
            return Decoded(frame)
        reasons = {int(i): "the value is not valid UTF-8" for i in np.flatnonzero(~valid)[:REASONS_MAX]}
        return Decoded(frame.filter(pl.Series(valid)), valid, reasons)

    def encode(self, frame: pl.DataFrame) -> pa.Array:
        """Return the column's bytes."""
        return to_binary(frame.get_column(self.column))

    def check_encode(self, schema: Mapping[str, pl.DataType]) -> None:
        """The column has to be there, and be text."""
        if schema.get(self.column) != pl.String:
            raise JobInvalidError(
                f"format Text writes column '{self.column}' (String); the stream has {dict(schema)}",
                hint=f"make it with .select({self.column}=...) or name another one: Text(column=...)",
            )

    def __repr__(self) -> str:
        return f"Text(column={self.column!r})"
