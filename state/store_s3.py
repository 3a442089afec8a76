"""A checkpoint store in an S3 bucket: conditional creates, own retries within one bound, nothing cached.

Its libraries are an extra, so this module is imported only for storage in S3.

| answer to a create | what is done |
|---|---|
| created | success |
| the name is taken (412, in any of the shapes servers give it) | the object is read: the same bytes are success |
| time-out, reset, 409, 5xx | unknown: tried again within the bound; a create that had landed is then found as taken |
| credentials, rights, bucket | no further try |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Final, TypeVar

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_before_delay, wait_random_exponential

from ..engine.errors import (
    StoreDeniedError,
    StoreExistsError,
    StoreFullError,
    StoreMissingError,
    StoreUnavailableError,
    TidegateError,
)
from .names import check_name, check_prefix
from .s3_errors import Meaning, code_of, meaning_of, reason_of
from .s3_filesystem import open_filesystem

TRY_S_MAX: Final = 5.0
"""How long one request may take, besides the transfer of its body."""
TRANSFER_BYTES_PER_S_MIN: Final = 1_000_000
"""The slowest transfer that is still waited for."""
READ_TRY_S_MAX: Final = 120.0
"""How long one read may take; silence ends it much earlier."""
CALL_S_MAX: Final = 12.0
"""After how long no further try is started."""
PAUSE_S_MAX: Final = 1.0
"""Longest pause between two tries."""
SINGLE_PUT_BYTES_MAX: Final = 5 * 2**30
"""S3's limit of one request; a conditional create in parts is exclusive on few servers, so it is never used."""
DELETE_NAMES_MAX: Final = 1000
"""S3's limit of one request."""

T = TypeVar("T")


class _TryAgainError(Exception):
    """One try ended without telling what happened; its cause is the error."""


class S3Store:
    """Objects of one job below `bucket/prefix/job/`; keys and endpoint come from the standard AWS variables."""

    def __init__(self, bucket: str, prefix: str, job: str) -> None:
        self._root = "/".join(part for part in (bucket, prefix, job) if part)
        self._bucket = bucket
        self._fs = open_filesystem()

    @property
    def url(self) -> str:
        """Where the objects are, for messages."""
        return f"s3://{self._root}"

    def create(self, name: str, data: bytes) -> None:
        """Write an object if the name is free, in one conditional request."""
        path = f"{self._root}/{check_name(name)}"
        if len(data) >= SINGLE_PUT_BYTES_MAX:
            raise StoreDeniedError(
                f"{self.url}/{name} would have {len(data)} bytes; S3 takes {SINGLE_PUT_BYTES_MAX - 1} in one request",
                hint="use more workers or a shorter checkpoint interval, so that one file holds less",
            )
        try:
            self._call(f"create {name}", lambda s: self._put(path, data, "create", s), _transfer_s(data))
        except StoreExistsError:
            if self.read(name) != data:
                raise

    def replace(self, name: str, data: bytes) -> None:
        """Write or overwrite an object; one try, as a sign of life that comes late is none."""
        path = f"{self._root}/{check_name(name)}"
        self._call(f"replace {name}", lambda s: self._put(path, data, "overwrite", s), TRY_S_MAX, call_s=0.0)

    def read(self, name: str) -> bytes:
        """Return the whole object."""
        path = f"{self._root}/{check_name(name)}"
        data: bytes = self._call(
            f"read {name}", lambda s: self._fs.cat_file(path, max_concurrency=1, timeout=s), READ_TRY_S_MAX
        )
        return data

    def list(self, prefix: str) -> Sequence[str]:
        """Return the names below a folder, sorted, as the server knows them now."""
        top = f"{self._root}/{check_prefix(prefix)}"
        nothing: Sequence[str] = ()
        found = self._call(f"list {prefix}", lambda s: self._find(top, s), READ_TRY_S_MAX, missing=nothing)
        return sorted(path.removeprefix(f"{self._root}/") for path in found if not path.endswith("/"))

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, a thousand in a request; S3 passes over missing ones by itself."""
        keys = iter([f"{self._root}/{check_name(name)}".partition("/")[2] for name in names])
        while batch := list(islice(keys, DELETE_NAMES_MAX)):
            self._call(f"delete {len(batch)} objects", partial(self._delete, batch), TRY_S_MAX)

    def _put(self, path: str, data: bytes, mode: str, timeout_s: float) -> None:
        self._fs.pipe_file(path, data, mode=mode, chunksize=SINGLE_PUT_BYTES_MAX, timeout=timeout_s)

    def _find(self, top: str, timeout_s: float) -> Sequence[str]:
        found: Sequence[str] = self._fs.find(top, refresh=True, timeout=timeout_s)
        return found

    def _delete(self, keys: Sequence[str], timeout_s: float) -> None:
        doomed = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._fs.call_s3("delete_objects", Bucket=self._bucket, Delete=doomed, timeout=timeout_s)
        failed = [entry for entry in answer.get("Errors", []) if entry.get("Code") != "NoSuchKey"]
        if failed:
            raise OSError(f"{len(failed)} of {len(keys)} objects were not deleted: {failed[0].get('Code')}")

    def _call(
        self,
        what: str,
        request: Callable[[float], T],
        try_s: float,
        *,
        call_s: float | None = None,
        missing: T | None = None,
    ) -> T:
        """Send a request until its outcome is known, starting no try after `call_s` (CALL_S_MAX) seconds."""
        retrying = Retrying(
            stop=stop_before_delay(CALL_S_MAX if call_s is None else call_s),
            wait=wait_random_exponential(multiplier=0.1, max=PAUSE_S_MAX),
            retry=retry_if_exception_type(_TryAgainError),
        )
        started = time.monotonic()
        try:
            outcome: T = retrying(self._try, what, request, try_s, missing)
        except RetryError as gave_up:
            cause = gave_up.last_attempt.exception()
            reason = reason_of(cause.__cause__) if cause and cause.__cause__ else "no answer"
            raise StoreUnavailableError(
                f"{self.url}: {what}: no success within {time.monotonic() - started:.1f} s: {reason}",
                hint="check that the object store is up, and the endpoint in AWS_ENDPOINT_URL",
            ) from gave_up
        return outcome

    def _try(self, what: str, request: Callable[[float], T], try_s: float, missing: T | None) -> T:
        try:
            return request(try_s)
        except Exception as error:
            meaning = meaning_of(error)
            if meaning is Meaning.UNKNOWN:
                raise _TryAgainError(what) from error
            if meaning is Meaning.MISSING and missing is not None:
                return missing
            raise self._refusal(meaning, what, error) from error

    def _refusal(self, meaning: Meaning, what: str, error: Exception) -> TidegateError:
        message = f"{self.url}: {what}: {reason_of(error)}"
        if meaning is Meaning.EXISTS:
            return StoreExistsError(f"{message}; the name is taken")
        if meaning is Meaning.MISSING:
            return StoreMissingError(message)
        if meaning is Meaning.FULL:
            return StoreFullError(message, hint="free space or raise the quota of the bucket")
        if code_of(error) == "NoSuchBucket":
            return StoreDeniedError(message, hint=f"create the bucket {self._bucket!r}, or correct its name in storage")
        return StoreDeniedError(
            message,
            hint="check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION, the clock of this"
            " machine, and the rights on the bucket (get, put, list, delete)",
        )


def _transfer_s(data: bytes) -> float:
    return TRY_S_MAX + len(data) / TRANSFER_BYTES_PER_S_MIN
