"""Prepares what a sink writes to: the target topic is checked, the ledger made once and checked ever after.

The ledger topic is `__tidegate-<job>-<job uid>`: one per job and cluster, one partition, compacted. It is made when the
newest manifest knows no target of this sink and no other sink of the job made it; a ledger that a manifest knows is
never made again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from ...engine.errors import LedgerMismatchError, SinkError
from .client import (
    CONNECT_TIMEOUT_S,
    Complaints,
    base_settings,
    code_of,
    make_client,
    producer_settings,
    sink_unavailable,
    text_of,
)

if TYPE_CHECKING:
    from .sink import SinkSettings

REQUEST_TIMEOUT_S: Final = 10.0
PREFIX: Final = "__tidegate-"
UID_LENGTH: Final = 16
EXISTS: Final = KafkaError.TOPIC_ALREADY_EXISTS
UNKNOWN_TOPIC: Final = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)  # noqa: SLF001 (its public name)

LEDGER_KNOWN_WITHIN_S: Final = 10.0
LEDGER_POLL_S: Final = 0.02


def ledger_name(job: str, job_uid: str) -> str:
    """Return the name of a job's ledger topic."""
    return f"{PREFIX}{job}-{job_uid}"


def prepare_target(
    settings: SinkSettings, job: str, job_uid: str, uid: str, previous: Mapping[str, object] | None
) -> Mapping[str, object]:
    """Return cluster, topic, topic_id, partitions, ledger and bytes_max; see `Sink.prepare` for the errors."""
    _check_settings(settings)
    complaints = Complaints()
    admin = make_client(
        AdminClient, {**base_settings(settings.bootstrap, settings.client), "error_cb": complaints.hear}
    )
    try:
        metadata = admin.list_topics(timeout=CONNECT_TIMEOUT_S)
    except KafkaException as error:
        why = complaints.behind(error, admin)
        raise sink_unavailable(settings.bootstrap, f"sink '{uid}': looking for a broker", error, why) from error
    try:
        target = _target(admin, settings, uid)
        target["cluster"] = metadata.cluster_id
        _check_previous(settings, uid, target, previous)
        target["ledger"] = _ledger(admin, set(metadata.topics), job, job_uid, uid, previous)
    except KafkaException as error:
        raise sink_unavailable(
            settings.bootstrap, f"sink '{uid}': preparing topic '{settings.topic}'", error
        ) from error
    return target


def _check_settings(settings: SinkSettings) -> None:
    """Have the client refuse wrong settings here, once, and not in every worker."""
    producer = producer_settings(settings.bootstrap, settings.client, settings.transaction_timeout_ms)
    make_client(Producer, {**producer, "transactional.id": "tidegate-never-used"})


def _target(admin: AdminClient, settings: SinkSettings, uid: str) -> dict[str, object]:
    name = settings.topic
    try:
        described = admin.describe_topics(TopicCollection([name]), request_timeout=REQUEST_TIMEOUT_S)[name].result()
    except KafkaException as error:
        if code_of(error) in UNKNOWN_TOPIC:
            raise SinkError(
                f"sink '{uid}': topic '{name}' does not exist at {settings.bootstrap}",
                hint=f"create it first, e.g. kafka-topics.sh --create --topic {name} --partitions 4",
            ) from None
        raise
    limit = _config(admin, name, "max.message.bytes")
    return {
        "topic": name,
        "topic_id": str(described.topic_id),
        "partitions": len(described.partitions),
        "bytes_max": int(limit) if limit else 1_048_588,
    }


def _check_previous(
    settings: SinkSettings, uid: str, target: Mapping[str, object], previous: Mapping[str, object] | None
) -> None:
    if previous is None:
        return
    if previous.get("cluster") != target["cluster"]:
        raise SinkError(
            f"sink '{uid}': {settings.bootstrap} is cluster {target['cluster']}, "
            f"output was decided for {previous.get('cluster')}",
            hint="point bootstrap at the old cluster, or start under a new job name",
        )
    if previous.get("topic") == target["topic"] and previous.get("topic_id") != target["topic_id"]:
        raise SinkError(
            f"sink '{uid}': topic '{target['topic']}' was deleted and made again; its committed output is gone",
            hint="start under a new job name, or restore the old topic",
        )


def _ledger(
    admin: AdminClient, topics: set[str], job: str, job_uid: str, uid: str, previous: Mapping[str, object] | None
) -> str:
    name = ledger_name(job, job_uid)
    others = sorted(
        topic for topic in topics
        if topic.startswith(f"{PREFIX}{job}-") and topic != name and len(topic) == len(name)
    )  # fmt: skip
    if others and name not in topics:
        raise LedgerMismatchError(
            f"sink '{uid}': this storage belongs to job uid {job_uid}, "
            f"but the cluster has ledger '{others[0]}' of job '{job}'",
            hint="another storage runs this job, or this one was wiped or restored: point --storage at the other one, "
            "choose a new job name, or delete that topic if its job is gone for good",
        )
    if name not in topics:
        if previous is not None:
            raise LedgerMismatchError(
                f"sink '{uid}': ledger topic '{name}' is gone, so nobody knows which epochs are committed",
                hint="restore the topic, or start under a new job name and compare the output",
            )
        _make_ledger(admin, name)
    _check_new_ledger(admin, name)
    return name


def _check_new_ledger(admin: AdminClient, name: str) -> None:
    """Check the ledger; the broker that is asked may not know for a moment what the controller has just created."""
    until = time.monotonic() + LEDGER_KNOWN_WITHIN_S
    while True:
        try:
            _check_ledger(admin, name)
        except KafkaException as error:
            if code_of(error) not in UNKNOWN_TOPIC or time.monotonic() >= until:
                raise
            time.sleep(LEDGER_POLL_S)
        else:
            return


def _make_ledger(admin: AdminClient, name: str) -> None:
    topic = NewTopic(name, num_partitions=1, config={"cleanup.policy": "compact"})
    try:
        admin.create_topics([topic], operation_timeout=REQUEST_TIMEOUT_S, request_timeout=REQUEST_TIMEOUT_S)[
            name
        ].result()
    except KafkaException as error:
        if code_of(error) != EXISTS:
            raise SinkError(
                f"ledger topic '{name}' cannot be created: {text_of(error)}",
                hint="the job needs the right to create it",
            ) from error


def _check_ledger(admin: AdminClient, name: str) -> None:
    policy = _config(admin, name, "cleanup.policy")
    described = admin.describe_topics(TopicCollection([name]), request_timeout=REQUEST_TIMEOUT_S)[name].result()
    if policy != "compact" or len(described.partitions) != 1:
        raise LedgerMismatchError(
            f"ledger topic '{name}' has cleanup.policy={policy} and {len(described.partitions)} partitions; "
            "it needs compact and 1, or its entries would expire",
            hint=f"kafka-configs.sh --alter --topic {name} --add-config cleanup.policy=compact",
        )


def _config(admin: AdminClient, topic: str, name: str) -> str | None:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    found = admin.describe_configs([resource], request_timeout=REQUEST_TIMEOUT_S)[resource].result()
    entry = found.get(name)
    return None if entry is None else entry.value
