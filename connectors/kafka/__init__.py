"""Kafka: client settings, source, sink and ledger."""

from .sink import KafkaSink
from .source import KafkaSource

__all__ = ["KafkaSink", "KafkaSource"]
