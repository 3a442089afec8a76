"""Client settings: defaults that were measured, settings that we own, secrets redacted, errors in our words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from tenacity import retry, retry_if_exception, stop_after_delay, wait_exponential

from ...engine.errors import JobInvalidError, SinkUnavailableError, SourceUnavailableError

T = TypeVar("T")
C = TypeVar("C")
CONNECT_TIMEOUT_S: Final = 10.0
"""How long the first answer of a broker may take."""
SOCKET_TIMEOUT_MS: Final = 20_000
"""How long any later answer may take."""
OWNED: Final = {
    "bootstrap.servers": "give it as bootstrap=...",
    "group.id": "give it as group=...",
    "enable.auto.commit": "offsets belong to checkpoints",
    "enable.auto.offset.store": "offsets belong to checkpoints",
    "auto.offset.reset": "use start=... and on_out_of_range=...",
    "enable.partition.eof": "the source needs it to know that it has caught up",
    "transactional.id": "it is derived from job, sink uid and subtask",
    "enable.idempotence": "exactly-once needs it",
    "acks": "exactly-once needs all",
}
CONSUMER: Final[Mapping[str, object]] = {
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    # The default of 1000 ms stalls a reader for up to a second whenever its queue was full.
    "fetch.queue.backoff.ms": 10,
    "fetch.wait.max.ms": 50,
    "fetch.message.max.bytes": 4_194_304,
    "queued.min.messages": 200_000,
    "queued.max.messages.kbytes": 65_536,
}
PRODUCER: Final[Mapping[str, object]] = {
    "acks": "all",
    "linger.ms": 10,
    "batch.size": 1_000_000,
    "batch.num.messages": 10_000,
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1_048_576,
}
_SECRET = re.compile(r"password|secret|token|sasl\.oauthbearer\.config|\.pem$|private\.key|credential", re.IGNORECASE)
_URL_CREDENTIALS = re.compile(r"//[^/@\s]+@")
REDACTED: Final = "***"


def check_client(client: Mapping[str, object], what: str) -> dict[str, object]:
    """Return the user's librdkafka settings. Raises `JobInvalidError` for one that Tidegate owns."""
    for name in client:
        if name in OWNED:
            raise JobInvalidError(f"{what}: client setting '{name}' cannot be set", hint=OWNED[name])
    return dict(client)


def redact(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings with every secret replaced."""
    return {
        name: REDACTED
        if _SECRET.search(name)
        else _URL_CREDENTIALS.sub(f"//{REDACTED}@", value)
        if isinstance(value, str)
        else value
        for name, value in settings.items()
    }


def base_settings(bootstrap: str, client: Mapping[str, object]) -> dict[str, Any]:
    """Settings of every client: bounded metadata, and no lines of its own on the terminal unless they are asked for.

    What the client has to say comes through `error_cb`, see `Complaints`.
    """
    return {
        "bootstrap.servers": bootstrap,
        "log_level": 7 if "debug" in client else 0,
        "socket.timeout.ms": SOCKET_TIMEOUT_MS,
        "topic.metadata.refresh.interval.ms": 30_000,
        **client,
    }


def producer_settings(
    bootstrap: str, client: Mapping[str, object], transaction_timeout_ms: int | None = None
) -> dict[str, Any]:
    """Settings of a producer; of one that takes transactions when they have a timeout."""
    settings = {**PRODUCER, **base_settings(bootstrap, client), "enable.idempotence": True}
    if transaction_timeout_ms is not None:
        settings["transaction.timeout.ms"] = transaction_timeout_ms
        if "socket.timeout.ms" not in client:
            # The client refuses to wait for an answer for longer than a transaction may last.
            settings["socket.timeout.ms"] = min(SOCKET_TIMEOUT_MS, transaction_timeout_ms)
    return settings


def make_client(kind: Callable[[dict[str, Any]], C], settings: dict[str, Any]) -> C:
    """Make a client. Raises `JobInvalidError` for a setting that it refuses."""
    try:
        return kind(settings)
    except KafkaException as error:
        raise JobInvalidError(
            f"the Kafka client refuses its settings: {text_of(error)}",
            hint="names, values and limits of client settings are in librdkafka's CONFIGURATION.md",
        ) from error


def consumer_settings(bootstrap: str, group: str, client: Mapping[str, object]) -> dict[str, Any]:
    """Settings of a consumer that reads by explicit assignment; the group is only a name."""
    return {**CONSUMER, **base_settings(bootstrap, client), "group.id": group}


class Complaints:
    """Remembers what a client said last about its connections; give `hear` as `error_cb`.

    A call that waits for a broker only says that nobody answered; this says why.
    """

    def __init__(self) -> None:
        self.last = ""

    def hear(self, error: KafkaError) -> None:
        """Take in an error that belongs to no call."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 (its public name)
            self.last = error.str()

    def behind(self, error: KafkaException, client: AdminClient | Producer) -> str:
        """Return what an error of this client says, and what the client said about the cause."""
        client.poll(0)
        return f"{text_of(error)} ({self.last})" if self.last else text_of(error)


def text_of(error: KafkaError | KafkaException) -> str:
    """Return a client error in one line."""
    inner = error.args[0] if isinstance(error, KafkaException) and error.args else error
    return f"{inner.name()}: {inner.str()}" if isinstance(inner, KafkaError) else str(error)


def code_of(error: KafkaException) -> int:
    """Return the error's code."""
    inner = error.args[0] if error.args else None
    return inner.code() if isinstance(inner, KafkaError) else KafkaError._FAIL  # noqa: SLF001 (its public name)


def source_unavailable(bootstrap: str, doing: str, error: KafkaException, why: str = "") -> SourceUnavailableError:
    """Make the error for a broker that cannot be reached by a source."""
    return SourceUnavailableError(
        f"Kafka at {bootstrap}: {doing} failed: {why or text_of(error)}",
        hint="check bootstrap, the network and the credentials",
    )


def sink_unavailable(bootstrap: str, doing: str, error: KafkaException, why: str = "") -> SinkUnavailableError:
    """Make the error for a broker that cannot be reached by a sink."""
    return SinkUnavailableError(
        f"Kafka at {bootstrap}: {doing} failed: {why or text_of(error)}",
        hint="check bootstrap, the network and the credentials",
    )


PATIENCE_S: Final = 10.0
"""How long a question is asked again while the broker says that a later try may succeed (a leader is being elected)."""


def patiently(call: Callable[[], T]) -> T:
    """Return the answer of `call`, asking again while the broker answers with a retriable error."""

    def passing(error: BaseException) -> bool:
        inner = error.args[0] if isinstance(error, KafkaException) and error.args else None
        return isinstance(inner, KafkaError) and inner.code() in PASSING

    again = retry(
        retry=retry_if_exception(passing),
        stop=stop_after_delay(PATIENCE_S),
        wait=wait_exponential(multiplier=0.05, max=1.0),
        reraise=True,
    )
    return again(call)()


PASSING: Final = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
