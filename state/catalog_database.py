"""The catalog in memory: a private DuckDB database that manifests and events are written into.

It is never opened by anybody else, so nobody can lock, damage or wait for it; readers get copies (`write`). Changes are
one transaction per call.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

import duckdb

from ..engine.protocol.manifest import Kind, Manifest
from .catalog_rows import COMMITTED, DECIDED, RETIRED, checkpoint_row, committed_through, detail_rows, operators
from .catalog_schema import (
    ATTEMPTS,
    CATALOG_FORMAT,
    CHECKPOINTS,
    DETAILS,
    FAILED_TRIES,
    FEW_ROWS,
    FORMAT,
    HISTORY_MAX,
    JOBS,
    OPERATORS,
    TABLES,
    CatalogError,
    Rows,
    Table,
    UnreadableError,
    definitions,
    quoted,
)
from .folders import FILE_MODE

MEMORY_MAX: Final = "256MB"
_ENDS: Final = {Kind.STOPPED: "stopped", Kind.FINISHED: "finished"}


class CatalogDatabase:
    """The tables of one job. Used by one thread at a time. `known` are the epochs that have rows."""

    def __init__(self, job: str, storage: str) -> None:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "threads": 1,
            "memory_limit": MEMORY_MAX,
            "temp_directory": "",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        self.connection = duckdb.connect(":memory:", config=settings)
        self._job = job
        self._storage = storage
        self.known: set[int] = set()
        self._job_row: tuple[Any, ...] = ()
        self._operators: dict[tuple[str, str], str | None] = {}
        self._run("SET TimeZone = 'UTC'")
        with self._transaction():
            self._run("; ".join(definitions()))
            self._insert(CATALOG_FORMAT, [(FORMAT,)])

    def close(self) -> None:
        """Release the database; may be called twice."""
        self.connection.close()

    # Changes.

    def add(self, manifests: Sequence[Manifest], durations_ms: Mapping[str, float], trigger: str | None = None) -> None:
        """Add decided checkpoints in ascending order; `durations_ms` are those of the only one, or empty."""
        if not manifests:
            return
        rows: dict[str, list[tuple[object, ...]]] = {table.name: [] for table in (CHECKPOINTS, *DETAILS)}
        for manifest in manifests:
            rows[CHECKPOINTS.name].append(checkpoint_row(manifest, durations_ms, trigger or manifest.kind.value))
            for table, found in detail_rows(manifest):
                rows[table.name].extend(found)
        with self._transaction():
            self._forget([m.epoch for m in manifests if m.epoch in self.known], (CHECKPOINTS, *DETAILS))
            for table in (CHECKPOINTS, *DETAILS):
                self._insert(table, rows[table.name])
            self._describe(manifests)
            newest = manifests[-1]
            self._commit(committed_through(newest), None)
            if newest.kind in _ENDS:
                ended = "UPDATE attempts SET phase = ?, changed = to_timestamp(?::BIGINT / 1000) WHERE attempt = ?"
                self._run(ended, _ENDS[newest.kind], newest.created_ms, newest.attempt)
        self.known.update(manifest.epoch for manifest in manifests)

    def commit(self, epoch: int, at_ms: int) -> None:
        """Note that all output up to `epoch` is committed."""
        with self._transaction():
            self._commit(epoch, at_ms)

    def _commit(self, epoch: int, at_ms: int | None) -> None:
        self._run(
            "UPDATE checkpoints SET phase = ?, committed = coalesce(committed, to_timestamp(?::BIGINT / 1000))"
            " WHERE epoch <= ? AND (phase = ? OR epoch = ?)",
            *(COMMITTED, at_ms, epoch, DECIDED, epoch),
        )

    def enter(self, attempt: int, phase: str | None, workers: object, at_ms: int | None) -> None:
        """Note that an attempt entered a phase, and that every older one has ended."""
        started = self._rows("SELECT epoch_ms(started) FROM attempts WHERE attempt = ?", attempt)
        with self._transaction():
            self._run("DELETE FROM attempts WHERE attempt = ?", attempt)
            self._insert(ATTEMPTS, [(attempt, phase, workers, started[0][0] if started else at_ms, at_ms)])
            self._run(
                "UPDATE attempts SET phase = 'ended' WHERE attempt < ?"
                " AND coalesce(phase, '') NOT IN ('stopped', 'finished', 'ended')",
                attempt,
            )
            self._run("DELETE FROM attempts WHERE attempt <= ?", attempt - HISTORY_MAX)

    def fail(self, epoch: int, tries: int, at_ms: int, reason: str) -> None:
        """Note a failed try."""
        with self._transaction():
            self._insert(FAILED_TRIES, [(epoch, tries, at_ms, reason)])
            self._run("DELETE FROM failed_tries WHERE epoch <= ?", epoch - HISTORY_MAX)

    def retire(self, epochs: Iterable[int]) -> None:
        """Forget the files and offsets of checkpoints whose manifests are gone, and in the end the rows as well."""
        gone = sorted(set(epochs) & self.known)
        if not gone:
            return
        old = sorted(self.known)[:-HISTORY_MAX]
        with self._transaction():
            self._forget(gone + old, DETAILS)
            self._forget(old, [CHECKPOINTS])
            self._run("UPDATE checkpoints SET phase = ? WHERE list_contains(?::BIGINT[], epoch)", RETIRED, gone)
        self.known.difference_update(old)

    def clear(self) -> None:
        """Forget everything."""
        with self._transaction():
            for table in TABLES[1:]:
                self._run(f"TRUNCATE {table.name}")
        self.known.clear()
        self._job_row, self._operators = (), {}

    # Copies.

    def write(self, path: Path) -> None:
        """Write everything into a new file that only this user can read."""
        self._run(f"ATTACH {quoted(str(path))} AS copy (BLOCK_SIZE 16384)")
        try:
            path.chmod(FILE_MODE)
            self._run("COPY FROM DATABASE memory TO copy")
        finally:
            self._run("DETACH copy")

    def load(self, path: Path) -> None:
        """Fill the empty tables from a copy. Raises `UnreadableError`, and is still empty then."""
        try:
            self._load(path)
        except UnreadableError:
            raise
        except CatalogError as error:
            if "lock" not in str(error):
                raise UnreadableError(str(error)) from error
            # Somebody opened the copy for writing. Locks bind DuckDB only, and a published file never changes.
            self._load_aside(path)
        self.known = {epoch for (epoch,) in self._rows("SELECT epoch FROM checkpoints")}
        named = self._rows("SELECT uid, kind, about FROM operators WHERE last_epoch IS NULL")
        self._operators = {(uid, kind): about for uid, kind, about in named}
        job = "SELECT job, job_uid, storage, delivery, workers, key_groups, until_end, epoch_ms(created) FROM jobs"
        self._job_row = next(iter(self._rows(job)), ())

    def _load_aside(self, path: Path) -> None:
        aside = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}.new")
        try:
            shutil.copyfile(path, aside)
            self._load(aside)
        except (CatalogError, OSError) as error:
            raise UnreadableError(f"somebody has it open for writing, and {error}") from error
        finally:
            aside.unlink(missing_ok=True)

    def _load(self, path: Path) -> None:
        self._run(f"ATTACH {quoted(str(path))} AS copy (READ_ONLY)")
        try:
            self._check()
            with self._transaction():
                for table in TABLES[1:]:
                    self._run(table.insert_from("copy"))
        finally:
            self._run("DETACH copy")

    def _check(self) -> None:
        # Only plain tables are read: a view in a file that somebody else wrote could run anything.
        plain = {name for (name,) in self._rows("SELECT table_name FROM duckdb_tables() WHERE database_name = 'copy'")}
        found = self._rows("SELECT format FROM copy.main.catalog_format") if CATALOG_FORMAT.name in plain else []
        if found != [(FORMAT,)]:
            version = found[0][0] if len(found) == 1 else "unknown"
            raise UnreadableError(f"it has format {version}, this Tidegate writes {FORMAT}")
        if missing := {table.name for table in TABLES} - plain:
            raise UnreadableError(f"it has no table {', '.join(sorted(missing))}")
        jobs = [job for (job,) in self._rows("SELECT job FROM copy.main.jobs")]
        if jobs not in ([], [self._job]):
            raise UnreadableError(f"it is the catalog of job {', '.join(map(repr, jobs))}")

    # Looking.

    def job_uid(self) -> str | None:
        """Return the job's identity, if a checkpoint told it."""
        return self._job_row[1] if self._job_row else None

    def live(self) -> set[int]:
        """Epochs that are not known to have retired."""
        return {epoch for (epoch,) in self._rows("SELECT epoch FROM checkpoints WHERE phase <> ?", RETIRED)}

    def attempts(self) -> set[int]:
        """Attempts that have rows."""
        return {attempt for (attempt,) in self._rows("SELECT attempt FROM attempts")}

    # Inside.

    def _describe(self, manifests: Sequence[Manifest]) -> None:
        """Bring the tables that describe the job as a whole up to the newest of these manifests, where it differs."""
        m = manifests[-1]
        starts = [manifest.created_ms for manifest in manifests if manifest.epoch == 0]
        created = starts[0] if starts else self._job_row[-1] if self._job_row else None
        row = (m.job, m.job_uid, self._storage, m.delivery, m.parallelism, m.key_groups, m.until_end, created)
        is_newest = m.epoch >= max(self.known, default=0)
        if self._job_row and not is_newest:
            row = (*self._job_row[:-1], created)
        if row != self._job_row:
            self._run("DELETE FROM jobs")
            self._insert(JOBS, [row])
            self._job_row = row
        for manifest in manifests if is_newest else ():
            named = operators(manifest)
            if named != self._operators:
                self._replace_operators(named, manifest.epoch)

    def _replace_operators(self, named: dict[tuple[str, str], str | None], epoch: int) -> None:
        gone = [key for key in self._operators if key not in named or named[key] != self._operators[key]]
        new = [key for key in named if key not in self._operators or key in gone]
        for uid, kind in gone:
            ended = "UPDATE operators SET last_epoch = ? WHERE uid = ? AND kind = ? AND last_epoch IS NULL"
            self._run(ended, epoch - 1, uid, kind)
        self._insert(OPERATORS, [(*key, named[key], epoch, None) for key in new])
        self._operators = named

    def _forget(self, epochs: Sequence[int], tables: Iterable[Table]) -> None:
        for table in tables if epochs else ():
            self._run(table.delete_epochs(), list(epochs))

    def _insert(self, table: Table, rows: Rows) -> None:
        if rows:
            few = len(rows) <= FEW_ROWS
            values = chain(*rows) if few else map(list, zip(*rows, strict=True))
            self._run(table.insert(len(rows)), *values)

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            # Fetching ends the statement; a result that is left open would block the next one.
            return self.connection.execute(statement, list(values)).fetchall()
        except duckdb.Error as error:
            raise CatalogError(str(error).split("\n", 1)[0]) from error

    def _run(self, statement: str, *values: object) -> None:
        self._rows(statement, *values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN")
        try:
            yield
        except BaseException:
            self._run("ROLLBACK")
            raise
        self._run("COMMIT")
