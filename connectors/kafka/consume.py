"""Picks the module that consumes: straight through librdkafka where that works, else through confluent-kafka."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Consumer

from ...engine.errors import JobInvalidError
from .batches import BatchConsumer
from .callbacks import callbacks_of
from .consume_native import NativeConsumer
from .consume_python import PythonConsumer
from .librdkafka import EDGE, available, chosen_edge, handle_of


def open_batches(
    consumer: Consumer,
    settings: Mapping[str, object],
    *,
    rows_max: int,
    keys: bool,
    timestamps: bool,
    headers: bool,
) -> BatchConsumer:
    """Return a batch consumer over a client that was made with these settings, a `client.id` of its own among them.

    `rows_max` bounds the records of one batch. Raises `JobInvalidError`
    when the environment insists on the native module where it does not work.
    """
    edge = chosen_edge()
    if edge != "python":
        handle = handle_of(consumer, str(settings.get("client.id", "")))
        callbacks = None if handle is None else callbacks_of(consumer, handle, settings)
        if handle is not None and callbacks is not None:
            return NativeConsumer(handle, callbacks, rows_max, keys=keys, timestamps=timestamps, headers=headers)
        if edge == "native":
            raise JobInvalidError(
                f"{EDGE} is 'native', but librdkafka cannot be called directly: "
                f"{available()[1] or 'the client could not be recognised'}",
                hint=f"unset {EDGE}",
            )
    return PythonConsumer(consumer, keys=keys, timestamps=timestamps, headers=headers)
