"""Produces batches of outbox rows in order, without an object per record where librdkafka can be called directly.

numpy writes the argument structures of `rd_kafka_produceva` for a whole chunk of rows, and one C-level loop makes the
calls. (librdkafka's batch call would be quicker still, but it knows no timestamps, and inside a transaction it adds
partition -1 while the client has not heard of the topic yet, which makes the commit fail.) Rows with headers, and
clients that cannot be called directly, go through confluent-kafka's own call.

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
from .librdkafka import F_COPY, QUEUE_FULL, Vtype, chosen_edge, library, quick_library, unchecked

VU: Final = np.dtype(
    {"names": ["vtype", "first", "second"], "formats": ["<i4", "<u8", "<u8"], "offsets": [0, 8, 16], "itemsize": 72}
)
"""Layout of rd_kafka_vu_t, one argument of rd_kafka_produceva; `first` and `second` are the words of its union."""
CHUNK: Final = 2_000
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
        if self._native is None or "headers" in batch.schema.names:
            self._send_python(batch)
        else:
            self._send_native(batch)

    def _wait_for_room(self) -> None:
        now = time.monotonic()
        self._full_since = self._full_since or now
        if now - self._full_since > QUEUE_TIMEOUT_S:
            raise SinkUnavailableError(
                f"topic '{self._topic}': the client's queue was full for {QUEUE_TIMEOUT_S:.0f} s",
                hint="the broker takes no records at the moment; output waits in its outbox until it does",
            )
        self._producer.poll(QUEUE_WAIT_S)

    def _send_native(self, batch: pa.RecordBatch) -> None:
        keep: list[object] = []
        partitions = batch.column("partition").to_numpy(zero_copy_only=False)
        values, value_sizes = _addresses(batch.column("value"), keep)
        keys, key_sizes = _addresses(batch.column("key"), keep)
        stamps = np.zeros(batch.num_rows, np.int64)
        if "timestamp" in batch.schema.names:
            np.maximum(batch.column("timestamp").fill_null(0).to_numpy(zero_copy_only=False), 0, out=stamps)
        if self._calls is None:
            assert self._handle is not None
            assert self._native is not None
            self._calls = _Calls(self._handle, self._native)
        for row in range(0, batch.num_rows, CHUNK):
            part = slice(row, row + CHUNK)
            left = self._calls.prepare(
                partitions[part], values[part], value_sizes[part], keys[part], key_sizes[part], stamps[part]
            )
            while left:
                refused, rest = self._calls.make(left)
                if len(rest) < len(left):
                    self._full_since = None
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
    """The arguments of up to CHUNK calls of rd_kafka_produceva, written by numpy, and the calls themselves."""

    def __init__(self, handle: int, topic: int) -> None:
        self._arguments = np.zeros((CHUNK, len(_ARGUMENTS)), VU)
        for column, kind in enumerate(_ARGUMENTS):
            self._arguments["vtype"][:, column] = kind
        self._arguments["first"][:, 0] = topic
        self._arguments["first"][:, 4] = F_COPY
        # Arguments that are C objects already cost less than numbers that have to be made into such each time.
        base, step = self._arguments.ctypes.data, self._arguments.strides[0]
        self._places = [ctypes.c_void_p(base + row * step) for row in range(CHUNK)]
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
