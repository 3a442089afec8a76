"""The test kit: sources and sinks in memory for tests inside one process."""

from __future__ import annotations

from .connectors.memory import MemorySink, MemorySource, Mishap

__all__ = ["MemorySink", "MemorySource", "Mishap"]
