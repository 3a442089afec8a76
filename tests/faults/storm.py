"""Rounds of random faults against a job at work, its broker and its checkpoint store, judged by the output.

    pytest tests/faults/test_random_faults.py --fault-rounds 500 -k s3
    pytest tests/faults/test_random_faults.py --minutes 60 -k soak

A round waits until new output has appeared since the last fault was taken back, and a random moment longer; then a
fault begins, lasts a random time, and is taken back. A job that ended is started again, as a supervisor would.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from services.processes import wait_until

from .conftest import Scene
from .usage import Usage, usage_of
from .weather import LASTS_MAX_S, Begin

PROGRESS_TIMEOUT_S: Final = 240.0
MOMENT_MAX_S: Final = 1.5
STATES_MAX: Final = 6


@dataclass
class Storm:
    """What happened. `usage` has samples of memory and descriptors, taken when output had appeared."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)
    slowest: str = ""

    def __str__(self) -> str:
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        ends = ", ".join(f"{code} {count}" for code, count in sorted(self.ends.items())) or "never"
        longest = max(self.recovery_s, default=0.0)
        return (
            f"seed {self.seed}; {self.faults.total()} faults ({faults}); the job ended by itself: {ends}; "
            f"longest recovery {longest:.1f} s ({self.slowest}), median {median(self.recovery_s or [0.0]):.1f} s"
        )


class Rounds:
    """Runs the rounds of a storm over a scene."""

    def __init__(self, scene: Scene, faults: Mapping[str, Begin], chance: random.Random, seed: int) -> None:
        self._scene = scene
        self._faults = faults
        self._chance = chance
        self._seen = 0
        self.storm = Storm(seed)

    def run(self, rounds: int, until_s: float = 0.0) -> None:
        """Run so many rounds, and more until this many seconds have passed; the job is left running."""
        began = time.monotonic()
        self._scene.job.start()
        self._seen = self._scene.end()
        self._await_output()
        kinds: list[str] = []
        done = 0
        while done < rounds or time.monotonic() - began < until_s:
            if not kinds:
                # Every kind comes once before any comes again.
                kinds = sorted(self._faults)
                self._chance.shuffle(kinds)
            self._round(kinds.pop())
            done += 1

    def _round(self, kind: str) -> None:
        time.sleep(self._chance.random() * MOMENT_MAX_S)
        undo = self._faults[kind]()
        self.storm.faults[kind] += 1
        self._last_for(self._chance.random() ** 2 * LASTS_MAX_S)
        undo()
        over = time.monotonic()
        self._seen = self._scene.end()
        self._await_output()
        took = time.monotonic() - over
        if took > max(self.storm.recovery_s, default=0.0):
            self.storm.slowest = kind
        self.storm.recovery_s.append(took)
        self.storm.usage.append(usage_of(self._scene.job.pid, self._scene.job.workers))

    def _last_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._start_again()
            time.sleep(0.1)

    def _await_output(self) -> None:
        def grown() -> bool:
            self._start_again()
            return self._scene.end() > self._seen

        wait_until("new output", grown, PROGRESS_TIMEOUT_S)

    def _start_again(self) -> None:
        job = self._scene.job
        if not job.alive:
            code = job.process.returncode if job.process else None
            if code is not None and code >= 0:
                self.storm.ends[f"exit code {code}"] += 1
            job.start()
