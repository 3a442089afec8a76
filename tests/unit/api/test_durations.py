"""Durations as users write them."""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import pytest
from tidegate.engine.durations import parse_ms
from tidegate.engine.errors import JobInvalidError


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("500ms", 500),
        ("10s", 10_000),
        ("1.5 s", 1500),
        ("5m", 300_000),
        ("5min", 300_000),
        ("1h", 3_600_000),
        ("2d", 172_800_000),
        (10, 10_000),
        (0.25, 250),
        (0, 0),
        (timedelta(minutes=1, milliseconds=1), 60_001),
    ],
)
def test_a_duration_is_read_in_every_form(written: str | float | timedelta, expected: int) -> None:
    assert parse_ms(written, "size") == expected


@pytest.mark.parametrize("written", ["", "10", "s", "-1s", "1 week", -1, True, None, float("nan"), float("inf"), [1]])
def test_what_is_no_duration_is_refused_with_examples(written: object) -> None:
    with pytest.raises(JobInvalidError, match="window size is") as caught:
        parse_ms(cast("str", written), "window size")
    assert repr(written) in str(caught.value)
    assert '"500ms"' in caught.value.hint
