"""At-least-once output: an idempotent producer without transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Producer

from ...engine.errors import SinkError, SinkUnavailableError
from .client import make_client, producer_settings, text_of
from .committer import NEVER
from .produce import BatchProducer

if TYPE_CHECKING:
    from ...engine.ports.sink import SinkContext
    from .sink import SinkSettings

FLUSH_TIMEOUT_S: Final = 60.0


class KafkaWriter:
    """A `SinkWriter` for one topic. A record that was given up shows at the next flush at the latest."""

    def __init__(self, settings: SinkSettings, context: SinkContext) -> None:
        self._s = settings
        self._uid = context.uid
        self._errors: list[KafkaError] = []
        producer = {**producer_settings(settings.bootstrap, settings.client), "on_delivery": self._delivered}
        self._producer = make_client(Producer, producer)
        # Not through the native batch call: its records have no delivery report, and here nothing else tells.
        self._sender = BatchProducer(self._producer, None, settings.topic)

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is not None:
            self._errors.append(error)

    def write(self, batch: pa.RecordBatch) -> None:
        """Hand rows to the client."""
        try:
            self._sender.send(batch)
        except KafkaException as error:
            raise self._failure(error.args[0]) from error
        self._check()

    def flush(self) -> None:
        """Wait until everything is acknowledged."""
        left = self._producer.flush(FLUSH_TIMEOUT_S)
        self._check()
        if left:
            raise SinkUnavailableError(
                f"sink '{self._uid}': {left} records are not acknowledged after {FLUSH_TIMEOUT_S:.0f} s",
                hint="the job recovers and sends them again",
            )

    def _check(self) -> None:
        if self._errors:
            raise self._failure(self._errors[0])

    def _failure(self, error: KafkaError) -> SinkError:
        text = f"sink '{self._uid}' to topic '{self._s.topic}': a record was not taken: {text_of(error)}"
        return SinkError(text) if error.code() in NEVER else SinkUnavailableError(text)

    def close(self) -> None:
        """Release the clients."""
        self._sender.close()
