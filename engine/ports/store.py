"""The checkpoint store port: immutable objects by name under one job's prefix, with create-if-absent.

All names are relative to the job's folder and use `/`; an implementation refuses any other name (absolute, `..`, empty
segments, a symlink on the way). Every call is bounded in time by the implementation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class CheckpointStore(Protocol):
    """Objects of one job. Threads may share an instance."""

    @property
    def url(self) -> str:
        """Where the objects are, without credentials, for messages."""

    def create(self, name: str, data: bytes) -> None:
        """Write an object if the name is free; durable when this returns.

        Exactly one of several concurrent creators wins. Raises `StoreExistsError` when the name is taken *by other
        bytes* (the same bytes count as success: an earlier answer may have been lost), `StoreFullError`, or
        `StoreUnavailableError` when the outcome is unknown or the store cannot be reached.
        """

    def replace(self, name: str, data: bytes) -> None:
        """Write or overwrite an object atomically. Only for signs of life; nothing that decides is ever replaced."""

    def read(self, name: str) -> bytes:
        """Return the whole object. Raises `StoreMissingError` or `StoreUnavailableError`."""

    def list(self, prefix: str) -> Sequence[str]:
        """Return the names that start with `prefix` (a folder ending in `/`), sorted; empty if there is none."""

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; names that are not there are passed over."""
