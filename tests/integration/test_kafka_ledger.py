"""The ledger is read up to its real end, whatever transactions of others are open in it."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest
import tidegate as tg
from confluent_kafka import Producer
from tidegate.engine.errors import FencedError, LedgerMismatchError, ProtocolError
from tidegate.engine.ports.sink import CommitOutcome, LedgerEntry, Permit, SinkCommitter, SinkContext

from services.kafka import KafkaBroker
from services.processes import wait_until
from services.topics import Topics

UID = "0123456789abcdef"
SCHEMA = pa.schema([("key", pa.large_binary()), ("value", pa.large_binary()), ("partition", pa.int32())])


def batch(*values: bytes) -> pa.RecordBatch:
    """Outbox rows without key, for partition 0."""
    return pa.RecordBatch.from_pydict(
        {"key": [None] * len(values), "value": list(values), "partition": [0] * len(values)}, schema=SCHEMA
    )


class Committers:
    """Committers of one sink of one job."""

    def __init__(self, kafka: KafkaBroker, topics: Topics) -> None:
        self.topic = topics.create("out", 1)
        self.job = topics.name("job")
        self.sink = tg.KafkaSink(self.topic, bootstrap=kafka.bootstrap)
        self.target = self.sink.prepare(self.job, UID, "out", None)

    def output(self, topics: Topics) -> list[bytes]:
        """What a read_committed reader sees."""
        return topics.read(self.topic)["value"].to_list()

    def one(self, attempt: int = 1) -> SinkCommitter:
        """Open a committer, as a worker does."""
        context = SinkContext(self.job, UID, "out", attempt, 2, self.target)
        return self.sink.open_committer(context)


@pytest.fixture
def committers(kafka: KafkaBroker, topics: Topics) -> Committers:
    """Committers on a new topic and ledger."""
    return Committers(kafka, topics)


def permit(epoch: int, subtask: int = 0, attempt: int = 1) -> Permit:
    """A permit of sink `out`."""
    return Permit(UID, "out", subtask, epoch, attempt)


def test_an_open_transaction_of_somebody_else_does_not_hide_what_was_committed_behind_it(
    committers: Committers, kafka: KafkaBroker, topics: Topics
) -> None:
    committer = committers.one()
    [fence] = committer.fence([0])
    # Another id opens a transaction in the ledger and leaves it open: the last stable offset stays below it.
    ledger = str(committers.target["ledger"])
    other = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": topics.name("other")})
    other.init_transactions(30)
    other.begin_transaction()
    other.produce(ledger, b"{}", b"out/1/begin", 0)
    other.flush(30)
    assert committer.commit(fence, permit(7), [batch(b"x")]) is CommitOutcome.COMMITTED
    [again] = committer.fence([0])
    reading = threading.Event()
    found: list[object] = []

    def read() -> None:
        reading.set()
        found.append(committer.last_committed([again]))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    reading.wait(10)
    thread.join(2)
    assert not found, "the read must wait for the open transaction"
    other.abort_transaction(30)
    wait_until("the ledger to be read", lambda: bool(found), 30)
    assert found == [{0: LedgerEntry(1, 7)}]


def test_a_newer_fence_makes_the_older_owner_fail_and_publishes_nothing_of_it(
    committers: Committers, topics: Topics
) -> None:
    zombie, successor = committers.one(1), committers.one(2)
    [old] = zombie.fence([0])
    assert zombie.commit(old, permit(1), [batch(b"first")]) is CommitOutcome.COMMITTED
    [new] = successor.fence([0])
    assert successor.last_committed([new]) == {0: LedgerEntry(1, 1)}
    with pytest.raises(FencedError):
        zombie.commit(old, permit(2), [batch(b"late")])
    assert successor.commit(new, permit(2, attempt=2), [batch(b"second")]) is CommitOutcome.COMMITTED
    assert committers.output(topics) == [b"first", b"second"]


def test_a_fence_serves_only_until_the_next_one_is_made(committers: Committers, topics: Topics) -> None:
    committer = committers.one()
    [first] = committer.fence([0])
    [second] = committer.fence([0])
    with pytest.raises(ProtocolError, match="not valid any more"):
        committer.commit(first, permit(1), [batch(b"x")])
    assert committer.commit(second, permit(1), [batch(b"y")]) is CommitOutcome.COMMITTED
    assert committers.output(topics) == [b"y"]


def test_a_torn_transaction_in_the_ledger_stops_loudly(committers: Committers, topics: Topics) -> None:
    committer = committers.one()
    topics.produce(str(committers.target["ledger"]), [b'{"epoch":3}'], keys=[b"out/0/begin"], partition=0)
    [fence] = committer.fence([0])
    with pytest.raises(LedgerMismatchError, match="torn transaction of sink 'out' subtask 0"):
        committer.last_committed([fence])


def test_a_ledger_that_is_gone_stops_the_start_instead_of_being_made_again(
    committers: Committers, topics: Topics
) -> None:
    topics.delete(str(committers.target["ledger"]))
    with pytest.raises(LedgerMismatchError, match="is gone"):
        committers.sink.prepare(committers.job, UID, "out", committers.target)


def test_a_ledger_of_another_storage_stops_the_start_and_names_both(committers: Committers) -> None:
    with pytest.raises(LedgerMismatchError, match=f"job uid fedcba9876543210.*{UID}"):
        committers.sink.prepare(committers.job, "fedcba9876543210", "out", None)
