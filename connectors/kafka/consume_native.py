"""Consumes batches through librdkafka's batch call, straight into Arrow buffers without an object per record.

The batch call gives an array of message pointers. One gather copies the message structures, keys and values become
Arrow binary views over the memory in which librdkafka received them, one cast copies all of them out, and one call
gives the messages back. Headers are the exception: librdkafka hands them out one by one.

The client's callbacks run inside the batch call (see `callbacks`).
"""

from __future__ import annotations

import ctypes
from collections import deque
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .batches import HEADERS, Event, RawBatch
from .callbacks import Callbacks
from .librdkafka import library, quick_library, text_of_code
from .memory import U64, binary, structures

MESSAGE: Final = np.dtype(
    {
        "names": ["err", "topic", "partition", "payload", "len", "key", "key_len", "offset", "private", "timestamp"],
        "formats": ["<i4", "<u8", "<i4", "<u8", "<u8", "<u8", "<u8", "<i8", "<u8", "<i8"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56, 64, 96],
        "itemsize": 104,
    }
)
"""rd_kafka_message_t, which is public, and the timestamp behind it, which is not and is checked in every batch."""
NO_TIMESTAMP: Final = -1
CHECKED: Final = 8
"""Messages per batch, spread over it, whose timestamps are compared with what librdkafka's own call says."""


class NativeConsumer:
    """A `BatchConsumer` over rd_kafka_consume_batch_queue."""

    def __init__(
        self, handle: int, callbacks: Callbacks, rows_max: int, *, keys: bool, timestamps: bool, headers: bool
    ) -> None:
        self._callbacks = callbacks
        self._lib = library()
        self._quick = quick_library()
        self._queue = self._lib.rd_kafka_queue_get_consumer(handle)
        self._pointers = np.zeros(rows_max, np.uint64)
        self._keys = keys
        self._timestamps = timestamps
        self._headers = headers
        self._topics: dict[int, str] = {}
        self._index: dict[tuple[str, int], int] = {}
        self._give_back = _bulk_destroy() or self._give_back_each
        self._known_layout = True

    def poll(self, rows_max: int, timeout_s: float) -> RawBatch:
        """Gather records until the batch is full or the time has passed."""
        count = 0
        try:
            with self._callbacks.allowed():
                count = self._lib.rd_kafka_consume_batch_queue(
                    self._queue, int(timeout_s * 1000), self._pointers.ctypes.data, min(rows_max, len(self._pointers))
                )
            return self._batch(self._pointers[: max(count, 0)])
        finally:
            if count > 0:
                self._give_back(self._pointers[:count])

    def _batch(self, pointers: U64) -> RawBatch:
        messages = structures(pointers, MESSAGE)
        events: list[Event] = []
        bad = messages["err"] != 0
        if bad.any():
            events = [self._event(message) for message in messages[bad]]
            messages, pointers = messages[~bad], pointers[~bad]
        return RawBatch(
            place=self._place_of_each(messages),
            places=list(self._index),
            offsets=messages["offset"].copy(),
            values=binary(messages["payload"], messages["len"]),
            keys=binary(messages["key"], messages["key_len"]) if self._keys else None,
            timestamps=self._times(messages, pointers) if self._timestamps else None,
            headers=self._headers_of(pointers) if self._headers else None,
            events=events,
        )

    def _place_of_each(self, messages: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        if not len(messages):
            return np.zeros(0, np.int32)
        # Batches hold few partitions in long stretches: look only at where one ends and the next begins.
        topics, partitions = messages["topic"], messages["partition"]
        starts = np.flatnonzero((topics[1:] != topics[:-1]) | (partitions[1:] != partitions[:-1])) + 1
        starts = np.concatenate([[0], starts])
        found = [self._place(int(topics[start]), int(partitions[start])) for start in starts]
        return np.repeat(np.array(found, np.int32), np.diff(starts, append=len(messages)))

    def _place(self, topic: int, partition: int) -> int:
        return self._index.setdefault((self._topic(topic), partition), len(self._index))

    def _topic(self, address: int) -> str:
        # A consumer keeps the topics of its partitions until it is closed, so an address means one topic for good.
        name = self._topics.get(address)
        if name is None:
            name = self._topics[address] = self._lib.rd_kafka_topic_name(address).decode()
        return name

    def _times(self, messages: npt.NDArray[Any], pointers: U64) -> npt.NDArray[np.int64]:
        times: npt.NDArray[np.int64] = messages["timestamp"].copy()
        checked = np.unique(np.linspace(0, len(times) - 1, min(CHECKED, len(times))).astype(np.intp))
        if self._known_layout and times[checked].tolist() == self._ask_times(pointers[checked]):
            return times
        self._known_layout = False
        return np.array(self._ask_times(pointers), np.int64)

    def _ask_times(self, pointers: U64) -> list[int]:
        kind = ctypes.c_int()
        reference = ctypes.addressof(kind)
        ask = self._quick.rd_kafka_message_timestamp
        return [ask(pointer, reference) for pointer in pointers.tolist()]

    def _headers_of(self, pointers: U64) -> pa.Array:
        ask, get = self._quick.rd_kafka_message_headers, self._quick.rd_kafka_header_get_all
        found, name, value, size = (ctypes.c_void_p() for _ in range(4))
        at_found, at_name, at_value, at_size = (ctypes.addressof(out) for out in (found, name, value, size))
        rows: list[list[dict[str, object]] | None] = []
        for pointer in pointers.tolist():
            if ask(pointer, at_found):
                rows.append(None)
                continue
            headers: list[dict[str, object]] = []
            while not get(found.value, len(headers), at_name, at_value, at_size):
                content = None if value.value is None else ctypes.string_at(value.value, size.value or 0)
                text = ctypes.string_at(name.value or 0).decode(errors="replace")
                headers.append({"key": text, "value": content})
            rows.append(headers)
        return pa.array(rows, HEADERS)

    def _event(self, message: npt.NDArray[Any]) -> Event:
        code, payload, topic = int(message["err"]), int(message["payload"]), int(message["topic"])
        text = ctypes.string_at(payload, int(message["len"])).decode(errors="replace") if payload else ""
        return Event(
            self._topic(topic) if topic else "",
            int(message["partition"]),
            code,
            text.rstrip("\0") or text_of_code(code),
            int(message["offset"]),
        )

    def _give_back_each(self, pointers: U64) -> None:
        deque(map(self._quick.rd_kafka_message_destroy, pointers.tolist()), maxlen=0)

    def close(self) -> None:
        """Give the queue back, before the consumer is closed."""
        if self._queue:
            self._lib.rd_kafka_queue_destroy(self._queue)
            self._queue = None


class _BulkDestroy:
    """Gives many messages back in one call: as an rd_kafka_messages_t that we make ourselves.

    That is a count and the pointers behind it, in memory from malloc. The structure is not public, but two public
    functions read it; only if they find in ours what we wrote there, it is one.
    """

    def __init__(self, malloc: Any, free: Any) -> None:
        self._malloc = malloc
        self._free = free
        self._lib = library()

    def block(self, pointers: U64) -> int:
        address: int = self._malloc(8 + pointers.nbytes) or 0
        if not address:
            raise MemoryError
        ctypes.c_size_t.from_address(address).value = len(pointers)
        ctypes.memmove(address + 8, pointers.ctypes.data, pointers.nbytes)
        return address

    def is_right(self) -> bool:
        """Look at a block of numbers that are no pointers, and free it again without giving anything back."""
        numbers = np.arange(1, 6, dtype=np.uint64) * np.uint64(8)
        address = self.block(numbers)
        try:
            seen = [self._lib.rd_kafka_messages_get(address, position) for position in range(len(numbers))]
            counted: int = self._lib.rd_kafka_messages_count(address)
            return counted == len(numbers) and seen == numbers.tolist()
        finally:
            self._free(address)

    def __call__(self, pointers: U64) -> None:
        self._lib.rd_kafka_messages_destroy(self.block(pointers))


def _bulk_destroy() -> _BulkDestroy | None:
    process = ctypes.CDLL(None)
    process.malloc.restype, process.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    process.free.restype, process.free.argtypes = None, [ctypes.c_void_p]
    bulk = _BulkDestroy(process.malloc, process.free)
    return bulk if bulk.is_right() else None
