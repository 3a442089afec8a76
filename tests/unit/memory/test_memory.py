"""What the memory source and sink do beyond their contracts: names, mishaps, and refusals on demand."""

from __future__ import annotations

import polars as pl
import pytest
import tidegate as tg
from tidegate.engine.errors import FencedError, JobInvalidError, ProtocolError, SinkError, SinkUnavailableError
from tidegate.engine.ids import TIME
from tidegate.engine.ports.sink import CommitOutcome, Fence, LedgerEntry, Permit, SinkCommitter, SinkContext
from tidegate.engine.ports.source import ReaderContext
from tidegate.testing import MemorySink, MemorySource, Mishap

SCHEMA = {"n": pl.Int64}
JOB_UID = "0123456789abcdef"


@pytest.fixture
def sink(request: pytest.FixtureRequest) -> MemorySink:
    """A sink that holds nothing."""
    fresh = MemorySink(request.node.name)
    fresh.forget()
    return fresh


def context(sink: MemorySink, attempt: int = 1) -> SinkContext:
    """A prepared attempt."""
    return SinkContext("job", JOB_UID, "out", attempt, 1, sink.prepare("job", JOB_UID, "out", None))


def fence(committer: SinkCommitter) -> Fence:
    """Fence subtask 0."""
    return committer.fence([0])[0]


def commit(sink: MemorySink, committer: SinkCommitter, by: Fence, epoch: int) -> CommitOutcome:
    """Commit a row that is called like its epoch."""
    batch = sink.open_encoder(context(sink)).encode(pl.DataFrame({"n": [epoch]}))
    return committer.commit(by, Permit(JOB_UID, "out", 0, epoch, 1), [batch])


@pytest.mark.parametrize(
    ("mishap", "outcome", "visible"),
    [
        (Mishap.FAILED, CommitOutcome.FAILED, False),
        (Mishap.UNKNOWN_COMMITTED, CommitOutcome.UNKNOWN, True),
        (Mishap.UNKNOWN_LOST, CommitOutcome.UNKNOWN, False),
    ],
)
def test_a_spoiled_commit_ends_as_asked_and_voids_its_fence(
    sink: MemorySink, mishap: Mishap, outcome: CommitOutcome, visible: bool
) -> None:
    committer = sink.open_committer(context(sink))
    by = fence(committer)
    sink.spoil(mishap)
    assert commit(sink, committer, by, 1) is outcome
    assert sink.rows().height == visible
    with pytest.raises(ProtocolError):
        commit(sink, committer, by, 1)
    again = fence(committer)
    assert committer.last_committed([again]) == {0: LedgerEntry(1, 1) if visible else None}
    assert commit(sink, committer, again, 2) is CommitOutcome.COMMITTED


def test_a_sink_that_cannot_be_reached_says_so(sink: MemorySink) -> None:
    committer = sink.open_committer(context(sink))
    sink.spoil(Mishap.UNAVAILABLE)
    with pytest.raises(SinkUnavailableError):
        commit(sink, committer, fence(committer), 1)
    assert sink.rows().is_empty()


def test_the_last_one_to_fence_owns_the_subtask_whatever_its_attempt(sink: MemorySink) -> None:
    newer, older = sink.open_committer(context(sink, 2)), sink.open_committer(context(sink, 1))
    first = fence(newer)
    last = fence(older)
    with pytest.raises(FencedError):
        commit(sink, newer, first, 1)
    assert commit(sink, older, last, 1) is CommitOutcome.COMMITTED


def test_a_forgotten_target_is_another_one(sink: MemorySink) -> None:
    target = sink.prepare("job", JOB_UID, "out", None)
    sink.forget()
    with pytest.raises(SinkError, match="forgotten"):
        sink.prepare("job", JOB_UID, "out", target)


def test_sources_of_one_name_hold_the_same_rows() -> None:
    MemorySource("shared", [[{"n": 1}], pl.DataFrame({"n": [2, 3]})], schema=SCHEMA)
    other = MemorySource("shared", schema=SCHEMA)
    other.append(0, [{"n": 4}])
    other.append(2, [{"n": 5}])
    splits = other.bounded(True).open_enumerator("job", "in").discover()
    assert [split.end for split in splits] == [2, 2, 1]


def test_without_an_event_time_everything_happens_at_zero() -> None:
    source = MemorySource("timeless", [[{"n": 1}]], schema=SCHEMA)
    reader = source.open_reader(ReaderContext("job", "in", 0, 1))
    reader.assign(source.open_enumerator("job", "in").discover())
    batch = reader.read(10, 0.0)
    assert batch is not None
    assert batch.frame.get_column(TIME).to_list() == [0]


def test_exactly_once_refuses_a_source_that_cannot_seek() -> None:
    job = tg.Job("one-way")
    source = MemorySource("one-way", [[]], schema=SCHEMA, seekable=False)
    job.read(source, uid="in").write(MemorySink("one-way"), uid="out")
    with pytest.raises(JobInvalidError, match="in"):
        job.check_delivery("exactly-once")
    job.check_delivery("at-least-once")
