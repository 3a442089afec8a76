"""However a file is cut into blocks, its lines and their places are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import tidegate as tg
from hypothesis import given
from hypothesis import strategies as st
from tidegate.connectors.files import reader as reading
from tidegate.connectors.files.lines import BYTE_ORDER_MARK, cut_lines
from tidegate.engine.ports.source import ReaderContext

PIECES = st.lists(
    st.sampled_from([b"", b"a", b"bc", b"\n", b"\r", b"\r\n", b"xyz" * 5, b"\n\n", "é".encode(), BYTE_ORDER_MARK]),
    max_size=30,
)
CONTEXT = ReaderContext("job", "in", 0, 1, order_columns=True)


def by_hand(data: bytes) -> list[tuple[bytes, int]]:
    """The lines that are not empty, and where they begin."""
    found, position = [], 0
    for line in data.split(b"\n"):
        text, start = line.removesuffix(b"\r"), position
        if not start and text.startswith(BYTE_ORDER_MARK):
            text, start = text.removeprefix(BYTE_ORDER_MARK), len(BYTE_ORDER_MARK)
        if text:
            found.append((text, start))
        position += len(line) + 1
    return found


@given(PIECES, st.integers(1, 5), st.integers(1, 9))
def test_lines_are_cut_as_by_hand(pieces: list[bytes], lines_max: int, block: int) -> None:
    data = b"".join(pieces)
    found: list[tuple[bytes, int]] = []
    position, size = 0, block
    while position < len(data):
        lines = cut_lines(data[position : position + size], position, lines_max, at_end=position + size >= len(data))
        texts = lines.values.to_pylist()
        assert len(texts) <= lines_max
        found += zip(texts, lines.begins.tolist(), strict=True)
        position += lines.length
        size = block if lines.length else size * 2
    assert found == by_hand(data)


@given(PIECES, st.integers(1, 40), st.integers(1, 10))
def test_any_block_size_and_any_restart_gives_the_same_rows(pieces: list[bytes], block: int, max_rows: int) -> None:
    data = b"".join(pieces)
    with (
        TemporaryDirectory() as folder,
        patch.object(reading, "BLOCK_BYTES", block),
        patch.object(reading, "BLOCK_BYTES_MIN", block),
    ):
        path = Path(folder) / "lines.txt"
        path.write_bytes(data)
        source = tg.FileSource(path, format=tg.Text())
        [split] = source.open_enumerator("job", "in").discover()
        rows: list[tuple[bytes, int]] = []
        finished = False
        while not finished:
            # A new reader for every batch: each one goes on exactly where the last one said it had come to.
            reader = source.open_reader(CONTEXT)
            reader.assign([split])
            batch = reader.read(max_rows, 0.0)
            reader.close()
            assert batch is not None
            texts = batch.frame.get_column("value").to_list()
            rows += zip([text.encode() for text in texts], batch.frame.get_column("__offset").to_list(), strict=True)
            split = replace(split, start=batch.positions.get(split.id, split.start))
            finished = bool(batch.finished)
        assert rows == by_hand(data)
