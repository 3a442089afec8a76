"""The ledger: which epochs of which sink subtasks are committed, as records inside the transactions that commit them.

Each transaction begins and ends with a record, under the keys `<sink>/<subtask>/begin` and `<sink>/<subtask>/end`. Both
carry the same commit: job uid, attempt, epoch, part, parts and a random mark. Compaction keeps the newest of each. A
newest begin that has no equal end in the committed part of the topic is a torn transaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from ...engine.errors import LedgerMismatchError, SinkUnavailableError
from ...engine.ports.sink import LedgerEntry, Permit
from .client import base_settings, make_client, patiently, sink_unavailable

if TYPE_CHECKING:
    from .sink import SinkSettings

READ_TIMEOUT_S: Final = 30.0
"""How long a read may take, waiting for transactions of others in the same ledger included."""
BATCH: Final = 1000


@dataclass(frozen=True)
class Mark:
    """One end of a transaction as the ledger has it."""

    job_uid: str
    attempt: int
    epoch: int
    part: int
    parts: int
    nonce: str

    def encode(self) -> bytes:
        """Return the record's value."""
        return json.dumps(self.__dict__, separators=(",", ":"), sort_keys=True).encode()


def mark_of(permit: Permit, nonce: str) -> Mark:
    """Return the mark of a commit."""
    return Mark(permit.job_uid, permit.attempt, permit.epoch, permit.part, permit.parts, nonce)


def key_of(sink_uid: str, subtask: int, end: str) -> bytes:
    """Return the record's key; `end` is `begin` or `end`."""
    return f"{sink_uid}/{subtask}/{end}".encode()


class Ledger:
    """Reads a ledger topic. A consumer of its own, used by one thread."""

    def __init__(self, settings: SinkSettings, topic: str, job_uid: str) -> None:
        self._s = settings
        self._topic = topic
        self._job_uid = job_uid
        self._consumer: Consumer | None = None
        self._admin: AdminClient | None = None

    def read(self, sink_uid: str, subtasks: Iterable[int]) -> dict[int, LedgerEntry | None]:
        """Return the newest committed entry of each subtask, up to the end of the topic at the time of the call.

        Waits until every transaction that is open in the topic now has ended, so that nothing before is missed.
        """
        try:
            latest = self._latest()
        except KafkaException as error:
            # New clients next time: these may remember the leader of before a broker's restart, and be refused for it.
            self.close()
            raise sink_unavailable(self._s.bootstrap, f"reading ledger '{self._topic}'", error) from error
        return {subtask: self._entry(latest, sink_uid, subtask) for subtask in subtasks}

    def _entry(self, latest: dict[bytes, bytes], sink_uid: str, subtask: int) -> LedgerEntry | None:
        begin = latest.get(key_of(sink_uid, subtask, "begin"))
        end = latest.get(key_of(sink_uid, subtask, "end"))
        if begin != end:
            raise LedgerMismatchError(
                f"ledger '{self._topic}' has a torn transaction of sink '{sink_uid}' subtask {subtask}: "
                f"it begins with {_shown(begin)} and ends with {_shown(end)}",
                hint="part of an epoch may be visible; compare the output topic with the outboxes before going on",
            )
        if end is None:
            return None
        mark = self._parse(end)
        if mark.job_uid != self._job_uid:
            raise LedgerMismatchError(
                f"ledger '{self._topic}' holds an entry of job uid {mark.job_uid}, this job is {self._job_uid}",
                hint="two storages use one job name on this cluster; give one of them another name",
            )
        return LedgerEntry(mark.attempt, mark.epoch, mark.part, mark.parts)

    def _parse(self, value: bytes) -> Mark:
        try:
            found = json.loads(value)
            return Mark(**{**found, "epoch": int(found["epoch"]), "attempt": int(found["attempt"])})
        except (ValueError, TypeError, KeyError) as error:
            raise LedgerMismatchError(
                f"ledger '{self._topic}' holds a record that is no entry: {_shown(value)}",
                hint="somebody else wrote to it; only Tidegate may",
            ) from error

    def _latest(self) -> dict[bytes, bytes]:
        consumer = self._open()
        place = TopicPartition(self._topic, 0)
        low, high = self._bounds()
        latest: dict[bytes, bytes] = {}
        if high <= low:
            return latest
        consumer.assign([TopicPartition(self._topic, 0, low)])
        deadline = time.monotonic() + READ_TIMEOUT_S
        try:
            while self._behind(consumer, place, high):
                for message in consumer.consume(BATCH, 0.02):
                    error = message.error()
                    if error is not None:
                        self._check(error)
                    elif (key := message.key()) is not None:
                        latest[key] = message.value() or b""
                if time.monotonic() > deadline:
                    raise SinkUnavailableError(
                        f"ledger '{self._topic}' could not be read up to offset {high} within {READ_TIMEOUT_S:.0f} s",
                        hint="an open transaction of another writer holds it back, or the broker is slow",
                    )
        finally:
            consumer.unassign()
        return latest

    def _bounds(self) -> tuple[int, int]:
        """Return the first offset and the end, open transactions included.

        Asked as a read_uncommitted reader: as read_committed the answer would be the last stable offset, which an open
        transaction of anybody holds below what others committed behind it.
        """
        if self._admin is None:
            self._admin = make_client(AdminClient, base_settings(self._s.bootstrap, self._s.client))
        admin, place = self._admin, TopicPartition(self._topic, 0)

        def ask(spec: OffsetSpec) -> int:
            level = IsolationLevel.READ_UNCOMMITTED
            answer = admin.list_offsets({place: spec}, isolation_level=level, request_timeout=READ_TIMEOUT_S)
            offset: int = answer[place].result().offset
            return offset

        return patiently(lambda: ask(OffsetSpec.earliest())), patiently(lambda: ask(OffsetSpec.latest()))

    @staticmethod
    def _behind(consumer: Consumer, place: TopicPartition, high: int) -> bool:
        position = consumer.position([place])[0].offset
        return position < high

    def _check(self, error: KafkaError) -> None:
        if error.code() != KafkaError._PARTITION_EOF and error.code() >= 0:  # noqa: SLF001 (its public name)
            raise KafkaException(error)

    def _open(self) -> Consumer:
        if self._consumer is None:
            self._consumer = make_client(
                Consumer,
                {
                    **base_settings(self._s.bootstrap, self._s.client),
                    "group.id": "tidegate-ledger",
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "earliest",
                    "enable.partition.eof": True,
                    "fetch.wait.max.ms": 10,
                    "fetch.queue.backoff.ms": 10,
                },
            )
        return self._consumer

    def close(self) -> None:
        """Give the clients back; the next read opens new ones."""
        self._admin = None
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None


def _shown(value: bytes | None) -> str:
    return "nothing" if value is None else repr(value[:200])
