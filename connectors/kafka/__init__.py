"""Kafka: client settings, source, sink and ledger."""
