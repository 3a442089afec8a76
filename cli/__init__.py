"""The command line: parse, call, print. `main` is the entry point of the `tidegate` command."""

from __future__ import annotations

from .entry import main

__all__ = ["main"]
