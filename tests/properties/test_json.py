"""JSON decoding against orjson and the rules written out, and what is encoded against what is read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
from hypothesis import example, given
from hypothesis import strategies as st
from tidegate.connectors.formats import Json

WRONG: Final = object()
RANGES: Final[Mapping[type[pl.DataType], tuple[int, int]]] = {
    pl.Int8: (-(2**7), 2**7 - 1),
    pl.Int32: (-(2**31), 2**31 - 1),
    pl.Int64: (-(2**63), 2**63 - 1),
    pl.UInt16: (0, 2**16 - 1),
    pl.UInt64: (0, 2**64 - 1),
}
NAMES: Final = ("a", "A", "é", "b c")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=14)
lookalikes = st.sampled_from(
    ["1", "-1.5", "1e5", "true", "false", "null", "NaN", "inf", "[1]", "{", "", "2026-11-23", "t"]
)
integers = st.one_of(st.integers(-(2**63), 2**64 - 1), st.integers(-200, 200))
floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(
    st.none(), st.booleans(), integers, floats, st.sampled_from([1.0, -2.0, 1e3, 2.0**53]), texts, lookalikes
)
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))

simple_dtypes: st.SearchStrategy[Any] = st.sampled_from(
    [*(dtype() for dtype in RANGES), pl.Float64(), pl.Float32(), pl.Boolean(), pl.String()]
)
dtypes = st.recursive(
    simple_dtypes,
    lambda inner: st.one_of(
        inner.map(pl.List), st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=2).map(pl.Struct)
    ),
    max_leaves=4,
)


def fitting(dtype: Any) -> st.SearchStrategy[object]:
    """Values that mostly fit the dtype, so that good records are as frequent as bad ones."""
    if isinstance(dtype, pl.List):
        return st.lists(st.deferred(lambda: mostly(dtype.inner)), max_size=3)
    if isinstance(dtype, pl.Struct):
        fields = {field.name: mostly(field.dtype) for field in dtype.fields}
        return st.fixed_dictionaries({}, optional=fields)
    if type(dtype) in RANGES:
        return st.integers(*RANGES[type(dtype)])
    if dtype.is_float():
        return (
            st.one_of(floats, st.integers(-100, 100)) if dtype == pl.Float64 else st.floats(width=32, allow_nan=False)
        )
    return st.booleans() if dtype == pl.Boolean else st.one_of(texts, lookalikes)


def mostly(dtype: Any) -> st.SearchStrategy[object]:
    return st.integers(0, 19).flatmap(
        lambda dice: anything if dice == 0 else st.none() if dice == 1 else fitting(dtype)
    )


def expected(value: Any, dtype: Any) -> object:
    """Return what a value that orjson read becomes under a dtype, or WRONG."""
    if value is None:
        return None
    if isinstance(dtype, pl.List):
        found = [expected(inner, dtype.inner) for inner in value] if isinstance(value, list) else [WRONG]
        return WRONG if WRONG in found else found
    if isinstance(dtype, pl.Struct):
        return expected_object(value, {field.name: field.dtype for field in dtype.fields})
    if dtype in {pl.Boolean, pl.String}:
        return value if isinstance(value, bool if dtype == pl.Boolean else str) else WRONG
    if isinstance(value, bool) or not isinstance(value, int | float):
        return WRONG
    return expected_integer(value, dtype) if dtype.is_integer() else expected_float(value, dtype)


def expected_integer(value: float, dtype: Any) -> object:
    low, high = RANGES[type(dtype)]
    lossless = isinstance(value, int) or (value.is_integer() and abs(value) <= 2**53)
    return int(value) if lossless and low <= value <= high else WRONG


def expected_float(value: float, dtype: Any) -> object:
    with np.errstate(over="ignore"):
        found = float(np.float32(value)) if dtype == pl.Float32 else float(value)
    return found if math.isfinite(found) else WRONG


def expected_object(value: Any, schema: Mapping[str, Any]) -> object:
    if not isinstance(value, dict):
        return WRONG
    found = {name: expected(value.get(name), dtype) for name, dtype in schema.items()}
    return WRONG if WRONG in found.values() else found


def check(schema: Mapping[str, Any], values: list[bytes | None]) -> None:
    """Compare a decoded batch with the rules, record by record."""
    decoded = Json(schema).decode(pa.array(values, pa.binary()), None)
    rows = [WRONG if value is None else expected_object(read(value), schema) for value in values]
    good = [row is not WRONG for row in rows]
    assert (decoded.good.tolist() if decoded.good is not None else [True] * len(values)) == good
    assert decoded.frame.rows(named=True) == [row for row in rows if row is not WRONG]
    assert list(decoded.reasons) == [position for position, fine in enumerate(good) if not fine][:20]
    assert all(decoded.reasons.values())


def read(value: bytes) -> object:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return WRONG


@st.composite
def batches(draw: st.DrawFn) -> tuple[Mapping[str, Any], list[bytes | None]]:
    schema = draw(st.dictionaries(st.sampled_from(NAMES), dtypes, min_size=1, max_size=4))
    records = st.one_of(fitting(pl.Struct(schema)), fitting(pl.Struct(schema)), anything)
    written = records.map(lambda record: json.dumps(record, ensure_ascii=draw(st.booleans())).encode())
    # Python writes what is no JSON for infinities, which `anything` does not make; cut records are no JSON either.
    broken = st.one_of(st.none(), written.map(lambda text: text[:-1]), st.binary(max_size=8))
    return schema, draw(st.lists(st.one_of(written, written, written, broken), max_size=12))


@given(batches())
@example(({"a": pl.Float32()}, [b'{"a":3.4028234e38}', b'{"a":3.5e38}', b'{"a":1e39}']))
@example(({"a": pl.Int8()}, ['{"000": 0, "\x80\U00010000": 0, "0\\"\\"\\u001f\x80\u0800": null'.encode()]))
@example(({"a": pl.Int64()}, [b'{"a":1e0}', b'{"a":9007199254740993.0}', b'{"a":-9223372036854775808}']))
@example(({"a": pl.List(pl.String())}, [b'{"a":["1",null,"[2]"]}', b'{"a":[1]}', b'{"a":"x"}', b"[]"]))
def test_decoding_does_what_the_rules_say(batch: tuple[Mapping[str, Any], list[bytes | None]]) -> None:
    check(*batch)


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_no_bytes_do_harm(values: list[bytes]) -> None:
    # A comma before a closing bracket is the one thing that orjson refuses and we do not.
    check({"a": pl.Int64(), "b": pl.List(pl.String())}, [value for value in values if b"," not in value])


frame_schemas = st.dictionaries(
    st.one_of(st.sampled_from(NAMES), texts.filter(lambda name: name and "\0" not in name)),
    dtypes,
    min_size=1,
    max_size=4,
)


def clean(dtype: Any) -> st.SearchStrategy[object]:
    """Values of exactly this dtype, or null."""
    if isinstance(dtype, pl.List):
        return st.none() | st.lists(clean(dtype.inner), max_size=3)
    if isinstance(dtype, pl.Struct):
        return st.none() | st.fixed_dictionaries({field.name: clean(field.dtype) for field in dtype.fields})
    if dtype.is_float():
        return st.none() | st.floats(width=32 if dtype == pl.Float32 else 64)
    return st.none() | fitting(dtype)


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    schema = draw(frame_schemas.filter(lambda found: not any(name.startswith("__") for name in found)))
    height = draw(st.integers(0, 6))
    columns = {name: draw(st.lists(clean(dtype), min_size=height, max_size=height)) for name, dtype in schema.items()}
    return pl.DataFrame({name: pl.Series(values, dtype=schema[name]) for name, values in columns.items()})


def readable(value: Any) -> Any:
    """Return a value as JSON can hold it: what is no number there is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [readable(inner) for inner in value]
    return {name: readable(inner) for name, inner in value.items()} if isinstance(value, dict) else value


@given(frames())
def test_what_is_encoded_is_read_back_by_us_and_by_others(frame: pl.DataFrame) -> None:
    encoded = Json().encode(frame)
    rows = [readable(row) for row in frame.rows(named=True)]
    decoded = Json(frame.schema).decode(encoded, None)
    assert decoded.good is None
    assert decoded.frame.rows(named=True) == rows
    widened = [orjson.loads(text.as_py()) for text in encoded]
    assert [list(row) for row in widened] == [frame.columns] * frame.height
    assert [expected_object(row, frame.schema) for row in widened] == rows
