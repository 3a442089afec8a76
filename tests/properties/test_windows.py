"""However rows are cut into batches, spread over workers and closed by watermarks, windows give what Polars gives."""

from __future__ import annotations

import random

import polars as pl
import tidegate as tg
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from tidegate.engine.graph import WindowNode
from tidegate.engine.ids import OFFSET, SPLIT, TIME, WATERMARK_MAX, WATERMARK_MIN
from tidegate.engine.operators.window import WindowState, partial, split_by_worker, table_spec
from tidegate.state.tables import new_table

from support.flows import batch, orders, window_of

SIZE_MS, OFFSET_MS, KEY_GROUPS = 100, 30, 16
SCHEMA = {"k": pl.String(), "j": pl.Int32(), "n": pl.Int64(), "x": pl.Float64()}

ROW = st.tuples(
    st.sampled_from(["a", "b", "c", "", None]),
    st.sampled_from([0, 1, None]),
    st.none() | st.integers(-(2**40), 2**40),
    st.none() | st.integers(-1000, 1000).map(lambda quarter: quarter / 4),
    st.integers(-500, 500),
)


def node() -> WindowNode:
    """A window with every aggregate."""
    stream = orders(SCHEMA).key_by("k", "j").window(tg.tumbling(SIZE_MS / 1000, offset=OFFSET_MS / 1000))
    kinds = [tg.sum, tg.min, tg.max, tg.mean, tg.first, tg.last]
    each = [kind(column).alias(f"{kind('n').kind}_{column}") for kind in kinds for column in ("n", "x")]
    return window_of(stream.agg(tg.count().alias("rows"), *each, uid="w"))


NODE = node()


def expected(rows: pl.DataFrame) -> pl.DataFrame:
    """What Polars gives for all rows at once."""
    start = (pl.col(TIME) - OFFSET_MS).floordiv(SIZE_MS) * SIZE_MS + OFFSET_MS
    bounds = pl.Datetime("ms", "UTC")
    both = pl.col("n", "x")
    return (
        rows.sort(TIME, SPLIT, OFFSET)
        .group_by("k", "j", start.cast(bounds).alias("window_start"), maintain_order=True)
        .agg(
            pl.len().cast(pl.Int64).alias("rows"),
            both.sum().name.prefix("sum_"),
            both.min().name.prefix("min_"),
            both.max().name.prefix("max_"),
            both.mean().name.prefix("mean_"),
            both.first().name.prefix("first_"),
            both.last().name.prefix("last_"),
        )
        .with_columns((pl.col("window_start").cast(pl.Int64) + SIZE_MS).cast(bounds).alias("window_end"))
        .select(list(NODE.schema))
    )


class Workers:
    """The states of all workers behind the exchange."""

    def __init__(self, parallelism: int) -> None:
        self.parallelism = parallelism
        self.states = [WindowState(new_table(table_spec(NODE)), NODE) for _ in range(parallelism)]
        self.results: list[pl.DataFrame] = []
        self.late = 0
        self.watermark = WATERMARK_MIN

    def take_in(self, rows: pl.DataFrame) -> None:
        """Aggregate a batch beforehand and send it to the owners of its key groups."""
        parts = split_by_worker(partial(NODE, rows, KEY_GROUPS), self.parallelism, KEY_GROUPS)
        for state, part in zip(self.states, parts, strict=True):
            if part is not None and part.height:
                self.late += state.absorb(part, self.watermark)

    def advance(self, watermark: int) -> None:
        """Close windows everywhere."""
        self.watermark = max(self.watermark, watermark)
        self.results += [closed for state in self.states if (closed := state.advance(self.watermark)) is not None]

    def rescale(self, parallelism: int) -> None:
        """Hand all state over to another number of workers, as a restore does."""
        runs = [run for state in self.states for run in state.snapshot() if run.height]
        self.parallelism = parallelism
        self.states = [WindowState(new_table(table_spec(NODE)), NODE) for _ in range(parallelism)]
        parts = [split_by_worker(run, parallelism, KEY_GROUPS) for run in runs]
        for worker, state in enumerate(self.states):
            state.restore([part for each in parts if (part := each[worker]) is not None])


@settings(max_examples=60)
@given(
    rows=st.lists(ROW, min_size=1, max_size=60),
    seed=st.integers(0, 2**32),
    parallelism=st.integers(1, 5),
    rescaled=st.integers(1, 5),
)
def test_windows_give_what_polars_gives_over_all_rows_at_once(
    rows: list[tuple[object, ...]], seed: int, parallelism: int, rescaled: int
) -> None:
    columns = list(zip(*rows, strict=True))
    named: dict[str, list[object]] = {name: list(values) for name, values in zip(SCHEMA, columns, strict=False)}
    frame = batch(named, times=list(columns[4])).cast(SCHEMA)  # type: ignore[arg-type]  # a mapping of dtypes
    chance = random.Random(seed)
    # The watermark never passes a row that is still to come, so no row is late.
    order = list(range(frame.height))
    chance.shuffle(order)
    workers = Workers(parallelism)
    while order:
        size = chance.randint(1, len(order))
        taken, order = order[:size], order[size:]
        workers.take_in(frame[taken])
        if chance.random() < 0.5:
            workers.advance(min((frame[TIME][index] for index in order), default=WATERMARK_MIN) - chance.randint(0, 50))
        if chance.random() < 0.2:
            workers.rescale(rescaled)
    workers.advance(WATERMARK_MAX)
    assert workers.late == 0
    results = pl.concat(workers.results).drop(TIME)
    assert results.schema == NODE.schema
    keys = ["k", "j", "window_start"]
    assert_frame_equal(results.sort(keys), expected(frame).sort(keys), rel_tol=1e-9)


@settings(max_examples=40)
@given(rows=st.lists(ROW, min_size=1, max_size=40), seed=st.integers(0, 2**32))
def test_every_row_is_either_in_one_result_or_counted_as_late(rows: list[tuple[object, ...]], seed: int) -> None:
    columns = list(zip(*rows, strict=True))
    named: dict[str, list[object]] = {name: list(values) for name, values in zip(SCHEMA, columns, strict=False)}
    frame = batch(named, times=list(columns[4])).cast(SCHEMA)  # type: ignore[arg-type]  # a mapping of dtypes
    chance = random.Random(seed)
    workers = Workers(chance.randint(1, 4))
    for index in range(frame.height):
        workers.take_in(frame[index])
        if chance.random() < 0.3:
            workers.advance(chance.randint(-600, 600))
    workers.advance(WATERMARK_MAX)
    counted = sum(int(result["rows"].sum()) for result in workers.results)
    assert counted + workers.late == frame.height
    results = pl.concat(workers.results) if workers.results else None
    if results is not None:
        assert results.select("k", "j", "window_start").is_unique().all(), "a window closes once"
