"""What a seed stands for: the size of the job, and the faults with their moments."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

KINDS: Final = (
    "kill",
    "pause",
    "resume",
    "take over",
    "transaction timed out",
    "store away or back",
    "broker away or back",
)
CHAOS_STEPS: Final = 1_500
FAULTS_MAX: Final = 40


@dataclass(frozen=True)
class Fault:
    """A fault at a step; `pick` in [0, 1) chooses whom it hits."""

    step: int
    kind: str
    pick: float


@dataclass(frozen=True)
class Plan:
    """A simulation to run. `seed` orders what happens; `lost` is the chance that a request or an answer is lost."""

    seed: int
    records: int
    retain: int
    pace: int
    lost: float
    faults: tuple[Fault, ...]


def plan_of(seed: int) -> Plan:
    """Return the plan of a seed. Each seed has some kinds of faults only, so that no kind drowns another."""
    chance = random.Random(-1 - seed)
    kinds = [kind for kind in KINDS if chance.random() < 0.6] or list(KINDS)
    count = chance.randint(0, FAULTS_MAX)
    faults = [Fault(chance.randrange(CHAOS_STEPS), chance.choice(kinds), chance.random()) for _ in range(count)]
    return Plan(
        seed,
        records=chance.randint(5, 60),
        retain=chance.randint(1, 3),
        pace=chance.randint(1, 8),
        lost=chance.choice([0.0, 0.01, 0.05]),
        faults=tuple(sorted(faults, key=lambda fault: fault.step)),
    )
