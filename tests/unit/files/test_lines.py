"""Bytes cut into lines."""

from __future__ import annotations

import pytest
from tidegate.connectors.files.lines import Lines, cut_lines


def texts(lines: Lines) -> list[bytes]:
    """The lines as a list."""
    found: list[bytes] = lines.values.to_pylist()
    return found


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", []),
        (b"\n\r\n\n", []),
        (b"a\n", [b"a"]),
        (b"a\nbc\n", [b"a", b"bc"]),
        (b"a\r\nb\r\r\n", [b"a", b"b\r"]),
        (b"\n\na\n\n\nb\n\n", [b"a", b"b"]),
        (b"a\rb\n", [b"a\rb"]),
        (b"\xef\xbb\xbfa\nb\n", [b"a", b"b"]),
        (b"\xef\xbb\xbf\n", []),
        (b"a\xef\xbb\xbf\n", [b"a\xef\xbb\xbf"]),
    ],
)
def test_lines_have_no_ends_and_are_not_empty(data: bytes, expected: list[bytes]) -> None:
    lines = cut_lines(data, 0, 100, at_end=True)
    assert texts(lines) == expected
    assert lines.length == len(data)


def test_a_line_without_an_end_waits_for_the_next_block() -> None:
    lines = cut_lines(b"a\nbc", 0, 100, at_end=False)
    assert (texts(lines), lines.length) == ([b"a"], 2)
    assert cut_lines(b"bc", 2, 100, at_end=False).length == 0


def test_the_last_line_of_a_file_needs_no_end() -> None:
    lines = cut_lines(b"a\nbc", 0, 100, at_end=True)
    assert (texts(lines), lines.length) == ([b"a", b"bc"], 4)


def test_no_more_lines_than_asked_for() -> None:
    lines = cut_lines(b"a\n\nb\nc\n", 0, 3, at_end=True)
    assert (texts(lines), lines.length) == ([b"a", b"b"], 5)


def test_lines_know_where_they_begin_in_the_file() -> None:
    assert cut_lines(b"a\n\r\nbc\nd", 1_000, 100, at_end=True).begins.tolist() == [1_000, 1_004, 1_007]


def test_a_byte_order_mark_counts_only_at_the_beginning_of_the_file() -> None:
    assert texts(cut_lines(b"\xef\xbb\xbfa\n", 7, 100, at_end=True)) == [b"\xef\xbb\xbfa"]
