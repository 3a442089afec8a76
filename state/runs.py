"""Run files: one immutable, sorted segment of keyed state as Parquet, with what SQL needs to show it.

Rows are sorted by bucket, key group and key, in row groups small enough that a range of key groups can be read alone.
The file's key-value metadata entry `tidegate.view` tells how partial columns become what users see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Final

import polars as pl
import pyarrow.parquet as pq

from ..engine.errors import CorruptError
from ..engine.ports.keyed import KEY_GROUP

VIEW: Final = "tidegate.view"
ROW_GROUP_ROWS: Final = 131_072
ZSTD_LEVEL: Final = 1


def write_run(run: pl.DataFrame, view: Mapping[str, object]) -> bytes:
    """Return the file's bytes."""
    buffer = BytesIO()
    run.write_parquet(
        buffer,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        row_group_size=ROW_GROUP_ROWS,
        metadata={VIEW: json.dumps(view)},
    )
    return buffer.getvalue()


def read_run(data: bytes, group_from: int, group_to: int) -> pl.DataFrame:
    """Return the rows of key groups `group_from` (inclusive) to `group_to` (exclusive) of a verified file."""
    try:
        run = pl.read_parquet(BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise CorruptError(f"a run of keyed state is not a Parquet file: {error}") from error
    inside = pl.col(KEY_GROUP).is_between(group_from, group_to, closed="left")
    return run.filter(inside)


def read_view(data: bytes) -> dict[str, object]:
    """Return how SQL shows a verified run file; empty for one that does not say."""
    metadata = pq.read_metadata(BytesIO(data)).metadata or {}
    text = metadata.get(VIEW.encode())
    view = json.loads(text) if text else {}
    return view if isinstance(view, dict) else {}
