"""A job that writes nothing for a while keeps its storage tidy all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from services.kafka import KafkaBroker
from services.processes import wait_until
from services.topics import Topics

JOB: Final = Path(__file__).resolve().parents[1] / "faults" / "jobs" / "map_job.py"
TIMEOUT_S: Final = 60.0
RETAIN: Final = 3


def test_checkpoints_without_output_retire_like_others(kafka: KafkaBroker, topics: Topics, tmp_path: Path) -> None:
    name = topics.name("quiet")
    environment = {
        **os.environ,
        "BROKER": kafka.bootstrap,
        "IN": topics.create("in"),
        "OUT": topics.create("out"),
        "JOB": name,
        "STORAGE": str(tmp_path),
    }
    command = [sys.executable, "-m", "tidegate", "run", str(JOB)]
    options = ["--checkpoint-interval", "50ms", "--retain", str(RETAIN)]
    with (tmp_path / "log").open("wb") as log:
        job = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log)
    checkpoints = tmp_path / name / "checkpoints"

    def epochs() -> list[int]:
        assert job.poll() is None, (tmp_path / "log").read_text()
        return sorted(int(path.stem) for path in checkpoints.glob("*.json"))

    try:
        wait_until("60 epochs", lambda: bool(epochs()) and epochs()[-1] >= 60, TIMEOUT_S)
        # The newest ones, up to a round of ten that waits to be retired, and manifest 0, which stays for ever.
        wait_until("old checkpoints to retire", lambda: len(epochs()) <= RETAIN + 12, TIMEOUT_S)
        assert epochs()[0] == 0
    finally:
        job.send_signal(signal.SIGINT)
        code = job.wait(TIMEOUT_S)
    assert code == 0, (tmp_path / "log").read_text()
