"""The doors beside the facade: ports for custom connectors, and the test kit."""

from __future__ import annotations

from types import ModuleType

import polars as pl
import pytest
from tidegate import connect, testing


@pytest.mark.parametrize("door", [connect, testing])
def test_every_name_of_a_door_exists(door: ModuleType) -> None:
    assert [name for name in door.__all__ if not hasattr(door, name)] == []


def test_our_own_connectors_are_what_the_ports_ask_for() -> None:
    source = testing.MemorySource("doors", [[]], schema={"n": pl.Int64})
    assert isinstance(source, connect.Source)
    assert isinstance(testing.MemorySink("doors"), connect.Sink)
