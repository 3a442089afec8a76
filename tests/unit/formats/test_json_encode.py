"""What JSON encoding writes."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from tidegate.connectors.formats import Json
from tidegate.engine.errors import JobInvalidError

MOMENT = datetime(2026, 11, 23, 10, 0, 0, 123456, UTC)


def encode(values: list[object], dtype: pl.DataType | type[pl.DataType], timestamps: str = "iso") -> list[str]:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=dtype)})
    record_format = Json(timestamps=timestamps)
    record_format.check_encode(frame.schema)
    encoded = record_format.encode(frame)
    assert encoded.type == pa.large_binary()
    return [text.as_py().decode() for text in encoded]


def test_fields_stand_in_the_order_of_the_columns() -> None:
    frame = pl.DataFrame({"b": [1], "a": ['é"\\\n😀'], "c": [None], 'it\'s "x"': [True]})
    (encoded,) = Json().encode(frame).to_pylist()
    assert encoded.decode() == '{"b":1,"a":"é\\"\\\\\\n😀","c":null,"it\'s \\"x\\"":true}'


def test_hidden_columns_are_not_written() -> None:
    frame = pl.DataFrame({"__time": [1], "a": [2], "__offset": [3]})
    assert Json().encode(frame).to_pylist() == [b'{"a":2}']


def test_rows_of_hidden_columns_alone_are_empty_objects() -> None:
    assert Json().encode(pl.DataFrame({"__time": [1, 2]})).to_pylist() == [b"{}", b"{}"]


def test_no_rows_make_no_values() -> None:
    encoded = Json().encode(pl.DataFrame(schema={"a": pl.Int64, "t": pl.Datetime("ms")}))
    assert (encoded.type, len(encoded)) == (pa.large_binary(), 0)


def test_what_is_no_number_in_json_is_null() -> None:
    nan, inf = float("nan"), float("inf")
    assert encode([nan, inf, -inf, None], pl.Float64) == ['{"x":null}'] * 4
    assert encode([nan, inf], pl.Float32) == ['{"x":null}'] * 2
    assert encode([[1.0, nan], [inf]], pl.List(pl.Float64)) == ['{"x":[1.0,null]}', '{"x":[null]}']
    assert encode([{"a": nan}], pl.Struct({"a": pl.Float64})) == ['{"x":{"a":null}}']


@pytest.mark.parametrize(
    ("unit", "text"), [("ms", "10:00:00.123Z"), ("us", "10:00:00.123456Z"), ("ns", "10:00:00.123456000Z")]
)
def test_a_datetime_is_iso_8601_in_utc_to_its_own_precision(unit: str, text: str) -> None:
    expected = [f'{{"x":"2026-11-23T{text}"}}', '{"x":null}']
    plain = pl.Datetime(unit)  # type: ignore[arg-type]  # one of the parameters above
    assert encode([MOMENT.replace(tzinfo=None), None], plain) == expected
    zoned = pl.Datetime(unit, "UTC")  # type: ignore[arg-type]  # as above
    assert encode([MOMENT, None], zoned) == expected
    berlin = pl.Datetime(unit, "Europe/Berlin")  # type: ignore[arg-type]  # as above
    assert encode([MOMENT.astimezone(ZoneInfo("Europe/Berlin")), None], berlin) == expected


def test_a_datetime_is_milliseconds_when_the_format_says_so() -> None:
    assert encode([MOMENT, None], pl.Datetime("us", "UTC"), "epoch_ms") == ['{"x":1795428000123}', '{"x":null}']


def test_a_datetime_inside_a_list_or_struct_is_written_alike() -> None:
    dtype = pl.List(pl.Struct({"t": pl.Datetime("ms"), "ts": pl.List(pl.Datetime("ms", "UTC"))}))
    rows: list[object] = [[{"t": MOMENT.replace(tzinfo=None), "ts": [MOMENT, None]}, None], [], None]
    assert encode(rows, dtype) == [
        '{"x":[{"t":"2026-11-23T10:00:00.123Z","ts":["2026-11-23T10:00:00.123Z",null]},null]}',
        '{"x":[]}',
        '{"x":null}',
    ]
    assert encode(rows, dtype, "epoch_ms")[0] == '{"x":[{"t":1795428000123,"ts":[1795428000123,null]},null]}'


def test_a_null_struct_with_a_datetime_is_null() -> None:
    dtype = pl.Struct({"t": pl.Datetime("ms")})
    assert encode([None, {"t": None}], dtype) == ['{"x":null}', '{"x":{"t":null}}']


def test_an_array_with_a_datetime_is_written_as_a_list() -> None:
    rows: list[object] = [[MOMENT.replace(tzinfo=None)], None]
    assert encode(rows, pl.Array(pl.Datetime("ms"), 1)) == ['{"x":["2026-11-23T10:00:00.123Z"]}', '{"x":null}']


def test_no_digit_of_a_decimal_is_lost() -> None:
    assert encode([Decimal("12345678901234567890.10")], pl.Decimal(38, 2)) == ['{"x":"12345678901234567890.10"}']


def test_other_dtypes_are_text() -> None:
    assert encode([date(2026, 11, 23)], pl.Date) == ['{"x":"2026-11-23"}']
    assert encode([time(10, 30)], pl.Time) == ['{"x":"10:30:00"}']
    assert encode([timedelta(minutes=90)], pl.Duration("ms")) == ['{"x":"PT5400S"}']
    assert encode(["a"], pl.Enum(["a"])) == ['{"x":"a"}']
    assert encode(["a"], pl.Categorical) == ['{"x":"a"}']


def test_large_integers_are_written_out() -> None:
    assert encode([2**64 - 1], pl.UInt64) == ['{"x":18446744073709551615}']
    assert encode([-(2**63)], pl.Int64) == ['{"x":-9223372036854775808}']


@pytest.mark.parametrize(
    "dtype",
    [
        pl.Binary(),
        pl.Binary,
        pl.Object(),
        pl.List(pl.Binary),
        pl.Struct({"a": pl.List(pl.Struct({"b": pl.Binary}))}),
        pl.Array(pl.Binary, 2),
    ],
)
def test_a_column_without_a_json_form_is_refused_at_any_depth(dtype: pl.DataType) -> None:
    with pytest.raises(JobInvalidError, match="cannot write column 'x'"):
        Json().check_encode({"y": pl.Int64(), "x": dtype})


def test_what_is_written_is_read_again() -> None:
    schema = {
        "n": pl.Int64(),
        "t": pl.Datetime("us", "UTC"),
        "l": pl.List(pl.Struct({"a": pl.String, "f": pl.Float64})),
    }
    frame = pl.DataFrame(
        {"n": [1, None], "t": [MOMENT, None], "l": [[{"a": "1", "f": 0.1}, None], None]}, schema=schema
    )
    record_format = Json(schema)
    encoded = record_format.encode(frame)
    assert json.loads(encoded[0].as_py())["n"] == 1
    assert record_format.decode(encoded, None).frame.equals(frame)
