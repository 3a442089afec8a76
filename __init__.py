"""Tidegate: exactly-once stream processing in Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from .engine.errors import TidegateError
from .engine.job import Job
from .engine.operators.aggregates import count, first, last, mean
from .engine.operators.aggregates import max_ as max  # noqa: A004 (read as tg.max)
from .engine.operators.aggregates import min_ as min  # noqa: A004 (read as tg.min)
from .engine.operators.aggregates import sum_ as sum  # noqa: A004 (read as tg.sum)
from .engine.operators.window import tumbling
from .engine.runtime import install
from .engine.stream import KeyedStream, Stream, WindowedStream
from .state.runtime import runtime

if TYPE_CHECKING:
    from .connectors.event_time import datetime_column, epoch_ms, epoch_s, iso8601
    from .connectors.files import FileSource, FilesSink
    from .connectors.formats import Json, Raw, Text
    from .connectors.kafka import KafkaSink, KafkaSource

__version__ = "0.1.0"

_LAZY: Final = {
    "FileSource": "connectors.files",
    "FilesSink": "connectors.files",
    "Json": "connectors.formats",
    "KafkaSink": "connectors.kafka",
    "KafkaSource": "connectors.kafka",
    "Raw": "connectors.formats",
    "Text": "connectors.formats",
    "datetime_column": "connectors.event_time",
    "epoch_ms": "connectors.event_time",
    "epoch_s": "connectors.event_time",
    "iso8601": "connectors.event_time",
}
"""Names that are imported when they are first used: their client libraries cost start-up time."""

__all__ = [
    "FileSource",
    "FilesSink",
    "Job",
    "Json",
    "KafkaSink",
    "KafkaSource",
    "KeyedStream",
    "Raw",
    "Stream",
    "Text",
    "TidegateError",
    "WindowedStream",
    "count",
    "datetime_column",
    "epoch_ms",
    "epoch_s",
    "first",
    "iso8601",
    "last",
    "max",
    "mean",
    "min",
    "sum",
    "tumbling",
]


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'tidegate' has no attribute {name!r}")
    return getattr(import_module(f".{_LAZY[name]}", __name__), name)


install(runtime())
