"""What a user sees when something is wrong: a message with the value and what to do, an exit code, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from services.kafka import KafkaBroker
from services.processes import free_port
from services.topics import Topics

JOB: Final = Path(__file__).parent / "jobs" / "problem_job.py"
WAIT_S: Final = 90.0
FAILED: Final = 1
INVALID: Final = 3
USER: Final = "tidegate"
PASSWORD: Final = "correct-horse-battery"
GOOD: Final = [json.dumps({"n": n, "ts": n * 1000}) for n in range(20)]


class Bench:
    """The job of this page, its topics, and one command that runs it to the end of its input."""

    def __init__(self, kafka: KafkaBroker, topics: Topics, folder: Path) -> None:
        self.folder, self.topics = folder, topics
        self.input, self.output = topics.create("in"), topics.create("out")
        shutil.copy(JOB, folder / "job.py")
        names = {"JOB": topics.name("problem"), "IN": self.input, "OUT": self.output, "BROKER": kafka.bootstrap}
        self.environment = {**os.environ, **names}

    def run(self, *options: str, **environment: str) -> tuple[int, str]:
        """Run it: exit code and standard error."""
        command = [sys.executable, "-m", "tidegate", "run", "job.py", "--until-end", "--restarts", "1", *options]
        finished = subprocess.run(
            command, cwd=self.folder, env={**self.environment, **environment}, capture_output=True, text=True,
            timeout=WAIT_S, check=False,
        )  # fmt: skip
        assert "Traceback" not in finished.stderr, finished.stderr
        return finished.returncode, finished.stderr

    def write(self, values: Sequence[str | bytes | None]) -> None:
        """Write records into the input."""
        self.topics.produce(self.input, values, partition=0)

    def numbers(self) -> list[int]:
        """What a read_committed reader sees."""
        return [json.loads(value)["n"] for value in self.topics.read(self.output)["value"].to_list()]


@pytest.fixture
def bench(kafka: KafkaBroker, topics: Topics, tmp_path: Path) -> Bench:
    """A folder with the job."""
    return Bench(kafka, topics, tmp_path)


def test_a_broker_that_is_not_there_is_named(bench: Bench) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    code, text = bench.run(BROKER=nowhere)
    assert code == FAILED
    assert f"Kafka at {nowhere}" in text
    assert "Connection refused" in text
    assert "rdkafka" not in text
    assert "check bootstrap, the network and the credentials" in text


@pytest.mark.parametrize("which", ["IN", "OUT"])
def test_a_topic_that_does_not_exist_is_named(which: str, bench: Bench) -> None:
    bench.write(GOOD)
    code, text = bench.run(**{which: "no-such-topic"})
    assert code == FAILED
    assert "topic 'no-such-topic' does not exist" in text
    assert bench.environment["BROKER"] in text
    assert "hint: " in text
    assert bench.run()[0] == 0
    assert bench.numbers() == list(range(20))


@pytest.mark.parametrize(
    "poison",
    [b"not JSON", b'{"n": "five", "ts": 1}', b'{"n": 5}', b"\xff\xfe", b'{"n": 5, "ts": 1}}', b"[1]", None],
    ids=["text", "type", "no event time", "bytes", "brace", "array", "tombstone"],
)
def test_a_record_that_cannot_be_decoded_stops_the_job_with_its_place_or_is_skipped_and_counted(
    poison: bytes | None, bench: Bench
) -> None:
    bench.write([*GOOD[:10], poison, *GOOD[10:]])
    code, text = bench.run()
    assert code == FAILED
    assert bench.input in text
    assert "partition 0" in text
    assert "offset 10" in text
    assert bench.numbers() in (list(range(n)) for n in range(11))
    code, text = bench.run(ON_ERROR="skip")
    assert code == 0, text
    assert bench.numbers() == list(range(20))
    assert "1 skipped" in text


def test_a_result_that_the_topic_cannot_take_is_named_and_goes_out_when_it_can(bench: Bench) -> None:
    bench.topics.set_config(bench.output, "max.message.bytes", "2000")
    bench.write([json.dumps({"n": 1, "ts": 0}), json.dumps({"n": 5000, "ts": 1})])
    code, text = bench.run()
    assert code == FAILED
    assert bench.output in text
    assert "max.message.bytes" in text
    bench.topics.set_config(bench.output, "max.message.bytes", "100000")
    assert bench.run()[0] == 0
    assert bench.numbers() == [1, 5000]


@pytest.mark.parametrize(
    ("client", "named"),
    [
        ({"sasl.mechanisn": "PLAIN"}, "sasl.mechanisn"),
        ({"fetch.min.bytes": "many"}, "fetch.min.bytes"),
        ({"group.id": "mine"}, "group.id"),
    ],
)
def test_a_client_setting_that_cannot_be_is_named(client: dict[str, str], named: str, bench: Bench) -> None:
    code, text = bench.run(CLIENT=json.dumps(client))
    assert code == INVALID, text
    assert named in text
    assert "hint: " in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('select("n"', 'select("m"'), "'m'"),
        ((', uid="out"', ""), "uid"),
        (('uid="out"', 'uid="in"'), "'in'"),
        (("rows.write(", "rows.filter(pl.col('n') > 0)  # ("), "write"),
        (("import polars", "import polar"), "polar"),
        (("rows.write(", "del job  # ("), "job"),
        (("job.read(", "job.read(("), "job.py"),
    ],
    ids=["column", "no uid", "same uid", "dangling", "import", "no job", "syntax"],
)
def test_a_mistake_in_the_job_file_is_named(change: tuple[str, str], said: str, bench: Bench) -> None:
    file = bench.folder / "job.py"
    text = file.read_text()
    assert change[0] in text
    file.write_text(text.replace(*change))
    code, text = bench.run()
    assert code in {FAILED, INVALID}, text
    assert said in text
    assert not (bench.folder / "store").exists()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[KafkaBroker, str]]:
    """A broker with a second listener that asks for a password, and that listener's address."""
    broker = KafkaBroker(tmp_path / "kafka")
    address = f"127.0.0.1:{free_port()}"
    listeners = (f"PLAINTEXT://{broker.bootstrap}", f"SASL_PLAINTEXT://{address}")
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    broker.configure(
        {
            "listeners": ",".join([*listeners, f"CONTROLLER://127.0.0.1:{broker.controller_port}"]),
            "advertised.listeners": ",".join(listeners),
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": login,
        }
    )
    broker.start()
    yield broker, address
    broker.kill()


def test_credentials_are_passed_through_and_wrong_ones_are_said_without_the_secret(
    guarded: tuple[KafkaBroker, str], tmp_path: Path
) -> None:
    broker, address = guarded
    bench = Bench(broker, Topics(broker.client), tmp_path)
    bench.write(GOOD)
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN", "sasl.username": USER}
    wrong = "wrong-" + PASSWORD
    code, text = bench.run("--restarts", "0", BROKER=address, CLIENT=json.dumps({**login, "sasl.password": wrong}))
    assert code == FAILED
    assert "Authentication failed" in text
    assert PASSWORD not in text
    code, text = bench.run(BROKER=address, CLIENT=json.dumps({**login, "sasl.password": PASSWORD}))
    assert code == 0, text
    assert PASSWORD not in text
    assert bench.numbers() == list(range(20))
