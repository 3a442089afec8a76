"""A real Kafka broker on loopback.

    python -m tests.services.kafka --port 9092 --folder .cache/broker

runs one by hand until Ctrl-C.
"""

from __future__ import annotations

import argparse
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from .downloads import java, kafka_class_path
from .processes import ServerProcess, ServiceError, accepts, free_port, serve_until_interrupted

START_TIMEOUT_S: Final = 90.0
FORMAT_TIMEOUT_S: Final = 60.0
METADATA_TIMEOUT_S: Final = 2.0
HEAP: Final = ("-Xms256m", "-Xmx1g")

LOGGING: Final = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss.SSS} %-5p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""

# Small internal topics and no waiting for more members: what one broker for tests wants.
PROPERTIES: Final[Mapping[str, str]] = {
    "auto.create.topics.enable": "false",
    # A killed broker is let in again only when its last session has ended.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "4000",
    "default.replication.factor": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.cleaner.enable": "true",
    "min.insync.replicas": "1",
    "num.partitions": "1",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
}


class KafkaBroker(ServerProcess):
    """One broker (and controller) with its data folder; it keeps port and data over every stop, kill and start.

    `properties` override or add broker settings, listeners included. `client` are librdkafka settings a client needs
    to reach the broker (security); `bootstrap` is the address. `join` makes a further broker of another one's cluster.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        client: Mapping[str, str] | None = None,
        join: KafkaBroker | None = None,
        node_id: int = 1,
    ) -> None:
        super().__init__(f"the Kafka broker {node_id}", folder / "broker.log")
        self.folder = folder
        self.port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.node_id = node_id
        self.client: dict[str, str] = {"bootstrap.servers": self.bootstrap, **(client or {})}
        self._properties = dict(properties or {})
        self._joined = join is not None
        self.controller_port: int = join.controller_port if join else free_port()
        self.cluster_id: str = join.cluster_id if join else urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")

    def configure(self, properties: Mapping[str, str]) -> None:
        """Override or add settings before the first start."""
        self._properties |= properties

    def start(self) -> None:
        """Start and wait until clients are answered; the first start formats the data folder."""
        settings = self.folder / "server.properties"
        logging = self.folder / "log4j2.properties"
        command = [java(), *HEAP, f"-Dlog4j2.configurationFile={logging}", "-cp", kafka_class_path()]
        if not settings.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            logging.write_text(LOGGING)
            self._format([*command, "kafka.tools.StorageTool"], settings)
        self.launch([*command, "kafka.Kafka", str(settings)], self._answers, START_TIMEOUT_S, {})

    def restart(self) -> None:
        """Stop in order and start again: same port, same data."""
        self.stop()
        self.start()

    def admin(self) -> AdminClient:
        """A new administration client of this broker."""
        return AdminClient({**self.client, "log_level": "0"})

    def _answers(self) -> bool:
        if not accepts(self.port):
            return False
        try:
            brokers = self.admin().list_topics(timeout=METADATA_TIMEOUT_S).brokers
        except KafkaException:
            return False
        return self.node_id in brokers

    def _format(self, tool: list[str], settings: Path) -> None:
        unfinished = settings.with_suffix(".part")
        unfinished.write_text("".join(f"{name}={value}\n" for name, value in sorted(self._settings().items())))
        role = "--no-initial-controllers" if self._joined else "--standalone"
        finished = subprocess.run(
            # In one word: an id that begins with a dash would be taken for an option.
            [*tool, "format", f"--cluster-id={self.cluster_id}", "--config", str(unfinished), role],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FORMAT_TIMEOUT_S,
            check=False,
        )
        if finished.returncode:
            raise ServiceError(f"Kafka's storage tool failed:\n{finished.stdout}{finished.stderr}")
        unfinished.rename(settings)

    def _settings(self) -> dict[str, str]:
        listeners = f"PLAINTEXT://{self.bootstrap}"
        own = {
            "node.id": str(self.node_id),
            "log.dirs": str(self.folder / "data"),
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,"
            "SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
        }
        if self._joined:
            own |= {"process.roles": "broker", "listeners": listeners}
        else:
            controller = f"CONTROLLER://127.0.0.1:{self.controller_port}"
            own |= {"process.roles": "broker,controller", "listeners": f"{listeners},{controller}"}
        return {**PROPERTIES, **own, **self._properties}


def main() -> None:
    """Run a broker by hand until it is interrupted."""
    options = argparse.ArgumentParser(description="Run a real Kafka broker on loopback until Ctrl-C.")
    options.add_argument("--port", type=int, default=9092)
    options.add_argument("--folder", type=Path, required=True, help="the data folder; kept")
    given = options.parse_args()
    broker = KafkaBroker(given.folder.resolve(), port=given.port)
    broker.start()
    serve_until_interrupted(broker, f"Kafka answers at {broker.bootstrap}; Ctrl-C stops it")


if __name__ == "__main__":
    main()
