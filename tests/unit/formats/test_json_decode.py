"""What JSON decoding takes, what it refuses, and what it says about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from tidegate.connectors.formats import Json
from tidegate.engine.errors import JobInvalidError

ID: Final = Json({"id": pl.Int64})


def decode_one(record_format: Json, value: bytes | None) -> dict[str, object] | str:
    """Return the row, or the reason why there is none."""
    decoded = record_format.decode(pa.array([value], pa.binary()), None)
    if decoded.good is None:
        return decoded.frame.row(0, named=True)
    assert decoded.good.tolist() == [False]
    assert decoded.frame.height == 0
    return decoded.reasons[0]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        ("-0", 0),
        ("1.0", 1),
        ("1e2", 100),
        ("-2.50e1", -25),
        ("9007199254740992.0", 2**53),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("null", None),
    ],
)
def test_a_whole_number_is_an_integer_however_it_is_written(text: str, number: int | None) -> None:
    assert decode_one(ID, f'{{"id":{text}}}'.encode()) == {"id": number}


@pytest.mark.parametrize(
    "text", ["1.5", '"1"', "true", "[1]", "{}", "9223372036854775808", "1e19", "1e400", "18014398509481985.0", "0.1e-5"]
)
def test_what_would_lose_something_is_no_integer(text: str) -> None:
    assert "field 'id' is " in str(decode_one(ID, f'{{"id":{text}}}'.encode()))


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (pl.Int8, -128, 127),
        (pl.Int16, -(2**15), 2**15 - 1),
        (pl.Int32, -(2**31), 2**31 - 1),
        (pl.UInt8, 0, 255),
        (pl.UInt16, 0, 2**16 - 1),
        (pl.UInt32, 0, 2**32 - 1),
        (pl.UInt64, 0, 2**64 - 1),
    ],
)
def test_an_integer_has_the_range_of_its_dtype(dtype: type[pl.DataType], low: int, high: int) -> None:
    values = pa.array([b'{"n":%d}' % number for number in (low - 1, low, high, high + 1)])
    decoded = Json({"n": dtype}).decode(values, None)
    assert decoded.good is not None
    assert decoded.good.tolist() == [False, True, True, False]
    assert decoded.frame["n"].to_list() == [low, high]


@pytest.mark.parametrize("text", ['"1.5"', "true", "1e400", "-1e400", "[]", '""'])
def test_a_float_is_a_finite_number(text: str) -> None:
    assert "field 'x' is " in str(decode_one(Json({"x": pl.Float64}), f'{{"x":{text}}}'.encode()))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "nan", "inf"])
@pytest.mark.parametrize("dtype", [pl.Float64, pl.Int64, pl.String, pl.Boolean])
def test_not_a_number_is_no_value_of_any_dtype(text: str, dtype: type[pl.DataType]) -> None:
    assert isinstance(decode_one(Json({"x": dtype}), f'{{"x":{text}}}'.encode()), str)


def test_a_float32_out_of_its_range_is_refused() -> None:
    assert isinstance(decode_one(Json({"x": pl.Float32}), b'{"x":3.5e38}'), str)


@pytest.mark.parametrize("text", ["1", "0", '"true"', '"false"', "[]", "{}"])
def test_a_boolean_is_true_or_false(text: str) -> None:
    assert isinstance(decode_one(Json({"x": pl.Boolean}), f'{{"x":{text}}}'.encode()), str)


@pytest.mark.parametrize("text", ["12", "1.5", "-1", "1e400", "true", "false", "[1]", '{"a":1}', "[]", "{}"])
def test_only_a_string_is_a_string(text: str) -> None:
    wanted = Json({"s": pl.String})
    assert isinstance(decode_one(wanted, f'{{"s":{text}}}'.encode()), str)
    escaped = text.replace('"', '\\"')
    assert decode_one(wanted, f'{{"s":"{escaped}"}}'.encode()) == {"s": text}


def test_strings_that_look_like_numbers_are_told_from_numbers_in_one_batch() -> None:
    values = pa.array([b'{"a":"1","b":"x"}', b'{"a":1,"b":"x"}', b'{"a":"x","b":true}', b'{"a":"2","b":"true"}'])
    decoded = Json({"a": pl.String, "b": pl.String}).decode(values, None)
    assert decoded.good is not None
    assert decoded.good.tolist() == [True, False, False, True]
    assert decoded.frame.rows() == [("1", "x"), ("2", "true")]


def test_escapes_and_letters_of_all_kinds_arrive() -> None:
    value = '{"s":"\\u00e9\\ud83d\\ude00 é😀 \\"\\\\\\/\\n\\u0000"}'.encode()
    assert decode_one(Json({"s": pl.String}), value) == {"s": 'é😀 é😀 "\\/\n\0'}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the value is null"),
        (b"", "the value is not JSON"),
        (b"{", "the value is not JSON"),
        (b'{"id":1} x', "the value is not JSON"),
        (b"{'id':1}", "the value is not JSON"),
        (b'{"id":01}', "the value is not JSON"),
        (b'\xef\xbb\xbf{"id":1}', "the value is not JSON"),
        (b'{"id":"\\ud800"}', "the value is not JSON"),
        (b'{"id":1}\x00', "the value is not JSON"),
        (b'\xff{"id":1}', "the value is not valid UTF-8"),
        (b"[1]", "the value is an array, but no JSON object"),
        (b'"id"', "the value is a string, but no JSON object"),
        (b" 5", "the value is a number, but no JSON object"),
        (b"null", "the value is null, but no JSON object"),
        (b'{"id":"x"}', "field 'id' is \"x\", which is no Int64"),
        (b'{"id":1e400}', "field 'id' is a number out of range, which is no Int64"),
        (b'{"id":"x","id":2}', "field 'id' is \"x\", which is no Int64"),
    ],
)
def test_a_reason_says_what_is_wrong_with_the_record(value: bytes | None, reason: str) -> None:
    assert decode_one(ID, value) == reason


def test_a_long_value_is_cut_in_the_reason() -> None:
    reason = decode_one(ID, b'{"id":"%s"}' % (b"x" * 1000))
    assert isinstance(reason, str)
    assert len(reason) < 100


def test_missing_and_further_fields_and_blanks_are_fine() -> None:
    wanted = Json({"a": pl.Int64, "b": pl.String})
    assert decode_one(wanted, b'\n {"z":[{}],"b":"x"}\t') == {"a": None, "b": "x"}
    assert decode_one(wanted, b"{}") == {"a": None, "b": None}


def test_of_a_repeated_field_the_first_counts() -> None:
    assert decode_one(ID, b'{"id":1,"id":2}') == {"id": 1}


def test_names_that_differ_in_case_alone_are_two_fields() -> None:
    wanted = Json({"id": pl.Int64, "ID": pl.String, "Id": pl.Float64})
    assert decode_one(wanted, b'{"ID":"x","id":1,"Id":0.5}') == {"id": 1, "ID": "x", "Id": 0.5}
    assert decode_one(wanted, b'{"ID":"x"}') == {"id": None, "ID": "x", "Id": None}


def test_names_may_hold_any_character() -> None:
    wanted = Json({"it's": pl.Int64, 'a"b': pl.String, "k.l": pl.Int64, "é $": pl.Boolean, "$": pl.String})
    value = '{"it\'s":1,"a\\"b":"12","k.l":2,"é $":true,"$":"3","k":{"l":9}}'.encode()
    assert decode_one(wanted, value) == {"it's": 1, 'a"b': "12", "k.l": 2, "é $": True, "$": "3"}


def test_only_the_asked_fields_are_looked_at() -> None:
    wanted = Json({"a": pl.Int64, "b": pl.Int64})
    values = pa.array([b'{"a":1,"b":"wrong"}'])
    assert wanted.decode(values, frozenset({"a"})).frame.to_dict(as_series=False) == {"a": [1]}
    assert wanted.decode(values, None).good is not None


def test_the_height_is_right_when_no_field_is_asked_for() -> None:
    decoded = Json({"a": pl.Int64}).decode(pa.array([b"{}", b"[]", b'{"a":1}']), frozenset())
    assert decoded.frame.height == 2
    assert decoded.good is not None
    assert decoded.good.tolist() == [True, False, True]


def test_no_records_make_no_rows_of_the_right_dtypes() -> None:
    decoded = Json({"a": pl.Int8, "b": pl.List(pl.String)}).decode(pa.array([], pa.binary()), None)
    assert decoded.frame.schema == {"a": pl.Int8, "b": pl.List(pl.String)}


def test_bad_records_are_taken_out_and_the_first_of_them_explained() -> None:
    bad_rows = range(3, 5000, 7)
    texts: list[bytes | None] = [b'{"id":%d}' % row for row in range(5000)]
    kinds = [None, b"{", b"\xff", b"[]", b'{"id":"x"}']
    for number, row in enumerate(bad_rows):
        texts[row] = kinds[number % len(kinds)]
    decoded = ID.decode(pa.array(texts, pa.large_binary()), None)
    assert decoded.good is not None
    assert np.flatnonzero(~decoded.good).tolist() == list(bad_rows)
    assert decoded.frame["id"].to_list() == [row for row in range(5000) if row not in bad_rows]
    assert list(decoded.reasons) == list(bad_rows)[:20]


def test_a_slice_of_values_is_decoded_as_what_it_is() -> None:
    values = pa.array([b"\xff", None, b'{"id":1}', b'{"id":2}', b"\xff"], pa.large_binary()).slice(1, 3)
    decoded = ID.decode(values, None)
    assert decoded.frame["id"].to_list() == [1, 2]
    assert decoded.reasons == {0: "the value is null"}
    broken = pa.array([b"x", b'{"id":1}', "é".encode(), b"\xff"], pa.binary()).slice(1)
    assert ID.decode(broken, None).reasons == {1: "the value is not JSON", 2: "the value is not valid UTF-8"}


@pytest.mark.parametrize(
    "value",
    [
        b'{"id":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        b'{"x":' + b'{"id":' * 200_000 + b"1" + b"}" * 200_000 + b"}",
        b"[" * 1_000_000,
        b'{"id":' * 200_000,
    ],
    ids=["arrays", "objects", "open arrays", "open objects"],
)
def test_deep_nesting_does_no_harm(value: bytes) -> None:
    decoded = ID.decode(pa.array([b'{"id":1}', value]), None)
    assert decoded.frame["id"].to_list()[0] == 1


NESTED: Final = Json(
    {
        "list": pl.List(pl.Int32),
        "struct": pl.Struct({"a": pl.String, "b": pl.List(pl.Struct({"c": pl.Float64, "C": pl.Boolean}))}),
        "lists": pl.List(pl.List(pl.String)),
    }
)


def test_nested_values_are_read_by_the_same_rules() -> None:
    value = b'{"list":[1,null,2.0],"struct":{"a":"x","b":[{"c":1.5,"C":true},null,{}]},"lists":[["1"],null,[],[null]]}'
    assert decode_one(NESTED, value) == {
        "list": [1, None, 2],
        "struct": {"a": "x", "b": [{"c": 1.5, "C": True}, None, {"c": None, "C": None}]},
        "lists": [["1"], None, [], [None]],
    }


def test_a_missing_nested_value_is_null_and_an_empty_one_is_not() -> None:
    values = pa.array([b"{}", b'{"list":null,"struct":null}', b'{"list":[],"struct":{},"lists":[]}'])
    rows = NESTED.decode(values, None).frame.rows()
    assert rows == [(None, None, None), (None, None, None), ([], {"a": None, "b": None}, [])]


@pytest.mark.parametrize(
    "text",
    [
        '"list":{}',
        '"list":1',
        '"list":"[1]"',
        '"list":["1"]',
        '"list":[1.5]',
        '"list":[2147483648]',
        '"list":[[1]]',
        '"struct":[]',
        '"struct":"{}"',
        '"struct":{"a":1}',
        '"struct":{"b":{}}',
        '"struct":{"b":[{"c":"1"}]}',
        '"struct":{"b":[{},{"C":0}]}',
        '"lists":[[1]]',
        '"lists":["a"]',
    ],
)
def test_one_wrong_value_inside_makes_the_record_undecodable(text: str) -> None:
    good = b'{"list":[7],"struct":{"a":"y"},"lists":[["z"]]}'
    decoded = NESTED.decode(pa.array([good, f"{{{text}}}".encode(), good]), None)
    assert decoded.good is not None
    assert decoded.good.tolist() == [True, False, True]
    assert decoded.frame.row(1) == ([7], {"a": "y", "b": None}, [["z"]])


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-23T10:00:00.123Z", datetime(2026, 11, 23, 10, 0, 0, 123000, UTC)),
        ("2026-11-23T10:00:00+01:00", datetime(2026, 11, 23, 9, 0, tzinfo=UTC)),
        ("2026-11-23T00:10:00+0130", datetime(2026, 11, 22, 22, 40, tzinfo=UTC)),
        ("2026-11-23 10:00-05", datetime(2026, 11, 23, 15, 0, tzinfo=UTC)),
        ("2026-11-23T10:00:00", datetime(2026, 11, 23, 10, 0, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("unit", ["ms", "us"])
def test_text_of_iso_8601_is_an_instant(text: str, instant: datetime, unit: str) -> None:
    zoned = Json({"t": pl.Datetime(unit, "UTC")})  # type: ignore[arg-type]  # one of the parameters above
    assert decode_one(zoned, f'{{"t":"{text}"}}'.encode()) == {"t": instant}
    plain = Json({"t": pl.Datetime(unit)})  # type: ignore[arg-type]  # as above
    assert decode_one(plain, f'{{"t":"{text}"}}'.encode()) == {"t": instant.replace(tzinfo=None)}


@pytest.mark.parametrize(
    "text", ['"2026-02-30T00:00:00Z"', '"2026-11-23"', '"10:00"', '"epoch"', '"2026-11-23T10:00:00 Europe/Berlin"', "5"]
)
def test_other_text_is_no_instant(text: str) -> None:
    assert isinstance(decode_one(Json({"t": pl.Datetime("ms")}), f'{{"t":{text}}}'.encode()), str)


def test_milliseconds_are_an_instant_when_the_format_says_so() -> None:
    wanted = Json({"t": pl.Datetime("us", "Europe/Berlin")}, timestamps="epoch_ms")
    decoded = wanted.decode(pa.array([b'{"t":1795392000001}', b'{"t":"2026-11-23T10:00:00Z"}', b"{}"]), None)
    assert decoded.frame["t"].dt.epoch("ms").to_list() == [1795392000001, None]
    assert decoded.frame.schema == {"t": pl.Datetime("us", "Europe/Berlin")}
    assert list(decoded.reasons) == [1]


@pytest.mark.parametrize(
    "dtype", [pl.Binary, pl.Date, pl.Duration, pl.Object, pl.List(pl.Binary), pl.Struct({}), pl.Categorical, int]
)
def test_a_dtype_that_cannot_be_read_is_refused_when_the_format_is_made(dtype: type[pl.DataType]) -> None:
    with pytest.raises(JobInvalidError, match="cannot read field 'x"):
        Json({"x": dtype})


def test_an_empty_schema_and_impossible_names_are_refused() -> None:
    with pytest.raises(JobInvalidError, match="empty schema"):
        Json({})
    for schema in ({"": pl.Int64}, {"a\0": pl.Int64}, {"a": pl.Struct({"": pl.Int64})}):
        with pytest.raises(JobInvalidError, match="whose name is"):
            Json(schema)


def test_a_source_needs_a_schema() -> None:
    with pytest.raises(JobInvalidError, match="has no schema"):
        _ = Json().schema


@pytest.mark.parametrize(
    ("options", "message"),
    [({"on_error": "ignore"}, "on_error"), ({"timestamps": "s"}, "timestamps"), ({"metadata": ("len",)}, "len")],
)
def test_a_wrong_option_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(JobInvalidError, match=message):
        Json({"id": pl.Int64}, **options)  # type: ignore[arg-type]  # wrong on purpose


def test_metadata_may_be_named_or_keep_its_own_names() -> None:
    assert Json({"id": pl.Int64}, metadata=("key", "offset")).metadata == {"key": "key", "offset": "offset"}
    assert Json({"id": pl.Int64}, metadata={"kafka_key": "key"}).metadata == {"kafka_key": "key"}
