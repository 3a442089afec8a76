"""Frozen hashes: a key that moved to another group would be separated from its state."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from tidegate.engine.hashing import hash_column, key_groups, murmur2

JAVA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def java_murmur2(data: bytes) -> int:
    """Kafka's Utils.murmur2, line by line."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = (0x9747B28C ^ len(data)) & mask
    for i in range(len(data) // 4):
        k = int.from_bytes(data[4 * i : 4 * i + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    rest = data[len(data) & ~3 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)


def test_murmur2_gives_what_the_java_client_gives() -> None:
    hashes = murmur2(pa.array(list(JAVA_VECTORS), pa.binary()))
    assert hashes.view(np.int32).tolist() == list(JAVA_VECTORS.values())


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
def test_murmur2_agrees_with_the_reference_for_every_length_and_layout(kind: pa.DataType) -> None:
    chance = random.Random(7)
    values = [chance.randbytes(length % 67) for length in range(300)]
    array = pa.array(values, kind)
    assert murmur2(array).tolist() == [java_murmur2(value) for value in values]
    assert murmur2(array.slice(11, 200)).tolist() == [java_murmur2(value) for value in values[11:211]]


def test_one_very_long_key_among_short_ones_is_hashed_right() -> None:
    values = [b"a", b"x" * 10_003, b"", b"abcdefg"]
    assert murmur2(pa.array(values)).tolist() == [java_murmur2(value) for value in values]


def test_strings_chunks_nulls_and_nothing_at_all_can_be_hashed() -> None:
    text = pa.chunked_array([["abc", None], ["21", "é"]])
    expected = [java_murmur2(b"abc"), 0, java_murmur2(b"21"), java_murmur2("é".encode())]
    assert murmur2(text).tolist() == expected
    assert murmur2(pa.array([], pa.string())).tolist() == []
    assert murmur2(pa.array([None, None], pa.string())).tolist() == [0, 0]


def test_key_groups_are_frozen() -> None:
    frame = pl.DataFrame(
        {"text": ["de", "fr", "", None], "number": [1, -1, None, 2**40], "flag": [True, False, None, True]}
    )
    assert key_groups(frame, ("text",), 128).tolist() == [76, 28, 48, 0]
    assert key_groups(frame, ("number",), 128).tolist() == [123, 44, 0, 9]
    assert key_groups(frame, ("flag",), 128).tolist() == [123, 72, 0, 123]
    assert key_groups(frame, ("text", "number"), 128).tolist() == [51, 75, 24, 9]
    assert key_groups(frame, ("number", "text"), 32_768).tolist() == [12320, 52, 16432, 30259]


def test_integers_hash_by_their_value_whatever_their_width() -> None:
    values = [0, 1, 17, 100]
    expected = [java_murmur2(value.to_bytes(8, "little", signed=True)) for value in values]
    for dtype in (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt64, pl.Int128):
        assert hash_column(pl.Series(values, dtype=dtype)).tolist() == expected
    assert hash_column(pl.Series([-1])).tolist() == [java_murmur2(b"\xff" * 8)]


def test_moments_hash_by_their_physical_value() -> None:
    moments = pl.Series([0, 86_400_000]).cast(pl.Datetime("ms", "UTC"))
    assert hash_column(moments).tolist() == hash_column(pl.Series([0, 86_400_000])).tolist()


def test_floats_that_are_one_key_have_one_hash() -> None:
    keys = pl.Series([0.0, -0.0, float("nan"), -float("nan"), 1.5, None])
    zero, minus_zero, nan, minus_nan, other, null = hash_column(keys).tolist()
    assert zero == minus_zero
    assert nan == minus_nan
    assert null == 0
    assert len({zero, nan, other}) == 3
    assert hash_column(pl.Series([1.5], dtype=pl.Float32)).tolist() == [other]


def test_text_hashes_the_same_as_string_categorical_enum_and_binary() -> None:
    text = pl.Series(["de", "fr"])
    expected = hash_column(text).tolist()
    for dtype in (pl.Categorical(), pl.Enum(["fr", "de"]), pl.Binary()):
        assert hash_column(text.cast(dtype)).tolist() == expected


def test_null_is_another_key_than_empty_text() -> None:
    null, empty = hash_column(pl.Series([None, ""], dtype=pl.String)).tolist()
    assert null != empty


def test_columns_of_a_key_do_not_run_together() -> None:
    frame = pl.DataFrame({"a": ["x", "xy"], "b": ["yz", "z"]})
    one, other = key_groups(frame, ("a", "b"), 32_768).tolist()
    assert one != other


def test_a_hash_does_not_depend_on_the_other_rows() -> None:
    frame = pl.DataFrame({"k": [f"key-{i % 97}-{'x' * (i % 11)}" for i in range(2000)]})
    whole = key_groups(frame, ("k",), 128)
    assert (
        np.concatenate([key_groups(frame[i : i + 13], ("k",), 128) for i in range(0, 2000, 13)]).tolist()
        == whole.tolist()
    )


def test_keys_spread_evenly_over_groups_and_over_the_groups_of_one_kafka_partition() -> None:
    keys = pl.DataFrame({"k": [f"user-{i}" for i in range(100_000)]})
    groups = key_groups(keys, ("k",), 128)
    partitions = (murmur2(keys["k"].to_arrow()) & 0x7FFFFFFF) % 8
    for chosen, each in ((groups, 100_000 / 128), (groups[partitions == 3], 100_000 / 128 / 8)):
        counts = np.bincount(chosen, minlength=128)
        assert counts.min() > 0.6 * each
        assert counts.max() < 1.4 * each
