"""The coordinator's side of sources: first positions, discovery of new splits, and offsets reported to lag tools."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping, Sequence

from . import assembly
from .background import Background
from .graph import Graph
from .ports.source import Position, Split, SplitEnumerator
from .protocol.manifest import Manifest, SplitPosition

log = logging.getLogger(__name__)


class Sources:
    """Enumerators of all sources of a job in one attempt: used by the caller before running, later by one lane."""

    def __init__(self, graph: Graph, job: str, until_end: bool, background: Background) -> None:
        self._nodes = {uid: node.source.bounded(until_end) for uid, node in graph.sources().items()}
        self._job = job
        self._until_end = until_end
        self._background = background
        self._enumerators: dict[str, SplitEnumerator] = {}
        self._known: list[SplitPosition] = []
        self._waiting: list[SplitPosition] = []
        self._look_at: dict[str, float] = {}
        self._looking: set[str] = set()
        self.given: dict[tuple[str, str], SplitPosition] = {}

    def _enumerator(self, uid: str) -> SplitEnumerator:
        if uid not in self._enumerators:
            self._enumerators[uid] = self._nodes[uid].open_enumerator(self._job, uid)
        return self._enumerators[uid]

    def _discover(self, uid: str) -> Sequence[Split]:
        return self._enumerator(uid).discover()

    def first(self) -> list[SplitPosition]:
        """Resolve where a job that has never run begins. Raises what discovery raises."""
        return [p for uid in self._nodes for p in assembly.first_positions(uid, self._discover(uid))]

    def resume(self, manifest: Manifest) -> list[SplitPosition]:
        """Return the manifest's splits, and look for what is new since: it waits for the first barrier.

        A source that the manifest does not know begins where its settings say, also at the first barrier.
        """
        self._known = list(manifest.splits)
        known_sources = {split.source_uid for split in manifest.splits}
        now = time.monotonic()
        for uid, source in self._nodes.items():
            found = None
            if manifest.epoch or uid not in known_sources:
                found = self._discover(uid)
                if uid not in known_sources:
                    self._wait_for(assembly.first_positions(uid, found))
                else:
                    self._wait_for(assembly.new_positions(uid, self._known, found))
                if any(split.end is not None for split in found):
                    self._known = assembly.with_ends(self._known, uid, found)
            if source.discovery_interval_s is not None:
                self._look_at[uid] = now + source.discovery_interval_s
        waiting = {(split.source_uid, split.split_id) for split in self._waiting}
        return [split for split in self._known if (split.source_uid, split.split_id) not in waiting]

    def _wait_for(self, splits: Sequence[SplitPosition]) -> None:
        for split in splits:
            log.info("source '%s' has a new split '%s'", split.source_uid, split.split_id)
        self._waiting += splits
        self._known += splits

    @property
    def waiting(self) -> bool:
        """Whether splits wait for the next barrier."""
        return bool(self._waiting)

    def hand_out(self) -> list[SplitPosition]:
        """Return the splits that begin at the barrier that is about to be sent."""
        new, self._waiting = self._waiting, []
        self.given.update({(s.source_uid, s.split_id): s for s in new})
        return new

    def look(self, now: float) -> None:
        """Look for new splits of the sources whose interval has passed, in the background."""
        for uid, due in self._look_at.items():
            if now < due or uid in self._looking:
                continue
            interval = self._nodes[uid].discovery_interval_s or 0.0
            self._look_at[uid] = now + interval
            self._looking.add(uid)
            self._background.run(
                "sources",
                functools.partial(self._discover, uid),
                functools.partial(self._found, uid),
                functools.partial(self._not_found, uid),
            )

    def _found(self, uid: str, found: Sequence[Split]) -> None:
        self._looking.discard(uid)
        self._wait_for(assembly.new_positions(uid, self._known, found))

    def _not_found(self, uid: str, error: Exception) -> None:
        self._looking.discard(uid)
        log.warning("source '%s' could not be looked at for new splits: %s", uid, error)

    def report(self, manifest: Manifest) -> None:
        """Report committed positions for lag tools, in the background; never used to restore."""
        for uid in self._nodes:
            positions = {s.split_id: s.position for s in manifest.splits if s.source_uid == uid}
            self._background.try_run("sources", functools.partial(self._report, uid, positions))

    def _report(self, uid: str, positions: Mapping[str, Position]) -> None:
        self._enumerator(uid).report(positions)

    def close(self) -> None:
        """Release all enumerators."""
        for enumerator in self._enumerators.values():
            enumerator.close()
        self._enumerators = {}
