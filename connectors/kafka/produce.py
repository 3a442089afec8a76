"""Produces batches of outbox rows in order, without an object per record where librdkafka can be called directly.

Rows without timestamps go through its batch call. Rows with timestamps, which the batch call does not know, go through
`rd_kafka_produceva`: numpy writes the argument structures of a whole chunk, and one C-level loop makes the calls. Rows
with headers, and clients that cannot be called directly, go through confluent-kafka's own call.
"""

from __future__ import annotations

import time
from itertools import repeat
from operator import length_hint
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer

from ...engine.errors import SinkUnavailableError
from .librdkafka import F_COPY, F_PARTITION, PARTITION_UA, QUEUE_FULL, Vtype, library, quick_library

MESSAGE: Final = np.dtype(
    {
        "names": ["err", "topic", "partition", "payload", "len", "key", "key_len", "offset", "private"],
        "formats": ["<i4", "<u8", "<i4", "<u8", "<u8", "<u8", "<u8", "<i8", "<u8"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56, 64],
        "itemsize": 72,
    }
)
"""Layout of rd_kafka_message_t; part of librdkafka's public interface."""
VU: Final = np.dtype(
    {"names": ["vtype", "first", "second"], "formats": ["<i4", "<u8", "<u8"], "offsets": [0, 8, 16], "itemsize": 72}
)
"""Layout of rd_kafka_vu_t, one argument of rd_kafka_produceva; `first` and `second` are the words of its union."""
CHUNK: Final = 10_000
VA_CHUNK: Final = 2_000
"""Records per C-level loop: it holds the interpreter's lock, so it should last about a millisecond."""
QUEUE_WAIT_S: Final = 0.01
QUEUE_TIMEOUT_S: Final = 60.0
"""How long a full client queue may stay full: the broker takes nothing any more."""
_ARGUMENTS: Final = (Vtype.RKT, Vtype.PARTITION, Vtype.VALUE, Vtype.KEY, Vtype.MSGFLAGS, Vtype.TIMESTAMP)


class BatchProducer:
    """Sends outbox rows of one topic with one producer object."""

    def __init__(self, producer: Producer, handle: int | None, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._handle = handle
        self._lib = library() if handle is not None else None
        self._native = self._lib.rd_kafka_topic_new(handle, topic.encode(), None) if self._lib is not None else None
        self._full_since: float | None = None

    def close(self) -> None:
        """Release the topic handle; before the producer is destroyed."""
        if self._native and self._lib is not None:
            self._lib.rd_kafka_topic_destroy(self._native)
            self._native = None

    def send(self, batch: pa.RecordBatch) -> None:
        """Hand all rows to the client, in order. Raises `SinkUnavailableError` when its queue stays full."""
        names = batch.schema.names
        if self._native is None or "headers" in names:
            self._send_python(batch)
        elif "timestamp" in names:
            self._send_with_timestamps(batch)
        else:
            self._send_plain(batch)

    def _wait_for_room(self) -> None:
        now = time.monotonic()
        self._full_since = self._full_since or now
        if now - self._full_since > QUEUE_TIMEOUT_S:
            raise SinkUnavailableError(
                f"topic '{self._topic}': the client's queue stayed full for {QUEUE_TIMEOUT_S:.0f} s",
                hint="the broker takes no records at the moment",
            )
        self._producer.poll(QUEUE_WAIT_S)

    def _moved(self) -> None:
        self._full_since = None
        self._producer.poll(0)

    def _send_plain(self, batch: pa.RecordBatch) -> None:
        assert self._lib is not None
        keep: list[object] = []
        messages = np.zeros(batch.num_rows, MESSAGE)
        messages["partition"] = batch.column("partition").to_numpy(zero_copy_only=False)
        messages["payload"], messages["len"] = _addresses(batch.column("value"), keep)
        messages["key"], messages["key_len"] = _addresses(batch.column("key"), keep)
        base, row = messages.ctypes.data, 0
        while row < len(messages):
            count = min(CHUNK, len(messages) - row)
            place = base + row * MESSAGE.itemsize
            sent = self._lib.rd_kafka_produce_batch(self._native, PARTITION_UA, F_COPY | F_PARTITION, place, count)
            if sent == count:
                self._moved()
                row += count
                continue
            row += self._taken(messages["err"][row : row + count])
            self._wait_for_room()

    def _taken(self, errors: npt.NDArray[np.int32]) -> int:
        """Return how many records of a chunk were taken before the queue was full; reset the marks of the others."""
        rejected = np.flatnonzero(errors)
        other = set(errors[rejected].tolist()) - {QUEUE_FULL}
        if other:
            raise KafkaException(KafkaError(next(iter(other))))
        # Records of one partition have to keep their order. The client rejects everything once its queue is full, so
        # the rejected ones are the tail of the chunk; anything else would put records out of order.
        first = int(rejected[0])
        if len(rejected) != len(errors) - first:
            raise SinkUnavailableError(f"topic '{self._topic}': the client took records of a chunk out of order")
        errors[:] = 0
        return first

    def _send_with_timestamps(self, batch: pa.RecordBatch) -> None:
        keep: list[object] = []
        partitions = batch.column("partition").to_numpy(zero_copy_only=False)
        values, value_sizes = _addresses(batch.column("value"), keep)
        keys, key_sizes = _addresses(batch.column("key"), keep)
        stamps = np.maximum(batch.column("timestamp").fill_null(0).to_numpy(zero_copy_only=False), 0)
        arguments = np.zeros((min(VA_CHUNK, batch.num_rows), len(_ARGUMENTS)), VU)
        for column, kind in enumerate(_ARGUMENTS):
            arguments["vtype"][:, column] = kind
        arguments["first"][:, 0] = self._native
        arguments["first"][:, 4] = F_COPY
        places = (arguments.ctypes.data + np.arange(len(arguments)) * arguments.strides[0]).tolist()
        row = 0
        while row < batch.num_rows:
            part = slice(row, row + len(arguments))
            count = len(partitions[part])
            arguments["first"][:count, 1] = partitions[part]
            arguments["first"][:count, 2], arguments["second"][:count, 2] = values[part], value_sizes[part]
            arguments["first"][:count, 3], arguments["second"][:count, 3] = keys[part], key_sizes[part]
            arguments["first"][:count, 5] = stamps[part]
            self._send_each(places[:count])
            row += count

    def _send_each(self, places: list[int]) -> None:
        """Make one call per record; the loop stops at the first one that is refused."""
        send = quick_library().rd_kafka_produceva
        left = iter(places)
        while True:
            # A call returns None for success; `next` runs the loop in C up to the first refusal, and no further, so
            # that no later record overtakes the refused one.
            refused = next(filter(None, map(send, repeat(self._handle), left, repeat(len(_ARGUMENTS)))), None)
            if refused is None:
                self._moved()
                return
            again = places[len(places) - length_hint(left) - 1 :]
            self._refused(refused)
            left = iter(again)
            places = again

    def _refused(self, error: int) -> None:
        quick = quick_library()
        code = quick.rd_kafka_error_code(error)
        quick.rd_kafka_error_destroy(error)
        if code != QUEUE_FULL:
            raise KafkaException(KafkaError(code))
        self._wait_for_room()

    def _send_python(self, batch: pa.RecordBatch) -> None:
        rows = batch.num_rows
        columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        stamps = columns.get("timestamp", [0] * rows)
        headers = columns.get("headers", [None] * rows)
        produce, topic = self._producer.produce, self._topic
        everything = zip(columns["key"], columns["value"], columns["partition"], stamps, headers, strict=True)
        for number, (key, value, partition, stamp, header) in enumerate(everything):
            more = None if header is None else [(h["key"], h["value"]) for h in header]
            while True:
                try:
                    produce(topic, value, key, partition, None, None, max(stamp or 0, 0), more)
                except BufferError:
                    self._wait_for_room()
                else:
                    break
            if number % CHUNK == 0:
                self._moved()


def _addresses(column: pa.Array, keep: list[object]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Return address (0 = null) and length of every value; `keep` holds what the addresses point into."""
    if not pa.types.is_large_binary(column.type):
        column = column.cast(pa.large_binary())
    _, offset_buffer, data_buffer = column.buffers()
    count = len(column)
    offsets = np.frombuffer(offset_buffer, np.int64)[column.offset : column.offset + count + 1]
    base = data_buffer.address if data_buffer is not None and data_buffer.size else offset_buffer.address
    keep += [column, offset_buffer, data_buffer]
    addresses = offsets[:-1].astype(np.uint64) + np.uint64(base)
    lengths = np.diff(offsets).astype(np.uint64)
    if column.null_count:
        addresses[column.is_null().to_numpy(zero_copy_only=False)] = 0
    return addresses, lengths
