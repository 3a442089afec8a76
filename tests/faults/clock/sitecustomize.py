"""Lets the wall clock of a process jump: seconds to add are read from the file that CLOCK_OFFSET_FILE names.

Python imports a module of this name at start when its folder is in PYTHONPATH.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_time, _time_ns = time.time, time.time_ns
_FILE = Path(os.environ["CLOCK_OFFSET_FILE"])


def _offset() -> int:
    try:
        return int(_FILE.read_text())
    except (OSError, ValueError):
        return 0


time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + _offset() * 1_000_000_000
