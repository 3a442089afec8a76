"""What an error of an S3 request means: a pure reading of exceptions, without importing any S3 library."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final


class Meaning(Enum):
    """What the store does about it. UNKNOWN covers all that may or may not have happened, and may be tried again."""

    EXISTS = "exists"
    MISSING = "missing"
    DENIED = "denied"
    FULL = "full"
    UNKNOWN = "unknown"


_CODES: Final = {
    "PreconditionFailed": Meaning.EXISTS,
    "NoSuchKey": Meaning.MISSING,
    "NotFound": Meaning.MISSING,
    "404": Meaning.MISSING,
    "NoSuchBucket": Meaning.DENIED,
    "AccessDenied": Meaning.DENIED,
    "AccountProblem": Meaning.DENIED,
    "AllAccessDisabled": Meaning.DENIED,
    "AuthorizationHeaderMalformed": Meaning.DENIED,
    "ExpiredToken": Meaning.DENIED,
    "InvalidAccessKeyId": Meaning.DENIED,
    "InvalidBucketName": Meaning.DENIED,
    "InvalidToken": Meaning.DENIED,
    "MethodNotAllowed": Meaning.DENIED,
    "NotImplemented": Meaning.DENIED,
    "PermanentRedirect": Meaning.DENIED,
    "SignatureDoesNotMatch": Meaning.DENIED,
    "InsufficientStorage": Meaning.FULL,
    "QuotaExceeded": Meaning.FULL,
    "XMinioStorageFull": Meaning.FULL,
}
_STATUSES: Final = {
    401: Meaning.DENIED,
    403: Meaning.DENIED,
    404: Meaning.DENIED,  # with a code that names no missing object: a bucket, a user
    412: Meaning.EXISTS,
    507: Meaning.FULL,
}
_CREDENTIALS: Final = {"NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError", "ProfileNotFound"}
_SECRET = re.compile(r"(?i)(://)[^/@\s]+@|\b([\w-]*(?:secret|signature|token|credential)[\w-]*\s*[=:]\s*)\S+")


def meaning_of(error: BaseException) -> Meaning:
    """Read what the failed request tells about the object."""
    known = _CODES.get(code_of(error)) or _STATUSES.get(_status_of(error))
    if known is not None:
        return known
    if type(error).__name__ in _CREDENTIALS or isinstance(error, PermissionError):
        return Meaning.DENIED
    if isinstance(error, FileExistsError):
        return Meaning.EXISTS
    return Meaning.MISSING if isinstance(error, FileNotFoundError) else Meaning.UNKNOWN


def code_of(error: BaseException) -> str:
    """Return S3's own error code, empty if the server did not answer."""
    details = _response_of(error).get("Error")
    return str(details.get("Code", "")) if isinstance(details, dict) else ""


def reason_of(error: BaseException) -> str:
    """Say in a line what happened, without credentials."""
    code = code_of(error)
    text = _SECRET.sub(r"\1\2***", " ".join(str(error).split()))[:300] or type(error).__name__
    return f"{code}: {text}" if code and code not in text else text


def _status_of(error: BaseException) -> int:
    details = _response_of(error).get("ResponseMetadata")
    status = details.get("HTTPStatusCode") if isinstance(details, dict) else None
    return status if isinstance(status, int) else 0


def _response_of(error: BaseException) -> dict[str, object]:
    """Find the server's answer; it hangs on the client's exception, which s3fs makes the cause of its own."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            return response
    return {}
