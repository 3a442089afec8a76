"""The sink port: one suite for every implementation."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import polars as pl
import pytest
from tidegate.engine.errors import FencedError, JobInvalidError, LedgerMismatchError, ProtocolError, SinkError
from tidegate.engine.ports.sink import CommitOutcome, LedgerEntry, Permit, Sink, SinkCommitter, SinkContext

from support.outputs import FilesOutput, KafkaOutput, MemoryOutput, Output, frame

JOB_UID: Final = "0123456789abcdef"
UID: Final = "out"
SUBTASKS: Final = (0, 1)


@pytest.fixture(params=["memory", "files", "kafka"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Output:
    """An empty output of every kind."""
    match request.param:
        case "memory":
            return MemoryOutput()
        case "files":
            return FilesOutput(tmp_path)
        case _:
            broker = request.getfixturevalue("kafka")
            return KafkaOutput(request.getfixturevalue("topics"), broker.bootstrap)


@pytest.fixture
def job() -> str:
    """A job name that nobody has used."""
    return f"contract-{uuid.uuid4().hex[:8]}"


def context(sink: Sink, job: str, attempt: int = 1, job_uid: str = JOB_UID) -> SinkContext:
    """Prepare a sink for an attempt; its target goes through a manifest."""
    target = json.loads(json.dumps(sink.prepare(job, job_uid, UID, None if attempt == 1 else _targets[job])))
    _targets[job] = target
    return SinkContext(job, job_uid, UID, attempt, len(SUBTASKS), target)


_targets: dict[str, Mapping[str, object]] = {}


@contextmanager
def committer(sink: Sink, at: SinkContext) -> Iterator[SinkCommitter]:
    """A committer that is closed in the end."""
    with closing(sink.open_committer(at)) as opened:
        yield opened


def commit(
    sink: Sink, at: SinkContext, owner: SinkCommitter, subtask: int, epoch: int, *frames: pl.DataFrame
) -> CommitOutcome:
    """Fence, read and commit rows, as the engine does."""
    fences = owner.fence([subtask])
    owner.last_committed(fences)
    encoder = sink.open_encoder(at)
    permit = Permit(at.job_uid, UID, subtask, epoch, at.attempt)
    return owner.commit(fences[0], permit, [encoder.encode(rows) for rows in frames])


def entries(owner: SinkCommitter, subtasks: Sequence[int] = SUBTASKS) -> Mapping[int, LedgerEntry | None]:
    """Fence and read the ledger."""
    return owner.last_committed(owner.fence(subtasks))


def epochs(found: Mapping[int, LedgerEntry | None]) -> dict[int, int | None]:
    """The epochs of ledger entries."""
    return {subtask: None if entry is None else entry.epoch for subtask, entry in found.items()}


def numbers(output: Output) -> list[object]:
    """Column n of what readers see."""
    return [row["n"] for row in output.rows()]


def test_a_new_ledger_knows_nothing(output: Output, job: str) -> None:
    sink = output.sink()
    with committer(sink, context(sink, job)) as owner:
        assert entries(owner) == {0: None, 1: None}


def test_committed_rows_are_visible_and_in_the_ledger(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    with committer(sink, at) as owner:
        assert commit(sink, at, owner, 0, 1, frame(0, 3)) is CommitOutcome.COMMITTED
        assert output.rows() == [{"n": n, "name": f"name {n} \u00e4\n"} for n in range(3)]
        assert epochs(entries(owner)) == {0: 1, 1: None}


def test_the_ledger_tells_attempt_and_parts(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    with committer(sink, at) as owner:
        fence = owner.fence([0])[0]
        owner.last_committed([fence])
        batch = sink.open_encoder(at).encode(frame(0, 2))
        assert owner.commit(fence, Permit(JOB_UID, UID, 0, 7, 1, part=0, parts=2), [batch]) is CommitOutcome.COMMITTED
        entry = entries(owner)[0]
        assert entry == LedgerEntry(1 if output.tells_attempts else 0, 7, 0, 2)
        assert not entry.complete
        fence = owner.fence([0])[0]
        owner.last_committed([fence])
        assert owner.commit(fence, Permit(JOB_UID, UID, 0, 7, 1, part=1, parts=2), [batch]) is CommitOutcome.COMMITTED
        last = entries(owner)[0]
        assert last is not None
        assert last.complete
        assert numbers(output) == [0, 1, 0, 1]


def test_nothing_is_visible_before_it_is_committed(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    with committer(sink, at) as owner:
        sink.open_encoder(at).encode(frame(0, 3))
        owner.fence(SUBTASKS)
        assert output.rows() == []


def test_rows_of_a_subtask_keep_their_order_over_batches_and_epochs(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    with committer(sink, at) as owner:
        commit(sink, at, owner, 0, 1, frame(0, 50), frame(50, 1), frame(51, 49))
        commit(sink, at, owner, 0, 2, frame(100, 20))
        commit(sink, at, owner, 0, 5, frame(120, 30))
    assert numbers(output) == list(range(150))


def test_one_fence_serves_for_many_commits(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    with committer(sink, at) as owner:
        fence = owner.fence([0])[0]
        owner.last_committed([fence])
        for epoch in range(1, 4):
            batch = sink.open_encoder(at).encode(frame(epoch, 1))
            assert owner.commit(fence, Permit(JOB_UID, UID, 0, epoch, 1), [batch]) is CommitOutcome.COMMITTED
        assert epochs(entries(owner, [0])) == {0: 3}
    assert numbers(output) == [1, 2, 3]


def test_subtasks_have_ledger_entries_of_their_own(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    with committer(sink, at) as owner:
        commit(sink, at, owner, 0, 3, frame(0, 1))
        commit(sink, at, owner, 1, 2, frame(1, 1))
        assert epochs(entries(owner)) == {0: 3, 1: 2}
        assert epochs(entries(owner, [1])) == {1: 2}
        assert entries(owner, []) == {}


def test_a_new_owner_knows_what_the_last_one_committed(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    with committer(sink, at) as owner:
        commit(sink, at, owner, 0, 4, frame(0, 2))
    again = output.sink()
    later = context(again, job, attempt=2)
    with committer(again, later) as owner:
        assert epochs(entries(owner)) == {0: 4, 1: None}
        commit(again, later, owner, 0, 5, frame(2, 2))
        assert epochs(entries(owner)) == {0: 5, 1: None}
    assert numbers(output) == [0, 1, 2, 3]


def test_an_older_owner_that_commits_late_doubles_nothing(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    with committer(sink, at) as old:
        fence = old.fence([0])[0]
        old.last_committed([fence])
        later = context(sink, job, attempt=2)
        with committer(sink, later) as new:
            commit(sink, later, new, 0, 1, frame(0, 3))
            batch = sink.open_encoder(at).encode(frame(0, 3))
            try:
                old.commit(fence, Permit(JOB_UID, UID, 0, 1, 1), [batch])
            except FencedError:
                assert output.tells_attempts, "a sink that fences tells who it was"
            assert epochs(entries(new, [0])) == {0: 1}
    assert numbers(output) == [0, 1, 2]


def test_a_fence_of_an_earlier_life_is_not_taken(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    with committer(sink, at) as owner:
        first = owner.fence([0])[0]
        owner.fence([0])
        batch = sink.open_encoder(at).encode(frame(0, 1))
        try:
            owner.commit(first, Permit(JOB_UID, UID, 0, 1, 1), [batch])
        except ProtocolError:
            assert output.rows() == []
        assert len(output.rows()) <= 1


def test_a_committer_is_closed_twice(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    owner = sink.open_committer(at)
    commit(sink, at, owner, 0, 1, frame(0, 1))
    owner.close()
    owner.close()
    sink.open_committer(at).close()


def test_preparing_again_finds_the_same_target(output: Output, job: str) -> None:
    target = dict(output.sink().prepare(job, JOB_UID, UID, None))
    assert json.loads(json.dumps(target)) == target
    assert dict(output.sink().prepare(job, JOB_UID, UID, target)) == target


def test_another_target_than_output_was_decided_for_is_refused(output: Output, job: str) -> None:
    target = output.sink().prepare(job, JOB_UID, UID, None)
    with pytest.raises(SinkError) as refused:
        output.elsewhere().prepare(job, JOB_UID, UID, target)
    assert UID in str(refused.value)
    assert refused.value.hint


def test_a_target_with_output_of_another_life_of_the_job_is_refused(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    with committer(sink, at) as owner:
        commit(sink, at, owner, 0, 1, frame(0, 1))
    with pytest.raises((LedgerMismatchError, SinkError)) as refused:
        output.sink().prepare(job, "fedcba9876543210", UID, None)
    assert refused.value.hint


def test_encoding_keeps_rows_and_leaves_hidden_columns_out(output: Output, job: str) -> None:
    sink = output.sink()
    encoder = sink.open_encoder(context(sink, job))
    assert [encoder.encode(frame(0, count)).num_rows for count in (0, 1, 1_000)] == [0, 1, 1_000]
    assert encoder.encode(frame(0, 0)).schema == encoder.encode(frame(0, 1)).schema


def test_what_cannot_be_written_is_refused_when_the_job_is_built(output: Output) -> None:
    output.sink().check({"n": pl.Int64(), "name": pl.String()})
    with pytest.raises(JobInvalidError, match="thing"):
        output.sink().check({"n": pl.Int64(), "thing": pl.Object()})


def test_rows_written_at_least_once_are_visible_after_a_flush(output: Output, job: str) -> None:
    sink = output.sink()
    at = context(sink, job)
    encoder, writer = sink.open_encoder(at), sink.open_writer(at)
    writer.write(encoder.encode(frame(0, 3)))
    writer.write(encoder.encode(frame(3, 3)))
    writer.flush()
    assert numbers(output) == list(range(6))
    writer.flush()
    writer.write(encoder.encode(frame(6, 1)))
    writer.flush()
    assert numbers(output) == list(range(7))
    writer.close()
    writer.close()


def test_a_sink_says_what_it_is(output: Output) -> None:
    sink = output.sink()
    assert isinstance(sink, Sink)
    assert sink.kind
    assert sink.delivery is None
    json.dumps(dict(sink.describe()))
