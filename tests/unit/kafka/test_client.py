"""Settings that the Kafka client refuses are refused in our words, and ours fit each other."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer
from tidegate.connectors.kafka.client import consumer_settings, make_client, producer_settings
from tidegate.engine.errors import JobInvalidError

NOWHERE = "127.0.0.1:1"


def test_a_setting_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(JobInvalidError, match=r"sasl\.mechanisn") as refused:
        make_client(Consumer, consumer_settings(NOWHERE, "any", {"sasl.mechanisn": "PLAIN"}))
    assert "CONFIGURATION.md" in str(refused.value.hint)


def test_a_transaction_may_be_shorter_than_the_usual_wait_for_an_answer() -> None:
    settings = producer_settings(NOWHERE, {"log_level": 0}, transaction_timeout_ms=2_000)
    make_client(Producer, {**settings, "transactional.id": "any"})


def test_a_wait_of_the_users_that_is_longer_than_a_transaction_is_refused() -> None:
    settings = producer_settings(NOWHERE, {"socket.timeout.ms": 30_000}, transaction_timeout_ms=2_000)
    with pytest.raises(JobInvalidError, match=r"socket\.timeout\.ms"):
        make_client(Producer, {**settings, "transactional.id": "any"})
