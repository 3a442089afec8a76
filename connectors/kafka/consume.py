"""Picks the module that consumes: straight through librdkafka where that works, else through confluent-kafka."""

from __future__ import annotations

import os
from typing import Final

from confluent_kafka import Consumer

from ...engine.errors import JobInvalidError
from .batches import BatchConsumer
from .consume_native import NativeConsumer
from .consume_python import PythonConsumer
from .librdkafka import available, handle_of

EDGE: Final = "TIDEGATE_KAFKA_EDGE"
"""Environment variable that picks the module: `native` or `python`; by default native where it works."""
EDGES: Final = ("native", "python")


def chosen_edge() -> str | None:
    """Return what the environment asks for. Raises `JobInvalidError` for anything but `native` and `python`."""
    found = os.environ.get(EDGE) or None
    if found is not None and found not in EDGES:
        raise JobInvalidError(f"{EDGE} is {found!r}", hint=f"use one of {', '.join(EDGES)}, or leave it out")
    return found


def open_batches(
    consumer: Consumer,
    name: str,
    *,
    rows_max: int,
    keys: bool,
    timestamps: bool,
    headers: bool,
) -> BatchConsumer:
    """Return a batch consumer over a client that was made with the client.id `name`.

    Nothing may be assigned to the client yet. `rows_max` bounds the records of one batch. Raises `JobInvalidError`
    when the environment insists on the native module where it does not work.
    """
    edge = chosen_edge()
    if edge != "python":
        handle = handle_of(consumer, name)
        if handle is not None:
            return NativeConsumer(consumer, handle, rows_max, keys=keys, timestamps=timestamps, headers=headers)
        if edge == "native":
            raise JobInvalidError(
                f"{EDGE} is 'native', but librdkafka cannot be called directly: "
                f"{available()[1] or 'the client could not be recognised'}",
                hint=f"unset {EDGE}",
            )
    return PythonConsumer(consumer, keys=keys, timestamps=timestamps, headers=headers)
