"""Runs one plan: chaos for a while, then calm until the job has finished; then everything is judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tidegate.engine.errors import ProtocolError

from .coordinator import Coordinator
from .outside import KEYS, SPLITS, Broker, Store, key_of
from .plan import CHAOS_STEPS, Fault, Plan
from .rules import Rules
from .world import Process, ViolationError, World

CALM_STEPS_MAX: Final = 20_000
COORDINATORS_MAX: Final = 3
PARALLELISM_MAX: Final = 3


@dataclass
class Outcome:
    """What a plan led to; `violation` is empty when every promise was kept."""

    plan: Plan
    violation: str = ""
    story: list[str] = field(default_factory=list)
    steps: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    epochs: int = 0


class Simulation:
    """One job, from its first start to its end, through everything that a plan brings."""

    def __init__(self, plan: Plan, rules: Rules) -> None:
        self.plan, self.rules = plan, rules
        self.outcome = Outcome(plan)
        self.world = World(plan.seed, plan.lost)
        self.store = Store()
        self.broker = Broker(rules.fence)
        self.coordinators: list[Coordinator] = []
        self._faults: Mapping[str, Callable[[float], bool]] = {
            "kill": self._kill,
            "pause": self._pause,
            "resume": self._resume,
            "take over": self._take_over,
            "transaction timed out": self._time_out,
            "store away or back": lambda _: self._toggle("store"),
            "broker away or back": lambda _: self._toggle("broker"),
        }

    def run(self) -> Outcome:
        """Run to the end; a violation is in the outcome."""
        try:
            self._start()
            self._chaos()
            self._calm()
            self._judge()
        except (ViolationError, ProtocolError) as error:
            self.outcome.violation = str(error)
            self.outcome.story = list(self.world.story)
        self.outcome.steps = self.world.steps
        self.outcome.attempts = self.store.highest()
        self.outcome.epochs = max(self.store.manifests, default=0)
        return self.outcome

    def _chaos(self) -> None:
        waiting = list(reversed(self.plan.faults))
        while self.world.steps < CHAOS_STEPS and self._unfinished():
            while waiting and waiting[-1].step <= self.world.steps:
                self._hit(waiting.pop())
            if not self._step():
                # Everybody is paused: time passes until somebody goes on.
                self.world.steps += 1

    def _calm(self) -> None:
        self.world.lost = 0.0
        self.world.away.clear()
        for process in self._processes():
            process.paused = False
        until = self.world.steps + CALM_STEPS_MAX
        while self._unfinished() or self._alive():
            if self.world.steps > until:
                raise ViolationError(f"the job hangs: {[(c.name, c.ended) for c in self.coordinators[-3:]]}")
            self._step()
        self.world.deliver_late(everything=True)

    def _unfinished(self) -> bool:
        return not any(c.ended == "finished" for c in self.coordinators)

    def _step(self) -> bool:
        if not self._alive() and self._unfinished():
            self._start()
        return self.world.step()

    def _start(self) -> None:
        parallelism = self.world.random.randint(1, PARALLELISM_MAX)
        self.coordinators.append(Coordinator(self.world, self.store, self.broker, self.rules, self.plan, parallelism))

    def _alive(self) -> list[Coordinator]:
        return [c for c in self.coordinators if c.alive]

    def _processes(self) -> list[Process]:
        return [p for c in self.coordinators for p in (c, *c.workers) if p.alive]

    # Faults. Each returns whether it found somebody to hit.

    def _hit(self, fault: Fault) -> None:
        if self._faults[fault.kind](fault.pick):
            self.outcome.faults[fault.kind] += 1

    def _kill(self, pick: float) -> bool:
        processes = self._processes()
        if processes:
            self.world.kill(processes[int(pick * len(processes))])
        return bool(processes)

    def _pause(self, pick: float) -> bool:
        return self._set_paused(pick, paused=True)

    def _resume(self, pick: float) -> bool:
        return self._set_paused(pick, paused=False)

    def _set_paused(self, pick: float, *, paused: bool) -> bool:
        processes = [p for p in self._processes() if p.paused != paused]
        if processes:
            process = processes[int(pick * len(processes))]
            process.paused = paused
            self.world.tell(f"{'PAUSE' if paused else 'RESUME'} {process.name}")
        return bool(processes)

    def _take_over(self, _: float) -> bool:
        if len(self._alive()) >= COORDINATORS_MAX:
            return False
        self.world.tell("TAKE OVER")
        self._start()
        return True

    def _toggle(self, where: str) -> bool:
        self.world.away ^= {where}
        self.world.tell(f"{where.upper()} {'AWAY' if where in self.world.away else 'BACK'}")
        return True

    def _time_out(self, pick: float) -> bool:
        open_now = list(self.broker.open)
        if open_now:
            subtask = open_now[int(pick * len(open_now))]
            self.world.tell(f"TRANSACTION of subtask {subtask} TIMED OUT")
            self.broker.time_out(subtask)
        return bool(open_now)

    def _judge(self) -> None:
        records = self.plan.records
        expected = Counter(key_of(split, offset) for split in range(SPLITS) for offset in range(records))
        for key in range(KEYS):
            seen = self.broker.visible.get(key, 0)
            if seen != expected[key]:
                raise ViolationError(f"key {key}: {seen} of {expected[key]} results are visible at the end")


def simulate(plan: Plan, rules: Rules | None = None) -> Outcome:
    """Run one plan."""
    return Simulation(plan, rules or Rules()).run()
