"""Uploads of a checkpoint try: what the store refuses for now fails the try, not the worker."""

from __future__ import annotations

import queue
from typing import Final

import polars as pl
import pytest
from tidegate.engine.elements import Barrier
from tidegate.engine.errors import StoreDeniedError, StoreFullError, StoreUnavailableError
from tidegate.engine.messages import Ack, TryFailed
from tidegate.engine.ports.keyed import KEY_GROUP
from tidegate.engine.uploads import Parts, Uploader
from tidegate.state.store_memory import MemoryStore

from support.stores import ForwardingStore

REPORT_TIMEOUT_S: Final = 10.0
RUN: Final = pl.DataFrame({KEY_GROUP: pl.Series([3], dtype=pl.UInt16), "n": [1]})


class Refusing(ForwardingStore):
    """A store that refuses what it is told to."""

    error: Exception | None = None

    def create(self, name: str, data: bytes) -> None:
        """Refuse, or pass it on."""
        if self.error is not None:
            raise self.error
        self.inner.create(name, data)


@pytest.mark.parametrize("kind", [StoreDeniedError, StoreFullError, StoreUnavailableError])
def test_a_refusal_fails_the_try_and_the_next_try_is_acknowledged(kind: type[Exception]) -> None:
    store = Refusing(MemoryStore("memory://uploads", "job"))
    reports: queue.Queue[Ack | TryFailed | Exception] = queue.Queue()
    uploader = Uploader(store, 0, {}, lambda _uid, _run: b"run", reports.put, reports.put)
    store.error = kind("credentials expired")
    uploader.submit(Parts(Barrier(1, 1, 1), 0, states={"totals": [RUN]}))
    assert reports.get(timeout=REPORT_TIMEOUT_S) == TryFailed(1, 1, "credentials expired")
    store.error = None
    uploader.submit(Parts(Barrier(1, 1, 2), 0, states={"totals": [RUN]}))
    acknowledged = reports.get(timeout=REPORT_TIMEOUT_S)
    assert isinstance(acknowledged, Ack)
    assert (acknowledged.tries, len(acknowledged.states)) == (2, 1)
    uploader.close()
