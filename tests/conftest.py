"""Fixtures of all tests: the real Kafka broker and the real S3-compatible server.

A server that cannot start is an error, never a skip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import settings

from services.kafka import KafkaBroker
from services.s3 import S3Server
from services.topics import Topics

# Machines that run a broker beside the tests are slow at times; pytest bounds each test.
settings.register_profile("tidegate", deadline=None)
settings.load_profile("tidegate")

MakeKafka = Callable[..., KafkaBroker]


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A running broker that all tests share: never stop, kill or freeze it (`make_kafka` gives one of your own)."""
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def make_kafka(tmp_path: Path) -> Iterator[MakeKafka]:
    """Call with broker properties to start a broker of the test's own; all are killed afterwards."""
    brokers: list[KafkaBroker] = []

    def make(
        properties: Mapping[str, str] | None = None,
        *,
        client: Mapping[str, str] | None = None,
        join: KafkaBroker | None = None,
        node_id: int = 1,
    ) -> KafkaBroker:
        folder = tmp_path / f"kafka-{len(brokers) + 1}"
        broker = KafkaBroker(folder, properties=properties, client=client, join=join, node_id=node_id)
        brokers.append(broker)
        broker.start()
        return broker

    yield make
    for broker in brokers:
        broker.kill()


@pytest.fixture
def topics(kafka: KafkaBroker) -> Topics:
    """Topics on the shared broker."""
    return Topics(kafka.client)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running server that all tests share, with the bucket `tests`: never stop, kill or freeze it."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.make_bucket("tests")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def make_s3(tmp_path: Path) -> Iterator[Callable[[], S3Server]]:
    """Call to start a server of the test's own; all are killed afterwards."""
    servers: list[S3Server] = []

    def make() -> S3Server:
        server = S3Server(tmp_path / f"s3-{len(servers) + 1}")
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.kill()


@pytest.fixture
def s3_storage(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty storage URL on the shared server, whose access is in the environment."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://tests/{tmp_path.name}-{tmp_path.parent.name}"
