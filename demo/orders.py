"""Generates orders as JSON lines: the same seed always gives the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

BASE_MS: Final = 1_795_392_000_000
COUNTRIES: Final = ("BR", "DE", "FR", "GB", "IN", "JP", "NL", "PL", "SE", "US")
JITTER_MS: Final = 1_500
SEED: Final = 7


def write_orders(folder: Path, files: int, rows_per_file: int, ms_per_row: float = 0.5) -> int:
    """Write `files` files of orders below `folder` and return the number of rows.

    Columns: id (unique), country, customer, cents (integer, sometimes zero or below: cancelled), ts (event time in ms,
    out of order by less than JITTER_MS within a file).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        random = np.random.default_rng(SEED + number)
        frame = pl.DataFrame(
            {
                "id": np.arange(rows_per_file) * files + number,
                "country": np.array(COUNTRIES)[random.integers(0, len(COUNTRIES), rows_per_file)],
                "customer": random.integers(0, 500, rows_per_file),
                "cents": random.integers(-500, 20_000, rows_per_file),
                "ts": BASE_MS
                + (np.arange(rows_per_file) * ms_per_row).astype(np.int64)
                + random.integers(0, JITTER_MS, rows_per_file),
            }
        )
        frame.write_ndjson(folder / f"orders-{number}.jsonl")
    return files * rows_per_file
