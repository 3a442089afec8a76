"""A feeder that keeps an input topic growing, and remembers exactly what it wrote."""

from __future__ import annotations

import json
import random
import threading
from typing import Final

import polars as pl
from confluent_kafka import Producer

BASE_MS: Final = 1_795_392_000_000
EVENT_MS_PER_RECORD: Final = 4
JITTER_MS: Final = 1_500
KEYS: Final = 50
FLUSH_TIMEOUT_S: Final = 60.0


class Feeder:
    """Writes orders at a steady rate in a thread. Keys keep their partition; times are off by at most JITTER_MS."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, per_second: int, seed: int) -> None:
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "log_level": 0, "enable.idempotence": True, "linger.ms": 5}
        )
        self._topic = topic
        self._partitions = partitions
        self._per_second = per_second
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._going = threading.Event()
        self._going.set()
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self.rows: list[tuple[int, str, int, int, int]] = []

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def pause(self) -> None:
        """Write nothing until `go_on`."""
        self._going.clear()

    def go_on(self) -> None:
        """Write again."""
        self._going.set()

    def finish(self) -> None:
        """Stop, then send one late-enough record per partition that closes every window before it."""
        self._stop.set()
        self._thread.join(FLUSH_TIMEOUT_S)
        end = BASE_MS + len(self.rows) * EVENT_MS_PER_RECORD + 60_000
        for partition in range(self._partitions):
            self._send(-1 - partition, f"end{partition}", 1, end, partition)
        if self._producer.flush(FLUSH_TIMEOUT_S):
            raise TimeoutError("the feeder could not deliver all of its records")

    def _run(self) -> None:
        step = max(self._per_second // 100, 1)
        while not self._stop.wait(step / self._per_second):
            self._going.wait(FLUSH_TIMEOUT_S)
            for _ in range(step):
                number = len(self.rows)
                key = self._random.randrange(KEYS)
                time_ms = BASE_MS + number * EVENT_MS_PER_RECORD + self._random.randrange(JITTER_MS)
                row = (number, f"k{key}", self._random.randrange(-10, 1000), time_ms, key % self._partitions)
                self.rows.append(row)
                self._send(*row)
            self._producer.poll(0)

    def _send(self, number: int, key: str, amount: int, time_ms: int, partition: int) -> None:
        value = json.dumps({"id": number, "key": key, "amount": amount, "ts": time_ms}).encode()
        while True:
            try:
                self._producer.produce(self._topic, value, key.encode(), partition)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def frame(self) -> pl.DataFrame:
        """Everything written, without the closing records."""
        return pl.DataFrame(self.rows, schema=["id", "key", "amount", "ts", "partition"], orient="row")
