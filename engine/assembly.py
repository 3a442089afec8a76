"""Pure assembly: what each worker gets from a manifest, and the next manifest from what workers acknowledged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import JobInvalidError
from .graph import Graph
from .messages import Ack
from .ports.source import Split
from .protocol.manifest import Committable, Manifest, SinkSubtask, SplitPosition

SinkId = tuple[str, int]


def check_fits(manifest: Manifest, graph: Graph) -> None:
    """Raise `JobInvalidError` if the job's graph leaves anything behind that the manifest holds."""
    known = {
        "source": ({split.source_uid for split in manifest.splits}, set(graph.sources())),
        "keyed operator": ({state.uid for state in manifest.states}, set(graph.windows())),
        "sink": ({committable.sink_uid for committable in manifest.committables}, set(graph.sinks())),
    }
    for what, (held, present) in known.items():
        for uid in sorted(held - present):
            raise JobInvalidError(
                f"checkpoint {manifest.epoch} of job '{manifest.job}' holds {what} '{uid}', "
                "which the job file does not have",
                hint=f"put it back under uid '{uid}', or start the changed job under a new name",
            )


def check_drained(manifest: Manifest, exact: Iterable[str]) -> None:
    """Raise `JobInvalidError` if a sink became at-least-once while exactly-once output of it is pending."""
    for uid in sorted({c.sink_uid for c in manifest.committables} - set(exact)):
        raise JobInvalidError(
            f"sink '{uid}' is at-least-once now, but exactly-once output up to epoch {manifest.epoch} is pending",
            hint="run the job as exactly-once once more and stop it, which commits that output; then change it",
        )


def check_key_groups(manifest: Manifest, key_groups: int) -> None:
    """Raise `JobInvalidError` if the job asks for another number of key groups than it began with."""
    if manifest.key_groups != key_groups:
        raise JobInvalidError(
            f"job '{manifest.job}' began with {manifest.key_groups} key groups and now asks for {key_groups}",
            hint=f"the number is fixed for the life of a job: use key_groups={manifest.key_groups}, or a new job name",
        )


def first_positions(uid: str, splits: Iterable[Split]) -> list[SplitPosition]:
    """Return where a source that was never read begins."""
    return [SplitPosition(uid, s.id, s.index, s.start, s.end, finished=_at_end(s)) for s in splits]


def _at_end(split: Split) -> bool:
    return split.end is not None and split.start == split.end


def new_positions(uid: str, known: Sequence[SplitPosition], found: Iterable[Split]) -> list[SplitPosition]:
    """Return splits of a running source that are new; they begin at their first record, whatever `start` says."""
    ids = {split.split_id for split in known if split.source_uid == uid}
    index = 1 + max((split.index for split in known if split.source_uid == uid), default=-1)
    fresh = [split for split in found if split.id not in ids]
    return [SplitPosition(uid, s.id, index + i, s.first, s.end) for i, s in enumerate(fresh)]


def with_ends(known: Sequence[SplitPosition], uid: str, found: Iterable[Split]) -> list[SplitPosition]:
    """Give unbounded splits of a source the end positions found now, for a run up to the end."""
    ends = {split.id: split.end for split in found}
    return [
        replace(split, end=ends[split.split_id], finished=split.position == ends[split.split_id])
        if split.source_uid == uid and split.end is None and ends.get(split.split_id) is not None
        else split
        for split in known
    ]


def owner(index: int, parallelism: int) -> int:
    """Return the worker that owns split or sink subtask `index`."""
    return index % parallelism


def sink_ids(manifest: Manifest, sinks: Iterable[str], parallelism: int) -> list[SinkSubtask]:
    """Return every transactional id to fence: those of the manifest, and those of this layout of exactly-once sinks."""
    known = {(s.sink_uid, s.subtask): s for s in manifest.sinks}
    for uid in sinks:
        for subtask in range(parallelism):
            known.setdefault((uid, subtask), SinkSubtask(uid, subtask))
    return [known[key] for key in sorted(known)]


def bytes_written(manifest: Manifest) -> int:
    """Return the size of the files that this epoch added."""
    states = sum(state.file.size for state in manifest.states)
    own = (c for c in manifest.committables if c.epoch == manifest.epoch)
    return states + sum(segment.size for c in own for segment in c.segments)


@dataclass
class Books:
    """What the coordinator knows about output on its way: pending committables and the last committed epoch per id.

    An id of an older layout retires when an epoch that was decided without output of it is fully committed.
    """

    committed: dict[SinkId, int]
    layout: frozenset[SinkId]
    pending: dict[SinkId, list[Committable]] = field(default_factory=dict)
    _free_since: dict[SinkId, int] = field(default_factory=dict)

    def add(self, committables: Iterable[Committable]) -> None:
        """Note output of a decided epoch."""
        for committable in committables:
            self.pending.setdefault((committable.sink_uid, committable.subtask), []).append(committable)

    def decided(self, epoch: int) -> None:
        """Note that an epoch is decided: ids of older layouts without pending output may retire after it."""
        for key in self.committed:
            if key not in self.layout and not self.pending.get(key):
                self._free_since.setdefault(key, epoch)

    def done(self, key: SinkId, epoch: int) -> None:
        """Note that everything of this id up to `epoch` is committed."""
        self.committed[key] = max(self.committed.get(key, 0), epoch)
        self.pending[key] = [c for c in self.pending.get(key, ()) if c.epoch > epoch]

    @property
    def outstanding(self) -> tuple[Committable, ...]:
        """All pending committables, in epoch order per id."""
        return tuple(c for key in sorted(self.pending) for c in self.pending[key])

    def committed_through(self, decided: int) -> int:
        """Return the last epoch up to which all output is committed."""
        return min((c.epoch - 1 for c in self.outstanding), default=decided)

    def retire(self, through: int) -> None:
        """Forget ids of older layouts that became free at or before epoch `through`."""
        for key in [key for key, since in self._free_since.items() if since <= through]:
            del self._free_since[key]
            self.committed.pop(key, None)
            self.pending.pop(key, None)

    def sinks(self) -> tuple[SinkSubtask, ...]:
        """Return the ids for the next manifest."""
        return tuple(SinkSubtask(uid, subtask, epoch) for (uid, subtask), epoch in sorted(self.committed.items()))


def next_manifest(
    previous: Manifest,
    acks: Sequence[Ack],
    given: Mapping[tuple[str, str], SplitPosition],
    books: Books,
    **about: Any,
) -> Manifest:
    """Assemble the manifest of an epoch from what all workers acknowledged.

    `given` are splits handed out in this attempt after its start; a worker that acknowledged one knows better.
    `about` sets further fields: epoch, tries, kind, counters, attempt, writer, created_ms, parallelism, targets.
    """
    splits = {(s.source_uid, s.split_id): s for s in previous.splits}
    splits.update(given)
    for ack in acks:
        splits.update({(s.source_uid, s.split_id): s for s in ack.splits})
    new = [committable for ack in acks for committable in ack.committables]
    pending = sorted([*books.outstanding, *new], key=lambda c: (c.sink_uid, c.subtask, c.epoch))
    watermarks = dict(previous.watermarks)
    for ack in acks:
        for uid, value in ack.watermarks.items():
            watermarks[uid] = max(value, watermarks.get(uid, value))
    return replace(
        previous,
        splits=tuple(splits[key] for key in sorted(splits)),
        states=tuple(state for ack in acks for state in ack.states),
        committables=tuple(pending),
        sinks=books.sinks(),
        watermarks=watermarks,
        **about,
    )


def closing_manifest(previous: Manifest, books: Books, **about: Any) -> Manifest:
    """Assemble the manifest that ends a run: one epoch further, nothing new, nothing pending."""
    return replace(previous, epoch=previous.epoch + 1, tries=1, committables=(), sinks=books.sinks(), **about)
