"""The files sink shows each epoch once, as a whole, whoever commits it and how often."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import tidegate as tg
from tidegate.connectors.files.sink import FilesCommitter, FilesSink
from tidegate.engine.errors import SinkError, SinkUnavailableError
from tidegate.engine.ports.sink import CommitOutcome, LedgerEntry, Permit, SinkContext

UID = "0123456789abcdef"


def parts(folder: Path) -> tuple[FilesSink, FilesCommitter, SinkContext]:
    """A sink with its committer."""
    sink = tg.FilesSink(folder)
    target = sink.prepare("job", UID, "out", None)
    context = SinkContext("job", UID, "out", 1, 2, target)
    return sink, sink.open_committer(context), context


def test_committing_an_epoch_twice_leaves_one_file(tmp_path: Path) -> None:
    sink, committer, context = parts(tmp_path)
    batch = sink.open_encoder(context).encode(pl.DataFrame({"a": [1, 2], "__time": [0, 0]}))
    [fence] = committer.fence([1])
    for _ in range(2):
        assert committer.commit(fence, Permit(UID, "out", 1, 7, 1), [batch]) is CommitOutcome.COMMITTED
    [file] = list(tmp_path.iterdir())
    assert file.name == "out-01234567-000000000007-0001.jsonl"
    assert file.read_text() == '{"a":1}\n{"a":2}\n'


def test_the_folder_is_the_ledger(tmp_path: Path) -> None:
    sink, committer, context = parts(tmp_path)
    batch = sink.open_encoder(context).encode(pl.DataFrame({"a": [1]}))
    fences = committer.fence([0, 1])
    committer.commit(fences[0], Permit(UID, "out", 0, 3, 1), [batch])
    committer.commit(fences[0], Permit(UID, "out", 0, 5, 1), [batch])
    assert committer.last_committed(fences) == {0: LedgerEntry(0, 5), 1: None}


def test_a_folder_with_output_of_another_job_is_refused(tmp_path: Path) -> None:
    sink, committer, context = parts(tmp_path)
    batch = sink.open_encoder(context).encode(pl.DataFrame({"a": [1]}))
    [fence] = committer.fence([0])
    committer.commit(fence, Permit(UID, "out", 0, 3, 1), [batch])
    with pytest.raises(SinkError, match="holds output of another run"):
        sink.prepare("job", "fedcba9876543210", "out", None)


def test_a_folder_that_is_gone_is_an_outage_and_not_a_loss(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    sink, committer, context = parts(folder)
    batch = sink.open_encoder(context).encode(pl.DataFrame({"a": [1]}))
    folder.rmdir()
    [fence] = committer.fence([0])
    with pytest.raises(SinkUnavailableError, match="No such file"):
        committer.commit(fence, Permit(UID, "out", 0, 3, 1), [batch])
    folder.mkdir()
    assert committer.commit(fence, Permit(UID, "out", 0, 3, 1), [batch]) is CommitOutcome.COMMITTED


def test_nothing_hidden_is_left_behind(tmp_path: Path) -> None:
    sink, committer, context = parts(tmp_path)
    batch = sink.open_encoder(context).encode(pl.DataFrame({"a": [1]}))
    [fence] = committer.fence([0])
    committer.commit(fence, Permit(UID, "out", 0, 3, 1), [batch])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
