"""Produces batches of outbox rows through librdkafka's batch call where possible, else record by record.

The batch call knows neither timestamps nor headers, so rows that need them go through confluent-kafka's own call.
"""

from __future__ import annotations

import time
from typing import Final

import numpy as np
import pyarrow as pa
from confluent_kafka import KafkaException, Producer

from ...engine.errors import SinkUnavailableError
from .librdkafka import F_COPY, F_PARTITION, MESSAGE, PARTITION_UA, QUEUE_FULL, library

CHUNK: Final = 10_000
QUEUE_WAIT_S: Final = 0.01
QUEUE_TIMEOUT_S: Final = 60.0
"""How long a full client queue may stay full: the broker takes nothing any more."""


class BatchProducer:
    """Sends outbox rows of one topic with one producer object."""

    def __init__(self, producer: Producer, handle: int | None, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._lib = library() if handle is not None else None
        self._native = self._lib.rd_kafka_topic_new(handle, topic.encode(), None) if self._lib is not None else None

    def close(self) -> None:
        """Release the topic handle; before the producer is destroyed."""
        if self._native and self._lib is not None:
            self._lib.rd_kafka_topic_destroy(self._native)
            self._native = None

    def send(self, batch: pa.RecordBatch) -> None:
        """Hand all rows to the client, in order. Raises `SinkUnavailableError` when its queue stays full."""
        plain = "timestamp" not in batch.schema.names and "headers" not in batch.schema.names
        if self._native and plain:
            self._send_native(batch)
        else:
            self._send_python(batch)

    def _send_native(self, batch: pa.RecordBatch) -> None:
        keep: list[object] = []
        messages = np.zeros(batch.num_rows, MESSAGE)
        messages["partition"] = batch.column("partition").to_numpy(zero_copy_only=False)
        for column, place, size in (("value", "payload", "len"), ("key", "key", "key_len")):
            addresses, lengths = _addresses(batch.column(column), keep)
            messages[place], messages[size] = addresses, lengths
        base, row = messages.ctypes.data, 0
        deadline = time.monotonic() + QUEUE_TIMEOUT_S
        while row < len(messages):
            count = min(CHUNK, len(messages) - row)
            sent = self._lib.rd_kafka_produce_batch(  # type: ignore[union-attr]
                self._native, PARTITION_UA, F_COPY | F_PARTITION, base + row * MESSAGE.itemsize, count
            )
            if sent == count:
                row += count
                self._producer.poll(0)
                continue
            row = self._rest(messages, row, count, deadline)

    def _rest(self, messages: np.ndarray, row: int, count: int, deadline: float) -> int:
        """After a chunk was taken in part: the rejected ones are marked, not necessarily at the end; send them again."""
        errors = messages["err"][row : row + count]
        rejected = np.flatnonzero(errors)
        codes = set(errors[rejected].tolist())
        if codes - {QUEUE_FULL}:
            raise KafkaException(_error(next(iter(codes - {QUEUE_FULL}))))
        # Records of one partition have to keep their order, so nothing may follow the first rejected one; the client
        # rejects everything once its queue is full, which makes the rejected ones the tail of the chunk.
        first = int(rejected[0])
        if len(rejected) != count - first:
            raise SinkUnavailableError("the client took records of a chunk out of order when its queue was full")
        if time.monotonic() > deadline:
            raise SinkUnavailableError(
                f"topic '{self._topic}': the client's queue stayed full for {QUEUE_TIMEOUT_S:.0f} s",
                hint="the broker takes no records at the moment",
            )
        messages["err"][row : row + count] = 0
        self._producer.poll(QUEUE_WAIT_S)
        return row + first

    def _send_python(self, batch: pa.RecordBatch) -> None:
        names = batch.schema.names
        keys, values = batch.column("key").to_pylist(), batch.column("value").to_pylist()
        partitions = batch.column("partition").to_pylist()
        stamps = batch.column("timestamp").to_pylist() if "timestamp" in names else [0] * len(keys)
        headers = batch.column("headers").to_pylist() if "headers" in names else [None] * len(keys)
        produce, topic = self._producer.produce, self._topic
        deadline = time.monotonic() + QUEUE_TIMEOUT_S
        for number, (key, value, partition, stamp, header) in enumerate(
            zip(keys, values, partitions, stamps, headers, strict=True)
        ):
            more = {} if header is None else {"headers": [(h["key"], h["value"]) for h in header]}
            while True:
                try:
                    produce(topic, value, key, partition, timestamp=max(stamp or 0, 0), **more)
                    break
                except BufferError:
                    if time.monotonic() > deadline:
                        raise SinkUnavailableError(
                            f"topic '{topic}': the client's queue stayed full for {QUEUE_TIMEOUT_S:.0f} s"
                        ) from None
                    self._producer.poll(QUEUE_WAIT_S)
            if number % CHUNK == 0:
                self._producer.poll(0)


def _addresses(column: pa.Array, keep: list[object]) -> tuple[np.ndarray, np.ndarray]:
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


def _error(code: int) -> object:
    from confluent_kafka import KafkaError  # noqa: PLC0415 (only for a rare failure)

    return KafkaError(code)
