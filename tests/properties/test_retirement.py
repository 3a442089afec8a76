"""Retirement under any sequence of decisions, restarts, kills and zombies: what is kept can be restored."""
# ruff: noqa: D102 - the names of rules and invariants are sentences

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tidegate.engine.protocol.manifest import Committable, FileRef, Manifest, StateFile
from tidegate.state.log import StoreLog
from tidegate.state.manifests import files_of, to_json
from tidegate.state.retire import Retirement
from tidegate.state.savepoints import read_savepoint, savepoint_names
from tidegate.state.store_memory import MemoryStore

from support.manifests import file_ref, manifest
from support.stores import ForwardingStore

_names = itertools.count()


class KilledError(Exception):
    """The process died here."""


class Mortal(ForwardingStore):
    """A store in whose deletes a process can be killed after some objects are gone."""

    deletes_left: int | None = None

    def delete(self, names: Iterable[str]) -> None:
        """Delete one after the other until the kill."""
        for name in names:
            if self.deletes_left is not None:
                if self.deletes_left == 0:
                    raise KilledError
                self.deletes_left -= 1
            self.inner.delete([name])


class Retiring(RuleBasedStateMachine):
    """One job: its newest attempt decides and retires, older attempts come back as zombies."""

    retirement: Retirement
    known: int

    @initialize(retain=st.integers(1, 4))
    def start(self, retain: int) -> None:
        self.store = Mortal(MemoryStore(f"memory://retiring-{next(_names)}", "job"))
        self.log = StoreLog(self.store, "job")
        self.retain = retain
        self.zombies: list[tuple[Retirement, int, int]] = []
        self.attempt = 0
        self.decided: dict[int, int] = {}
        self.restart()
        self._decide(manifest(0, self.attempt))

    @rule()
    def restart(self) -> None:
        if self.attempt:
            self.zombies.append((self.retirement, self.attempt, self.known))
        self.attempt += 1
        assert self.log.claim(self.attempt, {})
        self.retirement = Retirement(self.log, self.attempt, self.retain)
        newest = self.log.newest()
        self.known = newest.epoch if newest else -1
        self.open_files: list[str] = []
        self.tries = 0

    @rule(reuse=st.booleans(), pending=st.booleans(), remember=st.booleans())
    def decide(self, *, reuse: bool, pending: bool, remember: bool) -> None:
        newest = self._newest()
        epoch = newest.epoch + 1
        states = newest.states if reuse else ()
        state = StateFile("totals", self._write("state/totals", epoch), 0, 128)
        outbox = Committable("out", 0, epoch, (self._write("outbox/out", epoch),))
        committables = (*(newest.committables if pending else ()), outbox)
        made = manifest(epoch, self.attempt, states=(*states, state), committables=committables)
        self._decide(made)
        if remember:
            self.retirement.remember(made)

    @rule()
    def fail_a_try(self) -> None:
        """A try writes files and is abandoned; the next one uses new names."""
        self._write("state/totals", self._newest().epoch + 1)
        self.tries += 1

    @rule()
    def upload_ahead(self) -> None:
        """A worker writes a file of the open epoch before the checkpoint is decided."""
        self.open_files.append(self._write("outbox/out", self._newest().epoch + 1).name)

    @rule()
    def take_a_savepoint(self) -> None:
        newest = self._newest()
        if newest.epoch and not newest.committables:
            self.store.create(f"savepoints/s{newest.epoch}.json", to_json(newest))

    @rule(kill_after=st.none() | st.integers(0, 12))
    def retire(self, kill_after: int | None) -> None:
        self.store.deletes_left = kill_after
        try:
            assert not self.retirement.retire().reason
        except KilledError:
            self.store.deletes_left = None
            self.restart()
        self.store.deletes_left = None

    @precondition(lambda self: self.zombies)
    @rule(data=st.data())
    def a_zombie_retires(self, data: st.DataObject) -> None:
        retirement, _, _ = data.draw(st.sampled_from(self.zombies))
        before = list(self.store.list(""))
        retirement.retire()
        assert list(self.store.list("")) == before

    @precondition(lambda self: self.zombies)
    @rule(data=st.data())
    def a_zombie_decides_what_follows_the_last_it_knows(self, data: st.DataObject) -> None:
        _, attempt, known = data.draw(st.sampled_from(self.zombies))
        if known + 1 in self.decided:
            assert not self.log.decide(manifest(known + 1, attempt, writer="zombie"))

    @precondition(lambda self: self.zombies and self.zombies[-1][2] == self.known == max(self.decided))
    @rule()
    def a_decision_of_the_attempt_before_arrives_late(self) -> None:
        """Its write was under way while the newest attempt started, which loses the race and recovers."""
        _, attempt, known = self.zombies[-1]
        assert self.log.decide(manifest(known + 1, attempt, writer="late"))
        self.decided[known + 1] = attempt
        self.restart()

    @invariant()
    def kept_checkpoints_have_all_their_files(self) -> None:
        there = set(self.store.list(""))
        newest = max(self.decided)
        for epoch in [e for e in self.log.epochs() if e > newest - self.retain]:
            assert {file.name for file in files_of(self.log.read(epoch))} <= there
        assert self._saved() <= there

    @invariant()
    def the_newest_checkpoint_is_there(self) -> None:
        assert self._newest().epoch == max(self.decided)

    @invariant()
    def the_first_and_last_manifest_of_each_attempt_are_there(self) -> None:
        firsts: dict[int, int] = {}
        lasts: dict[int, int] = {}
        for epoch, attempt in sorted(self.decided.items()):
            firsts.setdefault(attempt, epoch)
            lasts[attempt] = epoch
        assert {*firsts.values(), *lasts.values()} <= set(self.log.epochs())

    @invariant()
    def files_of_the_open_epoch_are_there(self) -> None:
        open_epoch = max(self.decided) + 1
        there = set(self.store.list("outbox/"))
        assert {name for name in self.open_files if name.split("/")[2].startswith(f"{open_epoch}-")} <= there

    def teardown(self) -> None:
        """In the end one undisturbed call leaves exactly what the rules keep."""
        if not hasattr(self, "retirement"):
            return
        self.restart()
        self.retirement.retire()
        named = {file.name for e in self._window() for file in files_of(self.log.read(e))}
        open_epoch = max(self.decided) + 1
        for name in (*self.store.list("state/"), *self.store.list("outbox/")):
            saved = name in self._saved()
            assert name in named or saved or name.split("/")[2].startswith(f"{open_epoch}-"), name

    def _window(self) -> list[int]:
        return [epoch for epoch in self.log.epochs() if epoch > max(self.decided) - self.retain]

    def _saved(self) -> set[str]:
        return {file.name for name in savepoint_names(self.log) for file in files_of(read_savepoint(self.log, name))}

    def _newest(self) -> Manifest:
        newest = self.log.newest()
        assert newest is not None
        return newest

    def _decide(self, made: Manifest) -> None:
        assert self.log.decide(made)
        self.decided[made.epoch] = made.attempt
        self.known = made.epoch
        self.tries = 0

    def _write(self, folder: str, epoch: int) -> FileRef:
        name = f"{folder}/{epoch}-{self.attempt}-{self.tries}-0-{next(_names)}.parquet"
        self.store.create(name, b"rows")
        return file_ref(name)


TestRetiring = Retiring.TestCase
TestRetiring.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
