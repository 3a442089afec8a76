"""The command line with real jobs on a real broker: results, exit codes, logs and the live line."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import polars as pl
import pytest

from services.kafka import KafkaBroker
from services.processes import wait_until
from services.topics import Topics

WAIT_S: Final = 60.0
ROWS: Final = 2000
SECRET: Final = "correct-horse-battery"

WINDOWS = """
import os, time
import polars as pl
import tidegate as tg

def slow(frame: pl.DataFrame) -> pl.DataFrame:
    print("a word from the job")
    time.sleep(float(os.environ.get("SLOW", "0")))
    if os.environ.get("FAIL"):
        raise ValueError("five is right out")
    return frame

FIELDS = {"country": pl.String, "amount": pl.Int64, "ts": pl.Int64}
job = tg.Job(os.environ["JOB"], storage="store", checkpoint_interval="200ms")
orders = tg.KafkaSource(
    os.environ["IN"], bootstrap=os.environ["BROKER"], client={"sasl.password": os.environ["SECRET"]},
    format=tg.Json(FIELDS), event_time=tg.epoch_ms("ts"),
)
(
    job.read(orders, uid="orders")
    .map_batches(slow, FIELDS)
    .key_by("country")
    .window(tg.tumbling("10s"))
    .agg(n=tg.count(), total=tg.sum("amount"), uid="totals")
    .write(tg.KafkaSink(os.environ["OUT"], bootstrap=os.environ["BROKER"], key="country", format=tg.Json()), uid="out")
)
"""


class Bench:
    """A folder with a job file, its topics, and ways to run the command line in it."""

    def __init__(self, folder: Path, broker: KafkaBroker, topics: Topics) -> None:
        self.folder = folder
        self.topics = topics
        # Each test is a job of its own: the ledgers of all of them are on one broker.
        self.job = topics.name("revenue")
        self.source, self.sink = topics.create("in", 2), topics.create("out", 2)
        self.started: list[subprocess.Popen[str]] = []
        self.environment = {
            **os.environ,
            "JOB": self.job,
            "IN": self.source,
            "OUT": self.sink,
            "BROKER": broker.bootstrap,
            "SECRET": SECRET,
        }
        (folder / "revenue.py").write_text(WINDOWS)
        # Of today: results carry event time, and a broker deletes records that are older than a week.
        begin_ms = int(time.time()) // 10 * 10_000 - 1_000_000
        orders = [{"country": f"c{i % 7}", "amount": i, "ts": begin_ms + 100 * i} for i in range(ROWS)]
        self.orders = pl.DataFrame(orders)
        for partition in range(2):
            topics.produce(self.source, [json.dumps(order) for order in orders[partition::2]], partition=partition)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tidegate", *arguments], cwd=self.folder, text=True,
            env={**self.environment, **environment}, stdout=subprocess.PIPE, stderr=self.log(arguments).open("w"),
        )  # fmt: skip
        self.started.append(process)
        return process

    def log(self, arguments: tuple[str, ...]) -> Path:
        """Where the standard error of a command goes."""
        return self.folder / ("_".join(re.sub(r"\W", "", argument) for argument in arguments)[:100] + ".log")

    def call(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Run a command to its end: exit code, standard output, standard error."""
        process = self.start(*arguments, **environment)
        out, _ = process.communicate(timeout=WAIT_S)
        return process.returncode, out, self.log(arguments).read_text()

    def json(self, *arguments: str) -> Any:
        """Run a command that must succeed and return the one document it prints."""
        code, out, err = self.call(*arguments, "--json")
        assert code == 0, err
        assert out.count("\n") == 1
        return json.loads(out)

    def await_committed(self) -> None:
        """Wait until the job has published something."""
        wait_until("output", self._has_output, WAIT_S)

    def _has_output(self) -> bool:
        assert self.started[-1].poll() is None, "the job ended before it published anything"
        time.sleep(0.2)
        return self.topics.read(self.sink).height > 0

    def expected(self) -> list[tuple[object, ...]]:
        """The windows as Polars computes them, with the end flushed."""
        start = pl.col("ts") // 10_000 * 10_000
        totals = self.orders.group_by("country", start=start).agg(n=pl.len(), total=pl.col("amount").sum())
        return sorted(totals.select("country", "start", "n", "total").rows())

    def published(self) -> list[tuple[object, ...]]:
        """The windows as a reader sees them."""
        values = [json.loads(value) for value in self.topics.read(self.sink)["value"]]
        ends = pl.Series([v["window_start"] for v in values], dtype=pl.String).str.to_datetime(time_zone="UTC")
        starts = ends.dt.epoch("ms").to_list()
        return sorted((v["country"], s, v["n"], v["total"]) for v, s in zip(values, starts, strict=True))


@pytest.fixture
def bench(tmp_path: Path, kafka: KafkaBroker, topics: Topics) -> Iterator[Bench]:
    """A bench whose processes are gone afterwards."""
    bench = Bench(tmp_path, kafka, topics)
    yield bench
    for process in bench.started:
        if process.poll() is None:
            process.kill()
            process.wait(WAIT_S)


def ended(process: subprocess.Popen[str], *signals: int) -> int:
    """Send signals one after the other and return the exit code."""
    for number in signals:
        process.send_signal(number)
        time.sleep(0.3)
    process.communicate(timeout=WAIT_S)
    return process.returncode


def test_a_bounded_run_ends_with_0_and_its_result_is_one_json_object(bench: Bench) -> None:
    code, out, err = bench.call("run", "revenue.py", "--until-end", "--workers", "2", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["job"] == bench.job
    assert result["result"] == "finished"
    assert result["rows_in"] == ROWS
    assert result["rows_out"] == len(bench.expected())
    assert result["committed"] == result["epoch"] > 0
    assert result["restarts"] == 0
    assert "a word from the job" in err
    lines = [json.loads(line) for line in err.splitlines() if line != "a word from the job"]
    assert {line["job"] for line in lines} == {bench.job}
    assert [line["message"].split(" pid")[0] for line in lines if "started pid" in line["message"]] == [
        "worker 0 started", "worker 1 started",
    ]  # fmt: skip
    assert bench.published() == bench.expected()


def test_what_ran_can_be_asked_by_file_and_by_name(bench: Bench) -> None:
    process = bench.start("run", "revenue.py")
    bench.await_committed()
    assert ended(process, signal.SIGINT) == 0
    checkpoints = bench.json("checkpoints", "revenue.py")
    assert checkpoints == bench.json("checkpoints", bench.job, "--storage", "store")
    assert checkpoints[0]["trigger"] == "stopped"
    assert checkpoints[0]["counters"]["rows_in"] == ROWS
    assert [c["epoch"] for c in checkpoints] == sorted((c["epoch"] for c in checkpoints), reverse=True)
    (row,) = bench.json("sql", "revenue.py", "select sum(n)::int as n, min(country) as first from state('totals')")
    assert row["n"] > 0
    assert row["first"] == "c0"
    assert bench.json("catalog", "rebuild", "revenue.py")["checkpoints"] >= 1
    code, out, _ = bench.call("checkpoints", "revenue.py")
    assert code == 0
    assert out.splitlines()[0].split()[:3] == ["epoch", "phase", "trigger"]
    code, _, err = bench.call("sql", "revenue.py", "delete from checkpoints")
    assert code == 2
    assert "one SELECT is run here" in err


def test_an_interrupted_run_stops_with_a_checkpoint_and_the_next_one_goes_on(bench: Bench) -> None:
    process = bench.start("run", "revenue.py")
    bench.await_committed()
    assert ended(process, signal.SIGTERM) == 0
    log = bench.log(("run", "revenue.py")).read_text()
    assert re.search(rf"INFO +{bench.job} attempt 1: worker 0 started pid=\d+", log)
    assert re.search(r"stopped at epoch \d+: 2,000 records in", log)
    result = bench.json("run", "revenue.py", "--until-end", "--workers", "2")
    assert result["attempt"] == 2
    assert result["rows_in"] == 0
    assert bench.published() == bench.expected()


def test_a_second_interrupt_ends_at_once_with_130(bench: Bench) -> None:
    process = bench.start("run", "revenue.py", SLOW="30")
    log = bench.log(("run", "revenue.py"))
    wait_until("the run", lambda: ": running" in log.read_text(), WAIT_S)
    time.sleep(1)
    began = time.monotonic()
    assert ended(process, signal.SIGINT, signal.SIGINT) == 130
    assert time.monotonic() - began < 10
    assert "error: interrupted" in log.read_text()


def test_a_second_start_is_refused_and_a_takeover_fences_the_first(bench: Bench) -> None:
    first = bench.start("run", "revenue.py")
    bench.await_committed()
    code, _, err = bench.call("run", "revenue.py", "--json")
    assert code == 5
    assert "already running" in err
    assert "--takeover" in err
    second = bench.start("run", "revenue.py", "--takeover")
    first.communicate(timeout=WAIT_S)
    assert first.returncode == 4
    assert "attempt 1 found attempt 2 and stopped" in bench.log(("run", "revenue.py")).read_text()
    log = bench.log(("run", "revenue.py", "--takeover"))
    wait_until("the second attempt", lambda: "attempt 2: running" in log.read_text(), WAIT_S)
    assert ended(second, signal.SIGINT) == 0


def test_an_exception_of_the_job_ends_with_1_and_names_the_line(bench: Bench) -> None:
    code, out, err = bench.call("run", "revenue.py", "--json", FAIL="1")
    assert code == 1
    document = json.loads(out)
    assert document["exit_code"] == 1
    assert "five is right out (revenue.py:10)" in document["error"]["message"]
    assert "error: " in err
    assert "Traceback" not in err


def test_a_killed_worker_is_one_restart_in_the_log_and_in_the_result(bench: Bench) -> None:
    process = bench.start("run", "revenue.py", "--until-end", "--workers", "2", "--json", SLOW="1")
    log = bench.log(("run", "revenue.py", "--until-end", "--workers", "2", "--json"))
    wait_until("the run", lambda: '"running"' in log.read_text(), WAIT_S)
    found = re.search(r"worker 1 started pid=(\d+)", log.read_text())
    assert found is not None
    os.kill(int(found[1]), signal.SIGKILL)
    out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0
    assert json.loads(out)["restarts"] == 1
    messages = [json.loads(line)["message"] for line in log.read_text().splitlines() if line.startswith("{")]
    assert any("was killed by signal 9" in message for message in messages)
    assert any(message.startswith("restarting in ") for message in messages)
    assert bench.published() == bench.expected()


def test_no_secret_is_in_arguments_or_logs_and_files_are_private(bench: Bench) -> None:
    process = bench.start("run", "revenue.py", "--debug")
    bench.await_committed()
    pids = [process.pid, *map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())]
    assert all(SECRET not in Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)
    assert ended(process, signal.SIGINT) == 0
    assert SECRET not in bench.log(("run", "revenue.py", "--debug")).read_text()
    files = [path for path in (bench.folder / "store").rglob("*") if path.is_file()]
    assert len(files) > 3
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_on_a_terminal_there_is_a_live_line_and_ctrl_c_stops(bench: Bench) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(bench.folder)
        os.execve(  # noqa: S606 (no shell is wanted)
            sys.executable,
            [sys.executable, "-m", "tidegate", "run", "revenue.py"],
            {**bench.environment, "COLUMNS": "200", "TERM": "xterm"},
        )
    seen, ends, is_stopping = b"", time.monotonic() + WAIT_S, False
    while time.monotonic() < ends:
        if not select.select([terminal], [], [], 0.2)[0]:
            continue
        try:
            seen += os.read(terminal, 65_536)
        except OSError:
            break
        if not is_stopping and b"2.0k" in seen:
            is_stopping = True
            os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert re.search(rf"{bench.job}  running  epoch \d+", text)
    assert re.search(r"checkpoint \d+ ms", text)
    assert "stopped at epoch" in text
