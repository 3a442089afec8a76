"""Raw batches: what a consumer returned, in columns, before any format looks at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

HEADERS: Final = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


@dataclass(frozen=True)
class Event:
    """What a consumer says about a partition (or about itself: no topic, partition -1), without a record.

    `code` is the broker's error code, or negative for the client's own; `text` says it in words. At the end of a
    partition `offset` is the end.
    """

    topic: str
    partition: int
    code: int
    text: str
    offset: int


@dataclass(frozen=True)
class RawBatch:
    """Records in the order of consumption; records of one partition are in its order.

    `place` indexes `places`, a list of (topic, partition) that only grows. `values` and `keys` are large binary arrays,
    null where the record has none. `keys`, `timestamps` (ms, -1 if unknown) and `headers` (null where the record has
    none) are there when asked for.

    The next position of a partition after a batch is the offset of its last record + 1. Offsets have gaps: markers
    of transactions, aborted and compacted records have offsets but never arrive. So only the event of the partition's
    end tells that there is nothing between the last record and the end.
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
    """Consumes batches from a confluent-kafka consumer. Used by one thread."""

    def poll(self, rows_max: int, timeout_s: float) -> RawBatch:
        """Return what is there after at most `timeout_s`, or as soon as there are `rows_max`; perhaps no records.

        Serves the client's callbacks, and raises `KafkaException` when one of them failed. Errors of the client as a
        whole, and of topics that it cannot find or read, go to its `error_cb` alone.
        """

    def close(self) -> None:
        """Release what belongs to this object, before the consumer is closed; may be called twice."""
