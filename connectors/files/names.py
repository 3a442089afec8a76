"""Names of output files: they say sink, job and epoch, so that the folder itself is the ledger.

| delivery | name |
|---|---|
| exactly-once | `<sink uid>-<job uid>-<epoch>-<subtask>.jsonl`; with `-<part>-<parts>` where an epoch has parts |
| at-least-once | `<sink uid>-<job uid>-a<attempt>-<number>-<chance>.jsonl` |

Of the job uid the first letters are shown. Numbers have leading zeros, so that names sort like epochs.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Final

from ...engine.ports.sink import LedgerEntry, Permit

UID_SHOWN: Final = 8
"""Letters of the job uid in a file's name."""


class Names:
    """Makes and reads the names of one sink's files in one job."""

    def __init__(self, uid: str, job_uid: str, ending: str) -> None:
        self.prefix = f"{uid}-{job_uid[:UID_SHOWN]}-"
        self._own = job_uid[:UID_SHOWN]
        self._ending = ending
        self._pattern = re.compile(
            rf"{re.escape(uid)}-(?P<job>[0-9A-Za-z]{{{UID_SHOWN}}})-"
            r"(?:(?P<epoch>\d{12})-(?P<subtask>\d{4,})(?:-(?P<part>\d{4})-(?P<parts>\d{4}))?|a\d{6}-\d{6}-[0-9a-f]+)"
            r"\.[a-z]+"
        )

    def of(self, permit: Permit) -> str:
        """Return the name of a decided output."""
        part = f"-{permit.part:04d}-{permit.parts:04d}" if permit.parts > 1 else ""
        return f"{self.prefix}{permit.epoch:012d}-{permit.subtask:04d}{part}{self._ending}"

    def new(self, attempt: int, number: int) -> str:
        """Return a name for output of at-least-once delivery that nobody has used."""
        return f"{self.prefix}a{attempt:06d}-{number:06d}-{secrets.token_hex(4)}{self._ending}"

    def newest(self, names: Iterable[str]) -> dict[int, LedgerEntry]:
        """Return the last commit by subtask. Names do not tell the attempt, so it is 0."""
        newest: dict[int, LedgerEntry] = {}
        for name in names:
            found = self._pattern.fullmatch(name)
            if found and found["job"] == self._own and found["epoch"]:
                entry = LedgerEntry(0, int(found["epoch"]), int(found["part"] or 0), int(found["parts"] or 1))
                old = newest.get(int(found["subtask"]))
                if old is None or (entry.epoch, entry.part) > (old.epoch, old.part):
                    newest[int(found["subtask"])] = entry
        return newest

    def foreign(self, names: Iterable[str]) -> str | None:
        """Return the first file that a sink of the same uid in another job wrote."""
        matches = (self._pattern.fullmatch(name) for name in sorted(names))
        return next((found.string for found in matches if found and found["job"] != self._own), None)
