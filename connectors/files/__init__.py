"""Files: a source of JSON lines, and a sink that writes them exactly once."""

from .sink import FilesSink
from .source import FileSource

__all__ = ["FileSource", "FilesSink"]
