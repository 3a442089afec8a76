"""Random faults in processes, network, broker and store: the output is exact, and nothing leaks."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from services.kafka import KafkaBroker
from services.processes import free_port
from services.s3 import S3Server
from support.faulty_proxy import FaultyProxy
from support.tcp_proxy import TcpProxy

from .conftest import MakeScene, Scene
from .storm import Rounds
from .test_kill_rounds import tell
from .usage import growth
from .weather import Weather

CLOCK: Final = Path(__file__).parent / "clock"
WORKER_TIMEOUT: Final = "5s"
SOAK_ROUNDS_MIN: Final = 8
GROWTH_MAX: Final = 1.25
SLACK: Final = {"bytes": 32 << 20, "descriptors": 8}


@dataclass
class Stage:
    """A broker and a store behind proxies."""

    broker: KafkaBroker
    broker_link: TcpProxy
    server: S3Server
    store_link: TcpProxy
    answers: FaultyProxy
    clock: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A broker and an S3-compatible server of the test's own; the job reaches them through proxies only."""
    broker = KafkaBroker(tmp_path / "kafka")
    inner = free_port()
    broker_link = TcpProxy(inner)
    own = f"PLAINTEXT://{broker.bootstrap}"
    broker.configure(
        {
            "listeners": f"{own},LINK://127.0.0.1:{inner},CONTROLLER://127.0.0.1:{broker.controller_port}",
            "advertised.listeners": f"{own},LINK://127.0.0.1:{broker_link.port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LINK:PLAINTEXT",
        }
    )
    server = S3Server(tmp_path / "s3")
    server.make_bucket("storm")
    store_link = TcpProxy(server.port)
    answers = FaultyProxy(("127.0.0.1", store_link.port))
    clock = tmp_path / "clock-offset"
    environment = {
        **server.environment,
        "AWS_ENDPOINT_URL": answers.endpoint,
        "BROKER": f"127.0.0.1:{broker_link.port}",
        "PYTHONPATH": str(CLOCK),
        "CLOCK_OFFSET_FILE": str(clock),
    }
    try:
        broker.start()
        server.start()
        yield Stage(broker, broker_link, server, store_link, answers, clock, environment)
    finally:
        for proxy in (answers, store_link, broker_link):
            proxy.close()
        server.kill()
        broker.kill()


def rounds_of(stage: Stage, scene: Scene, seed: int, *, on_s3: bool, keep_coordinator: bool = False) -> Rounds:
    """Rounds of all faults that fit this scene."""
    chance = random.Random(seed)
    store = (stage.server, stage.store_link, stage.answers) if on_s3 else None
    weather = Weather(
        scene.job, stage.broker, stage.broker_link, stage.clock, chance, store=store, keep_coordinator=keep_coordinator
    )
    return Rounds(scene, weather.faults, chance, seed)


@pytest.mark.timeout(14_400)
@pytest.mark.parametrize(("job", "storage"), [("window", "s3"), ("map", "local")])
def test_output_is_exact_after_random_faults(
    job: str, storage: str, stage: Stage, make_scene: MakeScene, request: pytest.FixtureRequest
) -> None:
    on_s3 = storage == "s3"
    scene = make_scene(
        job, "--worker-timeout", WORKER_TIMEOUT,
        storage="s3://storm/checkpoints" if on_s3 else None, broker=stage.broker, environment=stage.environment,
    )  # fmt: skip
    scene.feeder.start()
    rounds = rounds_of(stage, scene, request.config.getoption("--fault-seed"), on_s3=on_s3)
    rounds.run(request.config.getoption("--fault-rounds"))
    report = scene.finish()
    tell(request, f"{job}, {storage}: {rounds.storm}; {report.figures}")
    assert report.exact, report


@pytest.mark.timeout(14_400)
def test_memory_and_descriptors_stay_flat_under_random_faults(
    stage: Stage, make_scene: MakeScene, request: pytest.FixtureRequest
) -> None:
    scene = make_scene(
        "window", "--worker-timeout", WORKER_TIMEOUT,
        storage="s3://storm/checkpoints", broker=stage.broker, environment=stage.environment,
    )  # fmt: skip
    scene.feeder.start()
    rounds = rounds_of(stage, scene, request.config.getoption("--fault-seed"), on_s3=True, keep_coordinator=True)
    options = request.config
    rounds.run(max(options.getoption("--fault-rounds"), SOAK_ROUNDS_MIN), options.getoption("--minutes") * 60.0)
    report = scene.finish()
    grown = growth(rounds.storm.usage)
    shown = ", ".join(f"{name} {early:,.0f} -> {late:,.0f}" for name, (early, late) in grown.items())
    tell(request, f"soak: {rounds.storm}; {report.figures}; {shown}")
    assert report.exact, report
    for name, (early, late) in grown.items():
        slack = SLACK[name.rpartition("_")[2]]
        assert late <= early * GROWTH_MAX + slack, f"{name} grew from {early:,.0f} to {late:,.0f}"
