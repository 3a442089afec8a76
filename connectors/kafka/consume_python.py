"""Consumes batches through confluent-kafka's own calls: slower, but it works wherever the wheel does."""

from __future__ import annotations

from typing import cast

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Message

from .batches import HEADERS, Event, RawBatch


class PythonConsumer:
    """A `BatchConsumer` over `Consumer.consume`."""

    def __init__(self, consumer: Consumer, *, keys: bool, timestamps: bool, headers: bool) -> None:
        self._consumer = consumer
        self._keys = keys
        self._timestamps = timestamps
        self._headers = headers
        self._index: dict[tuple[str, int], int] = {}

    def poll(self, rows_max: int, timeout_s: float) -> RawBatch:
        """Gather records until the batch is full or the time has passed."""
        messages = self._consumer.consume(rows_max, timeout_s)
        events = [_event(m) for m in messages if m.error() is not None]
        if events:
            messages = [m for m in messages if m.error() is None]
        place = [self._index.setdefault(_place(m), len(self._index)) for m in messages]
        return RawBatch(
            places=list(self._index),
            place=np.array(place, np.int32),
            offsets=np.array([m.offset() for m in messages], np.int64),
            values=pa.array([m.value() for m in messages], pa.large_binary()),
            keys=pa.array([m.key() for m in messages], pa.large_binary()) if self._keys else None,
            timestamps=np.array([m.timestamp()[1] for m in messages], np.int64) if self._timestamps else None,
            headers=pa.array([_headers(m) for m in messages], HEADERS) if self._headers else None,
            events=events,
        )

    def close(self) -> None:
        """Nothing of its own to release."""


def _event(message: Message) -> Event:
    error, partition, offset = message.error(), message.partition(), message.offset()
    assert error is not None
    return Event(
        message.topic() or "",
        -1 if partition is None else partition,
        error.code(),
        error.str(),
        -1 if offset is None else offset,
    )


def _place(message: Message) -> tuple[str, int]:
    topic, partition = message.topic(), message.partition()
    assert topic is not None
    assert partition is not None
    return topic, partition


def _headers(message: Message) -> list[dict[str, object]] | None:
    found = cast("list[tuple[str, bytes | None]] | None", message.headers())
    return None if found is None else [{"key": key, "value": value} for key, value in found]
