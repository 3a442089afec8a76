"""Run files: one immutable, sorted segment of keyed state as Parquet, with what SQL needs to show it.

Rows are sorted by bucket, key group and key, in row groups with statistics, so that a range of key groups is read
without decoding the others. The file's metadata entry `tidegate.view` holds, as JSON, how columns of the run become
what users see: a manifest knows no job code.

| key of the view | means |
|---|---|
| keys | key columns, shown as they are |
| bucket, size_ms | the column with a window's end (ms), and how long the window is |
| columns | by name: `["col", column]`, or `["div", sum, number]` for a quotient that is null where number is 0 |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Final

import polars as pl

from ..engine.errors import CorruptError
from ..engine.ports.keyed import KEY_GROUP

VIEW: Final = "tidegate.view"
ROW_GROUP_ROWS: Final = 131_072
ZSTD_LEVEL: Final = 1


def write_run(run: pl.DataFrame, view: Mapping[str, object]) -> bytes:
    """Return the bytes of a run file; every Polars type but Object comes back as it was."""
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
    """Return the rows of key groups `group_from` (inclusive) to `group_to` (exclusive) of a verified file.

    Raises `CorruptError` for bytes that are not a run.
    """
    inside = pl.col(KEY_GROUP).is_between(group_from, group_to, closed="left")
    try:
        return pl.scan_parquet(BytesIO(data)).filter(inside).collect(engine="in-memory")
    except pl.exceptions.PolarsError as error:
        raise _damaged(error) from error


def read_view(data: bytes) -> Mapping[str, object]:
    """Return how SQL shows a verified run file; empty for one that does not say. Raises `CorruptError`."""
    try:
        view = json.loads(pl.read_parquet_metadata(BytesIO(data)).get(VIEW, "{}"))
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise _damaged(error) from error
    return view if isinstance(view, dict) else {}


def _damaged(error: Exception) -> CorruptError:
    return CorruptError(
        f"a run of keyed state cannot be read: {error}",
        hint="its bytes are those that the manifest names, so it was not written by Tidegate, or by a newer one",
    )
