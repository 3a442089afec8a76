"""The process's memory as arrays: numpy gathers from many addresses in one call, and Arrow copies values out of it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

U64 = npt.NDArray[np.uint64]

BASE: Final = 4096
"""The first page is never mapped, and an array cannot begin at address 0."""
ADDRESSES: Final = 1 << 47
REGION_BITS: Final = 30
REGION: Final = 1 << REGION_BITS
"""Values are addressed in stretches of this size, one Arrow buffer each: a view has 32 bits for its offset."""
INLINE_MAX: Final = 12
"""Up to this length a value stands in the view itself."""
WORD: Final = np.uint64(7)


class _Memory:
    """All addresses, as items of a dtype that begin at every eighth byte."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.__array_interface__ = {
            "data": (BASE, True),
            "shape": ((ADDRESSES - BASE - dtype.itemsize) // 8,),
            "strides": (8,),
            "typestr": dtype.str,
            "version": 3,
        }


@lru_cache(maxsize=8)
def _memory(dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    plain = np.dtype(f"V{dtype.itemsize}") if dtype.names else dtype
    return np.asarray(_Memory(plain)).view(dtype)


def structures(addresses: U64, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return copies of the structures at these addresses, all of which have to be mapped and multiples of 8."""
    found: npt.NDArray[Any] = _memory(dtype)[(addresses.view(np.int64) - BASE) >> 3]
    return found


def words(addresses: U64) -> U64:
    """Return the 8-byte words in which these addresses lie, of which at least that byte has to be mapped."""
    return structures(addresses, np.dtype("<u8"))


def binary(addresses: U64, lengths: U64) -> pa.Array:
    """Copy values at addresses (0 = null) into one large binary array, without an object per value."""
    count = len(addresses)
    if not count:
        return pa.array([], pa.large_binary())
    valid = addresses != 0
    bitmap = None
    if not valid.all():
        if not valid.any():
            return pa.nulls(count, pa.large_binary())
        bitmap = pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
        addresses = np.where(valid, addresses, addresses.max())
        lengths = np.where(valid, lengths, 0)
    regions, which = _regions(addresses)
    views = np.empty((count, 4), np.uint32)
    views[:, 0] = lengths
    views[:, 1] = 0  # The first four bytes, which nobody compares before the copy.
    views[:, 2] = which
    views[:, 3] = addresses & np.uint64(REGION - 1)
    short = lengths <= INLINE_MAX
    if short.any():
        _inline(views, np.flatnonzero(short), addresses, lengths)
    longest = int(lengths.max())
    buffers = [pa.foreign_buffer(int(region) * REGION, REGION + longest) for region in regions]
    viewed = pa.Array.from_buffers(pa.binary_view(), count, [bitmap, pa.py_buffer(views), *buffers])
    return pc.cast(viewed, pa.large_binary())


def _regions(addresses: U64) -> tuple[U64, npt.NDArray[np.uint32] | int]:
    """Return the stretches of memory in which the values begin, and the index of each value's own."""
    numbers = addresses >> np.uint64(REGION_BITS)
    if numbers.min() == numbers.max():
        return numbers[:1], 0
    regions, which = np.unique(numbers, return_inverse=True)
    return regions, which.astype(np.uint32)


def _inline(views: npt.NDArray[np.uint32], rows: npt.NDArray[np.int64], addresses: U64, lengths: U64) -> None:
    """Put short values into their views: twelve bytes out of the up to three aligned words that hold them."""
    whole = len(rows) == len(views)
    address, length = (addresses, lengths) if whole else (addresses[rows], lengths[rows])
    # An empty value may lie where nothing is mapped.
    address = np.where(length > 0, address, np.uint64(views.ctypes.data))
    first = address & ~WORD
    # Neither may the word behind a value's last byte be mapped: the last word stands for it, and is masked out.
    last = (address + np.maximum(length, np.uint64(1)) - np.uint64(1)) & ~WORD
    shift = (address & WORD) << np.uint64(3)
    back = np.uint64(63) - shift
    one, two, three = (words(np.minimum(first + np.uint64(8 * n), last)) for n in range(3))
    low_mask = _MASKS[np.minimum(length, np.uint64(8)).astype(np.intp)]
    high_mask = _MASKS[np.maximum(length, np.uint64(8)).astype(np.intp) - 8]
    low = ((one >> shift) | ((two << np.uint64(1)) << back)) & low_mask
    high = ((two >> shift) | ((three << np.uint64(1)) << back)) & high_mask
    at = slice(None) if whole else rows
    views[at, 1] = low & np.uint64(0xFFFFFFFF)
    views[at, 2] = low >> np.uint64(32)
    views[at, 3] = high & np.uint64(0xFFFFFFFF)


_MASKS: Final = np.array([(1 << (8 * size)) - 1 for size in range(9)], np.uint64)
"""Word with the first n bytes set, by n."""
