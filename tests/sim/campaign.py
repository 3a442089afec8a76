"""Many seeds over all cores, added up."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from .plan import plan_of
from .rules import Rules
from .simulate import simulate

CHUNK: Final = 100


@dataclass
class Total:
    """What seeds led to together. Seeds after the first failing one of a chunk are not run."""

    seeds: int = 0
    steps: int = 0
    attempts: int = 0
    epochs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    first_failing: int | None = None

    def add(self, other: Total) -> None:
        """Add another total, of later seeds."""
        self.seeds += other.seeds
        self.steps += other.steps
        self.attempts += other.attempts
        self.epochs += other.epochs
        self.faults += other.faults
        if self.first_failing is None:
            self.first_failing = other.first_failing

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        broken = "no promise broken" if self.first_failing is None else f"first broken by seed {self.first_failing}"
        return (
            f"{self.seeds} seeds, {self.steps} steps, {self.attempts} attempts, {self.epochs} epochs; "
            f"faults: {kinds}; {broken}"
        )


def run_chunk(seeds: Sequence[int], rules: Rules) -> Total:
    """Run seeds one after the other, up to the first that breaks a promise."""
    total = Total()
    for seed in seeds:
        outcome = simulate(plan_of(seed), rules)
        total.seeds += 1
        total.steps += outcome.steps
        total.attempts += outcome.attempts
        total.epochs += outcome.epochs
        total.faults += outcome.faults
        if outcome.violation:
            total.first_failing = seed
            break
    return total


def campaign(seeds: range, rules: Rules) -> Total:
    """Run seeds over all cores; which seed fails first does not depend on their number."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    total = Total()
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(run_chunk, chunks, [rules] * len(chunks)):
            total.add(part)
            if total.first_failing is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    return total
