"""SQL over a job's catalog and keyed state, on a private copy in memory that can reach nothing else.

The copy is the reader's copy plus the manifests that it lacks, so the answer is as new as the checkpoints themselves,
from any machine that can read them. One SELECT is run: no files, no network, no extensions, no settings; within bounds
of memory, time and rows.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import polars as pl
import pyarrow as pa

from ..engine.durations import parse_ms
from ..engine.errors import StoreMissingError, TidegateError
from .catalog import catch_up, no_checkpoints
from .catalog_database import CatalogDatabase
from .catalog_publish import reader_path, replace
from .catalog_schema import TABLES, CatalogError, UnreadableError, quoted
from .log import StoreLog, open_log
from .sql_state import load_state, references
from .stores import is_local

log = logging.getLogger(__name__)

LIMIT: Final = 1000
TIMEOUT_S: Final = 30.0
INTERRUPT_GRACE_S: Final = 2.0
"""How long an interrupted query may take to notice; a single call inside DuckDB can be longer than that."""
MEMORY_MAX: Final = "1GB"
THREADS: Final = 2
BATCH_ROWS: Final = 2048
_RELOADS_MAX: Final = 3
_LOCKED: Final = (
    f"SET memory_limit = '{MEMORY_MAX}'",
    f"SET threads = {THREADS}",
    "SET python_enable_replacements = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
    "BEGIN TRANSACTION READ ONLY",  # a SELECT may hold an INSERT: WITH x AS (INSERT ...)
)
_STATE: Final = "state:"
"""How names of tables with keyed state begin."""
_STATE_MACRO: Final = (
    f"CREATE MACRO state(uid, epoch := NULL) AS TABLE FROM query_table('{_STATE}' || uid || coalesce('@' || epoch, ''))"
)


class QueryError(TidegateError):
    """A query cannot be understood, or asks for what is not allowed here."""

    exit_code = 2


@dataclass(frozen=True)
class Result:
    """Columns by name, which may repeat, and rows of Python values; `truncated` when there were more rows."""

    columns: list[str]
    rows: list[tuple[object, ...]]
    truncated: bool


def query(
    storage: str, job: str, sql: str, *, limit: int = LIMIT, timeout_s: float | str | timedelta = TIMEOUT_S
) -> Result:
    """Run one SELECT and return at most `limit` rows.

    Raises `QueryError` for SQL that cannot be run, `TidegateError` when time or memory ran out, `JobInvalidError` for
    a job, uid or epoch that is not there, and what reading the checkpoint store raises.
    """
    _check(sql)
    timeout = parse_ms(timeout_s, "timeout") / 1000
    job_log = open_log(storage, job)
    database = _catalog(storage, job, job_log)
    run = _Run(database, sql, limit)
    try:
        run.prepare(job_log)
        return run.within(timeout)
    finally:
        # A query that does not notice its interruption would hold up closing; then the process's end closes.
        if not run.is_stuck:
            database.close()


def _check(sql: str) -> None:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise _query_error(error, []) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise QueryError(f"one SELECT is run here; this is {kinds}", hint="the catalog and the state are read-only")


def _catalog(storage: str, job: str, job_log: StoreLog) -> CatalogDatabase:
    path = reader_path(storage, job)
    database = CatalogDatabase(job, job_log.store.url)
    try:
        _fill(database, job_log, path)
    except BaseException:
        database.close()
        raise
    return database


def _fill(database: CatalogDatabase, job_log: StoreLog, path: Path | None) -> None:
    if path is not None and path.exists():
        try:
            database.load(path)
        except UnreadableError as error:
            log.warning("catalog %s is passed over: %s (`tidegate catalog rebuild` makes it again)", path, error)
    is_news = catch_up(database, job_log)
    if not database.known:
        raise no_checkpoints(job_log.job, job_log)
    # A local copy is the coordinator's to write; elsewhere one spares the next query from reading all this again.
    if path is not None and is_news and not is_local(job_log.store.url):
        _keep(path, database)


def _keep(path: Path, database: CatalogDatabase) -> None:
    try:
        replace(path, database.write)
    except (CatalogError, OSError) as error:
        log.debug("the catalog is not kept in %s: %s", path, error)


def _load(job_log: StoreLog, uid: str, epoch: int | None) -> pl.DataFrame:
    for tries_left in reversed(range(_RELOADS_MAX)):
        newest = job_log.newest()
        if newest is None:
            break
        try:
            return load_state(job_log, newest, (uid, epoch))
        except StoreMissingError:
            # The newest checkpoint may have retired between reading its manifest and its files.
            if epoch is not None or not tries_left:
                raise
    raise no_checkpoints(job_log.job, job_log)


class _Run:
    """One query in a thread of its own, so that waiting for it has a bound whatever it does."""

    def __init__(self, database: CatalogDatabase, sql: str, limit: int) -> None:
        self._connection = database.connection
        self._sql = sql
        self._limit = limit
        self._names: list[str] = []
        self._table: pa.Table | None = None
        self._error: Exception | None = None
        self.is_stuck = False

    def prepare(self, job_log: StoreLog) -> None:
        """Register the states that the query names, then lock everything else away."""
        self._execute(_STATE_MACRO)
        for uid, epoch in references(self._sql):
            frame = _load(job_log, uid, epoch)
            wide = pl.selectors.by_dtype(pl.Int128, pl.UInt128)
            frame = frame.with_columns(wide.cast(pl.Decimal(38, 0)))  # no Arrow type holds 128-bit integers
            self._connection.register(f"{_STATE}{uid}" + ("" if epoch is None else f"@{epoch}"), frame.to_arrow())
        keyed = self._execute("SELECT uid FROM operators WHERE kind = 'keyed' ORDER BY uid")
        self._names = [*(table.name for table in TABLES[1:]), *(f"state({quoted(uid)})" for (uid,) in keyed)]
        for statement in _LOCKED:
            self._execute(statement)

    def _execute(self, statement: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement).fetchall()

    def within(self, timeout_s: float) -> Result:
        """Wait for the result. Raises what `query` does."""
        thread = threading.Thread(target=self._work, name="sql", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if thread.is_alive():
            self._connection.interrupt()
            thread.join(INTERRUPT_GRACE_S)
            self.is_stuck = thread.is_alive()
            raise TidegateError(
                f"the query took longer than {timeout_s:g} s and was stopped", hint="narrow it down, or raise --timeout"
            )
        if self._error is not None:
            raise self._error
        assert self._table is not None
        rows = list(zip(*(_values(column) for column in self._table.columns), strict=True))
        return Result(list(self._table.column_names), rows[: self._limit], len(rows) > self._limit)

    def _work(self) -> None:
        try:
            with closing(self._connection.sql(self._sql).to_arrow_reader(BATCH_ROWS)) as reader:
                self._table = pa.Table.from_batches(_first(reader, self._limit + 1), reader.schema)
        except duckdb.Error as error:
            self._error = _query_error(error, self._names)
        except Exception as error:  # noqa: BLE001 - handed over to the thread that waits
            self._error = error


def _first(reader: pa.RecordBatchReader, rows: int) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        yield batch.slice(0, rows)
        rows -= batch.num_rows
        if rows <= 0:
            return


def _values(column: pa.ChunkedArray) -> list[object]:
    try:
        values = column.to_pylist()
    except (OverflowError, ValueError):
        values = column.cast(pa.string()).to_pylist()  # times beyond what Python can hold
    if pa.types.is_interval(column.type):
        return [_duration(value) for value in values]
    if pa.types.is_decimal(column.type) and column.type.scale == 0:
        # Sums of integers are 128 bits wide, and no Arrow type holds those as integers.
        return [None if value is None else int(value) for value in values]
    return list(values)


def _duration(value: Any) -> object:
    if value is None or value.months:
        return value if value is None else str(value)
    return timedelta(days=value.days, microseconds=value.nanoseconds / 1000)


def _query_error(error: duckdb.Error, names: list[str]) -> TidegateError:
    kind, _, text = str(error).partition(": ")
    message, *rest = [line.strip() for line in text.split("\n") if line.strip()] or [kind]
    if isinstance(error, duckdb.OutOfMemoryException):
        return TidegateError(f"the query needs more than {MEMORY_MAX} of memory", hint="narrow it down")
    if isinstance(error, duckdb.PermissionException | duckdb.TransactionException):
        return QueryError(f"not allowed here: {message}", hint="a query reads the job's catalog and keyed state only")
    if isinstance(error, duckdb.CatalogException) and f" {_STATE}" in message:
        return QueryError(
            "state(...) takes constants only, because it is read before the query runs",
            hint="write state('uid') or state('uid', epoch => 812)",
        )
    if isinstance(error, duckdb.CatalogException) and names:
        return QueryError(message, hint=f"there are {', '.join(names)}")
    return QueryError(message, hint=" ".join(line for line in rest if not line.startswith(("LINE", "^"))))
