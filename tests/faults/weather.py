"""What may happen to a job, its broker and its checkpoint store: each fault begins, lasts, and is taken back."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from services.kafka import KafkaBroker
from services.s3 import S3Server
from support.faulty_proxy import Fault, FaultyProxy, again_later, broken_body, error, lost_answer, lost_request
from support.tcp_proxy import TcpProxy

from .job_process import JobProcess

LASTS_MAX_S: Final = 12.0
"""Longest duration of a fault; some outlast the time-outs of clients, and the time after which a worker is given up."""
DELAY_MAX_S: Final = 0.2
BREAK_MAX_BYTES: Final = 300_000
JUMP_S: Final = 3_600
ANSWERS_MAX: Final = 6
HEADROOM_BYTES: Final = 8 << 20

Undo = Callable[[], None]
Begin = Callable[[], Undo]


def nothing() -> None:
    """What has to be taken back after a fault that is over at once."""


class Weather:
    """All faults by name. `clock` is the file from which the job's processes read how far their clocks are off."""

    def __init__(
        self,
        job: JobProcess,
        broker: KafkaBroker,
        broker_link: TcpProxy,
        clock: Path,
        chance: random.Random,
        *,
        store: tuple[S3Server, TcpProxy, FaultyProxy] | None = None,
        keep_coordinator: bool = False,
    ) -> None:
        self._job, self._broker, self._clock, self._chance = job, broker, clock, chance
        faults: dict[str, Begin] = {
            "worker killed": lambda: self._kill(self._one_worker()),
            "workers killed": lambda: self._kill(self._job.workers),
            "worker frozen": lambda: self._freeze(self._one_worker()),
            "workers frozen": lambda: self._freeze(self._job.workers),
            "worker without memory": self._starve,
            "clock jumps": self._jump,
            "broker killed": lambda: self._down(broker),
            "broker frozen": lambda: self._frozen(broker),
            **self._of_link("broker link", broker_link),
        }
        if not keep_coordinator:
            faults |= {
                "coordinator killed": lambda: self._kill([self._job.pid]),
                "everything killed": lambda: self._kill([self._job.pid, *self._job.workers]),
                "everything frozen": lambda: self._freeze([self._job.pid, *self._job.workers]),
                "coordinator frozen": lambda: self._freeze([self._job.pid]),
            }
        if store is not None:
            server, link, answers = store
            faults |= {
                "store killed": lambda: self._down(server),
                "store frozen": lambda: self._frozen(server),
                **self._of_link("store link", link),
                **self._of_answers(answers),
            }
        self.faults: Mapping[str, Begin] = faults

    def _of_link(self, what: str, link: TcpProxy) -> dict[str, Begin]:
        def begun(fault: Callable[[], None]) -> Undo:
            fault()
            return link.heal

        return {
            f"{what} cut": lambda: begun(link.cut),
            f"{what} silent": lambda: begun(link.hold),
            f"{what} slow": lambda: begun(lambda: link.delay(self._chance.random() * DELAY_MAX_S)),
            f"{what} broken in mid-body": lambda: begun(
                lambda: link.break_after(self._chance.randrange(BREAK_MAX_BYTES))
            ),
        }

    def _of_answers(self, proxy: FaultyProxy) -> dict[str, Begin]:
        def queued(make: Callable[[str], Fault]) -> Undo:
            for _ in range(self._chance.randint(1, ANSWERS_MAX)):
                proxy.faults.append(make(self._chance.choice(["PUT", "PUT", "GET"])))
            return proxy.faults.clear

        return {
            "store answers 500": lambda: queued(lambda method: error(method, 500, "InternalError")),
            "store answers 503": lambda: queued(lambda method: error(method, 503, "SlowDown")),
            "store answers 409": lambda: queued(lambda _: error("PUT", 409, "ConditionalRequestConflict")),
            "store answers 403": lambda: queued(lambda method: error(method, 403, "ExpiredToken")),
            "store answers lost": lambda: queued(lost_answer),
            "store requests lost": lambda: queued(lost_request),
            "store answers broken": lambda: queued(lambda _: broken_body("GET", self._chance.randint(1, 200))),
            "store requests again, later": lambda: queued(lambda _: again_later("PUT", self._chance.random() * 5)),
        }

    # Processes of the job.

    def _one_worker(self) -> list[int]:
        workers = self._job.workers
        return [self._chance.choice(workers)] if workers else []

    def _kill(self, pids: list[int]) -> Undo:
        self._job.kill(*pids)
        return nothing

    def _freeze(self, pids: list[int]) -> Undo:
        for pid in pids:
            try:
                self._job.freeze(pid)
            except ProcessLookupError:
                continue
        return lambda: self._job.thaw(*pids)

    def _starve(self) -> Undo:
        for pid in self._one_worker():
            try:
                size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
                _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
                resource.prlimit(pid, resource.RLIMIT_AS, (size + HEADROOM_BYTES, hard))
            except (OSError, IndexError):
                return nothing
            return lambda: self._feed(pid, hard)
        return nothing

    def _feed(self, pid: int, hard: int) -> None:
        try:
            resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))
        except OSError:
            return

    def _jump(self) -> Undo:
        self._clock.write_text(str(self._chance.choice([-JUMP_S, JUMP_S])))
        return lambda: self._clock.unlink(missing_ok=True)

    # Servers.

    def _down(self, server: KafkaBroker | S3Server) -> Undo:
        server.kill()
        return server.start

    def _frozen(self, server: KafkaBroker | S3Server) -> Undo:
        server.freeze()
        return server.thaw
