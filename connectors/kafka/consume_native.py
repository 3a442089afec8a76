"""Consumes batches through librdkafka's batch call, straight into Arrow buffers without an object per record.

The batch call gives an array of message pointers; their fields are gathered by numpy, and keys and values become Arrow
binary views over the memory in which librdkafka received them. One cast copies all of them out; then the messages are
given back. What belongs to no record (errors, ends of partitions) is built one by one, because it is rare.
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .batches import Event, RawBatch
from .librdkafka import gather, library, quick_library

REGION_BITS: Final = 30
REGION: Final = 1 << REGION_BITS
"""Memory is cut into stretches of this size, one buffer each, because an Arrow view has 32 bits for its offset."""
INLINE_MAX: Final = 12
U64 = npt.NDArray[np.uint64]


class NativeConsumer:
    """A `BatchConsumer` over rd_kafka_consume_batch_queue."""

    def __init__(self, handle: int, rows_max: int, *, keys: bool, timestamps: bool) -> None:
        lib = library()
        if lib is None:
            raise RuntimeError("librdkafka cannot be used directly here")
        self._lib = lib
        self._quick = quick_library()
        self._queue = lib.rd_kafka_queue_get_consumer(handle)
        self._pointers = np.zeros(rows_max, np.uint64)
        self._keys = keys
        self._timestamps = timestamps
        self._topics: dict[int, str] = {}
        self._index: dict[tuple[str, int], int] = {}

    def poll(self, rows_max: int, timeout_s: float) -> RawBatch:
        """Wait for the batch to fill or the time to pass; the client's own queue decides how much is there."""
        wanted = min(rows_max, len(self._pointers))
        count = self._lib.rd_kafka_consume_batch_queue(
            self._queue, int(timeout_s * 1000), self._pointers.ctypes.data, wanted
        )
        pointers = self._pointers[: max(count, 0)].copy()
        try:
            return self._batch(pointers)
        finally:
            deque(map(self._quick.rd_kafka_message_destroy, pointers.tolist()), maxlen=0)

    def _batch(self, pointers: U64) -> RawBatch:
        errors = gather(pointers, 0).astype(np.uint32).view(np.int32) if len(pointers) else np.zeros(0, np.int32)
        bad = errors != 0
        events = [self._event(int(pointer)) for pointer in pointers[bad]]
        good = pointers[~bad] if events else pointers
        if not len(good):
            empty = pa.array([], pa.large_binary())
            times = np.zeros(0, np.int64) if self._timestamps else None
            return RawBatch(
                list(self._index), np.zeros(0, np.int32), np.zeros(0, np.int64), empty,
                empty if self._keys else None, times, None, events,
            )  # fmt: skip
        place = self._places(gather(good, 8), gather(good, 16).astype(np.uint32).view(np.int32))
        return RawBatch(
            places=list(self._index),
            place=place,
            offsets=gather(good, 56).view(np.int64),
            values=_binary(gather(good, 24), gather(good, 32)),
            keys=_binary(gather(good, 40), gather(good, 48)) if self._keys else None,
            timestamps=self._times(good) if self._timestamps else None,
            events=events,
        )

    def _places(self, topics: U64, partitions: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        # Batches hold few partitions in long stretches: look only at where one ends and the next begins.
        edges = np.flatnonzero((np.diff(topics) != 0) | (np.diff(partitions) != 0)) + 1
        starts = np.concatenate([[0], edges])
        lengths = np.diff(np.concatenate([starts, [len(topics)]]))
        found = [self._place(int(topics[start]), int(partitions[start])) for start in starts]
        return np.repeat(np.array(found, np.int32), lengths)

    def _place(self, topic: int, partition: int) -> int:
        name = self._topics.get(topic)
        if name is None:
            name = self._topics[topic] = self._lib.rd_kafka_topic_name(topic).decode()
        return self._index.setdefault((name, partition), len(self._index))

    def _times(self, pointers: U64) -> npt.NDArray[np.int64]:
        kind = ctypes.c_int()
        reference = ctypes.addressof(kind)
        ask = self._quick.rd_kafka_message_timestamp
        return np.fromiter((ask(pointer, reference) for pointer in pointers.tolist()), np.int64, len(pointers))

    def _event(self, pointer: int) -> Event:
        address = np.array([pointer], np.uint64)
        code = int(gather(address, 0).astype(np.uint32).view(np.int32)[0])
        topic = int(gather(address, 8)[0])
        partition = int(gather(address, 16).astype(np.uint32).view(np.int32)[0])
        payload, size = int(gather(address, 24)[0]), int(gather(address, 32)[0])
        text = ctypes.string_at(payload, size).decode(errors="replace") if payload else ""
        name = self._lib.rd_kafka_topic_name(topic).decode() if topic else ""
        return Event(name, partition, code, text, int(gather(address, 56).view(np.int64)[0]))

    def close(self) -> None:
        """Give the queue back."""
        if self._queue:
            self._lib.rd_kafka_queue_destroy(self._queue)
            self._queue = None


def _binary(addresses: U64, lengths: U64) -> pa.Array:
    """Copy values at addresses (0 = null) into one large binary array."""
    count = len(addresses)
    valid = addresses != 0
    all_valid = bool(valid.all())
    starts = addresses if all_valid else np.where(valid, addresses, addresses.max(initial=0))
    sizes = lengths.astype(np.int64) if all_valid else np.where(valid, lengths.astype(np.int64), 0)
    views = np.zeros((count, 4), np.int32)
    views[:, 0] = sizes
    # Values of up to 12 bytes stand in the view itself; longer ones have a prefix of 4 bytes, which nobody compares
    # before the copy, and their place: a buffer and an offset in it.
    regions, which = _regions(starts)
    views[:, 2] = which
    views[:, 3] = (starts & np.uint64(REGION - 1)).astype(np.int32)
    short = np.flatnonzero(sizes <= INLINE_MAX)
    if len(short):
        _inline(views, short, starts, sizes)
    bitmap = None if all_valid else pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    longest = int(sizes.max(initial=1))
    buffers = [pa.foreign_buffer(int(region) * REGION, REGION + longest) for region in regions]
    viewed = pa.Array.from_buffers(pa.binary_view(), count, [bitmap, pa.py_buffer(views), *buffers])
    return pc.cast(viewed, pa.large_binary())


def _regions(starts: U64) -> tuple[U64, npt.NDArray[np.int32] | int]:
    """Return the aligned stretches of memory in which the values begin, and the index of each value's own."""
    numbers = starts >> np.uint64(REGION_BITS)
    if numbers.min() == numbers.max():
        return numbers[:1], 0
    regions, which = np.unique(numbers, return_inverse=True)
    return regions, which.astype(np.int32)


def _inline(
    views: npt.NDArray[np.int32], short: npt.NDArray[np.int64], starts: U64, sizes: npt.NDArray[np.int64]
) -> None:
    """Put short values into their views, byte position by byte position."""
    raw = views.view(np.uint8).reshape(len(views), 16)
    raw[short, 4:] = 0
    for position in range(INLINE_MAX):
        reach = short[sizes[short] > position]
        if not len(reach):
            return
        address = starts[reach] + np.uint64(position)
        word = gather(address & ~np.uint64(7), 0)
        raw[reach, 4 + position] = (word >> ((address & np.uint64(7)) * np.uint64(8))).astype(np.uint8)
