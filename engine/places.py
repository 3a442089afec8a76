"""Places in the user's code: the file and line at which a job says something, for messages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent.parent


def user_place() -> str:
    """Return `file:line` of the innermost caller outside this package, or an empty string."""
    frame = sys._getframe(1)  # noqa: SLF001 (the only way to name the user's line without raising)
    while frame is not None:
        file = frame.f_code.co_filename
        inside = file.startswith("<frozen") or Path(file).resolve().is_relative_to(_PACKAGE / "engine")
        if not inside and Path(file).resolve() != _PACKAGE / "__init__.py":
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]  # ends with None
    return ""


def where(operator: str) -> str:
    """Return the operator with the user's line, for the beginning of a message."""
    place = user_place()
    return f"{operator} at {place}" if place else operator
