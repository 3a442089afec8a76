"""Verified reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from tidegate.engine.errors import CorruptError, StoreMissingError
from tidegate.state.files import read_file
from tidegate.state.log import StoreLog, open_log

from support.manifests import file_ref

NAME = "state/totals/1-1-0-0-0.parquet"


@pytest.fixture
def log(tmp_path: Path) -> StoreLog:
    return open_log(str(tmp_path), "job")


def test_a_whole_file_is_read(log: StoreLog) -> None:
    log.store.create(NAME, b"rows")
    assert read_file(log, file_ref(NAME, b"rows")) == b"rows"


@pytest.mark.parametrize("found", [b"", b"row", b"rows!", b"rowt", b"Rows"])
def test_a_truncated_swapped_or_flipped_file_is_refused_with_path_and_hashes(log: StoreLog, found: bytes) -> None:
    log.store.create(NAME, found)
    file = file_ref(NAME, b"rows")
    with pytest.raises(
        CorruptError, match=f"{NAME} has {len(found)} bytes, SHA-256 [0-9a-f]{{64}}; expected"
    ) as refused:
        read_file(log, file)
    assert file.sha256 in refused.value.message


def test_a_missing_file_is_said_with_what_was_expected(log: StoreLog) -> None:
    with pytest.raises(StoreMissingError, match=f"{NAME} is missing; a manifest names it with 4 bytes"):
        read_file(log, file_ref(NAME, b"rows"))
