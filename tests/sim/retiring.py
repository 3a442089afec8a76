"""Simulated retirement: the product's plan, with every look and every deletion a step of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tidegate.engine.protocol.manifest import Manifest
from tidegate.state.manifests import files_of
from tidegate.state.retention import Known, Plan, plan_retirement, refusal

from .world import ViolationError

if TYPE_CHECKING:
    from .coordinator import Coordinator


class Retiring:
    """Retires for one attempt; one round at a time."""

    def __init__(self, coordinator: Coordinator, retain: int) -> None:
        self._c = coordinator
        self._retain = retain
        self._busy = False

    def begin(self) -> None:
        """Begin a round unless one is under way."""
        if not self._busy:
            self._busy = True
            self._c.world.call(self._c, "store", "list for retirement", self._look, self._planned)

    def _look(self) -> Plan:
        store, rules = self._c.store, self._c.rules
        known = {epoch: Known(m.attempt, _files(m)) for epoch, m in store.manifests.items()}
        listed = [name for name in store.objects if name.startswith(("state/", "outbox/"))]
        if not rules.keep_first_manifests:
            known = {epoch: Known(0, k.files) for epoch, k in known.items()}
        plan = plan_retirement(
            epochs=sorted(store.manifests),
            retain=self._retain,
            known=known,
            savepoint_files=frozenset(),
            listed_files=listed,
        )
        files = set(plan.files)
        if not rules.keep_files_of_open_epochs:
            named = frozenset().union(*(k.files for e, k in known.items() if e > max(known) - self._retain))
            files |= set(listed) - named
        if not rules.keep_outboxes_of_pending:
            newest = max(known)
            files |= {f for k in known.values() for f in k.files if f.startswith("outbox/") and f"/{newest}-" not in f}
        epochs = set(plan.epochs) | (set() if rules.keep_last_manifests else self._lasts(known))
        return Plan(tuple(sorted(epochs)), tuple(sorted(files)))

    def _lasts(self, known: Mapping[int, Known]) -> set[int]:
        """Epochs that are the last of their attempt and not its first."""
        ordered = sorted(known)
        around = zip(ordered, ordered[1:], ordered[2:], strict=False)
        kept = max(ordered) - self._retain
        return {e for b, e, a in around if e <= kept and known[b].attempt == known[e].attempt != known[a].attempt}

    def _planned(self, plan: Plan) -> None:
        self._guarded(
            [f"manifest/{epoch}" for epoch in plan.epochs], lambda: self._guarded(list(plan.files), self._done)
        )

    def _guarded(self, names: list[str], then: Callable[[], None]) -> None:
        """Look for newer attempts, then delete."""
        if not names:
            then()
            return
        c = self._c

        def looked(attempts: list[int]) -> None:
            if c.rules.keep_first_manifests and refusal(c.attempt, attempts, c.newest.attempt):
                self._busy = False
                return
            c.world.call(c, "store", f"delete {names}", lambda: self._delete(names), lambda _: then())

        c.world.call(c, "store", "list attempts", lambda: list(c.store.attempts), looked)

    def _delete(self, names: list[str]) -> None:
        store = self._c.store
        newest = store.newest()
        if newest is not None and f"manifest/{newest.epoch}" in names:
            raise ViolationError(f"the newest manifest {newest.epoch} is deleted")
        store.delete(names)

    def _done(self) -> None:
        self._busy = False


def _files(manifest: Manifest) -> frozenset[str]:
    return frozenset(file.name for file in files_of(manifest))
