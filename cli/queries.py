"""The commands that read a job's catalog."""

from __future__ import annotations

import json
from typing import Final

from . import printing
from .jobs import find

_TIMEOUT_S: Final = 30.0
_ALL: Final = "select * from checkpoints order by epoch desc"
_SHORT: Final = """
    select epoch, phase, trigger, attempt, tries, workers, decided,
           round(collect_ms)::int as collect_ms, round(decide_ms)::int as decide_ms,
           state_rows, state_bytes, output_rows, output_bytes, pending_rows
    from checkpoints order by epoch desc
"""


def show_checkpoints(job: str, storage: str | None, limit: int, *, as_json: bool) -> int:
    """Print the checkpoints of a job, newest first; in JSON with every column of the catalog."""
    if not as_json:
        return show_query(job, _SHORT, storage, limit, _TIMEOUT_S, as_json=False)
    place = find(job, storage)
    from ..state.sql import query as run_query  # noqa: PLC0415 (loads DuckDB, which a wrong JOB need not wait for)

    result = run_query(place.storage, place.job, _ALL, limit=limit, timeout_s=_TIMEOUT_S)
    records = printing.records(result.columns, result.rows)
    for record in records:
        record["counters"] = json.loads(str(record["counters"] or "{}"))
    printing.json_document(records)
    return 0


def show_query(job: str, query: str, storage: str | None, limit: int, timeout_s: float, *, as_json: bool) -> int:
    """Print the result of an SQL query, as a table or as a JSON list of objects."""
    place = find(job, storage)
    from ..state.sql import query as run_query  # noqa: PLC0415 (loads DuckDB, which a wrong JOB need not wait for)

    result = run_query(place.storage, place.job, query, limit=limit, timeout_s=timeout_s)
    if as_json:
        printing.json_document(printing.records(result.columns, result.rows))
    else:
        printing.table(result.columns, result.rows)
    if result.truncated:
        printing.note(f"only the first {limit} rows are shown; --limit shows more")
    return 0


def rebuild_catalog(job: str, storage: str | None, *, as_json: bool) -> int:
    """Make a job's catalog again from its manifests and print what it holds."""
    place = find(job, storage)
    from ..state.catalog import rebuild  # noqa: PLC0415 (see above)

    count = rebuild(place.storage, place.job)
    if as_json:
        printing.json_document({"job": place.job, "storage": place.storage, "checkpoints": count})
    else:
        printing.note(f"catalog of job '{place.job}' made again: {count} checkpoints")
    return 0
