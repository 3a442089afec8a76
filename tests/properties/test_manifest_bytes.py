"""Manifests as bytes, for all manifests and all damages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tidegate.engine.errors import CorruptError
from tidegate.engine.protocol.manifest import Manifest
from tidegate.state.manifests import from_json, to_json

from support.manifests import full_manifest, manifests

DATA = to_json(full_manifest())


@given(manifests)
@settings(max_examples=150, deadline=None)
def test_every_manifest_survives_its_bytes(manifest: Manifest) -> None:
    data = to_json(manifest)
    assert from_json(data, "here") == manifest
    assert to_json(from_json(data, "here")) == data


def test_every_flipped_bit_is_refused() -> None:
    for position in range(len(DATA)):
        for bit in range(8):
            damaged = bytearray(DATA)
            damaged[position] ^= 1 << bit
            with pytest.raises(CorruptError):
                from_json(bytes(damaged), "here")


def test_every_truncation_is_refused() -> None:
    for length in range(len(DATA)):
        with pytest.raises(CorruptError, match="here"):
            from_json(DATA[:length], "here")


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_no_bytes_but_a_manifest_are_read_as_one(data: bytes) -> None:
    with pytest.raises(CorruptError):
        from_json(data, "here")


@given(st.binary(min_size=1, max_size=20), st.integers(0, len(DATA)))
@settings(deadline=None)
def test_inserted_bytes_are_refused(inserted: bytes, position: int) -> None:
    with pytest.raises(CorruptError):
        from_json(DATA[:position] + inserted + DATA[position:], "here")
