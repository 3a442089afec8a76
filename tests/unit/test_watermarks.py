"""Watermarks follow the slowest split, never go down, and are not fooled by a stopped process."""

from __future__ import annotations

from tidegate.engine.ids import WATERMARK_MAX, WATERMARK_MIN
from tidegate.engine.watermarks import IDLE_STEP_MAX_MS, MergedWatermark, SplitWatermarks


def splits(idle_after_ms: int | None = None) -> SplitWatermarks:
    """Two splits, 100 ms out of order at most."""
    watermarks = SplitWatermarks(100, idle_after_ms)
    watermarks.add("a", None)
    watermarks.add("b", None)
    return watermarks


def test_a_split_without_any_record_holds_everything_back() -> None:
    watermarks = splits()
    watermarks.saw({"a": 5_000})
    assert watermarks.value() == WATERMARK_MIN


def test_the_slowest_split_decides() -> None:
    watermarks = splits()
    watermarks.saw({"a": 5_000, "b": 3_000})
    assert watermarks.value() == 2_900


def test_a_finished_split_holds_nobody_back_and_the_end_closes_everything() -> None:
    watermarks = splits()
    watermarks.saw({"a": 5_000})
    watermarks.finished(["b"])
    assert watermarks.value() == 4_900
    watermarks.finished(["a"])
    assert watermarks.value() == WATERMARK_MAX


def test_a_caught_up_split_is_idle_after_its_time_and_back_with_its_next_record() -> None:
    watermarks = splits(idle_after_ms=1_000)
    watermarks.saw({"a": 5_000, "b": 3_000})
    watermarks.caught_up(["b"])
    for _ in range(4):
        watermarks.passed(300)
    assert watermarks.value() == 4_900
    watermarks.moved(["b"])
    assert watermarks.value() == 2_900


def test_a_split_that_is_not_caught_up_is_never_idle() -> None:
    watermarks = splits(idle_after_ms=1_000)
    watermarks.saw({"a": 5_000, "b": 3_000})
    for _ in range(100):
        watermarks.passed(500)
    assert watermarks.value() == 2_900


def test_the_time_that_a_process_was_stopped_does_not_count_as_idleness() -> None:
    watermarks = splits(idle_after_ms=2 * IDLE_STEP_MAX_MS)
    watermarks.saw({"a": 5_000, "b": 3_000})
    watermarks.caught_up(["b"])
    watermarks.passed(60_000)
    assert watermarks.value() == 2_900


def test_without_any_split_a_subtask_is_idle() -> None:
    assert SplitWatermarks(0, None).value() is None


def test_a_restart_goes_on_from_the_largest_times_seen() -> None:
    watermarks = SplitWatermarks(100, None)
    watermarks.add("a", 9_000)
    assert watermarks.value() == 8_900


def test_the_merged_watermark_is_the_smallest_of_the_inputs_that_are_not_idle() -> None:
    merged = MergedWatermark(2)
    assert not merged.update(0, 50)
    assert merged.update(1, 30)
    assert merged.value == 30
    assert merged.update(1, None)
    assert merged.value == 50


def test_the_merged_watermark_never_goes_down() -> None:
    merged = MergedWatermark(2)
    merged.update(0, 50)
    merged.update(1, None)
    merged.update(1, 10)
    assert merged.value == 50


def test_all_inputs_idle_means_idle() -> None:
    merged = MergedWatermark(2)
    merged.update(0, None)
    assert merged.update(1, None)
    assert merged.current is None
