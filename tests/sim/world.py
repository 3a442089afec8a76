"""A simulated world: processes, messages and calls whose order one seeded random generator decides.

Everything that can happen next waits in a lane. A lane is first in, first out, as a connection or one caller's requests
are; between lanes the order is random. A process that is killed loses its lanes, one that is paused keeps them. What a
call does to the store or the broker happens in a lane of nobody: it may happen after its caller died.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

T = TypeVar("T")
STORY_LENGTH: Final = 60
LATE_STEPS_MAX: Final = 600
"""How long a request that was believed lost may be on its way."""
LATE_SHARE: Final = 0.5
"""How many of the lost requests take effect all the same."""


class ViolationError(Exception):
    """A promise was broken."""


@dataclass(eq=False)
class Process:
    """Something that can be killed or paused. `killed` is called once."""

    name: str
    alive: bool = True
    paused: bool = False
    lanes: dict[object, None] = field(default_factory=dict)

    def on_killed(self) -> None:
        """Called when the process dies."""


@dataclass
class Lane:
    """Things that happen one after the other; `owner` is who they happen to."""

    owner: Process | None
    waiting: deque[tuple[str, Callable[[], None]]] = field(default_factory=deque)


class World:
    """Lanes and the choice of what happens next."""

    def __init__(self, seed: int, lost: float) -> None:
        self.random = random.Random(seed)
        self.lost = lost
        self.steps = 0
        self.story: deque[str] = deque(maxlen=STORY_LENGTH)
        self._lanes: dict[object, Lane] = {}
        self._order: list[object] = []
        self._places: dict[object, int] = {}
        self._numbers = 0
        self._late: list[tuple[int, int, str, Callable[[], object]]] = []
        self.away: set[str] = set()

    def tell(self, text: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.steps:5d} {text}")

    def fresh(self) -> int:
        """Return a number that was never returned before."""
        self._numbers += 1
        return self._numbers

    def later(self, lane: object, owner: Process | None, what: str, action: Callable[[], None]) -> None:
        """Let something happen after everything that waits in this lane already."""
        if owner is not None and not owner.alive:
            return
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = Lane(owner)
            self._places[lane] = len(self._order)
            self._order.append(lane)
            if owner is not None:
                owner.lanes[lane] = None
        found.waiting.append((what, action))

    def send(self, sender: Process, receiver: Process, what: str, action: Callable[[], None]) -> None:
        """Deliver a message: it arrives in order, also when its sender dies, not when its receiver does."""
        self.later((sender, receiver), receiver, what, action)

    def call(
        self,
        caller: Process,
        where: str,
        what: str,
        effect: Callable[[], T],
        answer: Callable[[T], None],
        unsure: Callable[[], None] | None = None,
    ) -> None:
        """Do something to the store or the broker (`where`), then tell the caller.

        With `unsure` the request or its answer may get lost, and it does while the other side is away; a lost request
        may still take effect much later.
        """
        lane = (self.fresh(), what)

        def happen() -> None:
            chance = self.random.random()
            if unsure is not None and (chance < self.lost or where in self.away):
                self.tell(f"   request lost: {what}")
                if self.random.random() < LATE_SHARE:
                    due = self.steps + self.random.randint(1, LATE_STEPS_MAX)
                    heapq.heappush(self._late, (due, self.fresh(), what, effect))
                self.later(lane, caller, f"unsure: {what}", unsure)
                return
            result = effect()
            if unsure is not None and chance < 2 * self.lost:
                self.tell(f"   answer lost: {what}")
                self.later(lane, caller, f"unsure: {what}", unsure)
            else:
                self.later(lane, caller, f"answer: {what} {result}", lambda: answer(result))

        self.later(("network", lane), None, what, happen)

    def kill(self, process: Process) -> None:
        """Kill a process; what it asked for may still happen."""
        if not process.alive:
            return
        self.tell(f"KILL {process.name}")
        process.alive = False
        for lane in list(process.lanes):
            self._drop(lane)
        process.lanes.clear()
        process.on_killed()

    def _drop(self, lane: object) -> None:
        if lane not in self._lanes:
            return
        del self._lanes[lane]
        place, last = self._places.pop(lane), self._order.pop()
        if last is not lane:
            self._order[place] = last
            self._places[last] = place

    def step(self) -> bool:
        """Let one thing happen; False when nothing can."""
        self.deliver_late()
        for _ in range(8):
            if not self._order:
                return False
            if self._try(self._order[int(self.random.random() * len(self._order))]):
                return True
        return any(self._try(lane) for lane in list(self._order))

    def deliver_late(self, *, everything: bool = False) -> None:
        """Let requests that were believed lost take effect when their time has come."""
        while self._late and (everything or self._late[0][0] <= self.steps):
            _, _, what, effect = heapq.heappop(self._late)
            self.tell(f"-: late: {what}")
            effect()

    def _try(self, name: object) -> bool:
        lane = self._lanes[name]
        owner = lane.owner
        if owner is not None and owner.paused:
            return False
        what, action = lane.waiting.popleft()
        if not lane.waiting:
            self._drop(name)
            if owner is not None:
                owner.lanes.pop(name, None)
        self.steps += 1
        self.tell(f"{owner.name if owner else '-'}: {what}")
        action()
        return True
