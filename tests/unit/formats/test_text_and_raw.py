"""Text and raw records."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest
from tidegate.connectors.formats import Raw, Text
from tidegate.connectors.formats.base import METADATA
from tidegate.engine.errors import JobInvalidError


def test_text_is_one_string_column_and_null_stays_null() -> None:
    decoded = Text().decode(pa.array([b"a", b"", None, "é😀".encode()], pa.large_binary()), None)
    assert decoded.good is None
    assert decoded.frame.to_dict(as_series=False) == {"value": ["a", "", None, "é😀"]}


def test_text_that_is_not_utf8_is_taken_out_and_explained() -> None:
    bad = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"a\xe2\x82"]
    values = pa.array([b"first", *bad, "é".encode(), None, b"last"], pa.binary())
    decoded = Text("line").decode(values, None)
    assert decoded.frame.to_dict(as_series=False) == {"line": ["first", "é", None, "last"]}
    assert decoded.good is not None
    assert decoded.good.tolist() == [True, *[False] * 6, True, True, True]
    assert decoded.reasons == dict.fromkeys(range(1, 7), "the value is not valid UTF-8")


def test_bytes_that_are_utf8_only_together_with_their_neighbour_are_refused_on_their_own() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    decoded = Text().decode(pa.array([first, second, b"ok"], pa.binary()), None)
    assert decoded.frame["value"].to_list() == ["ok"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_slice_of_text_is_decoded_as_what_it_is(kind: pa.DataType) -> None:
    values = pa.array([b"\xff", "é".encode(), b"\xff", b"z", b"\xff"], kind).slice(1, 3)
    decoded = Text().decode(values, None)
    assert decoded.frame["value"].to_list() == ["é", "z"]
    assert list(decoded.reasons) == [1]


def test_text_is_written_as_it_is() -> None:
    frame = pl.DataFrame({"__time": [1, 2, 3], "value": ["a", None, "é"]})
    encoded = Text().encode(frame)
    assert encoded.type == pa.large_binary()
    assert encoded.to_pylist() == [b"a", None, "é".encode()]


def test_text_needs_its_column_as_a_string() -> None:
    Text("line").check_encode({"line": pl.String()})
    with pytest.raises(JobInvalidError, match="writes column 'line'"):
        Text("line").check_encode({"value": pl.String()})
    with pytest.raises(JobInvalidError, match="writes column 'value'"):
        Text().check_encode({"value": pl.Int64()})


def test_text_takes_metadata_columns() -> None:
    assert Text(metadata=("offset",)).metadata == {"offset": "offset"}
    with pytest.raises(JobInvalidError, match="no record metadata 'len'"):
        Text(metadata={"x": "len"})
    with pytest.raises(JobInvalidError, match="'key' is also the format's own column"):
        Text("key", metadata=("key",))


def test_raw_takes_everything_as_it_is() -> None:
    values = pa.array([b"\xff", None, b""], pa.large_binary())
    decoded = Raw().decode(values, None)
    assert decoded.good is None
    assert decoded.frame.to_dict(as_series=False) == {"value": [b"\xff", None, b""]}
    assert Raw().encode(decoded.frame).to_pylist() == [b"\xff", None, b""]
    assert list(Raw().metadata) == list(METADATA)


def test_raw_writes_text_as_bytes() -> None:
    assert Raw().encode(pl.DataFrame({"value": ["é"]})).to_pylist() == ["é".encode()]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"key": pl.Binary()}, "column 'value'"),
        ({"value": pl.Int64()}, "column 'value'"),
        ({"value": pl.Binary(), "key": pl.Int64()}, "column 'key' is Int64"),
        ({"value": pl.Binary(), "partition": pl.Int64()}, "column 'partition' is Int64"),
        ({"value": pl.Binary(), "timestamp": pl.String()}, "column 'timestamp' is String"),
        ({"value": pl.Binary(), "headers": pl.String()}, "column 'headers' is String"),
    ],
)
def test_raw_columns_have_their_dtypes(schema: dict[str, pl.DataType], message: str) -> None:
    with pytest.raises(JobInvalidError, match=message):
        Raw().check_encode(schema)


def test_raw_records_can_be_written_back_and_may_have_further_columns() -> None:
    Raw().check_encode({"value": pl.Binary(), **METADATA, "mine": pl.Int64()})
    Raw().check_encode({"value": pl.String(), "key": pl.String()})
