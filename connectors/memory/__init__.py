"""Memory: a source and a sink inside this process, for tests of engine and jobs; both keep the ports' whole promise.

What they hold is known by name throughout the process, so that a job that is loaded twice meets the same rows. Worker
processes have a memory of their own: a job that runs in them needs files or Kafka.
"""

from .sink import MemorySink, Mishap
from .source import MemorySource

__all__ = ["MemorySink", "MemorySource", "Mishap"]
