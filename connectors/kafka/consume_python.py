"""Consumes batches through confluent-kafka's own calls: slower, but it works wherever the wheel does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, Message

from .batches import Event, RawBatch

HEADERS = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


class PythonConsumer:
    """A `BatchConsumer` over `Consumer.consume`."""

    def __init__(self, consumer: Consumer, *, keys: bool, timestamps: bool, headers: bool) -> None:
        self._consumer = consumer
        self._keys = keys
        self._timestamps = timestamps
        self._headers = headers
        self._index: dict[tuple[str, int], int] = {}

    def poll(self, rows_max: int, timeout_s: float) -> RawBatch:
        """Wait for the first record, then take what is there."""
        messages = self._consumer.consume(rows_max, timeout_s)
        events = [_event(m) for m in messages if m.error() is not None]
        if events:
            messages = [m for m in messages if m.error() is None]
        place = [self._place(m) for m in messages]
        return RawBatch(
            places=list(self._index),
            place=np.array(place, np.int32),
            offsets=np.array([m.offset() for m in messages], np.int64),
            values=pa.array([m.value() for m in messages], pa.binary()),
            keys=pa.array([m.key() for m in messages], pa.binary()) if self._keys else None,
            timestamps=np.array([m.timestamp()[1] for m in messages], np.int64) if self._timestamps else None,
            headers=pa.array([_headers(m) for m in messages], HEADERS) if self._headers else None,
            events=events,
        )

    def _place(self, message: Message) -> int:
        where = (message.topic() or "", _number(message.partition()))
        return self._index.setdefault(where, len(self._index))

    def close(self) -> None:
        """Nothing of its own to release."""


def _event(message: Message) -> Event:
    error = message.error()
    assert error is not None
    place = (message.topic() or "", _number(message.partition()))
    return Event(*place, error.code(), error.str(), _number(message.offset()))


def _number(value: int | None) -> int:
    return -1 if value is None else value


def _headers(message: Message) -> list[dict[str, object]] | None:
    found = message.headers()
    return None if found is None else [{"key": pair[0], "value": pair[1]} for pair in found]
