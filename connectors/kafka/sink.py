"""The Kafka sink as a job file describes it, and what the coordinator prepares for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from ...engine.durations import parse_ms
from ...engine.errors import JobInvalidError
from ...engine.settings import AT_LEAST_ONCE, EXACTLY_ONCE
from ..formats import Format, Json
from .client import check_client, redact

if TYPE_CHECKING:
    from ...engine.ports.sink import SinkCommitter, SinkContext, SinkEncoder, SinkWriter


@dataclass(frozen=True)
class SinkSettings:
    """Checked settings, shared by encoder, committer and writer."""

    topic: str
    bootstrap: str
    key: tuple[str, ...] | None
    single_key: bool
    format: Format
    timestamp: str | None
    headers: str | None
    transaction_timeout_ms: int
    client: Mapping[str, object]


class KafkaSink:
    """Writes to a Kafka topic.

    `key` is a column, a list of columns (written as a JSON object) or None. Text and bytes are the key as they are,
    other dtypes as text. Rows go to partitions as the Java client's default partitioner puts them (murmur2 of the key;
    rows without a key go to one partition per batch in turn). `timestamp` is the record timestamp: `event_time`, the
    name of a column (Int64 ms or Datetime), or None for the time of sending, which is cheaper. `headers` names a column
    of List(Struct(key, value)).

    Exactly-once output becomes visible to `read_committed` readers once per epoch and subtask, in one transaction each;
    rows of one subtask keep their order.
    """

    kind = "kafka"

    def __init__(
        self,
        topic: str,
        *,
        bootstrap: str,
        key: str | Sequence[str] | None = None,
        format: Format | None = None,  # noqa: A002 (the word users know)
        timestamp: str | None = "event_time",
        headers: str | None = None,
        delivery: str | None = None,
        transaction_timeout: str | float | timedelta = "60s",
        client: Mapping[str, object] | None = None,
    ) -> None:
        if not isinstance(topic, str) or not topic:
            raise JobInvalidError(f"topic is {topic!r}", hint="give the name of a topic")
        if not isinstance(bootstrap, str) or not bootstrap:
            raise JobInvalidError(f"bootstrap is {bootstrap!r}", hint='write bootstrap="localhost:9092"')
        if delivery not in {None, EXACTLY_ONCE, AT_LEAST_ONCE}:
            raise JobInvalidError(f"delivery is {delivery!r}", hint=f"use {EXACTLY_ONCE} or {AT_LEAST_ONCE}")
        self.delivery = delivery
        self._settings = SinkSettings(
            topic,
            bootstrap,
            None if key is None else (key,) if isinstance(key, str) else tuple(key),
            isinstance(key, str),
            format or Json(),
            timestamp,
            headers,
            parse_ms(transaction_timeout, "transaction_timeout"),
            check_client(client or {}, "KafkaSink"),
        )

    def check(self, schema: Mapping[str, pl.DataType]) -> None:
        """Refuse rows that could not be written."""
        s = self._settings
        s.format.check_encode(schema)
        named = [*(s.key or ()), *([s.headers] if s.headers else [])]
        if s.timestamp not in {None, "event_time"}:
            named.append(str(s.timestamp))
        for name in named:
            if name not in schema:
                raise JobInvalidError(
                    f"sink to topic '{s.topic}' uses column '{name}', which the stream does not have",
                    hint=f"the stream has {', '.join(schema)}",
                )
        for name in s.key or ():
            if schema[name].is_nested():
                raise JobInvalidError(f"sink to topic '{s.topic}': key column '{name}' ({schema[name]}) is nested")

    def describe(self) -> Mapping[str, object]:
        """Return the settings with secrets redacted."""
        s = self._settings
        return {
            "topic": s.topic,
            **redact({"bootstrap": s.bootstrap}),
            "key": list(s.key) if s.key else None,
            "format": repr(s.format),
            "delivery": self.delivery,
            "client": redact(s.client),
        }

    def prepare(self, job: str, job_uid: str, uid: str, previous: Mapping[str, object] | None) -> Mapping[str, object]:
        """Check topic and ledger; make the ledger when the job starts for the first time."""
        from .target import prepare_target  # noqa: PLC0415 (only the coordinator needs it)

        return prepare_target(self._settings, job, job_uid, uid, previous)

    def open_encoder(self, context: SinkContext) -> SinkEncoder:
        """Make an encoder."""
        from .encoder import KafkaEncoder  # noqa: PLC0415 (only workers need it)

        return KafkaEncoder(self._settings, context)

    def open_committer(self, context: SinkContext) -> SinkCommitter:
        """Make a committer."""
        from .committer import KafkaCommitter  # noqa: PLC0415 (only workers need it)

        return KafkaCommitter(self._settings, context)

    def open_writer(self, context: SinkContext) -> SinkWriter:
        """Make an at-least-once writer."""
        from .writer import KafkaWriter  # noqa: PLC0415 (only workers need it)

        return KafkaWriter(self._settings, context)

    def __repr__(self) -> str:
        return f"KafkaSink({self.describe()})"
