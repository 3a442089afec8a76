"""Keyed state for SQL: finds the operators that a query names, and shows their runs as the ordinary columns users know.

`state('uid')` is the state at the newest checkpoint, `state('uid', epoch => 812)` at an older one that is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import polars as pl

from ..engine.errors import CorruptError, JobInvalidError
from ..engine.ports.keyed import KEY_GROUP
from ..engine.protocol.manifest import Manifest, StateFile
from .files import read_file
from .log import StoreLog
from .runs import read_run, read_view

Reference = tuple[str, int | None]
"""A uid, and an epoch or None for the newest checkpoint."""

READ_THREADS: Final = 8
_TOKEN: Final = re.compile(
    r"""
    --[^\n]* | /\*.*?\*/ | "(?:[^"]|"")*" |
    \bstate\s*\(\s*'(?P<uid>(?:[^']|'')*)'\s*(?:,\s*(?:epoch\s*(?:=>|:=)\s*)?(?P<epoch>\d{1,18})\s*)?\) |
    '(?:[^']|'')*'
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_BOUND: Final = pl.Datetime("ms", "UTC")


def references(sql: str) -> list[Reference]:
    """Return the states that a query names with constants, without those inside comments and strings."""
    found = [
        (match["uid"].replace("''", "'"), None if match["epoch"] is None else int(match["epoch"]))
        for match in _TOKEN.finditer(sql)
        if match["uid"] is not None
    ]
    return list(dict.fromkeys(found))


def load_state(job_log: StoreLog, newest: Manifest, reference: Reference) -> pl.DataFrame:
    """Read and verify the runs of one operator at one checkpoint, and show them.

    Raises `JobInvalidError` for an unknown uid or epoch, `CorruptError`, `StoreMissingError`, `StoreUnavailableError`.
    """
    uid, epoch = reference
    manifest = newest if epoch in {None, newest.epoch} else _kept(job_log, epoch or 0)
    files = [state for state in manifest.states if state.uid == uid]
    if not files:
        return _empty(job_log, manifest, uid)
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="state-read") as threads:
        frames = list(threads.map(lambda state: _shown(job_log, state), files))
    return pl.concat(frames, how="diagonal_relaxed")


def present(run: pl.DataFrame, view: Mapping[str, object]) -> pl.DataFrame:
    """Return the columns that `view` describes, or all but the key group if it says nothing. Raises `CorruptError`."""
    columns = view.get("columns")
    if not isinstance(columns, dict):
        return run.drop(KEY_GROUP, strict=False)
    try:
        shown = [pl.col(str(key)) for key in _listed(view.get("keys"))]
        bucket, size_ms = view.get("bucket"), view.get("size_ms")
        if isinstance(bucket, str) and isinstance(size_ms, int):
            shown += [
                (pl.col(bucket) - size_ms).cast(_BOUND).alias("window_start"),
                pl.col(bucket).cast(_BOUND).alias("window_end"),
            ]
        shown += [_result(how).alias(str(name)) for name, how in columns.items()]
        return run.select(shown)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise CorruptError(f"a run of keyed state does not fit its own description: {error}") from error


def _result(how: object) -> pl.Expr:
    match how:
        case ["col", str(column)]:
            return pl.col(column)
        case ["div", str(total), str(number)]:
            return pl.when(pl.col(number) > 0).then(pl.col(total) / pl.col(number))
    raise ValueError(f"{how!r} tells no result")


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _shown(job_log: StoreLog, state: StateFile) -> pl.DataFrame:
    data = read_file(job_log, state.file)
    return present(read_run(data, state.groups_from, state.groups_to), read_view(data))


def _kept(job_log: StoreLog, epoch: int) -> Manifest:
    epochs = job_log.epochs()
    if epoch not in epochs:
        raise JobInvalidError(
            f"checkpoint {epoch} of job '{job_log.job}' is not kept",
            hint=f"kept are {', '.join(map(str, epochs[-10:]))}; --retain says how many",
        )
    return job_log.read(epoch)


def _empty(job_log: StoreLog, manifest: Manifest, uid: str) -> pl.DataFrame:
    """Return no rows in the columns that another kept checkpoint knows; a manifest knows only the operator's name."""
    known = {state.uid for state in manifest.states} | manifest.watermarks.keys()
    for epoch in reversed(job_log.epochs()):
        other = job_log.read(epoch)
        known |= {state.uid for state in other.states}
        for state in other.states:
            if state.uid == uid:
                return _shown(job_log, state).clear()
    if uid not in known:
        raise JobInvalidError(
            f"job '{job_log.job}' keeps no state under uid '{uid}'",
            hint=f"operators with state: {', '.join(sorted(known)) or 'none'}",
        )
    raise JobInvalidError(
        f"operator '{uid}' holds no rows at checkpoint {manifest.epoch}, nor at any other that is kept",
        hint="its columns are known once a checkpoint holds some of its rows",
    )
