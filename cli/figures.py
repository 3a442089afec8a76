"""Puts the figures of a run into words, for the live line and for log lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from ..engine.ids import WATERMARK_MAX, WATERMARK_MIN
from ..engine.status import Status

_UNITS: Final = ("", "k", "M", "G", "T")
_THOUSAND: Final = 1000


def words(status: Status, now: datetime) -> list[tuple[str, str]]:
    """Return (label, value) pairs in the order of the live line; figures that say nothing yet are left out."""
    pairs = [("", status.phase)]
    if not status.epoch and status.phase in {"starting", "recovering"}:
        return pairs
    pairs.append(("epoch", str(status.epoch)))
    if status.committed < status.epoch:
        pairs.append(("committed", str(status.committed)))
    pairs += [("in", short(status.rows_in)), ("records/s", short(status.rows_per_s)), ("out", short(status.rows_out))]
    if status.watermark is not None and status.watermark > WATERMARK_MIN:
        pairs.append(("watermark", watermark(status.watermark, now)))
    if status.caught_up:
        pairs.append(("", "caught up"))
    pairs.append(("late", short(status.late)))
    if status.skipped:
        pairs.append(("skipped", short(status.skipped)))
    if status.last_checkpoint_ms is not None:
        size = short(status.last_checkpoint_bytes)
        pairs.append(("checkpoint", f"{status.last_checkpoint_ms:.0f} ms {size}B"))
    if status.failed_checkpoints:
        pairs.append(("failed checkpoints", str(status.failed_checkpoints)))
    pairs.append(("restarts", str(status.restarts)))
    return pairs


def sentence(pairs: Sequence[tuple[str, str]]) -> str:
    """Join the pairs to one line."""
    return "  ".join(f"{label} {value}".strip() for label, value in pairs)


def short(value: float) -> str:
    """Return a count in at most six characters: 999, 1.2k, 34.5M."""
    number, unit = float(value), 0
    # What would be shown as 1000 is shown in the next unit.
    while number >= _THOUSAND - (0.5 if unit == 0 else 0.05) and unit < len(_UNITS) - 1:
        number, unit = number / _THOUSAND, unit + 1
    return f"{number:.0f}" if unit == 0 else f"{number:.1f}{_UNITS[unit]}"


def watermark(value_ms: int, now: datetime) -> str:
    """Return a watermark as local time, with the date unless it is today's."""
    if value_ms <= WATERMARK_MIN:
        return "none"
    if value_ms >= WATERMARK_MAX:
        return "end"
    try:
        at = datetime.fromtimestamp(value_ms / 1000).astimezone()
    except (OverflowError, OSError, ValueError):
        return f"{value_ms} ms"
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S}"


def result(how: str, status: Status, seconds: float) -> dict[str, object]:
    """Return the JSON object of a run that ended."""
    return {
        "job": status.job,
        "result": how,
        "attempt": status.attempt,
        "epoch": status.epoch,
        "committed": status.committed,
        "rows_in": status.rows_in,
        "rows_out": status.rows_out,
        "late": status.late,
        "skipped": status.skipped,
        "failed_checkpoints": status.failed_checkpoints,
        "restarts": status.restarts,
        "last_checkpoint_ms": status.last_checkpoint_ms,
        "seconds": round(seconds, 3),
    }
