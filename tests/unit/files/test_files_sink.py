"""Files as a sink: names, hidden work in progress, and what happens when a folder cannot be written to."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import polars as pl
import pyarrow as pa
import pytest
import tidegate as tg
from tidegate.connectors.files.visible import HiddenFile, lines_of
from tidegate.engine.errors import JobInvalidError, SinkError, SinkUnavailableError
from tidegate.engine.ports.sink import LedgerEntry, Permit, SinkCommitter, SinkContext

JOB_UID = "0123456789abcdef"
BATCH = pa.RecordBatch.from_pydict({"value": pa.array([b"a", b"bc"], pa.large_binary())})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the sink writes."""
    return tmp_path / "out"


@pytest.fixture
def at(folder: Path) -> SinkContext:
    """A prepared attempt."""
    target = tg.FilesSink(folder).prepare("job", JOB_UID, "out", None)
    return SinkContext("job", JOB_UID, "out", 3, 2, target)


@pytest.fixture
def committer(folder: Path, at: SinkContext) -> SinkCommitter:
    """A committer."""
    return tg.FilesSink(folder).open_committer(at)


def commit(committer: SinkCommitter, subtask: int, epoch: int, batch: pa.RecordBatch = BATCH) -> None:
    """Commit one batch."""
    fence = committer.fence([subtask])[0]
    committer.commit(fence, Permit(JOB_UID, "out", subtask, epoch, 3), [batch])


def there(folder: Path) -> list[str]:
    """All names in the folder."""
    return sorted(path.name for path in folder.iterdir())


def failing(code: int) -> Callable[..., NoReturn]:
    """A system call that fails."""

    def call(*_: object, **__: object) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return call


def test_a_file_is_named_by_sink_job_epoch_and_subtask(folder: Path, committer: SinkCommitter) -> None:
    commit(committer, 1, 12)
    assert there(folder) == ["out-01234567-000000000012-0001.jsonl"]
    assert (folder / "out-01234567-000000000012-0001.jsonl").read_bytes() == b"a\nbc\n"


def test_committing_twice_leaves_one_file(folder: Path, committer: SinkCommitter) -> None:
    commit(committer, 0, 1)
    inode = (folder / there(folder)[0]).stat().st_ino
    commit(committer, 0, 1)
    assert [(folder / name).stat().st_ino for name in there(folder)] == [inode]


def test_older_files_may_be_moved_away(folder: Path, committer: SinkCommitter) -> None:
    for epoch in (1, 2, 3):
        commit(committer, 0, epoch)
    for name in there(folder)[:2]:
        (folder / name).unlink()
    assert committer.last_committed(committer.fence([0])) == {0: LedgerEntry(0, 3)}


def test_other_files_in_the_folder_mean_nothing(folder: Path, committer: SinkCommitter) -> None:
    commit(committer, 0, 1)
    for name in (
        ".out-01234567-000000000009-0000.jsonl.abc",
        "out2-01234567-000000000009-0000.jsonl",
        "out-01234567-000000000009-0000.jsonl.bak",
        "out-01234567-a000009-000001-00ff00ff.jsonl",
        "notes",
    ):
        (folder / name).touch()
    assert committer.last_committed(committer.fence([0, 1])) == {0: LedgerEntry(0, 1), 1: None}


def test_two_sinks_of_a_job_share_a_folder(folder: Path, committer: SinkCommitter) -> None:
    commit(committer, 0, 1)
    other = tg.FilesSink(folder)
    at = SinkContext("job", JOB_UID, "out-2", 1, 1, other.prepare("job", JOB_UID, "out-2", None))
    opened = other.open_committer(at)
    assert opened.last_committed(opened.fence([0])) == {0: None}


def test_a_folder_with_output_of_another_job_is_refused(folder: Path, committer: SinkCommitter) -> None:
    commit(committer, 0, 1)
    with pytest.raises(SinkError, match="out-01234567-000000000001-0000") as refused:
        tg.FilesSink(folder).prepare("job", "ffff" + JOB_UID[4:], "out", None)
    assert "empty folder" in str(refused.value)


def test_at_least_once_output_of_another_job_is_seen_too(folder: Path, at: SinkContext) -> None:
    writer = tg.FilesSink(folder).open_writer(at)
    writer.write(BATCH)
    writer.flush()
    with pytest.raises(SinkError, match="holds output of another job"):
        tg.FilesSink(folder).prepare("job", "ffff" + JOB_UID[4:], "out", None)


def test_another_ending_than_output_was_decided_for_is_refused(folder: Path, at: SinkContext) -> None:
    with pytest.raises(SinkError, match="leave folder and format"):
        tg.FilesSink(folder, format=tg.Text()).prepare("job", JOB_UID, "out", at.target)


def test_work_of_a_dead_attempt_is_swept(folder: Path, at: SinkContext) -> None:
    dead = HiddenFile("out", folder, "out-01234567-000000000001-0000.jsonl")
    dead.write(BATCH)
    (folder / ".keep").touch()
    assert len(there(folder)) == 2
    tg.FilesSink(folder).prepare("job", JOB_UID, "out", at.target)
    assert there(folder) == [".keep"]
    with pytest.raises(SinkUnavailableError):
        dead.show()
    assert there(folder) == [".keep"]


def test_readers_see_no_name_before_the_file_is_whole(folder: Path, committer: SinkCommitter) -> None:
    seen: list[list[str]] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for _ in range(3):
            seen.append([name for name in there(folder) if not name.startswith(".")])
            yield BATCH

    committer.commit(committer.fence([0])[0], Permit(JOB_UID, "out", 0, 1, 3), batches())
    assert seen == [[], [], []]
    assert there(folder) == ["out-01234567-000000000001-0000.jsonl"]


def test_an_outbox_that_cannot_be_read_leaves_nothing(folder: Path, committer: SinkCommitter) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield BATCH
        raise SinkError("outbox is gone")

    with pytest.raises(SinkError, match="gone"):
        committer.commit(committer.fence([0])[0], Permit(JOB_UID, "out", 0, 1, 3), batches())
    assert there(folder) == []


@pytest.mark.parametrize("call", ["link", "fsync"])
def test_a_full_disk_is_a_sink_that_cannot_be_reached_now(
    folder: Path, committer: SinkCommitter, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(errno.ENOSPC))
        with pytest.raises(SinkUnavailableError, match="No space left") as refused:
            commit(committer, 0, 1)
    assert str(folder) in str(refused.value)
    assert "make room" in refused.value.hint
    assert there(folder) == []
    commit(committer, 0, 1)
    assert len(there(folder)) == 1


def test_a_file_system_without_links_serves_too(
    folder: Path, committer: SinkCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    commit(committer, 0, 1)
    commit(committer, 0, 1)
    assert there(folder) == ["out-01234567-000000000001-0000.jsonl"]
    assert (folder / there(folder)[0]).read_bytes() == b"a\nbc\n"


def test_a_folder_that_is_gone_is_named(folder: Path, committer: SinkCommitter) -> None:
    folder.rmdir()
    with pytest.raises(SinkUnavailableError, match=str(folder)):
        committer.last_committed(committer.fence([0]))
    with pytest.raises(SinkUnavailableError, match=str(folder)):
        commit(committer, 0, 1)
    folder.mkdir()
    commit(committer, 0, 1)
    assert len(there(folder)) == 1


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(SinkError, match="cannot be used") as refused:
        tg.FilesSink(tmp_path / "out").prepare("job", JOB_UID, "out", None)
    assert refused.value.hint


def test_what_was_not_flushed_is_forgotten(folder: Path, at: SinkContext) -> None:
    writer = tg.FilesSink(folder).open_writer(at)
    writer.write(BATCH)
    writer.close()
    assert there(folder) == []


def test_text_goes_to_files_of_text(folder: Path) -> None:
    sink = tg.FilesSink(folder, format=tg.Text())
    at = SinkContext("job", JOB_UID, "out", 1, 1, sink.prepare("job", JOB_UID, "out", None))
    batch = sink.open_encoder(at).encode(pl.DataFrame({"value": ["a", "b"]}))
    commit(sink.open_committer(at), 0, 1, batch)
    assert there(folder) == ["out-01234567-000000000001-0000.txt"]


@pytest.mark.parametrize(("value", "says"), [("a\nb", "line end inside"), (None, "null")])
def test_a_value_that_is_no_line_is_refused(folder: Path, at: SinkContext, value: str | None, says: str) -> None:
    encoder = tg.FilesSink(folder, format=tg.Text()).open_encoder(at)
    with pytest.raises(SinkError, match=says) as refused:
        encoder.encode(pl.DataFrame({"value": ["x", value]}))
    assert "'out'" in str(refused.value)
    assert refused.value.hint


def test_a_part_of_an_array_is_written_as_its_own_lines() -> None:
    values = pa.array([b"x", b"a", b"", b"bc", b"y"], pa.large_binary())
    assert bytes(lines_of(values.slice(1, 3))) == b"a\n\nbc\n"
    assert bytes(lines_of(values.slice(0, 0))) == b""
    assert bytes(lines_of(pa.array([b"a", b"b"], pa.binary()))) == b"a\nb\n"


def test_wrong_settings_are_refused(folder: Path) -> None:
    with pytest.raises(JobInvalidError, match="delivery"):
        tg.FilesSink(folder, delivery="exactly_once")
    with pytest.raises(JobInvalidError, match="folder is empty"):
        tg.FilesSink("")


def test_what_counts_as_committed_is_durable(
    folder: Path, committer: SinkCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(committer, 0, 1)
    fences = committer.fence([0])
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(SinkUnavailableError, match=str(folder)):
        committer.last_committed(fences)
