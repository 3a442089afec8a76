"""The Kafka source as a job file describes it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from ...engine.durations import parse_ms
from ...engine.errors import JobInvalidError
from ..event_time import EventTime
from ..formats import Format, Raw
from ..formats.base import METADATA
from .client import check_client, redact

if TYPE_CHECKING:
    from ...engine.ports.source import ReaderContext
    from .enumerator import KafkaEnumerator
    from .reader import KafkaReader

STARTS = ("earliest", "latest", "committed")
OUT_OF_RANGE = ("fail", "earliest", "latest")
Start = str | int | datetime | Mapping[int, int]


@dataclass(frozen=True)
class Settings:
    """Checked settings, shared by enumerator and readers."""

    topics: tuple[str, ...]
    pattern: str | None
    bootstrap: str
    group: str | None
    start: Start
    until: str | None
    format: Format
    event_time: EventTime | None
    on_out_of_range: str
    client: Mapping[str, object]

    @property
    def what(self) -> str:
        """The topics, for messages."""
        return self.pattern or ", ".join(self.topics)


class KafkaSource:
    """Reads Kafka topics.

    `topic` is a name, a list of names or a compiled regular expression that whole names have to match. `start` says
    where a job that has never run begins: `earliest`, `latest`, `committed` (the group's offsets; `earliest` where it
    has none), a timestamp (ms or datetime), or {partition: offset}. It is resolved once; afterwards checkpoints decide.
    `until="latest"` makes a bounded run. `format` decodes values, `event_time` (default: the record's timestamp) and
    `max_out_of_orderness` drive watermarks; `idle_after` lets a caught-up partition stop holding them back.
    `client` passes librdkafka settings through.

    Records of one partition keep their order. Only committed records are read unless `client` says otherwise.
    """

    kind = "kafka"
    seekable = True

    def __init__(
        self,
        topic: str | Sequence[str] | re.Pattern[str],
        *,
        bootstrap: str,
        format: Format | None = None,  # noqa: A002 (the word users know)
        group: str | None = None,
        start: Start = "earliest",
        until: str | None = None,
        event_time: EventTime | None = None,
        max_out_of_orderness: str | float | timedelta = 0,
        idle_after: str | float | timedelta | None = None,
        discovery_interval: str | float | timedelta | None = "30s",
        on_out_of_range: str = "fail",
        client: Mapping[str, object] | None = None,
    ) -> None:
        topics, pattern = _topics(topic)
        _check_start(start)
        if until not in {None, "latest"}:
            raise JobInvalidError(f"until is {until!r}", hint='leave it out, or write until="latest"')
        if on_out_of_range not in OUT_OF_RANGE:
            raise JobInvalidError(
                f"on_out_of_range is {on_out_of_range!r}", hint=f"use one of {', '.join(OUT_OF_RANGE)}"
            )
        if start == "committed" and group is None:
            raise JobInvalidError('start="committed" needs a group', hint='write group="name"')
        if not isinstance(bootstrap, str) or not bootstrap:
            raise JobInvalidError(f"bootstrap is {bootstrap!r}", hint='write bootstrap="localhost:9092"')
        self._settings = Settings(
            topics, pattern, bootstrap, group, start, until, format or Raw(), event_time, on_out_of_range,
            check_client(client or {}, "KafkaSource"),
        )  # fmt: skip
        self._schema = _schema(self._settings.format)
        if event_time is not None and event_time.column not in self._schema:
            raise JobInvalidError(
                f"event time column '{event_time.column}' is not in the format's schema {list(self._schema)}",
                hint="add it to the schema",
            )
        self.max_out_of_orderness_ms = parse_ms(max_out_of_orderness, "max_out_of_orderness")
        self.idle_after_ms = None if idle_after is None else parse_ms(idle_after, "idle_after")
        interval = None if discovery_interval is None else parse_ms(discovery_interval, "discovery_interval")
        self.discovery_interval_s = None if interval is None or until else interval / 1000

    @property
    def schema(self) -> Mapping[str, pl.DataType]:
        """The format's columns and the metadata columns asked for."""
        return self._schema

    def bounded(self, until_end: bool) -> KafkaSource:
        """Return this source reading up to the ends that exist at start."""
        if not until_end or self._settings.until:
            return self
        other = object.__new__(KafkaSource)
        other.__dict__.update(self.__dict__)
        other._settings = replace(self._settings, until="latest")
        other.discovery_interval_s = None
        return other

    def describe(self) -> Mapping[str, object]:
        """Return the settings with secrets redacted."""
        s = self._settings
        return {
            "topics": s.what,
            **redact({"bootstrap": s.bootstrap}),
            "group": s.group,
            "start": str(s.start),
            "until": s.until,
            "format": repr(s.format),
            "client": redact(s.client),
        }

    def open_enumerator(self, job: str, uid: str) -> KafkaEnumerator:
        """Connect for partitions and offsets."""
        from .enumerator import KafkaEnumerator  # noqa: PLC0415 (only the coordinator needs it)

        return KafkaEnumerator(self._settings, job, uid)

    def open_reader(self, context: ReaderContext) -> KafkaReader:
        """Connect for records."""
        from .reader import KafkaReader  # noqa: PLC0415 (only workers need it)

        return KafkaReader(self._settings, self._schema, context)

    def __repr__(self) -> str:
        return f"KafkaSource({self.describe()})"


def _topics(topic: object) -> tuple[tuple[str, ...], str | None]:
    if isinstance(topic, re.Pattern):
        return (), topic.pattern
    names = (topic,) if isinstance(topic, str) else tuple(topic) if isinstance(topic, Sequence) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise JobInvalidError(f"topic is {topic!r}", hint="give a name, a list of names or re.compile(...)")
    return names, None


def _check_start(start: object) -> None:
    good = (
        (isinstance(start, str) and start in STARTS)
        or (isinstance(start, int) and not isinstance(start, bool) and start >= 0)
        or isinstance(start, datetime | Mapping)
    )
    if not good:
        raise JobInvalidError(
            f"start is {start!r}",
            hint=f"use one of {', '.join(STARTS)}, a timestamp (ms or datetime) or {{partition: offset}}",
        )


def _schema(record_format: Format) -> dict[str, pl.DataType]:
    schema = dict(record_format.schema)
    for column, name in record_format.metadata.items():
        if column in schema:
            raise JobInvalidError(
                f"metadata column '{column}' is also a column of the format", hint="map it to another name"
            )
        schema[column] = METADATA[name]
    return schema
