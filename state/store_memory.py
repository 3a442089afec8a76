"""A checkpoint store in the memory of this process: the verified double of the durable ones, for tests."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final

from ..engine.errors import StoreExistsError, StoreMissingError
from .names import check_name, check_prefix

_objects: Final[dict[str, dict[str, bytes]]] = {}
_lock: Final = threading.Lock()


class MemoryStore:
    """Objects of one job in this process; every instance of the same name and job sees the same objects."""

    def __init__(self, storage: str, job: str) -> None:
        self._url = f"{storage}/{job}"
        with _lock:
            self._mine = _objects.setdefault(self._url, {})

    @property
    def url(self) -> str:
        """Where the objects are, for messages."""
        return self._url

    def create(self, name: str, data: bytes) -> None:
        """Put an object if the name is free; the same bytes count as success."""
        check_name(name)
        with _lock:
            if self._mine.setdefault(name, bytes(data)) != data:
                raise StoreExistsError(f"{self._url}/{name} exists with other content")

    def replace(self, name: str, data: bytes) -> None:
        """Put or overwrite an object."""
        check_name(name)
        with _lock:
            self._mine[name] = bytes(data)

    def read(self, name: str) -> bytes:
        """Return the object."""
        check_name(name)
        with _lock:
            if name in self._mine:
                return self._mine[name]
        raise StoreMissingError(f"{self._url}/{name} does not exist")

    def list(self, prefix: str) -> Sequence[str]:
        """Return the names below a folder, sorted."""
        check_prefix(prefix)
        with _lock:
            return sorted(name for name in self._mine if name.startswith(prefix))

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; missing ones are passed over."""
        doomed = [check_name(name) for name in names]
        with _lock:
            for name in doomed:
                self._mine.pop(name, None)
