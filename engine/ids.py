"""Names and numbers of the vocabulary: job ids, uids, hidden column names and protocol-wide constants."""

from __future__ import annotations

import re
from typing import Final

from .errors import JobInvalidError

KEY_GROUPS_DEFAULT: Final = 128
"""Number of key groups of a job; fixed when its first manifest is written."""

TIME: Final = "__time"
"""Hidden column: event time, Int64, milliseconds since the Unix epoch, never null."""
SPLIT: Final = "__split"
"""Hidden column: index of the split inside its source, Int32; only there when `first` or `last` needs it."""
OFFSET: Final = "__offset"
"""Hidden column: position inside the split, Int64; only there when `first` or `last` needs it."""
HIDDEN: Final = (TIME, SPLIT, OFFSET)
HIDDEN_PREFIX: Final = "__"

WATERMARK_MIN: Final = -(2**62)
"""Before any record: nothing is promised."""
WATERMARK_MAX: Final = 2**62
"""After the end of bounded input: every window closes."""

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def check_job_id(value: str) -> str:
    """Return `value` if it can name a job, else raise `JobInvalidError`."""
    return _check("job id", value)


def check_uid(value: str) -> str:
    """Return `value` if it can name an operator, else raise `JobInvalidError`."""
    return _check("uid", value)


def _check(what: str, value: str) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value) or value in {".", ".."}:
        raise JobInvalidError(
            f"{what} {value!r} cannot be used as a name",
            hint="use 1 to 64 letters, digits, dots, underscores or dashes",
        )
    return value
