"""Topics of a test: fresh names, records in, and everything a reader can see out."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Mapping
from typing import Final, Literal

import polars as pl
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from .processes import ServiceError, wait_until

Isolation = Literal["read_committed", "read_uncommitted"]
ADMIN_TIMEOUT_S: Final = 30.0
READ_TIMEOUT_S: Final = 60.0
CONSUME_RECORDS_MAX: Final = 10_000
CONSUME_WAIT_S: Final = 0.2

RECORD_SCHEMA: Final = pl.Schema(
    {
        "partition": pl.Int32(),
        "offset": pl.Int64(),
        "key": pl.Binary(),
        "value": pl.Binary(),
        "timestamp": pl.Int64(),
        "headers": pl.List(pl.Struct({"name": pl.String, "value": pl.Binary})),
    }
)


class Topics:
    """Creates, fills and reads topics of one cluster; every name is new."""

    def __init__(self, client: Mapping[str, str]) -> None:
        self._client: dict[str, str] = dict(client)
        self._admin = AdminClient({**self._client, "log_level": "0"})
        self._run = uuid.uuid4().hex[:8]
        self._numbers = itertools.count(1)

    def name(self, hint: str = "topic") -> str:
        """A topic name nobody has used."""
        return f"{hint}-{self._run}-{next(self._numbers)}"

    def create(self, hint: str = "topic", partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """Create a topic with a fresh name and wait until the cluster knows all its partitions."""
        name = self.name(hint)
        self.create_named(name, partitions, config)
        return name

    def create_named(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Create exactly this topic. Records never expire: tests write event times of any day."""
        settings = {"retention.ms": "-1", **(config or {})}
        new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings)
        self._admin.create_topics([new])[name].result(ADMIN_TIMEOUT_S)
        self._await_partitions(name, partitions)

    def add_partitions(self, name: str, partitions: int) -> None:
        """Raise the topic's number of partitions to `partitions`."""
        self._admin.create_partitions([NewPartitions(name, partitions)])[name].result(ADMIN_TIMEOUT_S)
        self._await_partitions(name, partitions)

    def set_config(self, name: str, setting: str, value: str) -> None:
        """Change one setting of the topic."""
        entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
        self._admin.incremental_alter_configs([resource])[resource].result(ADMIN_TIMEOUT_S)

    def delete(self, name: str) -> None:
        """Delete the topic and wait until it is gone."""
        self._admin.delete_topics([name])[name].result(ADMIN_TIMEOUT_S)
        wait_until(f"topic {name} to vanish", lambda: name not in self._names(), ADMIN_TIMEOUT_S)

    def produce(
        self,
        topic: str,
        values: Iterable[bytes | str | None],
        *,
        keys: Iterable[bytes | str | None] | None = None,
        partition: int = -1,
        timestamp_ms: int = 0,
    ) -> None:
        """Write records in order and wait until all are acknowledged; partition -1 goes by key, as Java clients do."""
        settings = {
            **self._client,
            "log_level": "0",
            "enable.idempotence": "true",
            "linger.ms": "5",
            "partitioner": "murmur2_random",
        }
        producer = Producer(settings)
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                failures.append(error)

        for key, value in zip(keys if keys is not None else itertools.repeat(None), values, strict=False):
            while True:
                try:
                    producer.produce(
                        topic, value, key, partition=partition, timestamp=timestamp_ms, on_delivery=delivered
                    )
                    break
                except BufferError:
                    producer.poll(1)
            producer.poll(0)
        left = producer.flush(ADMIN_TIMEOUT_S)
        if left or failures:
            raise ServiceError(f"{left} records not acknowledged, {len(failures)} refused: {failures[:3]}")

    def read(self, topic: str, isolation: Isolation = "read_committed") -> pl.DataFrame:
        """Everything a reader sees now; see `read_topic`."""
        return read_topic(self._client, topic, isolation)

    def _await_partitions(self, name: str, partitions: int) -> None:
        def known() -> bool:
            about = self._admin.list_topics(topic=name, timeout=ADMIN_TIMEOUT_S).topics[name]
            leaders = [part.leader for part in about.partitions.values() if part.error is None]
            return len(leaders) == partitions and min(leaders) >= 0

        wait_until(f"topic {name} to have {partitions} partitions", known, ADMIN_TIMEOUT_S)

    def _names(self) -> set[str]:
        return set(self._admin.list_topics(timeout=ADMIN_TIMEOUT_S).topics)


def end_offsets(client: Mapping[str, str], topic: str, isolation: Isolation = "read_committed") -> dict[int, int]:
    """The offset behind the last readable record, by partition; with read_committed the last stable offset."""
    admin = AdminClient({**client, "log_level": "0"})
    about = admin.list_topics(topic=topic, timeout=ADMIN_TIMEOUT_S).topics[topic]
    if about.error is not None:
        raise ServiceError(f"topic {topic}: {about.error}")
    level = IsolationLevel.READ_COMMITTED if isolation == "read_committed" else IsolationLevel.READ_UNCOMMITTED
    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in about.partitions}
    answers = admin.list_offsets(asked, isolation_level=level, request_timeout=ADMIN_TIMEOUT_S)
    return {place.partition: answer.result(ADMIN_TIMEOUT_S).offset for place, answer in answers.items()}


def read_topic(client: Mapping[str, str], topic: str, isolation: Isolation = "read_committed") -> pl.DataFrame:
    """All records up to the end offsets at the time of the call, sorted by partition and offset.

    Columns as in RECORD_SCHEMA: keys and values as bytes, timestamps in milliseconds. `client` are librdkafka
    settings with at least `bootstrap.servers`. Raises ServiceError when the end is not reached in READ_TIMEOUT_S.
    """
    ends = end_offsets(client, topic, isolation)
    consumer = Consumer(
        {
            **client,
            "log_level": "0",
            "group.id": f"read-{uuid.uuid4().hex}",
            "auto.offset.reset": "error",
            "enable.auto.commit": "false",
            "enable.partition.eof": "true",
            "isolation.level": isolation,
            "fetch.wait.max.ms": "10",
        }
    )
    try:
        return _read_to(consumer, topic, ends)
    finally:
        consumer.close()


def _read_to(consumer: Consumer, topic: str, ends: dict[int, int]) -> pl.DataFrame:
    starts = {
        partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ADMIN_TIMEOUT_S)[0]
        for partition in ends
    }
    open_partitions = {partition for partition, end in ends.items() if end > starts[partition]}
    consumer.assign([TopicPartition(topic, partition, starts[partition]) for partition in sorted(open_partitions)])
    messages: list[Message] = []

    def finished() -> bool:
        for message in consumer.consume(CONSUME_RECORDS_MAX, CONSUME_WAIT_S) if open_partitions else ():
            error = message.error()
            # What comes after the end (records or the end of the partition) shows that the end was reached.
            partition = _known(message.partition())
            if error is None and _known(message.offset()) < ends[partition]:
                messages.append(message)
            elif error is None or error.code() == KafkaError._PARTITION_EOF:
                open_partitions.discard(partition)
            elif not error.retriable():
                raise KafkaException(error)
        return not open_partitions

    wait_until(f"the end of topic {topic}, partitions {sorted(ends)}", finished, READ_TIMEOUT_S)
    return _frame(messages)


def _known(number: int | None) -> int:
    """A number that every message from a broker has, though the client's types allow None."""
    assert number is not None
    return number


def _frame(messages: list[Message]) -> pl.DataFrame:
    rows = [
        (
            message.partition(),
            message.offset(),
            message.key(),
            message.value(),
            message.timestamp()[1],
            [{"name": header[0], "value": header[1]} for header in message.headers() or ()],
        )
        for message in messages
    ]
    return pl.DataFrame(rows, schema=RECORD_SCHEMA, orient="row").sort("partition", "offset")
