"""Manifests for tests: one that uses every field, and hypothesis strategies for all of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from tidegate.engine.protocol.manifest import (
    Committable,
    FileRef,
    Kind,
    Manifest,
    SinkSubtask,
    SplitPosition,
    StateFile,
)
from tidegate.engine.settings import AT_LEAST_ONCE, EXACTLY_ONCE


def file_ref(name: str, data: bytes = b"rows", rows: int = 1) -> FileRef:
    """Refer to a file as a worker would."""
    return FileRef(name, len(data), hashlib.sha256(data).hexdigest(), rows)


def manifest(epoch: int = 0, attempt: int = 1, **changes: Any) -> Manifest:
    """Make a manifest without files."""
    plain = Manifest(
        job="job",
        job_uid="0123456789abcdef",
        epoch=epoch,
        attempt=attempt,
        tries=0,
        kind=Kind.PERIODIC if epoch else Kind.START,
        delivery=EXACTLY_ONCE,
        writer=f"writer-{attempt}-{epoch}",
        parallelism=2,
        key_groups=128,
        created_ms=1_790_000_000_000,
    )
    return replace(plain, **changes)


def full_manifest() -> Manifest:
    """Make a manifest in which no field is empty."""
    return manifest(
        812,
        7,
        splits=(
            SplitPosition("orders", "orders-0", 0, 42, 100, 1_790_000_000_000, finished=True),
            SplitPosition("files", "a/b.jsonl", 1, {"byte": 9, "lines": [1, None, "é", 0.5, True]}),
        ),
        states=(StateFile("totals", file_ref("state/totals/812-7-0-1-0.parquet"), 0, 64),),
        committables=(
            Committable("out", 1, 811, (file_ref("outbox/out/811-7-0-1-0.arrow"),), {"topic": "revenue"}),
            Committable(
                "out", 1, 812, (file_ref("outbox/out/812-7-0-1-0.arrow"), file_ref("outbox/out/812-7-1-1-0.arrow"))
            ),
        ),
        sinks=(SinkSubtask("out", 0, 810), SinkSubtask("out", 1)),
        targets={"out": {"cluster": "c1", "partitions": 4}},
        watermarks={"totals": -(2**62)},
        counters={"late": 3},
        until_end=True,
    )


_numbers = st.integers(0, 2**53)
_uids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
_json: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def _files(draw: st.DrawFn, folder: str, uid: str) -> FileRef:
    name = f"{folder}/{uid}/{draw(_numbers)}-{draw(_numbers)}-0-{draw(st.integers(0, 99))}-0.parquet"
    return FileRef(name, draw(_numbers), draw(st.from_regex(r"[0-9a-f]{64}", fullmatch=True)), draw(_numbers))


@st.composite
def _states(draw: st.DrawFn) -> StateFile:
    uid = draw(_uids)
    first = draw(st.integers(0, 128))
    return StateFile(uid, draw(_files("state", uid)), first, draw(st.integers(first, 128)))


@st.composite
def _committables(draw: st.DrawFn) -> Committable:
    uid = draw(_uids)
    segments = tuple(draw(st.lists(_files("outbox", uid), max_size=3)))
    target = draw(st.dictionaries(st.text(max_size=8), _json, max_size=2))
    return Committable(uid, draw(st.integers(0, 99)), draw(st.integers(1, 2**53)), segments, target)


def _tuples(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(inner, max_size=3).map(tuple)


manifests = st.builds(
    Manifest,
    job=_uids,
    job_uid=_uids,
    epoch=_numbers,
    attempt=_numbers,
    tries=_numbers,
    kind=st.sampled_from(Kind),
    delivery=st.sampled_from([EXACTLY_ONCE, AT_LEAST_ONCE]),
    writer=st.text(max_size=20),
    parallelism=st.integers(1, 999),
    key_groups=st.integers(128, 4096),
    created_ms=st.integers(),
    splits=_tuples(
        st.builds(
            SplitPosition,
            source_uid=_uids,
            split_id=st.text(max_size=20),
            index=_numbers,
            position=_json,
            end=_json,
            max_time=st.none() | st.integers(),
            finished=st.booleans(),
        )
    ),
    states=_tuples(_states()),
    committables=_tuples(_committables()),
    sinks=_tuples(st.builds(SinkSubtask, sink_uid=_uids, subtask=_numbers, committed=_numbers)),
    targets=st.dictionaries(_uids, st.dictionaries(st.text(max_size=8), _json, max_size=2), max_size=2),
    watermarks=st.dictionaries(st.text(max_size=8), st.integers(), max_size=2),
    counters=st.dictionaries(st.text(max_size=8), st.integers(), max_size=2),
    until_end=st.booleans(),
)
