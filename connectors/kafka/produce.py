"""Produces batches of outbox rows in order, without an object per record where librdkafka can be called directly.

Rows without timestamps go through its batch call. Rows with timestamps, which the batch call does not know, go through
`rd_kafka_produceva`: numpy writes the argument structures of a whole chunk, and one C-level loop makes the calls. Rows
with headers, and clients that cannot be called directly, go through confluent-kafka's own call.

Rows that went through librdkafka directly have no delivery report. Inside a transaction none is needed: a record that
was not delivered makes the commit fail. Everybody else has to give no handle and to count the reports.
"""

from __future__ import annotations

import ctypes
import time
from functools import lru_cache
from itertools import repeat
from operator import length_hint
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer

from ...engine.errors import SinkUnavailableError
from .librdkafka import (
    F_COPY,
    F_PARTITION,
    PARTITION_UA,
    QUEUE_FULL,
    Vtype,
    chosen_edge,
    library,
    quick_library,
    unchecked,
)

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
"""How long a full client queue may take nothing: the broker takes nothing any more."""
_ARGUMENTS: Final = (Vtype.RKT, Vtype.PARTITION, Vtype.VALUE, Vtype.KEY, Vtype.MSGFLAGS, Vtype.TIMESTAMP)
U64 = npt.NDArray[np.uint64]


class BatchProducer:
    """Sends outbox rows of one topic with one producer object. Used by one thread.

    Columns of a batch: `key` and `value` (binary, null = none), `partition` (Int32), and where wanted `timestamp`
    (Int64 ms; null, zero or less = the time of sending) and `headers` (list of struct of key and value). `handle` is
    the client's, or None to have a delivery report for every row.
    """

    def __init__(self, producer: Producer, handle: int | None, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._handle = handle if chosen_edge() != "python" else None
        self._native: int | None = None
        if self._handle is not None:
            self._native = library().rd_kafka_topic_new(self._handle, topic.encode(), None)
        self._calls: _Calls | None = None
        self._full_since: float | None = None

    def close(self) -> None:
        """Release the topic handle, before the producer is destroyed. May be called twice."""
        if self._native:
            library().rd_kafka_topic_destroy(self._native)
            self._native = None

    def send(self, batch: pa.RecordBatch) -> None:
        """Hand all rows to the client, in order.

        Raises `SinkUnavailableError` when the client's queue stays full, and `KafkaException` for a row that the client
        refuses; rows before it have been taken then.
        """
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
                f"topic '{self._topic}': the client's queue was full for {QUEUE_TIMEOUT_S:.0f} s",
                hint="the broker takes no records at the moment; output waits in its outbox until it does",
            )
        self._producer.poll(QUEUE_WAIT_S)

    def _moved(self) -> None:
        self._full_since = None

    def _send_plain(self, batch: pa.RecordBatch) -> None:
        keep: list[object] = []
        messages = np.zeros(batch.num_rows, MESSAGE)
        messages["partition"] = batch.column("partition").to_numpy(zero_copy_only=False)
        messages["payload"], messages["len"] = _addresses(batch.column("value"), keep)
        messages["key"], messages["key_len"] = _addresses(batch.column("key"), keep)
        row = 0
        while row < len(messages):
            chunk = messages[row : row + CHUNK]
            sent = library().rd_kafka_produce_batch(
                self._native, PARTITION_UA, F_COPY | F_PARTITION, chunk.ctypes.data, len(chunk)
            )
            taken = len(chunk) if sent == len(chunk) else self._taken(chunk["err"])
            row += taken
            if taken:
                self._moved()
            if taken == len(chunk):
                self._producer.poll(0)
            else:
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
            raise SinkUnavailableError(
                f"topic '{self._topic}': the client took records of a batch out of order",
                hint="they are sent again in order by the next try",
            )
        errors[:] = 0
        return first

    def _send_with_timestamps(self, batch: pa.RecordBatch) -> None:
        keep: list[object] = []
        partitions = batch.column("partition").to_numpy(zero_copy_only=False)
        values, value_sizes = _addresses(batch.column("value"), keep)
        keys, key_sizes = _addresses(batch.column("key"), keep)
        stamps = np.maximum(batch.column("timestamp").fill_null(0).to_numpy(zero_copy_only=False), 0)
        if self._calls is None:
            assert self._handle is not None
            assert self._native is not None
            self._calls = _Calls(self._handle, self._native)
        for row in range(0, batch.num_rows, VA_CHUNK):
            part = slice(row, row + VA_CHUNK)
            left = self._calls.prepare(
                partitions[part], values[part], value_sizes[part], keys[part], key_sizes[part], stamps[part]
            )
            while left:
                refused, rest = self._calls.make(left)
                if len(rest) < len(left):
                    self._moved()
                left = rest
                if refused is not None:
                    self._refused(refused)
            self._producer.poll(0)

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
            more: dict[str, Any] = {} if header is None else {"headers": [(h["key"], h["value"]) for h in header]}
            while True:
                try:
                    produce(topic, value, key, partition, timestamp=max(stamp or 0, 0), **more)
                except BufferError:
                    self._wait_for_room()
                else:
                    self._full_since = None
                    break
            if number % CHUNK == 0:
                self._producer.poll(0)


class _Calls:
    """The arguments of up to VA_CHUNK calls of rd_kafka_produceva, written by numpy, and the calls themselves."""

    def __init__(self, handle: int, topic: int) -> None:
        self._arguments = np.zeros((VA_CHUNK, len(_ARGUMENTS)), VU)
        for column, kind in enumerate(_ARGUMENTS):
            self._arguments["vtype"][:, column] = kind
        self._arguments["first"][:, 0] = topic
        self._arguments["first"][:, 4] = F_COPY
        # Arguments that are C objects already cost less than numbers that have to be made into such each time.
        base, step = self._arguments.ctypes.data, self._arguments.strides[0]
        self._places = [ctypes.c_void_p(base + row * step) for row in range(VA_CHUNK)]
        self._handle = ctypes.c_void_p(handle)
        self._count = ctypes.c_size_t(len(_ARGUMENTS))
        self._send = _produceva()

    def prepare(
        self,
        partitions: npt.NDArray[Any],
        values: U64,
        value_sizes: U64,
        keys: U64,
        key_sizes: U64,
        stamps: npt.NDArray[Any],
    ) -> list[ctypes.c_void_p]:
        """Write the arguments of one call per row; return where they stand."""
        rows = len(values)
        first, second = self._arguments["first"], self._arguments["second"]
        first[:rows, 1] = partitions
        first[:rows, 2], second[:rows, 2] = values, value_sizes
        first[:rows, 3], second[:rows, 3] = keys, key_sizes
        first[:rows, 5] = stamps
        return self._places[:rows]

    def make(self, places: list[ctypes.c_void_p]) -> tuple[int | None, list[ctypes.c_void_p]]:
        """Make one call per place up to the first that is refused; return its error and what is left, itself first."""
        left = iter(places)
        # A call returns None for success; `next` runs the loop in C up to the first refusal, and no further, so that no
        # later record overtakes the refused one.
        refused = next(filter(None, map(self._send, repeat(self._handle), left, repeat(self._count))), None)
        return (None, []) if refused is None else (refused, places[len(places) - length_hint(left) - 1 :])


@lru_cache(maxsize=1)
def _produceva() -> Any:
    return unchecked("rd_kafka_produceva", ctypes.c_void_p)


def _addresses(column: pa.Array, keep: list[object]) -> tuple[U64, U64]:
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
