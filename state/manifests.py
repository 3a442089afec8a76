"""Manifests as bytes: canonical, sealed with their own hash, versioned, and checked before anything trusts them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ..engine.errors import CorruptError, JobInvalidError, TidegateError
from ..engine.ids import check_job_id, check_uid
from ..engine.protocol.manifest import FORMAT, FileRef, Manifest
from ..engine.settings import AT_LEAST_ONCE, EXACTLY_ONCE
from .names import check_name
from .sealed import seal, unseal
from .shapes import ShapeError, from_plain, to_plain

_SHA256 = re.compile(r"[0-9a-f]{64}")
_STATE: Final = "state/"
_OUTBOX: Final = "outbox/"


def to_json(manifest: Manifest) -> bytes:
    """Write a manifest; equal ones give equal bytes. Raises `JobInvalidError` for one that could not be read back."""
    where = f"manifest of epoch {manifest.epoch}"
    try:
        plain = to_plain(manifest)
        _check(from_plain(Manifest, plain))
        return seal(plain)
    except (ShapeError, CorruptError) as error:
        raise JobInvalidError(
            f"{where} cannot be written: {error}",
            hint="positions and targets that sources and sinks give are JSON values, uids and names are plain",
        ) from error


def from_json(data: bytes, where: str) -> Manifest:
    """Read a manifest; `where` names it in messages.

    Raises `CorruptError` for bytes that are not exactly what was written, `JobInvalidError` for a newer format.
    """
    plain = unseal(data, where)
    version = plain.get("format")
    if type(version) is int and version > FORMAT:
        raise JobInvalidError(
            f"{where} has format {version} and was written by a newer Tidegate; this one reads up to {FORMAT}",
            hint="start the job with the newer version; nothing was changed",
        )
    try:
        manifest = from_plain(Manifest, plain)
        _check(manifest)
    except (ShapeError, CorruptError) as error:
        raise CorruptError(
            f"{where} is not a manifest: {error.message if isinstance(error, TidegateError) else error}",
            hint="somebody else wrote it; put the original object back",
        ) from error
    return manifest


def files_of(manifest: Manifest) -> Iterable[FileRef]:
    """All files that a manifest names: runs of keyed state, and outboxes of what was not known to be committed."""
    yield from (state.file for state in manifest.states)
    for committable in manifest.committables:
        yield from committable.segments


def _check(manifest: Manifest) -> None:
    """Refuse what could lead outside the job's folder, or what no checkpoint can be."""
    if manifest.format != FORMAT:
        raise ShapeError(f"format is {manifest.format}, expected {FORMAT}")
    if manifest.delivery not in {EXACTLY_ONCE, AT_LEAST_ONCE}:
        raise ShapeError(f"delivery is {manifest.delivery!r}, expected {EXACTLY_ONCE} or {AT_LEAST_ONCE}")
    _check_names(manifest)
    for name, number, least in _numbers(manifest):
        if number < least:
            raise ShapeError(f"{name} is {number}, expected {least} or more")
    _check_files(manifest)


def _check_names(manifest: Manifest) -> None:
    try:
        check_job_id(manifest.job)
        for uid in (manifest.job_uid, *_uids(manifest)):
            check_uid(uid)
    except JobInvalidError as error:
        raise ShapeError(error.message) from error


def _check_files(manifest: Manifest) -> None:
    for state in manifest.states:
        _check_file(state.file, f"{_STATE}{state.uid}/")
        if not 0 <= state.groups_from <= state.groups_to <= manifest.key_groups:
            raise ShapeError(f"{state.file.name} holds groups {state.groups_from} to {state.groups_to}")
    for committable in manifest.committables:
        for segment in committable.segments:
            _check_file(segment, f"{_OUTBOX}{committable.sink_uid}/")


def _check_file(file: FileRef, folder: str) -> None:
    if not check_name(file.name).startswith(folder):
        raise ShapeError(f"file {file.name!r} is not below {folder}")
    if not _SHA256.fullmatch(file.sha256):
        raise ShapeError(f"file {file.name} has SHA-256 {file.sha256!r}")


def _uids(manifest: Manifest) -> Iterable[str]:
    yield from (split.source_uid for split in manifest.splits)
    yield from (state.uid for state in manifest.states)
    yield from (committable.sink_uid for committable in manifest.committables)
    yield from (sink.sink_uid for sink in manifest.sinks)
    yield from manifest.targets


def _numbers(manifest: Manifest) -> Iterable[tuple[str, int, int]]:
    """Every number that has a least value, with its name."""
    yield "epoch", manifest.epoch, 0
    yield "attempt", manifest.attempt, 0
    yield "tries", manifest.tries, 0
    yield "parallelism", manifest.parallelism, 1
    yield "key_groups", manifest.key_groups, 1
    for split in manifest.splits:
        yield f"index of split {split.split_id}", split.index, 0
    for sink in manifest.sinks:
        yield f"subtask of sink {sink.sink_uid}", sink.subtask, 0
        yield f"committed epoch of sink {sink.sink_uid}", sink.committed, 0
    for committable in manifest.committables:
        yield f"subtask of committable {committable.sink_uid}", committable.subtask, 0
        yield f"epoch of committable {committable.sink_uid}", committable.epoch, 1
    for file in files_of(manifest):
        yield f"size of {file.name}", file.size, 0
        yield f"rows of {file.name}", file.rows, 0
