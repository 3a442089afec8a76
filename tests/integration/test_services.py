"""The test servers themselves: what other tests take for granted about the broker and the S3-compatible server."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from services.kafka import KafkaBroker
from services.processes import ServerProcess, ServiceError, wait_until
from services.s3 import S3Server
from services.topics import Topics

TIMEOUT_S = 20.0


def transactional(broker: KafkaBroker, name: str, timeout_ms: int = 60_000) -> Producer:
    producer = Producer({**broker.client, "transactional.id": name, "transaction.timeout.ms": timeout_ms})
    producer.init_transactions(TIMEOUT_S)
    return producer


def test_a_transaction_is_visible_to_committed_readers_only_after_its_commit(
    kafka: KafkaBroker, topics: Topics
) -> None:
    topic = topics.create("transactional", partitions=2)
    producer = transactional(kafka, topic)
    producer.begin_transaction()
    producer.produce(topic, b"one", partition=0)
    producer.produce(topic, b"two", partition=1)
    producer.flush(TIMEOUT_S)
    assert topics.read(topic).is_empty()
    assert topics.read(topic, "read_uncommitted")["value"].to_list() == [b"one", b"two"]
    producer.commit_transaction(TIMEOUT_S)
    assert topics.read(topic)["value"].to_list() == [b"one", b"two"]


def test_an_aborted_transaction_stays_invisible(kafka: KafkaBroker, topics: Topics) -> None:
    topic = topics.create("aborted")
    producer = transactional(kafka, topic)
    producer.begin_transaction()
    producer.produce(topic, b"never")
    producer.flush(TIMEOUT_S)
    producer.abort_transaction(TIMEOUT_S)
    topics.produce(topic, [b"after"])
    assert topics.read(topic)["value"].to_list() == [b"after"]
    assert topics.read(topic, "read_uncommitted")["value"].to_list() == [b"never", b"after"]


def test_the_broker_fences_a_producer_when_another_takes_its_transactional_id(
    kafka: KafkaBroker, topics: Topics
) -> None:
    topic = topics.create("fenced")
    old = transactional(kafka, topic)
    old.begin_transaction()
    old.produce(topic, b"zombie")
    old.flush(TIMEOUT_S)
    transactional(kafka, topic)
    with pytest.raises(KafkaException):
        old.commit_transaction(TIMEOUT_S)
    assert topics.read(topic).is_empty()


def test_records_are_read_back_with_key_time_and_partition(topics: Topics) -> None:
    topic = topics.create("plain", partitions=3)
    topics.produce(topic, ["a", None], keys=["k", None], partition=2, timestamp_ms=1_795_392_000_000)
    read = topics.read(topic)
    assert read.select("partition", "offset", "key", "value", "timestamp").rows() == [
        (2, 0, b"k", b"a", 1_795_392_000_000),
        (2, 1, None, None, 1_795_392_000_000),
    ]


def test_a_topic_that_was_not_created_does_not_exist(topics: Topics) -> None:
    with pytest.raises(ServiceError, match="Unknown topic"):
        topics.read(topics.name("missing"))


def test_a_killed_broker_comes_back_on_its_port_with_its_records(
    make_kafka: Callable[..., KafkaBroker],
) -> None:
    broker = make_kafka()
    topics = Topics(broker.client)
    topic = topics.create("durable")
    topics.produce(topic, ["before"])
    broker.kill()
    assert not broker.alive
    broker.start()
    topics.produce(topic, ["after"])
    assert topics.read(topic)["value"].to_list() == [b"before", b"after"]


def test_a_frozen_broker_answers_nobody_until_it_goes_on(make_kafka: Callable[..., KafkaBroker]) -> None:
    broker = make_kafka()
    broker.freeze()
    with pytest.raises(KafkaException):
        broker.admin().list_topics(timeout=1)
    broker.thaw()
    assert broker.admin().list_topics(timeout=TIMEOUT_S).brokers


def test_the_broker_ends_a_transaction_that_outlives_its_timeout(
    make_kafka: Callable[..., KafkaBroker],
) -> None:
    broker = make_kafka({"transaction.abort.timed.out.transaction.cleanup.interval.ms": "200"})
    topics = Topics(broker.client)
    topic = topics.create("slow")
    producer = transactional(broker, topic, timeout_ms=1000)
    producer.begin_transaction()
    producer.produce(topic, b"late")
    producer.flush(TIMEOUT_S)
    topics.produce(topic, [b"next"])
    wait_until("the abort", lambda: topics.read(topic)["value"].to_list() == [b"next"], TIMEOUT_S)
    with pytest.raises(KafkaException):
        producer.commit_transaction(TIMEOUT_S)


def test_a_second_broker_joins_the_cluster_of_the_first(make_kafka: Callable[..., KafkaBroker]) -> None:
    first = make_kafka()
    second = make_kafka(join=first, node_id=2)
    assert set(second.admin().list_topics(timeout=TIMEOUT_S).brokers) == {1, 2}


def test_the_s3_server_knows_its_keys_and_refuses_strangers(s3: S3Server) -> None:
    script = """
import json, os, s3fs
fs = s3fs.S3FileSystem(config_kwargs={"retries": {"max_attempts": 0}})
fs.pipe_file("tests/greeting", b"hello", mode="create")
try:
    fs.pipe_file("tests/greeting", b"again", mode="create")
    second = "created"
except OSError:
    second = "refused"
print(json.dumps([fs.cat_file("tests/greeting").decode(), second]))
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], env=s3.environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(finished.stdout) == ["hello", "refused"]
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"{s3.endpoint}/tests/greeting", timeout=TIMEOUT_S)


def test_a_killed_s3_server_comes_back_with_its_buckets(make_s3: Callable[[], S3Server]) -> None:
    server = make_s3()
    server.make_bucket("kept")
    server.kill()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(server.endpoint, timeout=TIMEOUT_S)
    server.start()
    assert (server.folder / "buckets" / "kept").is_dir()


def test_a_server_that_cannot_start_is_an_error_that_shows_its_log(tmp_path: Path) -> None:
    server = ServerProcess("the server", tmp_path / "server.log")
    with pytest.raises(ServiceError, match="no such disk"):
        server.launch([sys.executable, "-c", "raise SystemExit('no such disk')"], lambda: False, TIMEOUT_S, {})
