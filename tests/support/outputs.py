"""Outputs of the sink contract: every implementation, and what its readers see."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import polars as pl
import tidegate as tg
from tidegate.engine.ports.sink import Sink
from tidegate.testing import MemorySink

from services.processes import wait_until
from services.topics import Topics, end_offsets

_names = itertools.count()

SETTLE_TIMEOUT_S: Final = 30.0


class Output(Protocol):
    """A place that a test writes to and reads from."""

    @property
    def tells_attempts(self) -> bool:
        """Whether the ledger knows the attempt of a commit."""

    def sink(self) -> Sink:
        """Describe the sink; called again, it describes the same one."""

    def elsewhere(self) -> Sink:
        """Describe a sink that writes to another place of the same kind."""

    def rows(self) -> Sequence[Mapping[str, object]]:
        """Return what readers see; rows of one subtask in their order."""


class MemoryOutput:
    """Rows in this process."""

    tells_attempts = True

    def __init__(self) -> None:
        self._name = f"contract-{next(_names)}"

    def sink(self) -> Sink:
        """Describe."""
        return MemorySink(self._name)

    def elsewhere(self) -> Sink:
        """Describe another one."""
        return MemorySink(f"{self._name}-elsewhere")

    def rows(self) -> Sequence[Mapping[str, object]]:
        """Read."""
        return MemorySink(self._name).rows().rows(named=True)


class FilesOutput:
    """A folder."""

    tells_attempts = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sink(self) -> Sink:
        """Describe."""
        return tg.FilesSink(self._folder / "out")

    def elsewhere(self) -> Sink:
        """Describe another one."""
        return tg.FilesSink(self._folder / "elsewhere")

    def rows(self) -> Sequence[Mapping[str, object]]:
        """Read as `cat *.jsonl` does."""
        lines = (file.read_text().splitlines() for file in sorted((self._folder / "out").glob("*.jsonl")))
        return [json.loads(line) for line in itertools.chain.from_iterable(lines)]


class KafkaOutput:
    """A topic of one partition."""

    tells_attempts = True

    def __init__(self, topics: Topics, bootstrap: str) -> None:
        self._topics = topics
        self._bootstrap = bootstrap
        self._topic = topics.create("contract")

    def sink(self) -> Sink:
        """Describe."""
        return tg.KafkaSink(self._topic, bootstrap=self._bootstrap)

    def elsewhere(self) -> Sink:
        """The same topic after it was deleted and made again."""
        self._topics.delete(self._topic)
        self._topics.create_named(self._topic)
        return self.sink()

    def rows(self) -> Sequence[Mapping[str, object]]:
        """Read what is committed; a commit is answered a moment before its marker makes the rows visible."""
        wait_until("all transactions in the topic to end", self._settled, SETTLE_TIMEOUT_S)
        return [json.loads(value) for value in self._topics.read(self._topic).get_column("value")]

    def _settled(self) -> bool:
        client = {"bootstrap.servers": self._bootstrap}
        seen = end_offsets(client, self._topic, "read_committed")
        return seen == end_offsets(client, self._topic, "read_uncommitted")


def frame(first: int, count: int) -> pl.DataFrame:
    """Rows with a hidden column, as the engine hands them over."""
    numbers = range(first, first + count)
    return pl.DataFrame(
        {"n": numbers, "name": [f"name {n} \u00e4\n" for n in numbers], "__time": [1_000 + n for n in numbers]},
        schema={"n": pl.Int64, "name": pl.String, "__time": pl.Int64},
    )
