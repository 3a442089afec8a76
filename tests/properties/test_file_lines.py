"""However a file is cut into blocks, its lines and their places are the same."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import tidegate as tg
from hypothesis import given
from hypothesis import strategies as st
from tidegate.connectors.files.reader import FileReader, split_lines
from tidegate.connectors.files.source import FileEnumerator, FileSettings
from tidegate.engine.ports.source import ReaderContext

PIECES = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r\n", b"xyz" * 5, b"\n\n", "é".encode()]), max_size=30)


def by_hand(data: bytes, start: int = 0) -> list[tuple[bytes, int]]:
    """The lines that are not empty, and where they begin."""
    found, position = [], start
    for line in data.split(b"\n"):
        text = line.removesuffix(b"\r")
        if text:
            found.append((text, position))
        position += len(line) + 1
    return found


@given(PIECES, st.integers(0, 1000))
def test_lines_are_cut_as_by_hand(pieces: list[bytes], start: int) -> None:
    data = b"".join(pieces)
    values, offsets = split_lines(data, start)
    assert list(zip(values.to_pylist(), offsets.tolist(), strict=True)) == by_hand(data, start)


@given(PIECES, st.integers(1, 40))
def test_any_block_size_and_any_restart_gives_the_same_rows(pieces: list[bytes], block: int) -> None:
    data = b"".join(pieces)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lines.txt"
        path.write_bytes(data)
        settings = FileSettings(str(path), tg.Text(), None)
        [split] = FileEnumerator(str(path), "in").discover()
        rows: list[tuple[bytes, int]] = []
        position, finished = split.start, False
        while not finished:
            # A new reader for every block: each one goes on exactly where the last one said it had come to.
            reader = FileReader(
                settings,
                {"value": pl.String()},
                ReaderContext("job", "in", 0, 1, order_columns=True),
                block_bytes=block,
            )
            reader.assign([type(split)(split.id, 0, start=position, first=split.first, end=split.end)])
            batch = reader.read(10_000, 0.0)
            reader.close()
            assert batch is not None
            texts = batch.frame.get_column("value").to_list()
            rows += zip([text.encode() for text in texts], batch.frame.get_column("__offset").to_list(), strict=True)
            position = batch.positions.get(split.id, position)
            finished = bool(batch.finished)
        assert rows == by_hand(data)
