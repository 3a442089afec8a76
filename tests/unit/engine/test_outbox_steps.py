"""An outbox keeps the rows of failed tries, and gives up only what was decided."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa
import pytest
from tidegate.engine.elements import Barrier
from tidegate.engine.errors import CorruptError
from tidegate.engine.outbox import seal, unseal
from tidegate.engine.sink_steps import OutboxStep


class Encoder:
    """Encodes the column `a`."""

    def encode(self, frame: pl.DataFrame) -> pa.RecordBatch:
        """Return one column."""
        return pa.RecordBatch.from_pydict({"a": frame.get_column("a").to_list()})


def values(batches: Sequence[pa.RecordBatch]) -> list[int]:
    """All rows of batches."""
    return [value for batch in batches for value in batch.column("a").to_pylist()]


def outbox() -> tuple[OutboxStep, list[list[int]]]:
    """An outbox, and what it handed over at each barrier."""
    handed: list[list[int]] = []
    step = OutboxStep("out", Encoder(), lambda _uid, batches: handed.append(values(batches)))
    return step, handed


def test_the_next_try_of_an_epoch_has_the_rows_of_the_failed_one_first() -> None:
    step, handed = outbox()
    step.rows(pl.DataFrame({"a": [1, 2]}))
    step.barrier(Barrier(1, 5, 1))
    step.rows(pl.DataFrame({"a": [3]}))
    step.barrier(Barrier(1, 5, 2))
    assert handed == [[1, 2], [1, 2, 3]]
    assert values(step.decided()) == [1, 2, 3]


def test_rows_after_the_barrier_belong_to_the_next_epoch() -> None:
    step, handed = outbox()
    step.rows(pl.DataFrame({"a": [1]}))
    step.barrier(Barrier(1, 5, 1))
    step.rows(pl.DataFrame({"a": [2]}))
    assert values(step.decided()) == [1]
    step.barrier(Barrier(1, 6, 1))
    assert handed[-1] == [2]


def test_an_outbox_file_holds_its_batches_in_order() -> None:
    batches = [pa.RecordBatch.from_pydict({"a": [n, n + 1]}) for n in (1, 3)]
    assert values(unseal("x", seal(batches))) == [1, 2, 3, 4]


def test_bytes_that_are_no_outbox_are_refused_with_their_name() -> None:
    with pytest.raises(CorruptError, match="outbox/out/5"):
        unseal("outbox/out/5", b"garbage")
