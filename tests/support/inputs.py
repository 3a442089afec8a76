"""Inputs of the source contract: every implementation filled with the same rows, split by split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import polars as pl
import tidegate as tg
from tidegate.engine.ports.source import Source
from tidegate.testing import MemorySource

from services.topics import Topics

SCHEMA: Final[Mapping[str, pl.DataType]] = {"n": pl.Int64(), "name": pl.String(), "ts": pl.Int64()}
Row = Mapping[str, object]


class Input(Protocol):
    """Where a test puts rows, and the source that reads them."""

    def put(self, split: int, rows: Sequence[Row]) -> None:
        """Add rows to a split."""

    def source(self, on_error: str = "fail") -> Source:
        """Describe a source of everything; event time is column ts."""


class MemoryInput:
    """Rows in this process."""

    def __init__(self, name: str, splits: int) -> None:
        self._name = name
        MemorySource(name, [[] for _ in range(splits)], schema=SCHEMA)

    def put(self, split: int, rows: Sequence[Row]) -> None:
        """Append."""
        MemorySource(self._name, schema=SCHEMA).append(split, rows)

    def source(self, on_error: str = "fail") -> Source:
        """Describe."""
        return MemorySource(self._name, schema=SCHEMA, event_time=tg.epoch_ms("ts"), on_error=on_error)


class FilesInput:
    """A file of JSON lines per split."""

    def __init__(self, folder: Path, splits: int) -> None:
        self._folder = folder
        folder.mkdir()
        for split in range(splits):
            self._file(split).touch()

    def _file(self, split: int) -> Path:
        return self._folder / f"{split:02d}.jsonl"

    def put(self, split: int, rows: Sequence[Row]) -> None:
        """Append to the file."""
        with self._file(split).open("a") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)

    def source(self, on_error: str = "fail") -> Source:
        """Describe."""
        return tg.FileSource(self._folder, format=tg.Json(SCHEMA, on_error=on_error), event_time=tg.epoch_ms("ts"))


class KafkaInput:
    """A topic with a partition per split."""

    def __init__(self, topics: Topics, bootstrap: str, splits: int) -> None:
        self._topics = topics
        self._bootstrap = bootstrap
        self._topic = topics.create("contract", splits)

    def put(self, split: int, rows: Sequence[Row]) -> None:
        """Produce to the partition."""
        self._topics.produce(self._topic, [json.dumps(row) for row in rows], partition=split)

    def source(self, on_error: str = "fail") -> Source:
        """Describe."""
        return tg.KafkaSource(
            self._topic,
            bootstrap=self._bootstrap,
            format=tg.Json(SCHEMA, on_error=on_error),
            event_time=tg.epoch_ms("ts"),
        )
