"""Copying values out of memory by their addresses."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from tidegate.connectors.kafka.memory import REGION, binary, structures


def copied(values: list[bytes | None], gap: int = 0) -> list[bytes | None]:
    """Lay values out in memory with gaps between them, and copy them from there."""
    buffer = bytearray(7)
    starts = []
    for value in values:
        starts.append(len(buffer))
        buffer += (value or b"") + bytes(gap)
    block = ctypes.create_string_buffer(bytes(buffer), len(buffer) + 1)
    base = ctypes.addressof(block)
    addresses = [0 if value is None else base + start for value, start in zip(values, starts, strict=True)]
    lengths = [len(value or b"") for value in values]
    found = binary(np.array(addresses, np.uint64), np.array(lengths, np.uint64))
    assert found.type == pa.large_binary()
    result: list[bytes | None] = found.to_pylist()
    return result


@given(st.lists(st.none() | st.binary(max_size=30) | st.binary(min_size=8, max_size=14)), st.integers(0, 9))
def test_values_arrive_whatever_their_length_and_alignment(values: list[bytes | None], gap: int) -> None:
    assert copied(values, gap) == values


def test_every_length_at_every_alignment() -> None:
    values: list[bytes | None] = [bytes(range(1, size + 1)) for size in range(20) for _ in range(8)]
    for gap in range(9):
        assert copied(values, gap) == values


def test_nothing_but_nulls_and_nothing_at_all() -> None:
    assert copied([None, None]) == [None, None]
    assert copied([]) == []


def test_long_values_arrive() -> None:
    values: list[bytes | None] = [b"x" * 1_000_000, b"", b"y" * 3_000_000, None, b"z"]
    assert copied(values) == values


def test_memory_behind_the_last_value_is_not_touched() -> None:
    with mmap.mmap(-1, 3 * mmap.PAGESIZE) as mapping:
        base = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        last = base + 2 * mmap.PAGESIZE
        mapping[2 * mmap.PAGESIZE - 20 : 2 * mmap.PAGESIZE] = bytes(range(1, 21))
        assert protect(ctypes.c_void_p(last), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
        try:
            sizes = [0, 1, 5, 8, 9, 12, 13, 20]
            addresses = np.array([last - size for size in sizes], np.uint64)
            found = binary(addresses, np.array(sizes, np.uint64)).to_pylist()
        finally:
            protect(ctypes.c_void_p(last), ctypes.c_size_t(mmap.PAGESIZE), 3)
        assert found == [bytes(range(21 - size, 21)) for size in sizes]


def test_values_far_apart_arrive_in_one_array() -> None:
    far = [mmap.mmap(-1, REGION + mmap.PAGESIZE) for _ in range(3)]
    addresses = []
    for number, mapping in enumerate(far):
        for place in (0, REGION):
            mapping[place : place + 20] = bytes([number, place % 251]) * 10
            addresses.append(ctypes.addressof(ctypes.c_char.from_buffer(mapping, place)))
    found = binary(np.array(addresses, np.uint64), np.full(len(addresses), 20, np.uint64)).to_pylist()
    assert found == [bytes([number, place % 251]) * 10 for number in range(3) for place in (0, REGION)]


def test_structures_are_copied_from_any_multiple_of_eight() -> None:
    dtype = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<u8"], "offsets": [0, 16], "itemsize": 24})
    block = (ctypes.c_uint64 * 8)(*range(8))
    base = ctypes.addressof(block)
    found = structures(np.array([base + 8, base + 32], np.uint64), dtype)
    assert (found["a"].tolist(), found["b"].tolist()) == ([1, 4], [3, 6])
