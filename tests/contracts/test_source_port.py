"""The source port: one suite for every implementation."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import polars as pl
import pytest
from tidegate.engine.errors import RecordInvalidError
from tidegate.engine.ids import OFFSET, SPLIT, TIME
from tidegate.engine.ports.source import ReaderContext, Source, SourceBatch, SourceReader, Split

from support.inputs import SCHEMA, FilesInput, Input, KafkaInput, MemoryInput, Row

SPLITS: Final = 2
CONTEXT: Final = ReaderContext("job", "orders", subtask=0, parallelism=1)
READ_S: Final = 0.05
READ_WITHIN_S: Final = 30.0
"""How long a whole read may take; a broker's first fetch is slow on a busy machine."""

_names = itertools.count()


@pytest.fixture(params=["memory", "files", "kafka"])
def given(request: pytest.FixtureRequest, tmp_path: Path) -> Input:
    """An empty input with two splits, of every kind."""
    match request.param:
        case "memory":
            return MemoryInput(f"contract-{next(_names)}", SPLITS)
        case "files":
            return FilesInput(tmp_path / "in", SPLITS)
        case _:
            broker = request.getfixturevalue("kafka")
            return KafkaInput(request.getfixturevalue("topics"), broker.bootstrap, SPLITS)


def rows(first: int, count: int) -> list[Row]:
    """Rows whose event time runs against their order now and then."""
    return [
        {"n": n, "name": f"name {n} \u00e4", "ts": 1_000 + n * 10 - n % 3 * 25} for n in range(first, first + count)
    ]


@dataclass
class Read:
    """Everything that came out of a reader."""

    batches: list[SourceBatch] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)
    positions: dict[str, object] = field(default_factory=dict)

    @property
    def frame(self) -> pl.DataFrame:
        """All rows."""
        return pl.concat([batch.frame for batch in self.batches])

    @property
    def numbers(self) -> list[int]:
        """Column n of all rows."""
        return self.frame.get_column("n").to_list()


def read_all(reader: SourceReader, splits: Sequence[str], max_rows: int = 1_000) -> Read:
    """Read until all these splits have ended: at their bounded end, or with nothing more to come now."""
    read = Read()
    until = time.monotonic() + READ_WITHIN_S
    while read.ended < set(splits) and time.monotonic() < until:
        batch = reader.read(max_rows, READ_S)
        if batch is not None:
            assert batch.frame.height + batch.skipped <= max_rows
            read.batches.append(batch)
            read.ended -= set(batch.positions)
            read.ended |= batch.finished | batch.caught_up
            read.positions.update(batch.positions)
    assert read.ended == set(splits)
    return read


def discover(source: Source) -> list[Split]:
    """All splits of a source."""
    with closing(source.open_enumerator("job", "orders")) as enumerator:
        return list(enumerator.discover())


def opened(source: Source, splits: Sequence[Split], context: ReaderContext = CONTEXT) -> Iterator[SourceReader]:
    """A reader with these splits."""
    with closing(source.open_reader(context)) as reader:
        reader.assign(splits)
        yield reader


def read_splits(
    source: Source, splits: Sequence[Split], max_rows: int = 1_000, context: ReaderContext = CONTEXT
) -> Read:
    """Read these splits to their ends."""
    for reader in opened(source, splits, context):
        return read_all(reader, [split.id for split in splits], max_rows)
    raise AssertionError


def through_json(split: Split) -> Split:
    """A split as a manifest gives it back."""
    start, first, end = json.loads(json.dumps([split.start, split.first, split.end]))
    return replace(split, start=start, first=first, end=end)


def test_discovery_is_stable_and_names_every_split_once(given: Input) -> None:
    given.put(0, rows(0, 3))
    splits = discover(given.source())
    assert len(splits) == len({split.id for split in splits}) == len({split.index for split in splits}) == SPLITS
    assert discover(given.source()) == splits


def test_an_enumerator_takes_reports_and_is_closed_twice(given: Input) -> None:
    given.put(0, rows(0, 3))
    enumerator = given.source().open_enumerator("job", "orders")
    splits = enumerator.discover()
    enumerator.report({split.id: split.start for split in splits})
    enumerator.close()
    enumerator.close()


def test_positions_survive_a_manifest(given: Input) -> None:
    given.put(0, rows(0, 5))
    splits = discover(given.source().bounded(True))
    assert [through_json(split) for split in splits] == splits
    assert read_splits(given.source().bounded(True), [through_json(splits[0])]).numbers == [0, 1, 2, 3, 4]


def test_all_rows_come_once_and_in_the_order_of_their_split(given: Input) -> None:
    given.put(0, rows(0, 100))
    given.put(1, rows(100, 50))
    source = given.source().bounded(True)
    read = read_splits(source, discover(source), max_rows=7)
    assert [n for n in read.numbers if n < 100] == list(range(100))
    assert [n for n in read.numbers if n >= 100] == list(range(100, 150))
    assert read.frame.select(*SCHEMA).sort("n").rows(named=True) == rows(0, 150)


def test_a_source_without_bound_says_when_it_has_caught_up(given: Input) -> None:
    given.put(0, rows(0, 10))
    source = given.source()
    read = read_splits(source, discover(source))
    assert read.numbers == list(range(10))


def test_reading_goes_on_from_every_position_with_the_rest(given: Input) -> None:
    given.put(0, rows(0, 40))
    source = given.source().bounded(True)
    first = discover(source)[0]
    read = read_splits(source, [first], max_rows=9)
    seen = 0
    for batch in read.batches:
        seen += batch.frame.height
        if first.id in batch.positions:
            rest = read_splits(source, [through_json(replace(first, start=batch.positions[first.id]))])
            assert rest.numbers == list(range(seen, 40))


def test_rows_behind_the_end_are_not_read(given: Input) -> None:
    given.put(0, rows(0, 5))
    source = given.source().bounded(True)
    splits = discover(source)
    given.put(0, rows(5, 5))
    read = read_splits(source, splits)
    assert read.numbers == [0, 1, 2, 3, 4]
    assert all(split.end is not None and read.positions.get(split.id, split.end) == split.end for split in splits)


def test_a_split_that_is_at_its_end_is_finished_without_rows(given: Input) -> None:
    given.put(0, rows(0, 3))
    source = given.source().bounded(True)
    splits = [replace(split, start=split.end) for split in discover(source)]
    read = read_splits(source, splits)
    assert sum(batch.frame.height for batch in read.batches) == 0
    assert frozenset().union(*(batch.finished for batch in read.batches)) == {split.id for split in splits}


def test_a_split_that_is_assigned_later_is_read(given: Input) -> None:
    given.put(0, rows(0, 3))
    given.put(1, rows(3, 3))
    source = given.source().bounded(True)
    first, second = discover(source)
    for reader in opened(source, [first]):
        assert read_all(reader, [first.id]).numbers == [0, 1, 2]
        reader.assign([second])
        assert read_all(reader, [second.id]).numbers == [3, 4, 5]


def test_a_reader_without_splits_waits_no_longer_than_asked(given: Input) -> None:
    with closing(given.source().open_reader(CONTEXT)) as reader:
        began = time.monotonic()
        assert reader.read(10, 0.1) is None
        assert time.monotonic() - began < 5


def test_a_reader_that_is_done_has_nothing_more(given: Input) -> None:
    given.put(0, rows(0, 3))
    source = given.source().bounded(True)
    splits = discover(source)
    for reader in opened(source, splits):
        read_all(reader, [split.id for split in splits])
        assert [
            batch for batch in (reader.read(10, 0.01) for _ in range(3)) if batch is not None and batch.frame.height
        ] == []


def test_a_reader_is_closed_twice(given: Input) -> None:
    given.put(0, rows(0, 3))
    source = given.source()
    reader = source.open_reader(CONTEXT)
    reader.assign(discover(source))
    reader.close()
    reader.close()
    source.open_reader(CONTEXT).close()


def test_every_row_has_its_event_time_and_batches_know_the_latest(given: Input) -> None:
    given.put(0, rows(0, 30))
    source = given.source().bounded(True)
    splits = discover(source)
    read = read_splits(source, splits, max_rows=10)
    assert read.frame.schema[TIME] == pl.Int64
    assert read.frame.get_column(TIME).to_list() == read.frame.get_column("ts").to_list()
    for batch in read.batches:
        assert batch.max_time == ({splits[0].id: batch.frame.get_column(TIME).max()} if batch.frame.height else {})


def test_hidden_columns_of_order_are_there_when_asked_for(given: Input) -> None:
    given.put(0, rows(0, 10))
    given.put(1, rows(10, 10))
    source = given.source().bounded(True)
    splits = discover(source)
    assert {SPLIT, OFFSET}.isdisjoint(read_splits(source, splits).frame.columns)
    frame = read_splits(source, splits, max_rows=4, context=replace(CONTEXT, order_columns=True)).frame
    assert frame.select(SPLIT, OFFSET).schema == {SPLIT: pl.Int32(), OFFSET: pl.Int64()}
    for index, numbers in ((splits[0].index, range(10)), (splits[1].index, range(10, 20))):
        part = frame.filter(pl.col(SPLIT) == index)
        assert part.get_column("n").to_list() == list(numbers)
        assert part.get_column(OFFSET).is_unique().all()
        assert part.get_column(OFFSET).is_sorted()


@pytest.mark.parametrize("columns", [["name"], ["name", "n"], ["ts"], []])
def test_only_the_columns_that_are_used_are_delivered(given: Input, columns: list[str]) -> None:
    given.put(0, rows(0, 10))
    source = given.source().bounded(True)
    read = read_splits(source, discover(source)[:1], context=replace(CONTEXT, columns=frozenset(columns)))
    assert read.frame.columns == [*(name for name in SCHEMA if name in columns), TIME]
    assert read.frame.height == 10
    assert read.frame.get_column(TIME).to_list() == [row["ts"] for row in rows(0, 10)]


def test_a_batch_without_rows_has_the_same_columns(given: Input) -> None:
    given.put(0, rows(0, 3))
    source = given.source().bounded(True)
    split = discover(source)[0]
    for context in (CONTEXT, replace(CONTEXT, order_columns=True), replace(CONTEXT, columns=frozenset({"name"}))):
        full = read_splits(source, [split], context=context).frame
        empty = read_splits(source, [replace(split, start=split.end)], context=context)
        assert [batch.frame.schema for batch in empty.batches] == [full.schema] * len(empty.batches)


def test_a_record_without_event_time_stops_the_job_under_fail(given: Input) -> None:
    given.put(0, [*rows(0, 2), {"n": 2, "name": "x", "ts": None}, *rows(3, 2)])
    source = given.source().bounded(True)
    splits = discover(source)
    with pytest.raises(RecordInvalidError, match="orders") as refused:
        read_splits(source, splits)
    assert splits[0].id.rpartition(":")[0] in str(refused.value)
    assert refused.value.hint


def test_records_that_are_skipped_are_counted_and_passed(given: Input) -> None:
    bad = [{"n": n, "name": "x", "ts": None} for n in range(20)]
    given.put(0, [*rows(0, 2), *bad, *rows(2, 2)])
    given.put(1, bad)
    source = given.source("skip").bounded(True)
    splits = discover(source)
    read = read_splits(source, splits, max_rows=5)
    assert read.numbers == [0, 1, 2, 3]
    assert sum(batch.skipped for batch in read.batches) == 40
    assert read.positions[splits[1].id] == splits[1].end


def test_a_source_says_what_it_is(given: Input) -> None:
    source = given.source()
    assert isinstance(source, Source)
    assert dict(source.schema) == SCHEMA
    assert source.seekable
    assert source.kind
    json.dumps(dict(source.describe()))
    assert isinstance(source.bounded(False), Source)
