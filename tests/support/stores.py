"""A checkpoint store that passes every call on, for tests that change what happens in some of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tidegate.engine.ports.store import CheckpointStore


class ForwardingStore:
    """Objects of the store behind it."""

    def __init__(self, inner: CheckpointStore) -> None:
        self.inner = inner

    @property
    def url(self) -> str:
        """Where the objects are."""
        return self.inner.url

    def create(self, name: str, data: bytes) -> None:
        """Pass on."""
        self.inner.create(name, data)

    def replace(self, name: str, data: bytes) -> None:
        """Pass on."""
        self.inner.replace(name, data)

    def read(self, name: str) -> bytes:
        """Pass on."""
        return self.inner.read(name)

    def list(self, prefix: str) -> Sequence[str]:
        """Pass on."""
        return self.inner.list(prefix)

    def delete(self, names: Iterable[str]) -> None:
        """Pass on."""
        self.inner.delete(names)
