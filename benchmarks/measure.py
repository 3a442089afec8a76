"""Runs one program against the broker and measures the CPU time of its whole process tree until its output is there."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from .inputs import PARTITIONS

TICKS = os.sysconf("SC_CLK_TCK")
LOOK_EVERY_S = 0.1
QUIET_S = 3.0
LIMIT_S = 300.0


@dataclass(frozen=True)
class Run:
    """What one run cost: CPU seconds of the process tree and wall seconds, both up to the last commit of output."""

    cpu_s: float
    wall_s: float
    first_s: float


def run(
    command: list[str], environment: dict[str, str], admin: AdminClient, output: str, wanted: int, log: Path
) -> Run:
    """Run until `wanted` records are committed and nothing came for QUIET_S; then end the program."""
    asked = {TopicPartition(output, partition): OffsetSpec.latest() for partition in range(PARTITIONS)}
    began = time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=stream, stderr=stream, start_new_session=True
        )
    seen, first, last, cpu = 0, 0.0, began, 0.0
    try:
        while time.monotonic() - began < LIMIT_S:
            time.sleep(LOOK_EVERY_S)
            used = tree_cpu(process.pid)
            answers = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED)
            end, now = sum(answer.result().offset for answer in answers.values()), time.monotonic()
            if end > seen:
                first = first or now - began
                seen, last, cpu = end, now, used
            elif seen >= wanted and now - last > QUIET_S:
                break
            if process.poll() is not None:
                raise RuntimeError(f"{command} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if seen < wanted:
        raise RuntimeError(
            f"{command} put out {seen} of {wanted} records within {LIMIT_S:.0f} s:\n{log.read_text()[-2000:]}"
        )
    return Run(cpu, last - began, first)


def tree_cpu(session: int) -> float:
    """Return the CPU seconds of every process of a session, with their ended children."""
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            total += sum(int(ticks) for ticks in fields[11:15])
    return total / TICKS
