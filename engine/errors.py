"""The error tree: every error says what failed, with which value, and what to do next.

`retryable` tells the coordinator whether starting the job again from the last checkpoint can help; `exit_code` is
what the command line ends with when the error reaches it.
"""

from __future__ import annotations


class TidegateError(Exception):
    """Base of all errors that Tidegate raises on purpose.

    `message` says what failed and with which value, `hint` what to do next; `str()` joins both.
    """

    exit_code = 1
    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class JobInvalidError(TidegateError):
    """The job file, an option or the configuration cannot work; nothing was started."""

    exit_code = 3


class AlreadyRunningError(TidegateError):
    """Another attempt of the same job is alive, so this start was refused."""

    exit_code = 5


class FencedError(TidegateError):
    """A newer attempt of the same job owns it now; this one stopped and published nothing more."""

    exit_code = 4


class SourceError(TidegateError):
    """A source cannot deliver: offset out of range, topic missing, partition gone."""


class SourceUnavailableError(SourceError):
    """A source cannot be reached now; a later try may succeed."""

    retryable = True


class RecordInvalidError(SourceError):
    """A record could not be decoded and the source's policy is `fail`."""


class SinkError(TidegateError):
    """A sink refused output in a way that trying again cannot mend."""


class SinkUnavailableError(SinkError):
    """A sink cannot be reached now; decided output waits in its outbox."""

    retryable = True


class LedgerMismatchError(TidegateError):
    """The ledger and the manifests contradict each other; going on would lose or double output."""


class LedgerAheadError(LedgerMismatchError):
    """The ledger knows an epoch that this attempt never saw decided."""


class OperatorError(TidegateError):
    """A user expression or function raised while a batch was processed."""


class StoreUnavailableError(TidegateError):
    """The checkpoint store cannot be reached now, or did not answer within its bound."""

    retryable = True


class StoreFullError(StoreUnavailableError):
    """The checkpoint store has no room left."""


class StoreDeniedError(TidegateError):
    """The checkpoint store refuses us: wrong or expired credentials, missing rights, no such bucket, a symlink."""

    exit_code = 3


class StoreExistsError(TidegateError):
    """A create-if-absent found the name taken."""


class StoreMissingError(TidegateError):
    """An object that was expected in the checkpoint store is not there."""


class CorruptError(TidegateError):
    """Bytes do not match their hash, size or schema."""


class WorkerLostError(TidegateError):
    """A worker process died or stopped answering."""

    retryable = True


class CheckpointFailedError(TidegateError):
    """More checkpoints failed in a row than the job tolerates."""

    retryable = True


class ProtocolError(TidegateError):
    """A message or event arrived that the protocol does not know in its present phase."""

    retryable = True
