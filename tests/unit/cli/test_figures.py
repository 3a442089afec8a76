"""The figures of a run in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from tidegate.cli import figures
from tidegate.cli.monitor import line
from tidegate.engine.ids import WATERMARK_MAX, WATERMARK_MIN
from tidegate.engine.status import Status

NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC).astimezone()


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (999, "999"), (1000, "1.0k"), (12_345, "12.3k"), (999_960, "1.0M"), (3.5e9, "3.5G")]
)
def test_counts_are_short(value: float, text: str) -> None:
    assert figures.short(value) == text


def test_a_watermark_of_today_is_a_time_and_of_another_day_has_its_date() -> None:
    now_ms = int(NOW.timestamp() * 1000)
    assert figures.watermark(now_ms, NOW) == f"{NOW:%H:%M:%S}"
    assert figures.watermark(now_ms - 86_400_000, NOW).startswith("2026-05-05 ")


def test_before_the_first_epoch_there_is_only_the_phase() -> None:
    assert figures.words(Status("revenue", phase="recovering", watermark=WATERMARK_MIN), NOW) == [("", "recovering")]


def test_a_watermark_outside_of_time_is_a_word() -> None:
    assert figures.watermark(WATERMARK_MIN, NOW) == "none"
    assert figures.watermark(WATERMARK_MAX, NOW) == "end"
    assert figures.watermark(WATERMARK_MAX - 2, NOW).endswith("ms")


def test_a_run_that_goes_well_says_nothing_of_trouble() -> None:
    text = figures.sentence(figures.words(Status("revenue", phase="running", epoch=7, committed=7, rows_in=1200), NOW))
    assert "running" in text
    assert "epoch 7" in text
    assert "in 1.2k" in text
    assert "late 0" in text
    assert "restarts 0" in text
    assert "skipped" not in text
    assert "failed" not in text


def test_trouble_is_shown() -> None:
    status = Status("revenue", epoch=7, committed=5, late=3, skipped=2, failed_checkpoints=1, restarts=4)
    text = figures.sentence(figures.words(status, NOW))
    for part in ("committed 5", "late 3", "skipped 2", "failed checkpoints 1", "restarts 4"):
        assert part in text


def test_the_last_checkpoint_has_its_time_and_size() -> None:
    status = Status("revenue", phase="running", last_checkpoint_ms=35.4, last_checkpoint_bytes=12_345)
    assert ("checkpoint", "35 ms 12.3kB") in figures.words(status, NOW)


def test_the_live_line_begins_with_the_job_and_never_wraps() -> None:
    text = line(Status("revenue", phase="running"), NOW)
    assert text.plain.startswith("revenue  running  epoch 0")
    assert text.no_wrap
