"""Breadth-first search over all interleavings; what breaks an invariant is found by its shortest story.

A state is a tuple of small numbers that stand for the store, the broker and each process, so that what one process can
do in one world is worked out once, however many states share it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass, field

from model.attempt import CONTRADICTED, ENDED, FRESH, About
from model.commits import Committers, broker_steps
from model.freezing import Numbers
from model.steps import Coordinator, Fault, Process
from model.world import CONTRADICTION, UNFINISHED, Broker, Id, Store, broken_by

State = tuple[int, ...]
Edge = tuple[str, int, int, Fault | None]
"""Its line, the attempt after it, the store or broker after it, and the fault it costs."""


@dataclass(frozen=True)
class Scenario:
    """What is searched: the number of workers of each process in the order of their starts, epochs, faults of a run.

    `retires` and `rows`: whether checkpoints retire, and whether epochs have output.
    """

    workers: tuple[int, ...]
    epochs: int
    faults: tuple[Fault, ...] = ()
    retires: bool = False
    rows: bool = True

    @property
    def subtasks(self) -> int:
        """How many sink subtasks there ever are."""
        return max(self.workers)


@dataclass
class Found:
    """The outcome of a search: states seen, those where all is done, and the broken invariant with its story."""

    states: int
    complete: int
    broken: str = ""
    story: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"{self.broken or 'every invariant holds'}; {self.states} states, {self.complete} of them at an end"]
        return "\n".join([*lines, *(f"{i:3}. {line}" for i, line in enumerate(self.story, 1))])


class Search:
    """One search of one scenario."""

    def __init__(self, scenario: Scenario, departure: str = "") -> None:
        self._s = scenario
        self._stores, self._brokers, self._attempts, self._left = Numbers(), Numbers(), Numbers(), Numbers()
        processes = [
            Process(slot, About(workers, scenario.epochs, departure, scenario.retires, scenario.rows), self._attempts)
            for slot, workers in enumerate(scenario.workers)
        ]
        self._coordinators = [Coordinator(process) for process in processes]
        self._committers = [Committers(process) for process in processes]
        subtasks = max(scenario.workers)
        ids = subtasks * (len(processes) if departure == "nothing is fenced" else 1)
        broker = Broker((Id(),) * ids, (None,) * subtasks, ((),) * subtasks)
        self._fresh, self._ended = self._attempts.of(FRESH), self._attempts.of(ENDED)
        self._contradicted = self._attempts.of(CONTRADICTED)
        world = (self._stores.of(Store()), self._brokers.of(broker), self._left.of(tuple(sorted(scenario.faults))))
        self._first: State = (*world, *(self._fresh for _ in processes))
        self._on_store: dict[tuple[int, int, int], list[Edge]] = {}
        self._on_broker: dict[tuple[int, int, int], list[Edge]] = {}
        self._by_store: dict[int, list[Edge]] = {}
        self._by_broker: dict[int, list[Edge]] = {}
        self._broken: dict[tuple[int, int], str] = {}
        self._left_after: dict[tuple[int, Fault | None], int] = {}
        self._complete = 0
        self._from: dict[State, tuple[State, str] | None] = {self._first: None}

    def run(self) -> Found:
        """Search until an invariant breaks or nothing is left."""
        collects = gc.isenabled()
        gc.disable()  # states are no cycles, and looking through all of them again and again costs a third of the time
        try:
            return self._run()
        finally:
            if collects:
                gc.enable()

    def _run(self) -> Found:
        level = [self._first]
        while level:
            following: list[State] = []
            for state in level:
                goes_on = False
                for text, after, alone in self._steps(state):
                    goes_on = goes_on or alone
                    if after not in self._from:
                        self._from[after] = (state, text)
                        following.append(after)
                        if broken := self._is_broken(after):
                            return self._found(after, broken)
                if not goes_on and (broken := self._at_an_end(state)):
                    return self._found(state, broken)
            level = following
        return Found(len(self._from), self._complete)

    def _steps(self, state: State) -> Iterator[tuple[str, State, bool]]:
        """Return every step: its line, the state after it, and whether it goes on when nobody else does anything."""
        store, broker, left = state[:3]
        taken = self._stores.values[store].attempts
        newest = taken[-1] if taken else 0
        for slot, attempt in enumerate(state[3:]):
            before, behind = state[3 : 3 + slot], state[4 + slot :]
            for text, moved, changed, fault in self._store_edges(slot, attempt, store):
                rest = self._without(left, fault)
                if rest >= 0:
                    yield text, (changed, broker, rest, *before, moved, *behind), slot == newest and fault is None
            for text, moved, changed, fault in self._broker_edges(slot, attempt, broker):
                rest = self._without(left, fault)
                if rest >= 0:
                    yield text, (store, changed, rest, *before, moved, *behind), slot == newest and fault is None
            if attempt == self._fresh:
                break  # processes start in order
        for text, _, changed, _ in self._store_alone(store):
            yield text, (changed, *state[1:]), False  # or never
        for text, _, changed, fault in self._broker_alone(broker):
            rest = self._without(left, fault)
            if rest >= 0:
                yield text, (store, changed, rest, *state[3:]), fault is None

    def _without(self, left: int, fault: Fault | None) -> int:
        """Return the faults that are left after this one; -1 if there is none of its kind any more."""
        key = (left, fault)
        if key not in self._left_after:
            faults = list(self._left.values[left])
            if fault in faults:
                faults.remove(fault)
            elif fault is not None:
                self._left_after[key] = -1
                return -1
            self._left_after[key] = self._left.of(tuple(faults))
        return self._left_after[key]

    def _is_broken(self, state: State) -> str:
        store, broker = state[:2]
        key = (store, broker)
        if key not in self._broken:
            values = self._stores.values[store], self._brokers.values[broker]
            self._broken[key] = broken_by(*values, files=self._s.retires)
        return CONTRADICTION if self._contradicted in state[3:] else self._broken[key]

    def _at_an_end(self, state: State) -> str:
        """Look at a state in which the newest attempt, if it lives, has nothing left to do and waits for nobody."""
        store: Store = self._stores.values[state[0]]
        broker: Broker = self._brokers.values[state[1]]
        if not store.attempts or state[3 + store.attempts[-1]] == self._ended or not broker.stable:
            return ""
        outputs = sum(len(manifest.own) for manifest in store.decided)
        if len(store.decided) < self._s.epochs or sum(map(len, broker.visible)) < outputs:
            return UNFINISHED
        self._complete += 1
        return ""

    def _store_edges(self, slot: int, attempt: int, store: int) -> list[Edge]:
        key = (slot, attempt, store)
        if key not in self._on_store:
            steps = self._coordinators[slot].steps(attempt, self._stores.values[store])
            self._on_store[key] = [(s.text, s.attempt, self._stores.of(s.world), s.fault) for s in steps]
        return self._on_store[key]

    def _broker_edges(self, slot: int, attempt: int, broker: int) -> list[Edge]:
        key = (slot, attempt, broker)
        if key not in self._on_broker:
            steps = self._committers[slot].steps(attempt, self._brokers.values[broker])
            self._on_broker[key] = [(s.text, s.attempt, self._brokers.of(s.world), s.fault) for s in steps]
        return self._on_broker[key]

    def _store_alone(self, store: int) -> list[Edge]:
        if store not in self._by_store:
            arrivals = self._stores.values[store].arrivals()
            self._by_store[store] = [(text, 0, self._stores.of(after), None) for text, after in arrivals]
        return self._by_store[store]

    def _broker_alone(self, broker: int) -> list[Edge]:
        if broker not in self._by_broker:
            steps = broker_steps(self._brokers.values[broker])
            self._by_broker[broker] = [(text, 0, self._brokers.of(after), fault) for text, after, fault in steps]
        return self._by_broker[broker]

    def _found(self, state: State, broken: str) -> Found:
        story = []
        step = self._from[state]
        while step is not None:
            story.append(step[1])
            step = self._from[step[0]]
        return Found(len(self._from), self._complete, broken, story[::-1])
