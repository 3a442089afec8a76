"""Assembles the runtime from this folder; heavy libraries are imported when they are first needed."""

from __future__ import annotations

from ..engine.ports.log import CheckpointLog
from ..engine.runtime import Catalog, Runtime
from .files import read_file
from .lock import open_lock
from .log import open_log
from .retire import Retirement
from .runs import read_run, write_run
from .tables import new_table


def runtime() -> Runtime:
    """Return the runtime that jobs run on unless a test installs another one."""
    return Runtime(
        open_log=open_log,
        open_catalog=_open_catalog,
        open_lock=open_lock,
        open_retirement=Retirement,
        new_table=new_table,
        write_run=write_run,
        read_run=read_run,
        read_file=read_file,
    )


def _open_catalog(storage: str, job: str, log: CheckpointLog) -> Catalog:
    from .catalog import open_catalog  # noqa: PLC0415 (workers need no DuckDB)

    return open_catalog(storage, job, log)
