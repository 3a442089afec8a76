"""Tells the demo: with colours on a terminal, as plain text elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Final

_STYLES: Final = (
    (re.compile(r"\d+\. .*kill -9"), "bold red"),
    (re.compile(r"\d+\. "), "bold"),
    (re.compile(r"   \| .* (WARNING|ERROR) "), "yellow"),
    (re.compile(r"   \| "), "dim"),
    (re.compile(r"   \$ "), "cyan"),
    (re.compile(r"   missing: 0   doubled or wrong: 0"), "bold green"),
    (re.compile(r"   missing: "), "bold red"),
)


def teller() -> Callable[[str], None]:
    """Return the function that prints one line."""
    if not sys.stdout.isatty():
        return lambda line: print(line, flush=True)  # noqa: T201 (it prints)
    from rich.console import Console  # noqa: PLC0415 (only a terminal needs it, and it takes a while)

    console = Console(highlight=False)

    def tell(line: str) -> None:
        console.print(line, style=style_of(line), markup=False, soft_wrap=True)

    return tell


def style_of(line: str) -> str | None:
    """Return how a line looks on a terminal."""
    return next((style for pattern, style in _STYLES if pattern.match(line)), None)
