"""P1 as a competent user writes it by hand: confluent-kafka, orjson, a transaction with offsets each second."""

from __future__ import annotations

import orjson
from common import run
from confluent_kafka import Message


def process(message: Message) -> list[tuple[bytes, bytes]]:
    """Filter and map one record."""
    row = orjson.loads(message.value())
    if row["amount"] <= 10:
        return []
    row["gross"] = row["amount"] * 1.2
    row["note"] = row["note"].upper()
    return [(message.key(), orjson.dumps(row))]


run(process)
