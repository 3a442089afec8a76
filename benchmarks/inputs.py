"""The input of all measurements: orders as JSON of about 104 bytes, 100 000 keys, 100 000 records per event second."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from confluent_kafka import Producer
from tidegate.connectors.formats import Json
from tidegate.connectors.formats.base import to_binary
from tidegate.connectors.kafka.produce import BatchProducer
from tidegate.engine.hashing import murmur2

BASE_MS = 1_795_392_000_000
PARTITIONS = 4
KEYS = 100_000
JITTER_MS = 200
WINDOW_MS = 10_000
SEED = 7
COUNTRIES = ("DE", "FR", "US", "JP", "BR", "IN", "GB", "NL", "SE", "PL")
NOTES = (
    "paid in full ok", "late pickup today", "gift card applied", "refund due monday", "web order express",
    "in store purchase", "promo code summer", "vip client upgrade", "new user sign up", "phone sale confirm",
)  # fmt: skip


def orders(count: int) -> pl.DataFrame:
    """Return `count` orders; ids rise with time, times are out of order by less than JITTER_MS."""
    random = np.random.default_rng(SEED)
    key = random.integers(0, KEYS, count)
    return pl.DataFrame(
        {
            "id": np.arange(count),
            "key": pl.Series(key).cast(pl.String).str.zfill(5).str.replace("^", "k"),
            "country": np.array(COUNTRIES)[random.integers(0, len(COUNTRIES), count)],
            "amount": random.integers(1, 10_001, count) / 100,
            "ts": BASE_MS + np.arange(count) // 100 + random.integers(0, JITTER_MS, count),
            "note": np.array(NOTES)[random.integers(0, len(NOTES), count)],
        }
    )


def closing(count: int) -> pl.DataFrame:
    """Return one late record per partition, which closes all windows before it; the map drops it."""
    keys = [f"end{number}" for number in range(PARTITIONS)]
    return pl.DataFrame(
        {
            "id": pl.Series([-1 - number for number in range(PARTITIONS)]),
            "key": keys,
            "country": "ZZ",
            "amount": 5.0,
            "ts": BASE_MS + count // 100 + 60_000,
            "note": "end",
        }
    )


def write(bootstrap: str, topic: str, frame: pl.DataFrame, by_number: bool = False) -> None:
    """Write orders to a topic, placed by murmur2 of the key, or one per partition."""
    keys = to_binary(frame.get_column("key"))
    numbers = np.arange(frame.height) if by_number else murmur2(keys) & np.uint32(0x7FFFFFFF)
    placed = (numbers % PARTITIONS).astype(np.int32)
    columns = {"key": keys, "value": Json().encode(frame), "partition": pa.array(placed)}
    batch = pa.RecordBatch.from_pydict(columns)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 0,
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.num.messages": 10_000,
        }
    )
    BatchProducer(producer, None, topic).send(batch)
    if producer.flush(120):
        raise TimeoutError(f"topic {topic} could not be filled")


def expected(work: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Compute what a workload (`map`, `window`) has to put out."""
    if work == "map":
        return frame.filter(pl.col("amount") > 10).with_columns(
            gross=pl.col("amount") * 1.2, note=pl.col("note").str.to_uppercase()
        )
    return (
        frame.with_columns(start=pl.col("ts") // WINDOW_MS * WINDOW_MS)
        .group_by("key", "start")
        .agg(n=pl.len().cast(pl.Int64), total=pl.col("amount").sum())
    )


def check(work: str, frame: pl.DataFrame, values: pl.Series) -> str:
    """Compare output values with what they have to be; return `exact`, or what is wrong."""
    want = expected(work, frame)
    have = pl.read_ndjson(b"\n".join(values.to_list()), schema=want.schema)
    if work == "window":
        have = have.filter(~pl.col("key").str.starts_with("end"))
    keys = ["id"] if work == "map" else ["key", "start"]
    number = "gross" if work == "map" else "total"
    both = want.join(have, on=keys, how="full", suffix="_have")
    missing = both.filter(pl.col(f"{keys[0]}_have").is_null()).height
    doubled = have.height - have.unique(keys).height
    wrong = both.filter((pl.col(number) - pl.col(f"{number}_have")).abs() > 1e-4).height
    bad = {"missing": missing, "doubled": doubled, "wrong": wrong}
    return "exact" if not any(bad.values()) else ", ".join(f"{name} {n}" for name, n in bad.items() if n)
