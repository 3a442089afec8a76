"""Cuts bytes into lines, as an Arrow array and without an object per line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

NEWLINE: Final = 10
RETURN: Final = 13
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Lines:
    """Lines that are not empty, as large binary without their ends.

    `begins` holds the byte of the file where each begins, `length` is how many bytes they take up together with
    their ends and the empty lines between them.
    """

    values: pa.Array
    begins: npt.NDArray[np.int64]
    length: int


def cut_lines(data: bytes, start: int, lines_max: int, at_end: bool) -> Lines:
    """Return the first lines of `data`, which begins at byte `start` of its file; at most `lines_max`, empty ones too.

    A last line without an end counts only where the file ends (`at_end`). A carriage return before a line end, and a
    byte order mark at the beginning of the file, belong to no line.
    """
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw == NEWLINE)
    if at_end and len(raw) and raw[-1] != NEWLINE:
        ends = np.append(ends, len(raw))
    ends = ends[:lines_max]
    if not len(ends):
        return Lines(pa.array([], pa.large_binary()), np.zeros(0, np.int64), 0)
    begins = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    if start == 0 and data.startswith(BYTE_ORDER_MARK):
        begins[0] = len(BYTE_ORDER_MARK)
    stops = ends - ((ends > begins) & (raw[np.maximum(ends - 1, 0)] == RETURN))
    keep = stops > begins
    return Lines(_views(data, begins[keep], stops[keep]), begins[keep] + start, min(int(ends[-1]) + 1, len(raw)))


def _views(data: bytes, begins: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> pa.Array:
    # The values of an Arrow array lie one behind the other, with nothing between them. So the array is first made with
    # the line ends as values of their own, and then every second one is taken: one copy, no loop.
    if not len(begins):
        return pa.array([], pa.large_binary())
    offsets = np.empty(2 * len(begins) + 1, np.int64)
    offsets[0:-1:2], offsets[1::2], offsets[-1] = begins, stops, len(data)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    between = pa.Array.from_buffers(pa.large_binary(), 2 * len(begins), buffers)
    return between.take(pa.array(np.arange(0, 2 * len(begins), 2)))
