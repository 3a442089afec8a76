"""The catalog's tables: names, types and comments, from which they are created and documented.

Times are TIMESTAMPTZ in UTC, sizes bytes, durations milliseconds. What manifests do not hold (durations, when output
was committed, failed tries) is null or missing after a rebuild.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

FORMAT: Final = 1
"""Version of these tables; a copy of another format is made again from the manifests."""

HISTORY_MAX: Final = 1000
"""Newest checkpoints, failed tries and attempts that have rows."""
FEW_ROWS: Final = 2
# Nothing but this turns a number into a time without asking for the session's time zone.
_AS_TIME: Final = "to_timestamp({} / 1000)"

BIG, INT, TEXT, TIME, MS, FLAG = "BIGINT", "INTEGER", "VARCHAR", "TIMESTAMPTZ", "DOUBLE", "BOOLEAN"


class CatalogError(Exception):
    """DuckDB could not do what was asked; the first line of what it said."""


class UnreadableError(CatalogError):
    """A copy of the catalog cannot be read: damaged, locked, of another format or of another job."""


@dataclass(frozen=True)
class Column:
    """A column with its DuckDB type; a TIMESTAMPTZ is given in ms since the Unix epoch."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class Table:
    """A table. Rows of tables with an epoch go when that checkpoint retires, except those of `checkpoints`."""

    name: str
    comment: str
    columns: tuple[Column, ...]

    # Names in these statements are those of this file; values are always bound.

    def insert(self, rows: int) -> str:
        """Return the statement that inserts this many rows, given row by row if they are few, else column by column."""
        if rows <= FEW_ROWS:
            row = ", ".join(_AS_TIME.format("?") if c.type == TIME else "?" for c in self.columns)
            return self._into("VALUES", ", ".join([f"({row})"] * rows))
        lists = (f"unnest(?::{BIG if c.type == TIME else c.type}[])" for c in self.columns)
        values = (_AS_TIME.format(v) if c.type == TIME else v for c, v in zip(self.columns, lists, strict=True))
        return self._into("SELECT", ", ".join(values))

    def insert_from(self, database: str) -> str:
        """Return the statement that takes over the rows of another database."""
        return self._into("SELECT", self._names, "FROM", f"{database}.main.{self.name}")

    def delete_epochs(self) -> str:
        """Return the statement that deletes the rows of a list of epochs."""
        return f"DELETE FROM {self.name} WHERE list_contains(?::BIGINT[], epoch)"  # noqa: S608 - a name of this file

    def _into(self, *rest: str) -> str:
        return " ".join(["INSERT INTO", self.name, f"({self._names})", *rest])

    @property
    def _names(self) -> str:
        return ", ".join(column.name for column in self.columns)


def _table(name: str, comment: str, *columns: tuple[str, str, str]) -> Table:
    return Table(name, comment, tuple(Column(*column) for column in columns))


CATALOG_FORMAT: Final = _table(
    "catalog_format",
    "Version of these tables.",
    ("format", INT, "Version; readers of another one make the catalog again."),
)
JOBS: Final = _table(
    "jobs",
    "The job, as its newest checkpoint describes it.",
    ("job", TEXT, "Job id."),
    ("job_uid", TEXT, "Random identity, given before the first read; part of transactional ids and ledger keys."),
    ("storage", TEXT, "Where the job's checkpoints are."),
    ("delivery", TEXT, "exactly-once or at-least-once, unless a sink says otherwise."),
    ("workers", INT, "Workers of the newest checkpoint."),
    ("key_groups", INT, "Number of key groups, fixed for ever."),
    ("until_end", FLAG, "Whether the sources are read up to the end they had at the start."),
    ("created", TIME, "When manifest 0 was written."),
)
ATTEMPTS: Final = _table(
    "attempts",
    "Incarnations of the job; a newer one fences every older one.",
    ("attempt", BIG, "Number."),
    ("phase", TEXT, "recovering, running, stopping, finishing; how it ended: stopped, finished, failed, fenced."),
    ("workers", INT, "Worker processes."),
    ("started", TIME, "When its number was taken."),
    ("changed", TIME, "When it entered its phase."),
)
OPERATORS: Final = _table(
    "operators",
    "Sources, operators with keyed state, and sinks, by uid.",
    ("uid", TEXT, "Stable name."),
    ("kind", TEXT, "source, keyed or sink."),
    ("about", TEXT, "JSON: what identifies a sink's target, the number of a source's splits."),
    ("first_epoch", BIG, "First checkpoint known to name it as it is."),
    ("last_epoch", BIG, "Last checkpoint that named it; null while the newest one does."),
)
CHECKPOINTS: Final = _table(
    "checkpoints",
    "Checkpoints; those whose manifests retired stay here for a while.",
    ("epoch", BIG, "Epoch that the checkpoint closes; 0 is the start."),
    ("phase", TEXT, "decided, committed (all its output and all before), retired (its manifest is gone)."),
    ("trigger", TEXT, "start, periodic, final, restore, stopped or finished."),
    ("attempt", BIG, "Attempt that decided it."),
    ("tries", INT, "Number of the try that succeeded."),
    ("started", TIME, "When its barriers were sent."),
    ("decided", TIME, "When every worker had acknowledged and its manifest was made."),
    ("committed", TIME, "When its output was committed; null if not yet, or not known."),
    ("collect_ms", MS, "From the barriers to the last acknowledgement."),
    ("align_ms", MS, "Of that, the longest wait for barriers in a worker."),
    ("upload_ms", MS, "Of that, the longest upload of a worker's files."),
    ("decide_ms", MS, "Writing the manifest."),
    ("rows", BIG, "Rows of keyed state and of output."),
    ("bytes", BIG, "Bytes of keyed state and of output."),
    ("state_rows", BIG, "Rows of keyed state."),
    ("state_bytes", BIG, "Bytes of keyed state."),
    ("output_rows", BIG, "Records of this epoch's output."),
    ("output_bytes", BIG, "Bytes of this epoch's outboxes."),
    ("pending_rows", BIG, "Records of earlier epochs that were decided and not known to be committed."),
    ("workers", INT, "Workers that took part."),
    ("watermark", TIME, "Smallest watermark of the keyed operators; null before the first record and at the end."),
    ("counters", TEXT, "JSON: counters since the job began, such as late rows."),
)
FAILED_TRIES: Final = _table(
    "failed_tries",
    "Tries of checkpoints that were given up; their rows belong to the next try.",
    ("epoch", BIG, "Epoch."),
    ("tries", INT, "Number of the try."),
    ("failed", TIME, "When it was given up."),
    ("reason", TEXT, "Why."),
)
SOURCE_OFFSETS: Final = _table(
    "source_offsets",
    "Where every split of every source stood at a checkpoint.",
    ("epoch", BIG, "Checkpoint."),
    ("uid", TEXT, "Source."),
    ("split", TEXT, "Split, for Kafka topic and partition."),
    ("split_index", INT, "Number of the split in its source."),
    ("position", TEXT, "JSON: next record to read."),
    ("end_position", TEXT, "JSON: where a bounded read stops; null without an end."),
    ("max_event_time", TIME, "Largest event time read."),
    ("finished", FLAG, "Whether the end was reached."),
)
SNAPSHOT_FILES: Final = _table(
    "snapshot_files",
    "Runs of keyed state that a checkpoint names.",
    ("epoch", BIG, "Checkpoint."),
    ("uid", TEXT, "Operator."),
    ("name", TEXT, "Object below the job's folder."),
    ("bytes", BIG, "Size."),
    ("rows", BIG, "Rows."),
    ("sha256", TEXT, "Hash, verified before the file is read."),
    ("groups_from", INT, "First key group."),
    ("groups_to", INT, "Key group after the last."),
)
COMMITTABLES: Final = _table(
    "committables",
    "Outboxes of the epoch that a checkpoint closes; committed when the checkpoint's phase says so.",
    ("epoch", BIG, "Checkpoint."),
    ("uid", TEXT, "Sink."),
    ("subtask", INT, "Subtask of the sink."),
    ("segment", INT, "Number of the outbox segment; they are committed in this order."),
    ("name", TEXT, "Object below the job's folder."),
    ("bytes", BIG, "Size."),
    ("rows", BIG, "Records."),
    ("sha256", TEXT, "Hash, verified before the file is read."),
    ("target", TEXT, "JSON: where it was decided to go."),
)

DETAILS: Final = (SOURCE_OFFSETS, SNAPSHOT_FILES, COMMITTABLES)
"""Tables whose rows go when their checkpoint retires."""
TABLES: Final = (CATALOG_FORMAT, JOBS, ATTEMPTS, OPERATORS, CHECKPOINTS, FAILED_TRIES, *DETAILS)
Rows = Sequence[tuple[object, ...]]


def definitions() -> Iterator[str]:
    """Statements that create and document all tables."""
    for table in TABLES:
        columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
        yield f"CREATE TABLE {table.name} ({columns})"
        yield f"COMMENT ON TABLE {table.name} IS {quoted(table.comment)}"
        for column in table.columns:
            yield f"COMMENT ON COLUMN {table.name}.{column.name} IS {quoted(column.comment)}"


def quoted(text: str) -> str:
    """Return `text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
