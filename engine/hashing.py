"""Vectorised hashes: murmur2 as Kafka's Java client computes it, and key groups on top of it.

murmur2 is Austin Appleby's 32-bit MurmurHash2 with Kafka's seed (org.apache.kafka.common.utils.Utils.murmur2). Key
groups are frozen: murmur2 of a key's canonical bytes, mixed by MurmurHash3's 32-bit finaliser so that they are
independent of Kafka's own partition number, modulo the number of groups. Canonical bytes of one key column:

| type | bytes |
|---|---|
| String, Categorical, Enum | UTF-8 |
| Binary | as they are |
| integers, Boolean, Date, Time, Datetime, Duration | physical value, signed 64-bit little endian; 0 if out of range |
| Float32, Float64 | IEEE 754 double, little endian; -0.0 as 0.0 and every NaN as 0x7FF8000000000000 |
| Decimal | UTF-8 text of the value with all digits of its scale |

A null hashes to 0, which sets it apart from empty text. Several columns combine as h = fmix32(31 * h + next), from left
to right.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

_M: Final = np.uint32(0x5BD1E995)
_SEED: Final = np.uint32(0x9747B28C)
_NAN: Final = np.array([0x7FF8000000000000], np.uint64).view(np.float64)[0]
U32 = npt.NDArray[np.uint32]


def murmur2(values: pa.Array) -> U32:
    """Return Kafka's murmur2 of every value of a binary or string array; nulls give 0."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if not (pa.types.is_large_binary(values.type) or pa.types.is_binary(values.type)):
        values = values.cast(pa.large_binary())
    wide = pa.types.is_large_binary(values.type)
    _, offset_buffer, data_buffer = values.buffers()
    count = len(values)
    if not count:
        return np.zeros(0, np.uint32)
    offsets = np.frombuffer(offset_buffer, np.int64 if wide else np.int32)[values.offset : values.offset + count + 1]
    low, high = int(offsets[0]), int(offsets[-1])
    starts = offsets[:-1].astype(np.int64) - low
    lengths = np.diff(offsets).astype(np.int64)
    # Eight bytes of padding, so that whole words can be read at any position.
    data = np.zeros(high - low + 8, np.uint8)
    if data_buffer is not None and high > low:
        data[: high - low] = np.frombuffer(data_buffer, np.uint8)[low:high]
    words = np.ndarray((len(data) - 3,), np.dtype("<u4"), data.data, strides=(1,))
    hashes = _murmur2(words, starts, lengths)
    if values.null_count:
        hashes[values.is_null().to_numpy(zero_copy_only=False)] = 0
    return hashes


def _murmur2(words: npt.NDArray[np.uint32], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> U32:
    with np.errstate(over="ignore"):
        hashes: U32 = _SEED ^ lengths.astype(np.uint32)
        whole = lengths >> 2
        shortest, longest = int(whole.min()), int(whole.max())
        for step in range(shortest):
            hashes = _mix(hashes, words[starts + 4 * step])
        active = np.flatnonzero(whole > shortest) if longest > shortest else np.zeros(0, np.int64)
        for step in range(shortest, longest):
            hashes[active] = _mix(hashes[active], words[starts[active] + 4 * step])
            active = active[whole[active] > step + 1]
        rest = lengths & 3
        tail = words[starts + 4 * whole] & ((np.uint32(1) << (rest * 8).astype(np.uint32)) - np.uint32(1))
        hashes = np.where(rest > 0, (hashes ^ tail) * _M, hashes)
        hashes ^= hashes >> np.uint32(13)
        hashes *= _M
        hashes ^= hashes >> np.uint32(15)
    return hashes


def _mix(hashes: U32, word: U32) -> U32:
    mixed = word * _M
    mixed ^= mixed >> np.uint32(24)
    mixed *= _M
    return (hashes * _M) ^ mixed


def _fmix32(hashes: U32) -> U32:
    with np.errstate(over="ignore"):
        hashes = hashes ^ (hashes >> np.uint32(16))
        hashes *= np.uint32(0x85EBCA6B)
        hashes ^= hashes >> np.uint32(13)
        hashes *= np.uint32(0xC2B2AE35)
        hashes ^= hashes >> np.uint32(16)
    return hashes


def hash_column(column: pl.Series) -> U32:
    """Return the hash of every value's canonical bytes."""
    dtype = column.dtype
    if dtype.is_integer() or dtype.is_temporal() or dtype == pl.Boolean:
        return _hash_words(column, column.to_physical().cast(pl.Int64, strict=False).fill_null(0).to_numpy())
    if dtype.is_float():
        doubles = column.cast(pl.Float64).fill_null(0.0).to_numpy() + 0.0
        doubles[np.isnan(doubles)] = _NAN
        return _hash_words(column, doubles.view(np.int64))
    if dtype != pl.Binary:
        column = column.cast(pl.String).cast(pl.Binary)
    return murmur2(column.to_arrow(compat_level=pl.CompatLevel.oldest()))


def _hash_words(column: pl.Series, values: npt.NDArray[np.int64]) -> U32:
    """Hash 64-bit values as their eight bytes."""
    unsigned = values.view(np.uint64)
    with np.errstate(over="ignore"):
        hashes: U32 = np.full(len(values), _SEED ^ np.uint32(8))
        hashes = _mix(hashes, unsigned.astype(np.uint32))
        hashes = _mix(hashes, (unsigned >> np.uint64(32)).astype(np.uint32))
        hashes ^= hashes >> np.uint32(13)
        hashes *= _M
        hashes ^= hashes >> np.uint32(15)
    if column.null_count():
        hashes[column.is_null().to_numpy()] = 0
    return hashes


def key_groups(frame: pl.DataFrame, keys: tuple[str, ...], count: int) -> npt.NDArray[np.uint16]:
    """Return the key group (0 to `count` - 1) of every row of `frame`."""
    combined = np.zeros(frame.height, np.uint32)
    with np.errstate(over="ignore"):
        for key in keys:
            combined = _fmix32(combined * np.uint32(31) + hash_column(frame.get_column(key)))
    return (combined % np.uint32(count)).astype(np.uint16)
