"""Commits outboxes to Kafka: one transaction per permit, with the ledger entry inside.

A fence is a producer object whose own `init_transactions` has returned: what an older owner left open is aborted, and
every older owner gets an error from then on. It serves until the first commit that is not certainly committed.

Committed means: the client reported success, within COMMIT_TIMEOUT_S, and saw no connection trouble meanwhile.
librdkafka repeats EndTxn silently after a disconnect, and a late copy could end the next transaction of the same id; so
success with trouble on the way counts as unknown.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer

from ...engine.errors import FencedError, ProtocolError, SinkError
from ...engine.ports.sink import CommitOutcome, Fence, LedgerEntry, Permit, SinkContext
from .client import make_client, producer_settings, sink_unavailable, text_of
from .ledger import Ledger, key_of, mark_of
from .librdkafka import handle_of
from .produce import BatchProducer

if TYPE_CHECKING:
    from .sink import SinkSettings

INIT_TIMEOUT_S: Final = 60.0
FLUSH_TIMEOUT_S: Final = 60.0
COMMIT_TIMEOUT_S: Final = 20.0
ABORT_TIMEOUT_S: Final = 10.0
PARALLEL_FENCES_MAX: Final = 16
FENCED: Final = frozenset(
    {
        KafkaError._FENCED,  # noqa: SLF001 (its public name)
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
    }
)
NEVER: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TRANSACTION_TIMEOUT,
    }
)


@dataclass
class ProducerFence:
    """A producer that owns a transactional id, and what happened to its connections."""

    subtask: int
    producer: Producer
    handle: int | None
    trouble: list[str] = field(default_factory=list)
    failed: list[KafkaError] = field(default_factory=list)
    void: bool = False


def transactional_id(context: SinkContext, subtask: int) -> str:
    """Return the id under which a sink subtask commits; it outlives attempts and layouts."""
    return f"tidegate-{context.job}-{context.job_uid}-{context.uid}-{subtask}"


class KafkaCommitter:
    """A `SinkCommitter` for one topic."""

    def __init__(self, settings: SinkSettings, context: SinkContext) -> None:
        self._s = settings
        self._context = context
        self._ledger_topic = str(context.target["ledger"])
        self._ledger = Ledger(settings, self._ledger_topic, context.job_uid)
        self._fences: dict[int, ProducerFence] = {}

    def fence(self, subtasks: Sequence[int]) -> Sequence[Fence]:
        """Take over the ids of these subtasks with new producers."""
        for subtask in subtasks:
            old = self._fences.pop(subtask, None)
            if old is not None:
                old.void = True
        with ThreadPoolExecutor(min(max(len(subtasks), 1), PARALLEL_FENCES_MAX)) as pool:
            fences = list(pool.map(self._fence, subtasks))
        self._fences.update({fence.subtask: fence for fence in fences})
        return fences

    def _fence(self, subtask: int) -> ProducerFence:
        name = f"tidegate-{secrets.token_hex(6)}"
        trouble: list[str] = []
        settings = {
            **producer_settings(self._s.bootstrap, self._s.client, self._s.transaction_timeout_ms),
            "client.id": name,
            "transactional.id": transactional_id(self._context, subtask),
            # Connection trouble has to be seen: it turns a reported success into an unknown outcome.
            "log.connection.close": True,
            "error_cb": lambda error: trouble.append(text_of(error)),
        }
        producer = make_client(Producer, settings)
        try:
            producer.init_transactions(INIT_TIMEOUT_S)
        except KafkaException as error:
            raise self._classified(error, f"taking over transactional id of subtask {subtask}") from error
        return ProducerFence(subtask, producer, handle_of(producer, name), trouble)

    def last_committed(self, fences: Sequence[Fence]) -> Mapping[int, LedgerEntry | None]:
        """Read the ledger."""
        return self._ledger.read(self._context.uid, [fence.subtask for fence in fences])

    def commit(self, fence: Fence, permit: Permit, batches: Iterable[pa.RecordBatch]) -> CommitOutcome:
        """Publish one part of an epoch's output together with its ledger entry."""
        owner = self._fences.get(fence.subtask)
        if owner is not fence or owner.void or permit.subtask != fence.subtask:
            raise ProtocolError(
                f"sink '{self._context.uid}' subtask {permit.subtask}: the fence in hand is not valid any more"
            )
        owner.trouble.clear()
        owner.failed.clear()
        try:
            self._send(owner, permit, batches)
        except KafkaException as error:
            owner.void = True
            failure = self._classified(error, f"writing epoch {permit.epoch}")
            self._abort(owner)
            raise failure from error
        if owner.failed:
            owner.void = True
            failure = self._classified(KafkaException(owner.failed[0]), f"writing epoch {permit.epoch}")
            self._abort(owner)
            raise failure
        return self._end(owner, permit)

    def _send(self, owner: ProducerFence, permit: Permit, batches: Iterable[pa.RecordBatch]) -> None:
        mark = mark_of(permit, secrets.token_hex(8)).encode()
        producer = owner.producer
        producer.begin_transaction()
        self._entry(owner, permit, "begin", mark)
        sender = BatchProducer(producer, owner.handle, self._s.topic)
        try:
            for batch in batches:
                sender.send(batch)
        finally:
            sender.close()
        self._entry(owner, permit, "end", mark)
        # Everything has to be acknowledged before the end is asked for: an abort before the first acknowledgement
        # can be fatal for the client, and a failed record shows here with its own reason.
        if _flush(producer):
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 (its public name)

    def _entry(self, owner: ProducerFence, permit: Permit, end: str, mark: bytes) -> None:
        def delivered(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                owner.failed.append(error)

        key = key_of(permit.sink_uid, permit.subtask, end)
        owner.producer.produce(self._ledger_topic, mark, key, 0, on_delivery=delivered)

    def _end(self, owner: ProducerFence, permit: Permit) -> CommitOutcome:
        started = time.monotonic()
        try:
            owner.producer.commit_transaction(COMMIT_TIMEOUT_S)
        except KafkaException as error:
            owner.void = True
            inner = error.args[0]
            if inner.code() in FENCED:
                raise self._classified(error, f"committing epoch {permit.epoch}") from error
            if inner.code() in NEVER:
                failure = self._classified(error, f"committing epoch {permit.epoch}")
                self._abort(owner)
                raise failure from error
            # Perhaps it was committed all the same; only the ledger can tell.
            return CommitOutcome.UNKNOWN
        owner.producer.poll(0)
        if owner.trouble or time.monotonic() - started > COMMIT_TIMEOUT_S:
            owner.void = True
            return CommitOutcome.UNKNOWN
        return CommitOutcome.COMMITTED

    def _abort(self, owner: ProducerFence) -> None:
        """Abort as a courtesy to readers; whether it works does not matter, the next fence aborts in any case."""
        try:
            owner.producer.abort_transaction(ABORT_TIMEOUT_S)
        except KafkaException:
            return

    def _classified(self, error: KafkaException, doing: str) -> SinkError | FencedError:
        inner = error.args[0]
        where = f"sink '{self._context.uid}' to topic '{self._s.topic}'"
        if inner.code() in FENCED:
            return FencedError(f"{where}: {doing}: {text_of(error)}")
        if inner.code() in NEVER:
            return SinkError(
                f"{where}: {doing} can never succeed: {text_of(error)}",
                hint="the output stays in its outbox; mend the topic, its limits or the rights, and start again",
            )
        return sink_unavailable(self._s.bootstrap, f"{where}: {doing}", error)

    def close(self) -> None:
        """Give the clients back; what is open is aborted by the next owner."""
        self._fences.clear()
        self._ledger.close()


def _flush(producer: Producer) -> int:
    """Wait until everything is acknowledged; return how many records are not. Raises `KafkaException`."""
    try:
        return producer.flush(FLUSH_TIMEOUT_S)
    except SystemError as error:
        # For a fatal error the client raises its own exception and calls delivery callbacks all the same, which Python
        # reports like this. The next call says what the error was; with an abort nothing can become visible.
        producer.abort_transaction(ABORT_TIMEOUT_S)
        raise KafkaException(KafkaError(KafkaError._FAIL, str(error))) from error  # noqa: SLF001 (its public name)
