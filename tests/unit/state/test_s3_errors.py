"""What errors of S3 requests mean."""

from __future__ import annotations

import pytest
from tidegate.state.s3_errors import Meaning, meaning_of, reason_of


class AnswerError(Exception):
    """An error with the server's answer, as botocore raises it."""

    def __init__(self, status: int, code: str = "", text: str = "answer") -> None:
        super().__init__(text)
        self.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}


def _wrapped(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


class NoCredentialsError(Exception):
    """As botocore calls it."""


@pytest.mark.parametrize(
    ("failure", "meaning"),
    [
        (FileExistsError(), Meaning.EXISTS),
        (_wrapped(OSError(22, "x"), AnswerError(412, "PreconditionFailed")), Meaning.EXISTS),
        (AnswerError(412), Meaning.EXISTS),
        (FileNotFoundError(), Meaning.MISSING),
        (_wrapped(FileNotFoundError(), AnswerError(404, "NoSuchKey")), Meaning.MISSING),
        (_wrapped(FileNotFoundError(), AnswerError(404, "404")), Meaning.MISSING),
        (_wrapped(FileNotFoundError(), AnswerError(404, "NoSuchBucket")), Meaning.DENIED),
        (_wrapped(OSError(5, "x"), AnswerError(404, "XAdminUserNotFound")), Meaning.DENIED),
        (_wrapped(PermissionError(), AnswerError(403, "SignatureDoesNotMatch")), Meaning.DENIED),
        (AnswerError(403, "AnyCode"), Meaning.DENIED),
        (NoCredentialsError(), Meaning.DENIED),
        (AnswerError(507), Meaning.FULL),
        (_wrapped(OSError(5, "x"), AnswerError(400, "QuotaExceeded")), Meaning.FULL),
        (AnswerError(409, "ConditionalRequestConflict"), Meaning.UNKNOWN),
        (AnswerError(500, "InternalError"), Meaning.UNKNOWN),
        (AnswerError(503, "SlowDown"), Meaning.UNKNOWN),
        (AnswerError(400, "RequestTimeout"), Meaning.UNKNOWN),
        (TimeoutError(), Meaning.UNKNOWN),
        (ConnectionResetError(), Meaning.UNKNOWN),
        (ValueError("anything else"), Meaning.UNKNOWN),
    ],
)
def test_every_shape_of_an_answer_has_its_meaning(failure: Exception, meaning: Meaning) -> None:
    assert meaning_of(failure) is meaning


def test_reasons_are_one_line_with_the_code_and_without_secrets() -> None:
    text = "GET http://key:hunter2@host/x?X-Amz-Signature=hunter2 failed\nSecret: hunter2 Token=hunter2"
    reason = reason_of(AnswerError(403, "AccessDenied", text))
    assert reason.startswith("AccessDenied: GET http")
    assert "hunter2" not in reason
    assert "\n" not in reason


def test_an_error_without_words_is_told_by_its_kind() -> None:
    assert reason_of(TimeoutError()) == "TimeoutError"
