"""One contract for both modules between Kafka and Arrow: what is produced is consumed, as it is and in order."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from tidegate.connectors.kafka import produce
from tidegate.connectors.kafka.batches import BatchConsumer, Event, RawBatch
from tidegate.connectors.kafka.client import consumer_settings
from tidegate.connectors.kafka.consume import open_batches
from tidegate.connectors.kafka.consume_native import NativeConsumer
from tidegate.connectors.kafka.librdkafka import EDGE, PARTITION_EOF, handle_of
from tidegate.connectors.kafka.produce import BatchProducer
from tidegate.engine.errors import SinkUnavailableError

from services.kafka import KafkaBroker
from services.processes import free_port
from services.topics import Topics

Place = tuple[str, int]
TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.05
STAMP: Final = 1_795_392_000_000
ODD: Final[list[bytes | None]] = [None, b"", *(bytes(range(1, size + 1)) for size in range(1, 30)), b"\xff" * 1_000_000]


@pytest.fixture(params=["native", "python"])
def edge(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both modules in turn."""
    monkeypatch.setenv(EDGE, request.param)
    return str(request.param)


@contextmanager
def consuming(
    bootstrap: str, starts: dict[Place, int], rows_max: int = 10_000, **client: object
) -> Iterator[tuple[Consumer, BatchConsumer]]:
    """A batch consumer with partitions assigned at offsets."""
    name = f"tests-{uuid.uuid4().hex[:8]}"
    settings = {**consumer_settings(bootstrap, "tests", client), "client.id": name}
    consumer = Consumer(settings)
    batches = open_batches(consumer, settings, rows_max=rows_max, keys=True, timestamps=True, headers=True)
    consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in starts.items()])
    yield consumer, batches
    batches.close()
    batches.close()
    consumer.close()


def gather(batches: BatchConsumer, enough: Callable[[list[RawBatch]], bool], rows_max: int = 10_000) -> list[RawBatch]:
    """Poll until there is enough."""
    found: list[RawBatch] = []
    deadline = time.monotonic() + TIMEOUT_S
    while not enough(found):
        assert time.monotonic() < deadline, found
        found.append(batches.poll(rows_max, POLL_S))
    return found


def ends(found: Iterable[RawBatch]) -> dict[Place, int]:
    """The ends of partitions that were reached."""
    return {(e.topic, e.partition): e.offset for e in events(found) if e.code == PARTITION_EOF}


def events(found: Iterable[RawBatch]) -> list[Event]:
    return [event for batch in found for event in batch.events]


def rows_of(found: Iterable[RawBatch]) -> dict[Place, list[dict[str, Any]]]:
    """Records by partition, in the order in which they came."""
    rows: dict[Place, list[dict[str, Any]]] = {}
    for batch in found:
        assert batch.timestamps is not None
        assert batch.keys is not None
        assert batch.headers is not None
        assert (batch.values.type, batch.keys.type) == (pa.large_binary(), pa.large_binary())
        numbers = [str(column.dtype) for column in (batch.place, batch.offsets, batch.timestamps)]
        assert numbers == ["int32", "int64", "int64"]
        columns = (batch.offsets.tolist(), batch.keys.to_pylist(), batch.values.to_pylist())
        more = (batch.timestamps.tolist(), batch.headers.to_pylist())
        names = ("offset", "key", "value", "timestamp", "headers")
        for place, *cells in zip(batch.place.tolist(), *columns, *more, strict=True):
            rows.setdefault(batch.places[place], []).append(dict(zip(names, cells, strict=True)))
    return rows


def read(bootstrap: str, starts: dict[Place, int], rows_max: int = 10_000) -> dict[Place, list[dict[str, Any]]]:
    """Everything from these offsets to the ends."""
    with consuming(bootstrap, starts) as (_, batches):
        return rows_of(gather(batches, lambda found: len(ends(found)) == len(starts), rows_max))


def outbox(rows: list[dict[str, Any]], *names: str) -> pa.RecordBatch:
    """Rows as a sink's outbox has them."""
    header = pa.struct([("key", pa.string()), ("value", pa.binary())])
    kinds = {
        "key": pa.large_binary(),
        "value": pa.large_binary(),
        "partition": pa.int32(),
        "timestamp": pa.int64(),
        "headers": pa.large_list(header),
    }
    wanted = ("key", "value", "partition", *names)
    return pa.RecordBatch.from_pydict({name: pa.array([row.get(name) for row in rows], kinds[name]) for name in wanted})


@contextmanager
def producing(bootstrap: str, topic: str, **settings: object) -> Iterator[tuple[Producer, BatchProducer]]:
    """A batch producer."""
    name = f"tests-{uuid.uuid4().hex[:8]}"
    # Idempotent, as the product's producers are: others put records out of order when they repeat a request.
    common = {"bootstrap.servers": bootstrap, "client.id": name, "log_level": 0, "enable.idempotence": True}
    producer = Producer({**common, **settings})
    sender = BatchProducer(producer, handle_of(producer, name), topic)
    yield producer, sender
    sender.close()
    sender.close()
    assert producer.flush(TIMEOUT_S) == 0


def send(bootstrap: str, topic: str, batch: pa.RecordBatch, **settings: object) -> None:
    with producing(bootstrap, topic, **settings) as (_, sender):
        sender.send(batch)


def test_the_module_is_the_one_that_was_chosen(edge: str, kafka: KafkaBroker) -> None:
    with consuming(kafka.bootstrap, {}) as (_, batches):
        assert isinstance(batches, NativeConsumer) == (edge == "native")
    with producing(kafka.bootstrap, "any") as (_, sender):
        assert (sender._native is not None) == (edge == "native")


@pytest.mark.parametrize("names", [(), ("timestamp",), ("headers",), ("timestamp", "headers")], ids="-".join)
def test_keys_and_values_of_any_length_arrive(
    edge: str, kafka: KafkaBroker, topics: Topics, names: tuple[str, ...]
) -> None:
    topic = topics.create(config={"max.message.bytes": "2000000"})
    rows = [
        {"key": key, "value": value, "partition": 0, "timestamp": STAMP + number, "headers": None}
        for number, (key, value) in enumerate(zip(ODD[:-1] + ODD[:1], reversed(ODD), strict=True))
    ]
    before = int(time.time() * 1000) - 60_000
    send(kafka.bootstrap, topic, outbox(rows, *names), **{"message.max.bytes": 2_000_000})
    found = read(kafka.bootstrap, {(topic, 0): 0})[topic, 0]
    assert [(row["key"], row["value"]) for row in found] == [(row["key"], row["value"]) for row in rows]
    assert [row["offset"] for row in found] == list(range(len(rows)))
    assert [row["headers"] for row in found] == [None] * len(rows)
    if "timestamp" in names:
        assert [row["timestamp"] for row in found] == [row["timestamp"] for row in rows]
    else:
        assert all(row["timestamp"] > before for row in found)


def test_a_timestamp_that_kafka_cannot_have_is_the_time_of_sending(
    edge: str, kafka: KafkaBroker, topics: Topics
) -> None:
    topic = topics.create()
    rows = [{"key": None, "value": b"x", "partition": 0, "timestamp": stamp} for stamp in (None, 0, -5, 1)]
    before = int(time.time() * 1000) - 60_000
    send(kafka.bootstrap, topic, outbox(rows, "timestamp"))
    found = [row["timestamp"] for row in read(kafka.bootstrap, {(topic, 0): 0})[topic, 0]]
    assert [stamp > before for stamp in found] == [True, True, True, False]
    assert found[3] == 1


def test_headers_arrive(edge: str, kafka: KafkaBroker, topics: Topics) -> None:
    topic = topics.create()
    headers: list[object] = [
        [{"key": "trace", "value": b"\x00\xff"}, {"key": "é", "value": None}, {"key": "trace", "value": b""}],
        None,
        [],
        [{"key": "", "value": b"x" * 1000}],
    ]
    rows = [{"key": b"k", "value": b"v", "partition": 0, "headers": found, "timestamp": STAMP} for found in headers]
    send(kafka.bootstrap, topic, outbox(rows, "headers", "timestamp"))
    found = [row["headers"] for row in read(kafka.bootstrap, {(topic, 0): 0})[topic, 0]]
    assert found == [headers[0], None, None, headers[3]]


@pytest.mark.parametrize("timestamps", [False, True], ids=["plain", "timestamps"])
def test_rows_go_to_their_partitions_in_order(edge: str, kafka: KafkaBroker, topics: Topics, timestamps: bool) -> None:
    topic = topics.create(partitions=3)
    count = 25_000
    numbers = np.arange(count)
    batch = outbox(
        [
            {"key": b"k%d" % (n % 100), "value": b"%d" % n, "partition": n * n % 3, "timestamp": STAMP + n}
            for n in range(count)
        ],
        *(["timestamp"] if timestamps else []),
    )
    with producing(kafka.bootstrap, topic) as (_, sender):
        sender.send(batch.slice(0, 7))
        sender.send(batch.slice(7))
        sender.send(batch.slice(0, 0))
    found = read(kafka.bootstrap, {(topic, partition): 0 for partition in range(3)}, rows_max=4321)
    for partition in range(3):
        expected = numbers[numbers * numbers % 3 == partition].tolist()
        rows = found.get((topic, partition), [])
        assert [int(row["value"]) for row in rows] == expected
        assert [row["key"] for row in rows] == [b"k%d" % (n % 100) for n in expected]
        if timestamps:
            assert [row["timestamp"] for row in rows] == [STAMP + n for n in expected]


@pytest.mark.parametrize("timestamps", [False, True], ids=["plain", "timestamps"])
def test_a_full_queue_is_waited_for_and_keeps_the_order(
    edge: str, kafka: KafkaBroker, topics: Topics, timestamps: bool
) -> None:
    topic = topics.create()
    rows = [{"value": b"%d" % n, "partition": 0, "timestamp": STAMP} for n in range(30_000)]
    batch = outbox(rows, *(["timestamp"] if timestamps else []))
    send(kafka.bootstrap, topic, batch, **{"queue.buffering.max.messages": 1_000, "linger.ms": 1})
    found = read(kafka.bootstrap, {(topic, 0): 0})[topic, 0]
    assert [int(row["value"]) for row in found] == list(range(30_000))


@pytest.mark.parametrize("timestamps", [False, True], ids=["plain", "timestamps"])
def test_a_queue_that_stays_full_is_an_outage_within_a_bound(
    edge: str, monkeypatch: pytest.MonkeyPatch, timestamps: bool
) -> None:
    monkeypatch.setattr(produce, "QUEUE_TIMEOUT_S", 0.5)
    rows = [{"value": b"x", "partition": 0, "timestamp": STAMP} for _ in range(1_000)]
    producer = Producer({"bootstrap.servers": "127.0.0.1:1", "client.id": "full", "log_level": 0,
                         "queue.buffering.max.messages": 100})  # fmt: skip
    sender = BatchProducer(producer, handle_of(producer, "full"), "any")
    started = time.monotonic()
    with pytest.raises(SinkUnavailableError, match="queue was full"):
        sender.send(outbox(rows, *(["timestamp"] if timestamps else [])))
    assert time.monotonic() - started < 10
    sender.close()
    producer.purge()
    assert producer.flush(TIMEOUT_S) == 0


@pytest.mark.parametrize("names", [(), ("timestamp",), ("headers",)], ids="-".join)
def test_a_record_that_the_client_refuses_says_why(edge: str, kafka: KafkaBroker, names: tuple[str, ...]) -> None:
    rows = [{"value": b"x" * size, "partition": 0, "timestamp": STAMP} for size in (1, 2_000_000)]
    with producing(kafka.bootstrap, "any") as (producer, sender):
        with pytest.raises(KafkaException) as raised:
            sender.send(outbox(rows, *names))
        producer.purge()
    assert raised.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_every_row_has_a_report_when_no_handle_is_given(edge: str, kafka: KafkaBroker, topics: Topics) -> None:
    topic = topics.create(config={"max.message.bytes": "500"})
    reports: list[KafkaError | None] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        reports.append(error)

    producer = Producer({"bootstrap.servers": kafka.bootstrap, "on_delivery": delivered})
    sender = BatchProducer(producer, None, topic)
    for size in (1, 1_000):
        sender.send(outbox([{"value": b"x" * size, "partition": 0, "timestamp": STAMP}] * 5, "timestamp"))
        assert producer.flush(TIMEOUT_S) == 0
    codes = [None if error is None else error.code() for error in reports]
    assert codes == [None] * 5 + [KafkaError.MSG_SIZE_TOO_LARGE] * 5


@pytest.mark.parametrize("names", [(), ("timestamp",), ("headers",)], ids="-".join)
def test_a_transaction_may_begin_before_the_client_has_heard_of_the_topic(
    edge: str, kafka: KafkaBroker, topics: Topics, names: tuple[str, ...]
) -> None:
    topic, name = topics.create("topic", 3), f"tests-{uuid.uuid4().hex[:8]}"
    rows = [{"value": b"first", "partition": 2}, {"value": b"second", "partition": 0}]
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "client.id": name, "transactional.id": name})
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    producer.produce(topics.create("ledger"), b"begin", b"key", 0)
    sender = BatchProducer(producer, handle_of(producer, name), topic)
    sender.send(outbox(rows, *names))
    sender.close()
    producer.flush(TIMEOUT_S)
    producer.commit_transaction(TIMEOUT_S)
    assert sorted(topics.read(topic)["value"].to_list()) == [b"first", b"second"]


@pytest.mark.parametrize("names", [(), ("timestamp",), ("headers",)], ids="-".join)
def test_a_record_that_is_not_delivered_makes_the_commit_fail(
    edge: str, kafka: KafkaBroker, topics: Topics, names: tuple[str, ...]
) -> None:
    topic = topics.create(config={"max.message.bytes": "500"})
    transactional = {"transactional.id": f"tests-{uuid.uuid4().hex}"}
    with producing(kafka.bootstrap, topic, **transactional) as (producer, sender):
        producer.init_transactions(TIMEOUT_S)
        producer.begin_transaction()
        sender.send(outbox([{"value": b"x" * size, "partition": 0, "timestamp": STAMP} for size in (1, 1_000)], *names))
        with pytest.raises(KafkaException):
            producer.commit_transaction(TIMEOUT_S)
        producer.abort_transaction(TIMEOUT_S)
    assert read(kafka.bootstrap, {(topic, 0): 0}) == {}


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd", "snappy"])
def test_compressed_records_arrive(edge: str, kafka: KafkaBroker, topics: Topics, codec: str) -> None:
    topic = topics.create()
    rows = [{"key": b"%d" % (n % 9), "value": b"value %d" % n * (n % 50), "partition": 0} for n in range(5_000)]
    send(kafka.bootstrap, topic, outbox(rows), **{"compression.type": codec, "linger.ms": 50})
    found = read(kafka.bootstrap, {(topic, 0): 0})[topic, 0]
    assert [(row["key"], row["value"]) for row in found] == [(row["key"], row["value"]) for row in rows]


def test_aborted_records_and_markers_are_not_seen_but_have_offsets(
    edge: str, kafka: KafkaBroker, topics: Topics
) -> None:
    topic = topics.create()
    with producing(kafka.bootstrap, topic, **{"transactional.id": f"tests-{uuid.uuid4().hex}"}) as (producer, sender):
        producer.init_transactions(TIMEOUT_S)
        for number, committed in enumerate([True, False, True, False]):
            producer.begin_transaction()
            sender.send(outbox([{"value": b"%d-%d" % (number, n), "partition": 0} for n in range(3)]))
            assert producer.flush(TIMEOUT_S) == 0
            end = producer.commit_transaction if committed else producer.abort_transaction
            end(TIMEOUT_S)
    with consuming(kafka.bootstrap, {(topic, 0): 0}) as (_, batches):
        found = gather(batches, lambda found: bool(ends(found)))
    rows = rows_of(found)[topic, 0]
    assert [row["value"] for row in rows] == [b"%d-%d" % (number, n) for number in (0, 2) for n in range(3)]
    assert [row["offset"] for row in rows] == [0, 1, 2, 8, 9, 10]
    assert ends(found) == {(topic, 0): 16}


def test_a_transaction_that_is_open_holds_back_what_follows_it(edge: str, kafka: KafkaBroker, topics: Topics) -> None:
    topic = topics.create()
    with producing(kafka.bootstrap, topic, **{"transactional.id": f"tests-{uuid.uuid4().hex}"}) as (producer, sender):
        producer.init_transactions(TIMEOUT_S)
        producer.begin_transaction()
        sender.send(outbox([{"value": b"open", "partition": 0}]))
        assert producer.flush(TIMEOUT_S) == 0
        topics.produce(topic, ["behind"], partition=0)
        with consuming(kafka.bootstrap, {(topic, 0): 0}) as (_, batches):
            before = gather(batches, lambda found: bool(ends(found)))
            assert (rows_of(before), ends(before)) == ({}, {(topic, 0): 0})
            producer.commit_transaction(TIMEOUT_S)
            after = rows_of(gather(batches, lambda found: sum(map(len, found)) == 2))
    assert [row["value"] for row in after[topic, 0]] == [b"open", b"behind"]


def test_partitions_of_several_topics_are_told_apart_and_start_at_their_offsets(
    edge: str, kafka: KafkaBroker, topics: Topics
) -> None:
    first, second = topics.create("first", partitions=2), topics.create("second")
    for topic, partition in ((first, 0), (first, 1), (second, 0)):
        topics.produce(topic, [f"{topic} {partition} {n}" for n in range(100)], partition=partition)
    starts = {(first, 0): 10, (first, 1): 0, (second, 0): 99}
    found = read(kafka.bootstrap, starts, rows_max=30)
    assert {place: [row["value"].decode() for row in rows] for place, rows in found.items()} == {
        place: [f"{place[0]} {place[1]} {n}" for n in range(start, 100)] for place, start in starts.items()
    }


def test_partitions_may_be_added_and_taken_away_later(edge: str, kafka: KafkaBroker, topics: Topics) -> None:
    topic = topics.create(partitions=3)
    for partition in range(3):
        topics.produce(topic, [f"{partition}"] * 20, partition=partition)
    with consuming(kafka.bootstrap, {(topic, 0): 0}) as (consumer, batches):
        assert set(rows_of(gather(batches, lambda found: len(ends(found)) == 1))) == {(topic, 0)}
        consumer.incremental_unassign([TopicPartition(topic, 0)])
        later = {(topic, 1): 5, (topic, 2): 0}
        consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in later.items()])
        topics.produce(topic, ["not seen"], partition=0)
        found = rows_of(gather(batches, lambda found: len(ends(found)) == 2))
        assert {place: len(rows) for place, rows in found.items()} == {(topic, 1): 15, (topic, 2): 20}
        consumer.seek(TopicPartition(topic, 1, 19))
        again = rows_of(gather(batches, lambda found: any(map(len, found))))
        assert [row["offset"] for row in again[topic, 1]] == [19]


def test_a_batch_has_no_more_rows_than_asked_for(edge: str, kafka: KafkaBroker, topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, ["x"] * 500, partition=0)
    with consuming(kafka.bootstrap, {(topic, 0): 0}, rows_max=100) as (_, batches):
        found = gather(batches, lambda found: sum(map(len, found)) == 500, rows_max=70)
        assert max(map(len, found)) <= 70
    with consuming(kafka.bootstrap, {(topic, 0): 0}, rows_max=100) as (_, batches):
        assert max(map(len, gather(batches, lambda found: sum(map(len, found)) == 500, rows_max=1_000))) <= 1_000


def test_an_offset_out_of_range_is_an_event(edge: str, kafka: KafkaBroker, topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, ["x"], partition=0)
    with consuming(kafka.bootstrap, {(topic, 0): 1_000}) as (_, batches):
        (found,) = events(gather(batches, lambda found: bool(events(found))))
    assert (found.topic, found.partition) == (topic, 0)
    assert found.code in {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}
    assert "out of range" in found.text


def test_errors_of_the_client_go_to_its_callback_and_end_nothing(edge: str, kafka: KafkaBroker, topics: Topics) -> None:
    errors: list[KafkaError] = []
    statistics: list[str] = []
    client: dict[str, Any] = {
        "error_cb": errors.append,
        "stats_cb": statistics.append,
        "statistics.interval.ms": 50,
        "topic.metadata.propagation.max.ms": 500,
    }
    with consuming(f"127.0.0.1:{free_port()}", {("any", 0): 0}, **client) as (_, batches):
        gather(batches, lambda _: any(error.code() == KafkaError._ALL_BROKERS_DOWN for error in errors))
    errors.clear()
    there = topics.create()
    topics.produce(there, ["x"], partition=0)
    starts = {(there, 0): 0, (topics.name("missing"), 0): 0, (there, 5): 0}
    with consuming(kafka.bootstrap, starts, **client) as (_, batches):
        found = gather(batches, lambda found: len({error.code() for error in errors}) == 2 and any(map(len, found)))
    assert {error.code() for error in errors} == {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION}
    assert [row["value"] for row in rows_of(found)[there, 0]] == [b"x"]
    assert statistics


def test_a_topic_that_is_deleted_under_a_reader_goes_to_its_callback(
    edge: str, kafka: KafkaBroker, topics: Topics
) -> None:
    errors: list[KafkaError] = []
    topic = topics.create()
    soon = {"topic.metadata.refresh.interval.ms": 200, "topic.metadata.propagation.max.ms": 500}
    client: dict[str, Any] = {"error_cb": errors.append, **soon}
    with consuming(kafka.bootstrap, {(topic, 0): 0}, **client) as (_, batches):
        gather(batches, lambda found: bool(ends(found)))
        topics.delete(topic)
        found = gather(batches, lambda found: bool(errors or [e for e in events(found) if e.code != PARTITION_EOF]))
    codes = {error.code() for error in errors} | {event.code for event in events(found)}
    assert codes & {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError.UNKNOWN_TOPIC_ID}


def test_what_a_callback_raises_is_raised(edge: str) -> None:
    def fail(_: KafkaError) -> None:
        raise ValueError("from the callback")

    callback: dict[str, Any] = {"error_cb": fail}
    with suppress(ValueError), consuming(f"127.0.0.1:{free_port()}", {("any", 0): 0}, **callback) as (_, batches):
        with pytest.raises((ValueError, KafkaException)) as raised:
            gather(batches, lambda _: False)
        assert "from the callback" in str(raised.value.__cause__ or raised.value)
        # Closing serves the callback once more, and may raise what it raises.


def test_what_was_fetched_but_not_taken_does_not_keep_the_consumer_open(
    edge: str, kafka: KafkaBroker, topics: Topics
) -> None:
    topic = topics.create()
    topics.produce(topic, ["x" * 100] * 20_000, partition=0)
    started = time.monotonic()
    with consuming(kafka.bootstrap, {(topic, 0): 0}) as (_, batches):
        gather(batches, lambda found: any(map(len, found)), rows_max=10)
    assert time.monotonic() - started < 10


def test_batches_stay_whole_after_the_consumer_is_gone(edge: str, kafka: KafkaBroker, topics: Topics) -> None:
    topic = topics.create()
    values = [f"{n}" * (n % 30) for n in range(3_000)]
    topics.produce(topic, values, partition=0)
    with consuming(kafka.bootstrap, {(topic, 0): 0}) as (_, batches):
        found = gather(batches, lambda found: sum(map(len, found)) == len(values), rows_max=700)
    read(kafka.bootstrap, {(topic, 0): 0})
    assert [row["value"].decode() for row in rows_of(found)[topic, 0]] == values


def test_private_layouts_are_given_up_when_they_do_not_fit(kafka: KafkaBroker, topics: Topics) -> None:
    topic = topics.create()
    topics.produce(topic, ["x"] * 100, partition=0, timestamp_ms=STAMP)
    with consuming(kafka.bootstrap, {(topic, 0): 0}) as (_, batches):
        assert isinstance(batches, NativeConsumer)
        batches._give_back = batches._give_back_each
        asked = batches._ask_times
        batches._ask_times = lambda pointers: [stamp + 1 for stamp in asked(pointers)]  # type: ignore[method-assign]  # a client of another layout
        found = rows_of(gather(batches, lambda found: sum(map(len, found)) == 100))
    assert [row["timestamp"] for row in found[topic, 0]] == [STAMP + 1] * 100
