"""Retirement in the model: the product's plan, carried out step by step as in state/retire.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tidegate.state.retention import Known, candidates, plan_retirement, refusal

from model.attempt import Attempt
from model.world import Store

RETAIN = 1


def retire(attempt: Attempt, store: Store) -> Iterator[tuple[str, tuple[Any, ...], Store]]:
    """Return the next step of this attempt's retirement: its line, what is left to delete, and the store after it."""
    departure = attempt.about.departure
    if not attempt.retiring:
        if not attempt.has_followed_up:
            return
        epochs, files = _plan(attempt, store, departure)
        if epochs or files:
            yield "plans to retire", ("manifests", epochs, files), store
        return
    stage, epochs, files = attempt.retiring
    if stage == "manifests" and epochs:
        kept = tuple(m for m in store.manifests if m.epoch not in epochs)
        yield f"deletes manifests {epochs}", ("files", epochs, files), store._replace(manifests=kept)
    elif stage == "manifests" or (stage == "files" and files and _may(attempt, store, departure)):
        yield "lists the attempts", ("delete" if stage == "files" else "files", epochs, files), store
    elif stage == "delete":
        yield f"deletes {', '.join(files)}", (), store._replace(files=store.files - set(files))
    else:
        yield "ends retiring", (), store


def _may(attempt: Attempt, store: Store, departure: str) -> bool:
    if departure == "an old attempt retires":
        return True
    return not refusal(attempt.number, range(1, len(store.attempts) + 1), store.manifests[-1].attempt)


def _plan(attempt: Attempt, store: Store, departure: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Plan, and look at the attempts at the same moment: a later look could only refuse more."""
    if not _may(attempt, store, departure):
        return (), ()
    epochs = [manifest.epoch for manifest in store.manifests]
    known = {m.epoch: Known(m.attempt, frozenset(output.file for output in m.pending)) for m in store.manifests}
    plan = plan_retirement(
        epochs=epochs, retain=RETAIN, known=known, savepoint_files=frozenset(), listed_files=store.files
    )
    gone, files = plan.epochs, set(plan.files) & store.files
    named = known[epochs[-1]].files
    if departure == "the first manifest of an attempt retires":
        gone = tuple(candidates(epochs, RETAIN))
    if departure == "the last manifest of an attempt retires":
        gone = tuple(e for e in candidates(epochs, RETAIN) if known[e].attempt == known.get(e - 1, known[e]).attempt)
    if departure == "orphans of an open epoch are collected":
        files = set(store.files - named)
    if departure == "an outbox is deleted because the catalog says committed":
        # The catalog's row is written when the commit is sent.
        sent = {o.file for c in attempt.cycles.values() if c.todo == "end" for o in c.files if o.epoch == c.epoch}
        files |= sent & store.files
    return gone, tuple(sorted(files))
