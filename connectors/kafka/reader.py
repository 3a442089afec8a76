"""Reads assigned partitions and decodes their records."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from ...engine.errors import SourceError, SourceUnavailableError
from ...engine.ports.source import Position, ReaderContext, SourceBatch, Split
from .batches import BatchConsumer, Event, RawBatch
from .client import Complaints, consumer_settings, make_client, source_unavailable
from .consume import open_batches
from .decoding import RecordDecoder
from .enumerator import parse_split_id
from .librdkafka import PARTITION_EOF

if TYPE_CHECKING:
    from .source import Settings

log = logging.getLogger(__name__)
BATCH_ROWS_MAX: Final = 65_536
FIRST_WAIT_S: Final = 0.02
"""How long a batch may be gathered for; the batch call waits this long unless the batch is full."""
DOWN_TIMEOUT_S: Final = 60.0
"""How long all brokers may be away before the reader gives up; the client itself reconnects meanwhile."""
DOWN_CHECK_TIMEOUT_S: Final = 1.0
WATERMARK_TIMEOUT_S: Final = 10.0
OFFSET_OUT_OF_RANGE: Final = 1
NO_OFFSET: Final = -168
AUTO_OFFSET_RESET: Final = -140
ALL_BROKERS_DOWN: Final = -187
UNKNOWN: Final = {
    3: "does not exist any more",
    -188: "does not exist any more",
    -190: "does not exist any more",
    29: "may not be read with these credentials",
}


@dataclass
class _Place:
    """One assigned partition."""

    split: Split
    topic_id: object
    next: int
    end: int | None
    done: bool = False


class KafkaReader:
    """A `SourceReader` over one consumer."""

    def __init__(self, settings: Settings, schema: Mapping[str, pl.DataType], context: ReaderContext) -> None:
        self._s = settings
        self._context = context
        self._decoder = RecordDecoder(settings, schema, context)
        columns = context.columns
        wanted = {name for column, name in settings.format.metadata.items() if columns is None or column in columns}
        self._need_time = settings.event_time is None or "timestamp" in wanted
        self._need_headers = "headers" in wanted
        self._need_keys = "key" in wanted
        self._places: dict[tuple[str, int], _Place] = {}
        self._consumer: Consumer | None = None
        self._batches: BatchConsumer | None = None
        self._down_since: float | None = None
        self._complaints = Complaints()
        self._announce: set[str] = set()

    def assign(self, splits: Sequence[Split]) -> None:
        """Add partitions at their positions."""
        for split in splits:
            position, end = split.start, split.end
            if not isinstance(position, dict) or not isinstance(position.get("offset"), int):
                raise SourceError(f"source '{self._context.uid}': split '{split.id}' has no offset but {position!r}")
            last = end.get("offset") if isinstance(end, dict) else None
            place = _Place(split, position.get("topic"), position["offset"], last if isinstance(last, int) else None)
            if place.end is not None and place.next >= place.end:
                place.done = True
                self._announce.add(split.id)
            self._places[parse_split_id(split.id)] = place
        self._open()
        added = [parse_split_id(split.id) for split in splits]
        reading = [TopicPartition(t, p, self._places[t, p].next) for t, p in added if not self._places[t, p].done]
        if reading:
            assert self._consumer is not None
            try:
                self._consumer.incremental_assign(reading)
            except KafkaException as error:
                raise source_unavailable(self._s.bootstrap, "assigning partitions", error) from error

    def _open(self) -> None:
        if self._consumer is not None:
            return
        self._check_topics()
        name = f"tidegate-{secrets.token_hex(6)}"
        group = self._s.group or f"tidegate-{self._context.job}"
        settings = consumer_settings(self._s.bootstrap, group, self._s.client)
        settings |= {"client.id": name, "error_cb": self._error}
        self._consumer = make_client(Consumer, settings)
        self._batches = open_batches(
            self._consumer,
            settings,
            rows_max=BATCH_ROWS_MAX,
            keys=self._need_keys,
            timestamps=self._need_time,
            headers=self._need_headers,
        )

    def _check_topics(self) -> None:
        """Refuse a topic that was deleted and made again: its offsets mean other records now."""
        from .enumerator import KafkaEnumerator  # noqa: PLC0415 (a short-lived look)

        enumerator = KafkaEnumerator(self._s, self._context.job, self._context.uid)
        try:
            ids = enumerator.topic_ids(sorted({topic for topic, _ in self._places}))
        finally:
            enumerator.close()
        for (topic, _), place in self._places.items():
            if place.topic_id is not None and ids.get(topic) != place.topic_id:
                raise SourceError(
                    f"source '{self._context.uid}': topic '{topic}' was deleted and made again "
                    f"(its id was {place.topic_id}, now {ids.get(topic)}), so offset {place.next} means another record",
                    hint="start under a new job name, or bring the old topic back",
                )

    def _error(self, error: KafkaError) -> None:
        """Called by the client for what belongs to no partition; it goes on trying by itself."""
        self._complaints.hear(error)
        if error.code() == ALL_BROKERS_DOWN and self._down_since is None:
            self._down_since = time.monotonic()
            log.warning(
                "source '%s': no Kafka broker answers at %s (%s); waiting for one",
                self._context.uid, self._s.bootstrap, self._complaints.last,
            )  # fmt: skip

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        """Return the next decoded batch."""
        if self._batches is None:
            time.sleep(timeout_s)  # no partition is assigned: there is nothing else to wait for
            return None
        raw = self._batches.poll(max_rows, min(timeout_s, FIRST_WAIT_S))
        caught_up = self._events(raw.events)
        if len(raw):
            self._down_since = None
        elif self._down_since is not None and time.monotonic() - self._down_since > DOWN_TIMEOUT_S:
            self._check_down()
        finished = {*self._announce}
        self._announce.clear()
        raw = self._cut(raw)
        if not len(raw):
            finished |= self._finish()
            if not caught_up and not finished:
                return None
            positions = {s: self._position(self._places[parse_split_id(s)]) for s in caught_up}
            return SourceBatch(
                self._decoder.empty(), positions, caught_up=frozenset(caught_up), finished=frozenset(finished)
            )
        return self._decode(raw, caught_up, finished)

    def _check_down(self) -> None:
        """Raise unless a broker answers again, which an idle topic does not show by itself."""
        assert self._consumer is not None
        try:
            self._consumer.list_topics(self._s.topics[0] if self._s.topics else None, timeout=DOWN_CHECK_TIMEOUT_S)
        except KafkaException as error:
            raise SourceUnavailableError(
                f"source '{self._context.uid}': no Kafka broker at {self._s.bootstrap} for {DOWN_TIMEOUT_S:.0f} s "
                f"({self._complaints.last})",
                hint="the job goes on from its last checkpoint when the brokers are back",
            ) from error
        self._down_since = None

    def _events(self, events: Sequence[Event]) -> set[str]:
        caught_up = set()
        for event in events:
            place = self._places.get((event.topic, event.partition))
            if event.code == PARTITION_EOF and place is not None:
                # The end lies behind transaction markers, which are no records but have offsets.
                place.next = max(place.next, event.offset)
                caught_up.add(place.split.id)
            else:
                self._refuse(event, place)
        return caught_up

    def _refuse(self, event: Event, place: _Place | None) -> None:
        where = f"source '{self._context.uid}': topic '{event.topic}' partition {event.partition}"
        if event.code in {OFFSET_OUT_OF_RANGE, NO_OFFSET, AUTO_OFFSET_RESET}:
            at = place.next if place is not None else event.offset
            if self._s.on_out_of_range == "fail" or place is None or self._consumer is None:
                raise SourceError(
                    f"{where}: offset {at} is not there any more: {event.text}",
                    hint='records were deleted before they were read; on_out_of_range="earliest" reads what is left',
                )
            self._begin_again(self._consumer, event, place)
        elif event.code in UNKNOWN:
            raise SourceError(
                f"{where} {UNKNOWN[event.code]}: {event.text}", hint="check the topic and the rights on it"
            )
        elif event.code >= 0:
            raise SourceError(f"{where}: {event.text}", hint="see the broker's log")

    def _begin_again(self, consumer: Consumer, event: Event, place: _Place) -> None:
        """Go on at the first or behind the last record; the client has stopped the partition, so assign it anew."""
        partition = TopicPartition(event.topic, event.partition)
        try:
            low, high = consumer.get_watermark_offsets(partition, timeout=WATERMARK_TIMEOUT_S)
            before, place.next = place.next, low if self._s.on_out_of_range == "earliest" else high
            consumer.incremental_unassign([partition])
            consumer.incremental_assign([TopicPartition(event.topic, event.partition, place.next)])
        except KafkaException as error:
            raise source_unavailable(self._s.bootstrap, f"looking for the records of {partition}", error) from error
        log.warning(
            "source '%s': topic '%s' partition %d: offset %d is not there any more, going on at %d (on_out_of_range)",
            self._context.uid, event.topic, event.partition, before, place.next,
        )  # fmt: skip

    def _cut(self, raw: RawBatch) -> RawBatch:
        """Drop records at or behind bounded ends."""
        ends = [self._places[place].end if place in self._places else None for place in raw.places]
        if not len(raw) or all(end is None for end in ends):
            return raw
        limits = np.array([np.iinfo(np.int64).max if end is None else end for end in ends], np.int64)
        inside = raw.offsets < limits[raw.place]
        for index in np.unique(raw.place[~inside]):
            # A record at the end or behind it shows that everything before it has been read.
            place = self._places[raw.places[int(index)]]
            place.next = max(place.next, place.end or 0)
        if inside.all():
            return raw
        mask = pa.array(inside)
        return RawBatch(
            raw.places, raw.place[inside], raw.offsets[inside], raw.values.filter(mask),
            None if raw.keys is None else raw.keys.filter(mask),
            None if raw.timestamps is None else raw.timestamps[inside],
            None if raw.headers is None else raw.headers.filter(mask),
        )  # fmt: skip

    def _decode(self, raw: RawBatch, caught_up: set[str], finished: set[str]) -> SourceBatch:
        indexes = [self._places[place].split.index if place in self._places else -1 for place in raw.places]
        decoded = self._decoder.decode(raw, indexes)
        positions = self._advance(raw)
        finished |= self._finish()
        return SourceBatch(
            decoded.frame,
            {**positions, **{s: self._position(self._places[parse_split_id(s)]) for s in caught_up}},
            decoded.max_time,
            decoded.skipped,
            frozenset(caught_up),
            frozenset(finished),
        )

    def _advance(self, raw: RawBatch) -> dict[str, Position]:
        moved: dict[str, Position] = {}
        for index in np.unique(raw.place):
            place = self._places[raw.places[int(index)]]
            place.next = max(place.next, int(raw.offsets[raw.place == index][-1]) + 1)
            moved[place.split.id] = self._position(place)
        return moved

    def _position(self, place: _Place) -> dict[str, object]:
        offset = place.next if place.end is None else min(place.next, place.end)
        return {"offset": offset, "topic": place.topic_id}

    def _finish(self) -> set[str]:
        """Stop reading partitions that reached their end."""
        over = [p for p in self._places.values() if p.end is not None and not p.done and p.next >= p.end]
        for place in over:
            place.done = True
        if over and self._consumer is not None:
            places = [TopicPartition(*parse_split_id(place.split.id)) for place in over]
            self._consumer.incremental_unassign(places)
        return {place.split.id for place in over}

    def close(self) -> None:
        """Close the consumer."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
