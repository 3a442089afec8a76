"""What a coordinator can do next: each step is one call to the store, and what follows from it locally.

A step that goes wrong costs a fault, of which a run has a few. A process that is killed or paused for ever is one that
is never chosen again, so kills need no steps of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import NamedTuple

from tidegate.engine.protocol import checkpoint as cp
from tidegate.engine.protocol import recovery as rc

from model.attempt import ENDED, FRESH, About, Attempt, EndedError
from model.freezing import Numbers, freeze, thaw
from model.retiring import retire
from model.world import Broker, Store

Fault = str
COMMIT: Fault = "commit"
TIMEOUT: Fault = "time-out"
ANSWER: Fault = "answer"
TRY: Fault = "try"


class Step(NamedTuple):
    """One step: its line in a story, the number of the attempt after it, the world after it, and the fault it costs."""

    text: str
    attempt: int
    world: Store | Broker
    fault: Fault | None = None


class Process:
    """One process, whose number among the processes is `slot`: moves its attempt, each move worked out once."""

    def __init__(self, slot: int, about: About, attempts: Numbers) -> None:
        self.slot = slot
        self.about = about
        self._attempts = attempts
        self._seen: dict[int, Attempt | None] = {}
        self._moves: dict[Hashable, int] = {}

    def departs(self, rule: str) -> bool:
        """Whether this is the departure that is tried."""
        return self.about.departure == rule

    def _thaw(self, number: int) -> Attempt:
        frozen = self._attempts.values[number]
        if frozen == FRESH:
            return Attempt(self.about, recovery=rc.Recovery(self.about.parallelism))
        return thaw(frozen, self.about)

    def peek(self, number: int) -> Attempt | None:
        """Return an attempt to look at; None for one that has ended."""
        if number not in self._seen:
            frozen = self._attempts.values[number]
            self._seen[number] = None if len(frozen) == 1 and frozen != FRESH else self._thaw(number)
        return self._seen[number]

    def after(self, number: int, move: Callable[[Attempt], None], key: Hashable) -> int:
        """Return the attempt after a move, which `key` tells apart from every other move of it."""
        known = (number, key)
        if known not in self._moves:
            attempt = self._thaw(number)
            try:
                move(attempt)
                attempt.fenced()
            except EndedError as ended:
                self._moves[known] = self._attempts.of(ended.how)
            else:
                self._moves[known] = self._attempts.of(freeze(attempt))
        return self._moves[known]

    @property
    def ended(self) -> int:
        """The number of an attempt that has ended."""
        return self._attempts.of(ENDED)


class Coordinator:
    """The steps of a process's coordinator."""

    def __init__(self, process: Process) -> None:
        self._p = process

    def steps(self, number: int, store: Store) -> Iterator[Step]:
        """Return the next steps."""
        attempt = self._p.peek(number)
        if attempt is None:
            return
        step = getattr(self, "_" + attempt.todo, None)
        if step is not None:
            yield from step(number, store, attempt)
        if self._p.about.retires and attempt.checkpoints is not None:
            for text, retiring, changed in retire(attempt, store):
                after = self._p.after(number, partial(_set_retiring, retiring=retiring), retiring)
                yield Step(f"attempt {attempt.number} {text}", after, changed)

    def _recover(self, number: int, event: Hashable) -> int:
        return self._p.after(number, lambda a: a.recover(event), event)

    def _checkpoint(self, number: int, event: Hashable) -> int:
        return self._p.after(number, lambda a: a.checkpoint(event), event)

    def _begin(self, number: int, store: Store, _attempt: Attempt) -> Iterator[Step]:
        highest = len(store.attempts)
        after = self._recover(number, rc.Begin(highest))
        yield Step(f"process {self._p.slot} starts and finds {highest} attempts", after, store)

    def _claim(self, number: int, store: Store, attempt: Attempt) -> Iterator[Step]:
        who = f"process {self._p.slot}"
        if attempt.number <= len(store.attempts):
            yield Step(f"{who} finds attempt {attempt.number} taken", self._recover(number, rc.ClaimLost()), store)
        else:
            changed = store._replace(attempts=(*store.attempts, self._p.slot))
            yield Step(f"{who} takes attempt {attempt.number}", self._recover(number, rc.Claimed()), changed)

    def _read(self, number: int, store: Store, attempt: Attempt) -> Iterator[Step]:
        newest = store.manifests[-1]

        def move(a: Attempt) -> None:
            a.newest = newest
            a.recover(rc.NewestRead(newest.epoch))

        yield Step(
            f"attempt {attempt.number} reads manifest {newest.epoch}", self._p.after(number, move, newest), store
        )

    def _list(self, number: int, store: Store, attempt: Attempt) -> Iterator[Step]:
        newest, highest = store.manifests[-1].epoch, len(store.attempts)
        text = f"attempt {attempt.number} lists again: manifest {newest}, attempt {highest}"
        yield Step(text, self._recover(number, rc.Relisted(newest, highest)), store)

    def _seal(self, number: int, store: Store, attempt: Attempt) -> Iterator[Step]:
        machine = attempt.checkpoints
        assert machine is not None
        worker, epoch, tries = min(machine.waiting), machine.epoch, machine.tries
        text = f"attempt {attempt.number}: worker {worker} seals epoch {epoch}{f', try {tries}' if tries > 1 else ''}"
        keeps = self._p.about.retires and self._p.about.rows
        sealed = store._replace(files=store.files | {attempt.output(worker).file}) if keeps else store
        yield Step(text, self._checkpoint(number, cp.Acknowledged(worker, epoch, tries)), sealed)
        failed = self._checkpoint(number, cp.TryFailed(epoch, tries, ""))
        yield Step(f"{text}, but the try fails", failed, sealed, TRY)

    def _look(self, number: int, store: Store, attempt: Attempt) -> Iterator[Step]:
        highest = len(store.attempts)
        if highest > attempt.number and not self._p.departs("an epoch is decided without a look at the attempts"):
            yield Step(f"attempt {attempt.number} finds attempt {highest} and ends", self._p.ended, store)
        else:
            after = self._p.after(number, lambda a: setattr(a, "todo", "write"), "looked")
            yield Step(f"attempt {attempt.number} looks for newer attempts", after, store)

    def _write(self, number: int, store: Store, attempt: Attempt) -> Iterator[Step]:
        manifest = attempt.writing
        assert manifest is not None
        held = store.held(manifest.epoch)
        won = self._checkpoint(number, cp.DecisionWon())
        text = f"attempt {attempt.number} writes manifest {manifest.epoch}"
        if held is None:
            created = store.create(manifest)
            yield Step(text, won, created)
            ignores = self._p.departs("a manifest of unknown outcome is taken for written")
            unknown = won if ignores else self._checkpoint(number, cp.DecisionUnknown(""))
            yield Step(f"{text}, the answer is lost", unknown, created, ANSWER)
            late = store._replace(late=store.late | {manifest})
            yield Step(f"{text}, the request is late, no answer comes", unknown, late, ANSWER)
        elif held == manifest:
            yield Step(f"{text} again and finds its own", won, store)
        else:
            taken = self._p.departs("losing a manifest's name is taken for success")
            after = won if taken else self._checkpoint(number, cp.DecisionLost())
            yield Step(f"{text} and finds one of attempt {held.attempt}", after, store)


def _set_retiring(attempt: Attempt, retiring: tuple[object, ...]) -> None:
    attempt.retiring = retiring
