"""The file source says clearly what it cannot read, and follows its policy for bad lines."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import tidegate as tg
from tidegate.connectors.files.source import FileEnumerator
from tidegate.engine.errors import JobInvalidError, RecordInvalidError, SourceError
from tidegate.engine.ports.source import ReaderContext, SourceReader

SCHEMA = {"id": pl.Int64, "ts": pl.Int64}


def reader_of(path: Path, *, on_error: str = "fail") -> SourceReader:
    """A reader with all files of a path assigned."""
    source = tg.FileSource(path, format=tg.Json(SCHEMA, on_error=on_error), event_time=tg.epoch_ms("ts"))
    reader = source.open_reader(ReaderContext("job", "in", 0, 1))
    reader.assign(source.open_enumerator("job", "in").discover())
    return reader


def test_files_of_a_folder_are_splits_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", ".hidden.jsonl", "notes.md"):
        (tmp_path / name).write_text("{}\n")
    splits = FileEnumerator(str(tmp_path), "in").discover()
    assert [Path(split.id).name for split in splits] == ["a.jsonl", "b.jsonl"]


def test_a_path_without_files_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no file at .*nowhere"):
        FileEnumerator(str(tmp_path / "nowhere"), "in").discover()


def test_a_compressed_file_is_refused_because_it_cannot_be_read_from_its_middle(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b"x")
    with pytest.raises(SourceError, match="compressed"):
        FileEnumerator(str(tmp_path / "*.gz"), "in").discover()


def test_a_bad_line_fails_with_file_and_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "ts": 1}\n{"id": oops}\n')
    with pytest.raises(RecordInvalidError, match=r"a\.jsonl at byte 19: the value is not JSON"):
        reader_of(path).read(100, 0.0)


def test_a_line_without_event_time_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n')
    with pytest.raises(RecordInvalidError, match="no event time in column 'ts'"):
        reader_of(path).read(100, 0.0)


def test_skipped_lines_are_counted_and_the_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "ts": 1}\nnonsense\n{"id": 2}\n{"id": 3, "ts": 3}\n')
    batch = reader_of(path, on_error="skip").read(100, 0.0)
    assert batch is not None
    assert batch.frame.get_column("id").to_list() == [1, 3]
    assert batch.skipped == 2


def test_a_file_that_shrank_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "ts": 1}\n' * 10)
    reader = reader_of(path)
    path.write_text('{"id": 1, "ts": 1}\n')
    with pytest.raises(SourceError, match="has 19 bytes now, it had 190"):
        reader.read(100, 0.0)


def test_metadata_columns_are_refused_for_files(tmp_path: Path) -> None:
    with pytest.raises(JobInvalidError, match="no record metadata"):
        tg.FileSource(tmp_path, format=tg.Text(metadata=("key",)))
