"""Where a Kafka source begins, what it finds later, and what it refuses, on a real broker."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import pytest
import tidegate as tg
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from tidegate.engine.errors import SourceError
from tidegate.engine.ports.source import ReaderContext, Split

from services.kafka import KafkaBroker
from services.topics import Topics

READ_WITHIN_S: Final = 30.0
FIRST_MS: Final = 1_795_392_000_000
CONTEXT: Final = ReaderContext("job", "in", 0, 1)


def source(kafka: KafkaBroker, topic: str | Sequence[str] | re.Pattern[str], **settings: Any) -> tg.KafkaSource:
    """A source of text."""
    return tg.KafkaSource(topic, bootstrap=kafka.bootstrap, format=tg.Text(column="value"), **settings)


def discover(given: tg.KafkaSource) -> list[Split]:
    """Its splits."""
    with closing(given.open_enumerator("job", "in")) as enumerator:
        return list(enumerator.discover())


def starts(splits: Sequence[Split]) -> dict[str, int]:
    """Start offsets by split."""
    return {split.id: offset_of(split.start) for split in splits}


def offset_of(position: object) -> int:
    assert isinstance(position, Mapping)
    return int(position["offset"])


def read(given: tg.KafkaSource, splits: Sequence[Split]) -> list[str]:
    """Values of all splits, until each was caught up with."""
    values: list[str] = []
    ended: set[str] = set()
    until = time.monotonic() + READ_WITHIN_S
    with closing(given.open_reader(CONTEXT)) as reader:
        reader.assign(splits)
        while ended < {split.id for split in splits}:
            assert time.monotonic() < until
            batch = reader.read(1_000, 0.05)
            if batch is not None:
                values += batch.frame["value"].to_list()
                ended |= batch.caught_up | batch.finished
    return values


@pytest.fixture
def topic(topics: Topics, kafka: KafkaBroker) -> str:
    """A topic with two partitions; the records of partition 0 are a second apart."""
    name = topics.create("in", 2)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "enable.idempotence": True})
    for number in range(6):
        producer.produce(name, f"a{number}", partition=0, timestamp=FIRST_MS + number * 1000)
    for number in range(2):
        producer.produce(name, f"b{number}", partition=1, timestamp=FIRST_MS)
    assert producer.flush(READ_WITHIN_S) == 0
    return name


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("earliest", (0, 0)),
        ("latest", (6, 2)),
        (FIRST_MS + 2_500, (3, 2)),
        ({0: 4}, (4, 0)),
    ],
    ids=["earliest", "latest", "time", "offsets"],
)
def test_a_job_that_has_never_run_begins_where_start_says(
    start: Any, expected: tuple[int, int], topic: str, kafka: KafkaBroker
) -> None:
    assert starts(discover(source(kafka, topic, start=start))) == {
        f"{topic}:0": expected[0],
        f"{topic}:1": expected[1],
    }


def test_committed_means_the_groups_offsets_and_the_beginning_where_it_has_none(
    topic: str, kafka: KafkaBroker, topics: Topics
) -> None:
    group = topics.name("group")
    given = source(kafka, topic, start="committed", group=group)
    assert starts(discover(given)) == {f"{topic}:0": 0, f"{topic}:1": 0}
    with closing(given.open_enumerator("job", "in")) as enumerator:
        enumerator.report({f"{topic}:0": {"offset": 5}})
    assert starts(discover(given)) == {f"{topic}:0": 5, f"{topic}:1": 0}
    with closing(Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": group})) as consumer:
        [place] = consumer.committed([TopicPartition(topic, 0)], timeout=READ_WITHIN_S)
    assert place.offset == 5


def test_several_topics_and_patterns_are_read_whole(topics: Topics, kafka: KafkaBroker) -> None:
    prefix = topics.name("many")
    names = [f"{prefix}-{letter}" for letter in "ab"]
    for name in names:
        topics.create_named(name, 1)
        topics.produce(name, [name], partition=0)
    topics.create_named(f"other-{prefix}-a", 1)
    for given in (source(kafka, names), source(kafka, re.compile(re.escape(prefix) + "-[a-z]"))):
        splits = discover(given)
        assert sorted(split.id for split in splits) == [f"{name}:0" for name in names]
        assert sorted(read(given, splits)) == names


def test_what_a_pattern_finds_later_is_a_new_split_from_its_first_record(topics: Topics, kafka: KafkaBroker) -> None:
    prefix = topics.name("later")
    topics.create_named(f"{prefix}-a", 1)
    given = source(kafka, re.compile(re.escape(prefix) + "-.*"), start="latest")
    with closing(given.open_enumerator("job", "in")) as enumerator:
        before = list(enumerator.discover())
        topics.add_partitions(f"{prefix}-a", 2)
        topics.create_named(f"{prefix}-b", 1)
        topics.produce(f"{prefix}-a", ["in a"], partition=1)
        topics.produce(f"{prefix}-b", ["in b"], partition=0)
        after = [split for split in enumerator.discover() if split.id not in {known.id for known in before}]
    assert {split.id: offset_of(split.first) for split in after} == {f"{prefix}-a:1": 0, f"{prefix}-b:0": 0}


def test_a_bounded_source_ends_at_what_was_there(topic: str, topics: Topics, kafka: KafkaBroker) -> None:
    given = source(kafka, topic, until="latest")
    splits = discover(given)
    topics.produce(topic, ["too late"], partition=0)
    assert sorted(read(given, splits)) == ["a0", "a1", "a2", "a3", "a4", "a5", "b0", "b1"]


@pytest.mark.parametrize(("policy", "expected"), [("fail", None), ("earliest", ["a4", "a5"]), ("latest", [])])
def test_an_offset_that_is_gone_follows_the_policy(
    policy: str, expected: list[str] | None, topic: str, kafka: KafkaBroker
) -> None:
    given = source(kafka, topic, on_out_of_range=policy)
    splits = [split for split in discover(given) if split.id == f"{topic}:0"]
    place = TopicPartition(topic, 0, 4)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_records([place])[place].result(READ_WITHIN_S)
    if expected is None:
        with pytest.raises(SourceError, match=f"topic '{topic}' partition 0: offset 0 is not there any more") as gone:
            read(given, splits)
        assert "on_out_of_range" in gone.value.hint
    else:
        assert read(given, splits) == expected


def test_a_topic_that_was_made_again_is_refused(topic: str, topics: Topics, kafka: KafkaBroker) -> None:
    given = source(kafka, topic)
    splits = discover(given)
    topics.delete(topic)
    topics.create_named(topic, 2)
    with pytest.raises(SourceError, match="was deleted and made again"):
        read(given, splits)
