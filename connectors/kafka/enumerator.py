"""Finds the partitions of a source's topics, and where to begin and to end in each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from ...engine.errors import SourceError
from ...engine.ports.source import Position, Split
from .client import (
    CONNECT_TIMEOUT_S,
    Complaints,
    base_settings,
    code_of,
    consumer_settings,
    make_client,
    patiently,
    source_unavailable,
)

if TYPE_CHECKING:
    from .source import Settings

REQUEST_TIMEOUT_S: Final = 10.0
UNKNOWN_TOPIC: Final = (3, -188, -190)


def split_id(topic: str, partition: int) -> str:
    """Name a partition; topics cannot contain a colon."""
    return f"{topic}:{partition}"


def parse_split_id(name: str) -> tuple[str, int]:
    """Return topic and partition of a split id."""
    topic, _, partition = name.rpartition(":")
    return topic, int(partition)


class KafkaEnumerator:
    """Resolves partitions and offsets. Positions are {"offset": next offset, "topic": topic id}."""

    def __init__(self, settings: Settings, job: str, uid: str) -> None:
        self._s = settings
        self._uid = uid
        self._complaints = Complaints()
        self._admin = self._connect()
        self._group = settings.group
        self._consumer: Consumer | None = None
        self._job = job

    def _connect(self) -> AdminClient:
        settings = {**base_settings(self._s.bootstrap, self._s.client), "error_cb": self._complaints.hear}
        return make_client(AdminClient, settings)

    def discover(self) -> Sequence[Split]:
        """Return all partitions with resolved start, first and end positions."""
        try:
            partitions, ids = self._partitions()
            if not partitions:
                return []
            first = self._offsets(partitions, OffsetSpec.earliest())
            # A bounded run ends at what a read_committed reader can see now: an open transaction is not waited for.
            last = self._offsets(partitions, OffsetSpec.latest())
            start = self._start(partitions, first, last)
        except KafkaException as error:
            # A new client next time: this one may remember the leaders of before a broker's restart.
            self._admin = self._connect()
            raise source_unavailable(self._s.bootstrap, f"looking up topics {self._s.what}", error) from error
        splits = []
        for index, (topic, partition) in enumerate(partitions):
            place, topic_id = (topic, partition), ids[topic]
            end = {"offset": last[place], "topic": topic_id} if self._s.until else None
            splits.append(
                Split(
                    split_id(topic, partition),
                    index,
                    start={"offset": start[place], "topic": topic_id},
                    first={"offset": first[place], "topic": topic_id},
                    end=end,
                )
            )
        return splits

    def _partitions(self) -> tuple[list[tuple[str, int]], dict[str, str]]:
        names = self._names()
        if not names:
            return [], {}
        futures = self._admin.describe_topics(TopicCollection(names), request_timeout=REQUEST_TIMEOUT_S)
        found: list[tuple[str, int]] = []
        ids: dict[str, str] = {}
        for name in names:
            try:
                described = futures[name].result()
            except KafkaException as error:
                if code_of(error) in UNKNOWN_TOPIC:
                    raise SourceError(
                        f"source '{self._uid}': topic '{name}' does not exist at {self._s.bootstrap}",
                        hint=f"create it, e.g. kafka-topics.sh --create --topic {name}, or correct the name",
                    ) from None
                raise
            ids[name] = str(described.topic_id)
            found += [(name, partition.id) for partition in described.partitions]
        return sorted(found, key=lambda place: (place[1], place[0])), ids

    def topic_ids(self, names: Sequence[str]) -> dict[str, str]:
        """Return the ids of existing topics."""
        try:
            self._reach()
            futures = self._admin.describe_topics(TopicCollection(list(names)), request_timeout=REQUEST_TIMEOUT_S)
            return {name: str(futures[name].result().topic_id) for name in names}
        except KafkaException as error:
            raise source_unavailable(self._s.bootstrap, f"looking up topics {list(names)}", error) from error

    def _names(self) -> list[str]:
        if self._s.pattern is None:
            self._reach()
            return sorted(self._s.topics)
        metadata = self._reach()
        pattern = re.compile(self._s.pattern)
        return sorted(name for name in metadata if pattern.fullmatch(name) and not name.startswith("__"))

    def _reach(self) -> list[str]:
        try:
            return list(self._admin.list_topics(timeout=CONNECT_TIMEOUT_S).topics)
        except KafkaException as error:
            why = self._complaints.behind(error, self._admin)
            doing = f"source '{self._uid}': looking for a broker"
            raise source_unavailable(self._s.bootstrap, doing, error, why) from error

    def _offsets(self, partitions: Sequence[tuple[str, int]], spec: OffsetSpec) -> dict[tuple[str, int], int]:
        asked = {TopicPartition(topic, partition): spec for topic, partition in partitions}

        def ask() -> dict[tuple[str, int], int]:
            answers = self._admin.list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_TIMEOUT_S
            )
            return {(place.topic, place.partition): future.result().offset for place, future in answers.items()}

        return patiently(ask)

    def _start(
        self,
        partitions: Sequence[tuple[str, int]],
        first: Mapping[tuple[str, int], int],
        last: Mapping[tuple[str, int], int],
    ) -> dict[tuple[str, int], int]:
        start = self._s.start
        if start == "earliest":
            return dict(first)
        if start == "latest":
            return dict(last)
        if start == "committed":
            committed = self._reader().committed(
                [TopicPartition(t, p) for t, p in partitions], timeout=REQUEST_TIMEOUT_S
            )
            known = {(c.topic, c.partition): c.offset for c in committed if c.offset >= 0}
            return {place: known.get(place, first[place]) for place in partitions}
        if isinstance(start, Mapping):
            return {place: int(start.get(place[1], first[place])) for place in partitions}
        assert isinstance(start, int | datetime)
        moment = int(start.timestamp() * 1000) if isinstance(start, datetime) else start
        found = self._offsets(partitions, OffsetSpec.for_timestamp(moment))
        return {place: offset if offset >= 0 else last[place] for place, offset in found.items()}

    def _reader(self) -> Consumer:
        if self._consumer is None:
            group = self._group or f"tidegate-{self._job}"
            self._consumer = make_client(Consumer, consumer_settings(self._s.bootstrap, group, self._s.client))
        return self._consumer

    def report(self, positions: Mapping[str, Position]) -> None:
        """Commit offsets to the group, for lag tools."""
        if self._group is None:
            return
        offsets = []
        for name, position in positions.items():
            topic, partition = parse_split_id(name)
            offset = position.get("offset") if isinstance(position, dict) else None
            if isinstance(offset, int):
                offsets.append(TopicPartition(topic, partition, offset))
        try:
            self._reader().commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            raise source_unavailable(self._s.bootstrap, f"reporting offsets of group '{self._group}'", error) from error

    def close(self) -> None:
        """Close the clients."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
