"""Opens the checkpoint store that a storage URL names.

| storage | where objects are |
|---|---|
| `./path`, `/path`, `~/path`, `file:///path` | local folders |
| `s3://bucket/prefix` | an S3 bucket; keys, region and endpoint from the standard AWS variables and files |
| `memory://name` | this process; for tests |
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from ..engine.errors import CorruptError, JobInvalidError
from ..engine.ids import check_job_id
from ..engine.ports.store import CheckpointStore
from .names import check_name
from .store_local import LocalStore
from .store_memory import MemoryStore

FORMS: Final = "a path, file:///path, s3://bucket/prefix or memory://name"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)


def open_store(storage: str, job: str) -> CheckpointStore:
    """Open the store of one job; makes nothing, and S3 is not reached before the first call.

    Raises `JobInvalidError` for a job id or URL that cannot be used.
    """
    check_job_id(job)
    scheme = _scheme(storage)
    if scheme == "s3":
        return _open_s3(*_s3_parts(storage), job)
    if scheme == "memory":
        return MemoryStore(storage.rstrip("/"), job)
    return LocalStore(local_path(storage) / job)


def is_local(storage: str) -> bool:
    """Whether a storage URL names a local folder."""
    return _scheme(storage) == "file"


def local_path(storage: str) -> Path:
    """Return the absolute folder that a local storage URL names."""
    path = storage
    if _SCHEME.match(storage):
        parts = urlsplit(storage)
        if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment:
            raise JobInvalidError(f"storage {storage!r} is not a local folder", hint="write file:///absolute/path")
        path = unquote(parts.path)
    if not path or "\0" in path:
        raise JobInvalidError(f"storage {storage!r} names no folder", hint=f"storage is {FORMS}")
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100,PTH111 - abspath folds `..` without the disk


def _open_s3(bucket: str, prefix: str, job: str) -> CheckpointStore:
    try:
        from .store_s3 import S3Store  # noqa: PLC0415 - its libraries are an extra, and slow to import
    except ImportError as error:
        raise JobInvalidError(
            f"storage in S3 needs a library that is not installed: {error.name}",
            hint="pip install 'tidegate[s3]'",
        ) from error
    return S3Store(bucket, prefix, job)


def _scheme(storage: str) -> str:
    found = _SCHEME.match(storage)
    scheme = found[1].lower() if found else "file"
    if scheme not in {"file", "s3", "memory"}:
        raise JobInvalidError(f"storage scheme {scheme!r} is not known", hint=f"storage is {FORMS}")
    return scheme


def _s3_parts(storage: str) -> tuple[str, str]:
    rest = storage.partition("://")[2]
    if "@" in rest or "?" in rest or "#" in rest:
        raise JobInvalidError(
            "a storage URL holds neither credentials nor parameters",
            hint="write s3://bucket/prefix and set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL",
        )
    bucket, _, prefix = rest.strip("/").partition("/")
    if not _BUCKET.fullmatch(bucket) or not _is_prefix(prefix):
        raise JobInvalidError(
            f"storage {storage!r} is not an S3 location",
            hint="write s3://bucket/prefix with letters, digits, dots, underscores and dashes",
        )
    return bucket, prefix


def _is_prefix(prefix: str) -> bool:
    try:
        return prefix in {"", check_name(prefix or "-")}
    except CorruptError:
        return False
