"""The manifest's codec: canonical, sealed, strict, versioned."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tidegate.engine.errors import CorruptError, JobInvalidError
from tidegate.engine.protocol.manifest import Committable, SinkSubtask, SplitPosition, StateFile
from tidegate.state.manifests import files_of, from_json, to_json
from tidegate.state.sealed import seal, unseal

from support.manifests import file_ref, full_manifest, manifest

Change = Callable[[dict[str, Any]], None]


def _changed(change: Change) -> bytes:
    plain: dict[str, Any] = unseal(to_json(full_manifest()), "here")
    change(plain)
    return seal(plain)


def test_a_manifest_comes_back_as_it_was() -> None:
    assert from_json(to_json(full_manifest()), "here") == full_manifest()


def test_equal_manifests_have_equal_bytes_whatever_the_order_of_their_dictionaries() -> None:
    one = replace(full_manifest(), counters={"a": 1, "b": 2}, targets={"x": {"m": 1, "n": 2}})
    other = replace(full_manifest(), counters={"b": 2, "a": 1}, targets={"x": {"n": 2, "m": 1}})
    assert to_json(one) == to_json(other)


def test_another_writer_gives_other_bytes() -> None:
    assert to_json(manifest(3, writer="a")) != to_json(manifest(3, writer="b"))


def test_damage_is_said_with_path_and_both_hashes() -> None:
    data = to_json(manifest(3)).replace(b"writer-1-3", b"writer-1-4")
    with pytest.raises(
        CorruptError, match=r"s3://b/job/checkpoints/3\.json is damaged: its SHA-256 is \w{64}, expected \w{64}"
    ):
        from_json(data, "s3://b/job/checkpoints/3.json")


def test_a_newer_format_is_an_invitation_to_update_not_damage() -> None:
    data = _changed(lambda plain: plain.update(format=2, novelty=[1]))
    with pytest.raises(JobInvalidError, match="written by a newer Tidegate"):
        from_json(data, "here")


def _set(*path: str | int, value: object) -> Change:
    def change(plain: dict[str, Any]) -> None:
        target: Any = plain
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda plain: plain.pop("writer"), "writer is missing"),
        (lambda plain: plain["splits"][1].pop("end"), r"splits\[1\].end is missing"),
        (_set("novelty", value=1), "novelty is not known"),
        (_set("sinks", 0, "novelty", value=1), r"sinks\[0\].novelty is not known"),
        (_set("epoch", value="3"), "epoch is str, expected int"),
        (_set("epoch", value=True), "epoch is bool, expected int"),
        (_set("epoch", value=3.0), "epoch is float, expected int"),
        (_set("until_end", value=0), "until_end is int, expected bool"),
        (_set("splits", value={}), "splits is dict, expected list"),
        (_set("splits", 0, value=None), r"splits\[0\] is NoneType, expected dict"),
        (_set("targets", "out", value=[]), "targets.out is list, expected dict"),
        (_set("watermarks", "totals", value=None), "watermarks.totals is NoneType"),
        (_set("kind", value="odd"), "kind is 'odd'"),
        (_set("delivery", value="maybe"), "delivery is 'maybe'"),
        (_set("format", value=0), "format is 0"),
        (_set("epoch", value=-1), "epoch is -1"),
        (_set("parallelism", value=0), "parallelism is 0"),
        (_set("states", 0, "file", "size", value=-1), "size of state/totals"),
        (_set("states", 0, "file", "sha256", value="ABC"), "SHA-256 'ABC'"),
        (_set("states", 0, "groups_to", value=129), "groups 0 to 129"),
        (_set("committables", 0, "epoch", value=0), "epoch of committable out is 0"),
    ],
)
def test_what_is_not_exactly_a_manifest_is_refused_with_the_place(change: Change, told: str) -> None:
    with pytest.raises(CorruptError, match=f"here is not a manifest: .*{told}"):
        from_json(_changed(change), "here")


@pytest.mark.parametrize(
    "name",
    [
        "../../other/state/totals/1",
        "/etc/passwd",
        "state/totals/../../../x",
        "state/totals/",
        "state/totals//x",
        "state/other/1-1-0-0-0.parquet",
        "outbox/totals/1-1-0-0-0.parquet",
        "checkpoints/000000000001.json",
        "attempts/000001.json",
        "state/totals/a b",
        "state/totals/tmp~",
    ],
)
def test_a_tampered_file_name_cannot_lead_outside_the_operators_folder(name: str) -> None:
    with pytest.raises(CorruptError, match="here is not a manifest"):
        from_json(_changed(_set("states", 0, "file", "name", value=name)), "here")
    with pytest.raises(CorruptError, match="here is not a manifest"):
        from_json(_changed(_set("committables", 0, "segments", 0, "name", value=name)), "here")


@pytest.mark.parametrize(
    ("field", "value"), [("job", "../x"), ("job", ""), ("job_uid", "a/b"), ("targets", {"../x": {}})]
)
def test_a_tampered_identity_is_refused(field: str, value: object) -> None:
    with pytest.raises(CorruptError, match="cannot be used as a name"):
        from_json(_changed(_set(field, value=value)), "here")


@pytest.mark.parametrize(
    ("position", "told"),
    [
        ({1: 2}, "no string"),
        (float("nan"), "nan"),
        (b"x", "bytes"),
        ({"at": {2}}, r"splits\[0\].position.at is \{2\} \(set\)"),
    ],
)
def test_a_position_that_is_not_json_is_refused_when_it_is_written(position: object, told: str) -> None:
    split = SplitPosition("orders", "orders-0", 0, position)
    with pytest.raises(JobInvalidError, match=told):
        to_json(manifest(1, splits=(split,)))


def test_a_position_that_nests_without_end_is_refused() -> None:
    position: list[object] = []
    for _ in range(100):
        position = [position]
    with pytest.raises(JobInvalidError, match="nests deeper"):
        to_json(manifest(1, splits=(SplitPosition("orders", "orders-0", 0, position),)))


def test_deep_nesting_in_bytes_is_damage_not_a_crash() -> None:
    body = b"[" * 100_000 + b"]" * 100_000
    data = b'{"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'","body":' + body + b"}\n"
    with pytest.raises(CorruptError, match="not JSON"):
        from_json(data, "here")


def test_what_could_not_be_read_back_is_not_written() -> None:
    outside = StateFile("totals", file_ref("state/other/1-1-0-0-0.parquet"), 0, 1)
    with pytest.raises(JobInvalidError, match="epoch 1 cannot be written"):
        to_json(manifest(1, states=(outside,)))
    with pytest.raises(JobInvalidError):
        to_json(manifest(1, sinks=(SinkSubtask("out", -1),)))


def test_all_files_of_a_manifest_are_named() -> None:
    segments = (file_ref("outbox/out/3-1-0-0-0.arrow"), file_ref("outbox/out/3-1-1-0-0.arrow"))
    full = manifest(
        3,
        states=(StateFile("totals", file_ref("state/totals/3-1-0-0-0.parquet"), 0, 1),),
        committables=(Committable("out", 0, 3, segments),),
    )
    assert [file.name for file in files_of(full)] == [
        "state/totals/3-1-0-0-0.parquet",
        "outbox/out/3-1-0-0-0.arrow",
        "outbox/out/3-1-1-0-0.arrow",
    ]
