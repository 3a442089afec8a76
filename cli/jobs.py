"""Finds what a JOB argument means: a job file, a module, or the name of a job in a storage."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..engine.errors import JobInvalidError
from ..engine.ids import check_job_id
from ..engine.options import settings_for
from ..engine.settings import Settings

if TYPE_CHECKING:
    from ..engine.job import Job


@dataclass(frozen=True)
class Place:
    """Where a job's checkpoints are."""

    job: str
    storage: str


def load_job(reference: str) -> Job:
    """Load a job from `path.py`, `path.py:name`, `pkg.mod` or `pkg.mod:name`. Raises `JobInvalidError`."""
    from ..engine.loading import JobReference, load_for_run  # noqa: PLC0415 (takes a while, not every command needs it)

    return load_for_run(JobReference.parse(reference))


def is_reference(text: str) -> bool:
    """Whether a JOB argument names code, not a job; job names cannot hold a colon or a slash."""
    return ":" in text or "/" in text or text.endswith(".py")


def find(text: str, storage: str | None) -> Place:
    """Return the place of an existing job. Raises `JobInvalidError` when there is no such job or file."""
    given: Mapping[str, object] = {"storage": storage}
    if is_reference(text):
        job = load_job(text)
        return Place(job.name, settings_for(job.options, None, given).storage)
    settings: Settings = settings_for(None, None, given)
    place = Place(check_job_id(text), settings.storage)
    _check_there(place)
    return place


def _check_there(place: Place) -> None:
    from ..state.stores import is_local, local_path  # noqa: PLC0415 (see above)

    if not is_local(place.storage):
        return
    folder = local_path(place.storage)
    if (folder / place.job).is_dir():
        return
    there = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    close = difflib.get_close_matches(place.job, there, 3, 0.6) or there[:5]
    hint = f"jobs there: {', '.join(close)}" if close else "no job has run there; give --storage, or a job file as JOB"
    raise JobInvalidError(f"there is no job '{place.job}' in storage {place.storage}", hint=hint)
