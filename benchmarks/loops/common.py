"""What both hand-written loops share: consume, produce in a transaction, commit with the offsets once a second."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from confluent_kafka import Consumer, Message, Producer

COMMIT_INTERVAL_S = 1.0
BATCH = 10_000


def run(process: Callable[[Message], Iterable[tuple[bytes, bytes]]]) -> None:
    """Consume for ever; `process` turns a message into (key, value) pairs to produce."""
    broker, name = os.environ["BROKER"], os.environ["RUN"]
    consumer = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": name,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": broker,
            "transactional.id": name,
            "linger.ms": 20,
            "log_level": 0,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.init_transactions()
    consumer.subscribe([os.environ["IN"]])
    output, produce = os.environ["OUT"], producer.produce
    begun: float | None = None
    while True:
        messages = consumer.consume(BATCH, timeout=0.2)
        if messages:
            if begun is None:
                producer.begin_transaction()
                begun = time.monotonic()
            for message in messages:
                if message.error():
                    raise SystemExit(str(message.error()))
                for key, value in process(message):
                    produce(output, value, key)
            producer.poll(0)
        if begun is not None and time.monotonic() - begun >= COMMIT_INTERVAL_S:
            positions = consumer.position(consumer.assignment())
            producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata())
            producer.commit_transaction()
            begun = None
