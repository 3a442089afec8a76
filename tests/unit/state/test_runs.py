"""Run files: types come back as they were, key groups are read by range, damage is an error."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from io import BytesIO

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tidegate.engine.errors import CorruptError
from tidegate.engine.ports.keyed import KEY_GROUP
from tidegate.state import runs
from tidegate.state.runs import read_run, read_view, write_run

COLUMNS = {
    "decimal": pl.Series([Decimal("1.23"), None, Decimal("-9999999.99")], dtype=pl.Decimal(20, 2)),
    "utc": pl.Series(
        [datetime(2024, 1, 1, tzinfo=UTC), None, datetime(1960, 1, 1, tzinfo=UTC)], dtype=pl.Datetime("ms", "UTC")
    ),
    "berlin": pl.Series([datetime(2024, 1, 1, tzinfo=UTC), None, None]).cast(pl.Datetime("ns", "Europe/Berlin")),
    "naive": pl.Series([datetime(2024, 1, 1), None, None], dtype=pl.Datetime("us")),  # noqa: DTZ001 - without a zone
    "date": pl.Series([date(2024, 1, 1), None, None]),
    "time": pl.Series([time(1, 2, 3), None, None]),
    "duration": pl.Series([timedelta(days=1), None, None], dtype=pl.Duration("ms")),
    "list": pl.Series([[1, None], [], None], dtype=pl.List(pl.Int32)),
    "array": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int8, 2)),
    "struct": pl.Series([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}]),
    "binary": pl.Series([b"\xff\x00", b"", None]),
    "string": pl.Series(["", "é\0", None]),
    "null": pl.Series([None] * 3, dtype=pl.Null),
    "float": pl.Series([float("nan"), float("inf"), -0.0]),
    "float32": pl.Series([1.5, None, float("nan")], dtype=pl.Float32),
    "boolean": pl.Series([True, None, False]),
    "categorical": pl.Series(["a", None, "b"], dtype=pl.Categorical),
    "enum": pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"])),
    "uint64": pl.Series([2**64 - 1, 0, None], dtype=pl.UInt64),
    "int128": pl.Series([2**100, None, 1], dtype=pl.Int128),
}


def run_of(*groups: int) -> pl.DataFrame:
    return pl.DataFrame({KEY_GROUP: pl.Series(groups, dtype=pl.UInt16), "n": range(len(groups))})


@pytest.mark.parametrize("name", COLUMNS)
def test_a_type_comes_back_as_it_was(name: str) -> None:
    run = run_of(0, 1, 127).with_columns(COLUMNS[name].alias(name))
    assert_frame_equal(read_run(write_run(run, {}), 0, 128), run, check_exact=True)


def test_a_range_of_key_groups_is_read_across_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "ROW_GROUP_ROWS", 2)
    data = write_run(run_of(0, 0, 1, 2, 2, 2, 5), {})
    assert read_run(data, 1, 3).get_column("n").to_list() == [2, 3, 4, 5]
    assert read_run(data, 3, 5).schema == run_of().schema
    assert read_run(data, 3, 5).is_empty()


def test_row_groups_tell_their_key_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq  # noqa: PLC0415 - only this test looks inside

    monkeypatch.setattr(runs, "ROW_GROUP_ROWS", 2)
    metadata = pq.ParquetFile(BytesIO(write_run(run_of(0, 0, 1, 2), {}))).metadata
    found = [metadata.row_group(i).column(0).statistics for i in range(metadata.num_row_groups)]
    assert [(s.min, s.max) for s in found] == [(0, 0), (1, 2)]


def test_a_run_carries_how_it_is_shown() -> None:
    view = {"keys": ["é"], "columns": {"n": ["col", "__rows"]}}
    assert read_view(write_run(run_of(0), view)) == view


def test_a_file_that_says_nothing_shows_nothing() -> None:
    buffer = BytesIO()
    run_of(0).write_parquet(buffer)
    assert read_view(buffer.getvalue()) == {}


@pytest.mark.parametrize("data", [b"", b"PAR1 nonsense PAR1", b"x" * 100])
def test_other_bytes_are_an_error(data: bytes) -> None:
    with pytest.raises(CorruptError, match="cannot be read"):
        read_run(data, 0, 128)
    with pytest.raises(CorruptError, match="cannot be read"):
        read_view(data)


def test_a_parquet_file_without_key_groups_is_no_run() -> None:
    buffer = BytesIO()
    pl.DataFrame({"n": [1]}).write_parquet(buffer)
    with pytest.raises(CorruptError, match=KEY_GROUP):
        read_run(buffer.getvalue(), 0, 128)
