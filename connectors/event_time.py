"""Event time: how a source finds out when a record happened."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class EventTime:
    """A column and how it tells the event time. `expression` gives Int64 milliseconds since the Unix epoch, or null."""

    column: str
    kind: str

    def expression(self) -> pl.Expr:
        """Return the expression over the source's columns."""
        source = pl.col(self.column)
        if self.kind == "epoch_ms":
            return source.cast(pl.Int64, strict=False)
        if self.kind == "epoch_s":
            return (source.cast(pl.Float64, strict=False) * 1000).round().cast(pl.Int64, strict=False)
        if self.kind == "iso8601":
            return source.str.to_datetime(time_unit="ms", time_zone="UTC", strict=False).dt.epoch("ms")
        return source.dt.epoch("ms")


def epoch_ms(column: str) -> EventTime:
    """Event time is a number of milliseconds since the Unix epoch."""
    return EventTime(column, "epoch_ms")


def epoch_s(column: str) -> EventTime:
    """Event time is a number of seconds since the Unix epoch, with or without a fraction."""
    return EventTime(column, "epoch_s")


def iso8601(column: str) -> EventTime:
    """Event time is text such as `2026-11-23T10:00:00.123Z`; without a zone it is taken as UTC."""
    return EventTime(column, "iso8601")


def datetime_column(column: str) -> EventTime:
    """Event time is a Datetime column; without a zone it is taken as UTC."""
    return EventTime(column, "datetime")
