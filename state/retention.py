"""What may retire: a pure plan over lists of names, so that every rule can be tested without a store.

Rules:
- A manifest's name is a lock, which a slow attempt may try to take very late: the name after the newest one that it
  found when it started. That name was decided either by a later attempt, as its first, or by an earlier one whose write
  was under way while the slow attempt started, as its last. So manifest 0 and the first and last manifest of each
  attempt are kept for ever. Their files may go: such a manifest is then *bare*, which a restore notices by its missing
  files.
- The newest `retain` manifests and all savepoints keep their own files and the committables they still list.
- A file goes when its epoch is at or below the newest manifest's and no kept manifest names it. Files of an epoch that
  is still open are never orphans, whoever wrote them, and files whose names say nothing are left alone.
- Manifests are deleted before their files: killed in between, the files are orphans that a later sweep finds. The other
  way round a manifest would promise files that are gone.
- Only the newest attempt deletes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .names import parse_data_name


@dataclass(frozen=True)
class Known:
    """What retention needs to know of a manifest: who wrote it, and the files it names."""

    attempt: int
    files: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """Epochs whose manifests go, oldest first, and data files that go after them."""

    epochs: tuple[int, ...] = ()
    files: tuple[str, ...] = ()


def window(epochs: Sequence[int], retain: int) -> frozenset[int]:
    """Epochs whose manifests keep their files: the newest `retain` (at least one) numbers up to the newest epoch."""
    newest = max(epochs, default=0)
    return frozenset(epoch for epoch in epochs if epoch > newest - max(retain, 1))


def refusal(attempt: int, attempts: Iterable[int], newest_attempt: int) -> str:
    """Why this attempt must not delete anything; empty if it may. `newest_attempt` wrote the newest manifest."""
    newer = max((*attempts, newest_attempt), default=0)
    return f"attempt {attempt} found attempt {newer} and deleted nothing" if newer > attempt else ""


def candidates(epochs: Sequence[int], retain: int) -> list[int]:
    """Epochs whose manifests might go, oldest first; which of them are the first of an attempt is not known yet."""
    kept = window(epochs, retain)
    return sorted(epoch for epoch in epochs if epoch > 0 and epoch not in kept)


def plan_retirement(
    *,
    epochs: Sequence[int],
    retain: int,
    known: Mapping[int, Known],
    savepoint_files: frozenset[str],
    listed_files: Iterable[str] = (),
) -> Plan:
    """Decide what goes.

    `known` must hold every epoch of the window, otherwise nothing goes; a candidate goes only if it and the manifests
    before and after it are known and of the same attempt. `listed_files` are all data files of a sweep, empty without
    one; files of manifests that leave go anyway.
    """
    kept = window(epochs, retain)
    if not epochs or any(epoch not in known for epoch in kept):
        return Plan()
    ordered = sorted(epochs)
    around = {e: (b, a) for b, e, a in zip(ordered, ordered[1:], ordered[2:], strict=False)}
    gone = [e for e in candidates(epochs, retain) if e in around and _same_attempt(known, *around[e], e)]
    named = savepoint_files.union(*(known[epoch].files for epoch in kept))
    left = {file for epoch in candidates(epochs, retain) if epoch in known for file in known[epoch].files}
    files = {file for file in left.union(listed_files) if file not in named and _is_closed(file, ordered[-1])}
    return Plan(tuple(gone), tuple(sorted(files)))


def _same_attempt(known: Mapping[int, Known], *epochs: int) -> bool:
    """Whether these manifests are all known, and of one attempt."""
    return all(epoch in known for epoch in epochs) and len({known[epoch].attempt for epoch in epochs}) == 1


def _is_closed(file: str, newest: int) -> bool:
    parsed = parse_data_name(file)
    return parsed is not None and parsed.epoch <= newest
