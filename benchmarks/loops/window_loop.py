"""P2 by hand: the same loop with a dict for the windows (which a crash would lose: it is not exactly-once)."""

from __future__ import annotations

import orjson
from common import run
from confluent_kafka import Message

WINDOW_MS = 10_000
LATENESS_MS = 1_000
windows: dict[int, dict[str, list[float]]] = {}
latest: dict[int, int] = {}


def process(message: Message) -> list[tuple[bytes, bytes]]:
    """Add one record to its window; put out the windows that every partition has passed."""
    row = orjson.loads(message.value())
    time_ms = row["ts"]
    start = time_ms - time_ms % WINDOW_MS
    window = windows.get(start)
    if window is None:
        window = windows[start] = {}
    entry = window.get(row["key"])
    if entry is None:
        window[row["key"]] = [1, row["amount"]]
    else:
        entry[0] += 1
        entry[1] += row["amount"]
    partition = message.partition()
    if time_ms > latest.get(partition, 0):
        latest[partition] = time_ms
    if len(latest) < PARTITIONS:
        return []
    watermark = min(latest.values()) - LATENESS_MS
    due = [start for start in windows if start + WINDOW_MS <= watermark]
    return [
        (key.encode(), orjson.dumps({"key": key, "n": entry[0], "total": entry[1], "start": start}))
        for start in due
        for key, entry in windows.pop(start).items()
    ]


PARTITIONS = 4
run(process)
