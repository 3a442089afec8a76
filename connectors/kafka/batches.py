"""Raw batches: what a consumer returned, in columns, before any format looks at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True)
class Event:
    """Something a consumer says about a partition: an error code (negative: the client's own) with its text."""

    topic: str
    partition: int
    code: int
    text: str
    offset: int


@dataclass(frozen=True)
class RawBatch:
    """Records in the order of consumption; records of one partition are in its order.

    `place` indexes `places`, a list of (topic, partition). `timestamps` (ms) and `headers` are there when asked for.
    """

    places: list[tuple[str, int]]
    place: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    values: pa.Array
    keys: pa.Array | None = None
    timestamps: npt.NDArray[np.int64] | None = None
    headers: pa.Array | None = None
    events: list[Event] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets)


class BatchConsumer(Protocol):
    """Consumes batches from an assigned confluent-kafka consumer. Used by one thread."""

    def poll(self, rows_max: int, timeout_s: float) -> RawBatch:
        """Return what is there, waiting at most `timeout_s`; perhaps no records at all."""

    def close(self) -> None:
        """Release what belongs to this object; the consumer stays open."""
