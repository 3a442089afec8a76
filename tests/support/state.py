"""A job's checkpoints as files, made without running a job: manifests with real runs of keyed state."""

from __future__ import annotations

from typing import Any

import polars as pl
from tidegate.engine.ports.keyed import KEY_GROUP
from tidegate.engine.protocol.manifest import Manifest, StateFile
from tidegate.state.log import StoreLog
from tidegate.state.runs import write_run

from support.manifests import file_ref, manifest

END_MS = 1_790_000_010_000
VIEW = {
    "keys": ["user"],
    "bucket": "__end",
    "size_ms": 10_000,
    "columns": {"n": ["col", "__rows"], "average": ["div", "__total", "__number"]},
}


def partials(**rows_of_user: int) -> pl.DataFrame:
    """Partial rows of a window, one per user; their totals are twice their numbers of rows."""
    numbers = list(rows_of_user.values())
    return pl.DataFrame(
        {
            KEY_GROUP: pl.Series([ord(user[0]) % 128 for user in rows_of_user], dtype=pl.UInt16),
            "user": list(rows_of_user),
            "__end": pl.Series([END_MS] * len(numbers), dtype=pl.Int64),
            "__rows": pl.Series(numbers, dtype=pl.Int64),
            "__total": [2.0 * number for number in numbers],
            "__number": pl.Series(numbers, dtype=pl.Int64),
        }
    )


def checkpoint(log: StoreLog, epoch: int, *runs: pl.DataFrame, **changes: Any) -> Manifest:
    """Write runs of the operator `totals` and the manifest that names them."""
    states = []
    for number, run in enumerate(runs):
        data = write_run(run, VIEW)
        name = f"state/totals/{epoch}-1-0-{number}-0.parquet"
        log.store.create(name, data)
        states.append(StateFile("totals", file_ref(name, data, run.height), 0, 128))
    made = manifest(epoch, states=tuple(states), watermarks={"totals": END_MS} if epoch else {}, **changes)
    assert log.decide(made)
    return made
