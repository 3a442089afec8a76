"""Files as a source: which are read, what is refused, and messages with path and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import tidegate as tg
from tidegate.connectors.event_time import EventTime
from tidegate.connectors.files import reader as reading
from tidegate.engine.errors import JobInvalidError, RecordInvalidError, SourceError
from tidegate.engine.ids import OFFSET, SPLIT, TIME
from tidegate.engine.ports.source import ReaderContext, SourceBatch, SourceReader, Split

CONTEXT = ReaderContext("job", "orders", 0, 1)
FORMAT = tg.Json({"n": pl.Int64, "ts": pl.Int64})
TIMES = tg.epoch_ms("ts")


def write(path: Path, numbers: Sequence[int]) -> Path:
    """A file of rows {n, ts = n}."""
    path.write_text("".join(json.dumps({"n": n, "ts": n}) + "\n" for n in numbers))
    return path


def source(path: Path | str, record_format: tg.Json = FORMAT, time: EventTime | None = TIMES) -> tg.FileSource:
    """A source of such rows."""
    return tg.FileSource(path, format=record_format, event_time=time)


def splits_of(files: tg.FileSource) -> list[Split]:
    """What discovery finds."""
    with closing(files.open_enumerator("job", "orders")) as enumerator:
        return list(enumerator.discover())


def names(files: tg.FileSource) -> list[str]:
    """The names of the files found."""
    return [Path(split.id).name for split in splits_of(files)]


def drain(reader: SourceReader, max_rows: int = 100) -> list[SourceBatch]:
    """All batches until nothing comes."""
    return list(iter(lambda: reader.read(max_rows, 0.0), None))


def read(files: tg.FileSource, splits: Sequence[Split] | None = None, max_rows: int = 100) -> list[SourceBatch]:
    """All batches of a source."""
    with closing(files.open_reader(CONTEXT)) as reader:
        reader.assign(splits_of(files) if splits is None else splits)
        return drain(reader, max_rows)


def numbers(batches: Sequence[SourceBatch]) -> list[int]:
    """Column n."""
    return pl.concat([batch.frame for batch in batches]).get_column("n").to_list()


def refused(files: tg.FileSource, splits: Sequence[Split] | None = None) -> str:
    """The message with which reading is refused."""
    with pytest.raises(SourceError) as caught:
        read(files, splits)
    assert caught.value.hint
    return str(caught.value)


def test_a_single_file_is_a_split(tmp_path: Path) -> None:
    path = write(tmp_path / "a.data", [1, 2])
    assert splits_of(source(path))[0].id == str(path)
    assert numbers(read(source(str(path)))) == [1, 2]


def test_a_folder_is_read_by_name_without_hidden_and_foreign_files(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.ndjson", "c.json", "d.txt", ".hidden.jsonl", "notes.md"):
        write(tmp_path / name, [1])
    (tmp_path / "folder.jsonl").mkdir()
    assert names(source(tmp_path)) == ["a.ndjson", "b.jsonl", "c.json", "d.txt"]


def test_a_pattern_picks_files(tmp_path: Path) -> None:
    for name in ("orders-1.jsonl", "orders-0.jsonl", "other.jsonl"):
        write(tmp_path / name, [1])
    assert names(source(tmp_path / "orders-*.jsonl")) == ["orders-0.jsonl", "orders-1.jsonl"]


def test_a_relative_path_is_found_again_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.jsonl", [1])
    monkeypatch.chdir(tmp_path)
    splits = splits_of(source("a.jsonl"))
    monkeypatch.chdir("/")
    assert numbers(read(source("a.jsonl"), splits)) == [1]


@pytest.mark.parametrize("where", ["missing.jsonl", "*.jsonl", "."])
def test_no_file_at_all_is_an_error(tmp_path: Path, where: str) -> None:
    message = refused(source(tmp_path / where))
    assert "there is no file" in message
    assert str(tmp_path) in message


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl"])
def test_a_compressed_file_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b'{"n": 1, "ts": 1}\n'))
    assert "cannot be read on from its middle" in refused(source(tmp_path))


def test_an_empty_file_is_finished_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    batches = read(source(tmp_path))
    assert [batch.frame.height for batch in batches] == [0]
    assert batches[0].finished == {str(tmp_path / "a.jsonl")}


def test_files_take_turns(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", range(10))
    write(tmp_path / "b.jsonl", range(100, 110))
    assert numbers(read(source(tmp_path), max_rows=5)) == [*range(5), *range(100, 105), *range(5, 10), *range(105, 110)]


def test_lines_longer_than_a_block_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 16)
    monkeypatch.setattr(reading, "BLOCK_BYTES_MIN", 16)
    text = tg.Text("line")
    lines = ["x" * n for n in (1, 40, 3, 200, 16, 15, 17)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    batches = read(tg.FileSource(tmp_path, format=text))
    assert pl.concat([batch.frame for batch in batches]).get_column("line").to_list() == lines


def test_a_file_without_line_ends_is_refused_within_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", 16)
    monkeypatch.setattr(reading, "BLOCK_BYTES_MIN", 16)
    monkeypatch.setattr(reading, "LINE_BYTES_MAX", 100)
    (tmp_path / "a.txt").write_bytes(b"x" * 10_000)
    assert "no line end within" in refused(tg.FileSource(tmp_path, format=tg.Text()))


def test_a_bad_line_is_named_by_path_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1, "ts": 1}\n\n{"n": 2, "ts": 2}\nnonsense\n{"n": 3, "ts": 3}\n')
    with pytest.raises(RecordInvalidError, match="nonsense") as caught:
        read(source(path))
    assert f"{path}:4: " in str(caught.value)
    with closing(source(path).open_reader(CONTEXT)) as reader:
        reader.assign(splits_of(source(path)))
        assert numbers([batch for _ in range(2) if (batch := reader.read(1, 0.0))][:1]) == [1]
        with pytest.raises(RecordInvalidError, match=":4: "):
            drain(reader, 1)


def test_a_line_without_event_time_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1, "ts": 1}\n{"n": 2}\n')
    with pytest.raises(RecordInvalidError, match="no event time in column 'ts'") as caught:
        read(source(path))
    assert f"{path}:2: " in str(caught.value)


def test_bad_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1, "ts": 1}\n{"n": "x", "ts": 1}\n{"n": 2}\n[]\n{"n": 3, "ts": 3}')
    batches = read(source(tmp_path, tg.Json({"n": pl.Int64, "ts": pl.Int64}, on_error="skip")))
    assert numbers(batches) == [1, 3]
    assert sum(batch.skipped for batch in batches) == 3


def test_order_columns_tell_file_and_byte(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [1])
    path = write(tmp_path / "b.jsonl", [2, 3])
    files = source(tmp_path)
    with closing(files.open_reader(replace(CONTEXT, order_columns=True))) as reader:
        reader.assign(splits_of(files)[1:])
        frame = pl.concat([batch.frame for batch in drain(reader)])
    assert frame.get_column(SPLIT).to_list() == [1, 1]
    assert frame.get_column(OFFSET).to_list() == [0, path.read_bytes().index(b"\n") + 1]


def test_without_an_event_time_the_file_tells_when(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [1])
    batches = read(source(path, time=None))
    assert batches[0].frame.get_column(TIME).to_list() == [path.stat().st_mtime_ns // 1_000_000]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [1])
    splits = splits_of(source(path))
    path.unlink()
    assert f"{path} cannot be read: No such file" in refused(source(path), splits)


def test_a_shrunk_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(200))
    splits = splits_of(source(path))
    with path.open("r+b") as stream:
        stream.truncate(1_500)
    assert "has 1500 bytes now, it had" in refused(source(path), splits)


def test_another_file_of_the_same_name_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(10))
    splits = splits_of(source(path))
    write(path, range(50, 100))
    assert "begins with other bytes" in refused(source(path), splits)


def test_a_position_that_is_no_line_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(10))
    split = splits_of(source(path))[0]
    assert isinstance(split.start, dict)
    wrong = replace(split, start={**split.start, "byte": 5})
    assert "has no line beginning at byte 5" in refused(source(path), [wrong])


def test_a_position_of_another_source_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(10))
    split = replace(splits_of(source(path))[0], start={"offset": 3})
    with pytest.raises(SourceError, match="no position in a file"):
        read(source(path), [split])


def test_a_file_that_grew_is_read_to_its_old_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", range(3))
    splits = splits_of(source(path))
    with path.open("a") as stream:
        stream.write('{"n": 9, "ts": 9}\n')
    assert numbers(read(source(path), splits)) == [0, 1, 2]


def test_metadata_and_unknown_event_times_are_refused_when_the_job_is_built(tmp_path: Path) -> None:
    with pytest.raises(JobInvalidError, match="no record metadata"):
        tg.FileSource(tmp_path, format=tg.Raw())
    with pytest.raises(JobInvalidError, match="event time column 'when'"):
        source(tmp_path, time=tg.epoch_ms("when"))
