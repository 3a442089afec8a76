"""What a manifest says, as rows of the catalog's tables; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ..engine.ids import WATERMARK_MAX, WATERMARK_MIN
from ..engine.protocol.manifest import Manifest
from .catalog_schema import CHECKPOINTS, COMMITTABLES, SNAPSHOT_FILES, SOURCE_OFFSETS, Rows, Table

DECIDED, COMMITTED, RETIRED = "decided", "committed", "retired"


def committed_through(manifest: Manifest) -> int:
    """Return the epoch up to which this manifest knows all output to be committed."""
    return min((committable.epoch for committable in manifest.committables), default=manifest.epoch + 1) - 1


def detail_rows(manifest: Manifest) -> Iterator[tuple[Table, Rows]]:
    """Rows of offsets, snapshot files and committables."""
    epoch = manifest.epoch
    yield (
        SOURCE_OFFSETS,
        [
            (epoch, s.source_uid, s.split_id, s.index, _json(s.position), _json(s.end), s.max_time, s.finished)
            for s in manifest.splits
        ],
    )
    yield (
        SNAPSHOT_FILES,
        [
            (epoch, s.uid, s.file.name, s.file.size, s.file.rows, s.file.sha256, s.groups_from, s.groups_to)
            for s in manifest.states
        ],
    )
    yield (
        COMMITTABLES,
        [
            (epoch, c.sink_uid, c.subtask, part, f.name, f.size, f.rows, f.sha256, _json(c.target))
            for c in manifest.committables
            if c.epoch == epoch
            for part, f in enumerate(c.segments)
        ],
    )


def checkpoint_row(manifest: Manifest, durations_ms: Mapping[str, float], trigger: str) -> tuple[object, ...]:
    """Return the row of `checkpoints`; unknown durations are null."""
    states = [state.file for state in manifest.states]
    outputs = [file for c in manifest.committables if c.epoch == manifest.epoch for file in c.segments]
    collect = durations_ms.get("collect")
    row: dict[str, object] = {
        "epoch": manifest.epoch,
        "phase": COMMITTED if committed_through(manifest) == manifest.epoch else DECIDED,
        "trigger": trigger,
        "attempt": manifest.attempt,
        "tries": manifest.tries,
        "started": None if collect is None else manifest.created_ms - round(collect),
        "decided": manifest.created_ms,
        **{f"{step}_ms": durations_ms.get(step) for step in ("collect", "align", "upload", "decide")},
        "state_rows": sum(file.rows for file in states),
        "state_bytes": sum(file.size for file in states),
        "output_rows": sum(file.rows for file in outputs),
        "output_bytes": sum(file.size for file in outputs),
        "rows": sum(file.rows for file in (*states, *outputs)),
        "bytes": sum(file.size for file in (*states, *outputs)),
        "pending_rows": sum(c.rows for c in manifest.committables if c.epoch != manifest.epoch),
        "workers": manifest.parallelism,
        "watermark": _watermark(manifest),
        "counters": _json(manifest.counters),
    }
    return tuple(row.get(column.name) for column in CHECKPOINTS.columns)


def operators(manifest: Manifest) -> dict[tuple[str, str], str | None]:
    """Return the operators that a manifest names, by uid and kind, with what is known about them."""
    splits: dict[str, int] = {}
    for split in manifest.splits:
        splits[split.source_uid] = splits.get(split.source_uid, 0) + 1
    keyed = dict.fromkeys([*manifest.watermarks, *(state.uid for state in manifest.states)])
    sinks: dict[str, object] = {**{sink.sink_uid: {} for sink in manifest.sinks}, **manifest.targets}
    return {
        **{(uid, "source"): _json({"splits": count}) for uid, count in splits.items()},
        **{(uid, "keyed"): None for uid in keyed},
        **{(uid, "sink"): _json(target) for uid, target in sinks.items()},
    }


def _watermark(manifest: Manifest) -> int | None:
    smallest = min(manifest.watermarks.values(), default=WATERMARK_MIN)
    return smallest if WATERMARK_MIN < smallest < WATERMARK_MAX else None


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
