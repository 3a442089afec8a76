"""The write that decides an epoch: an attempt that was replaced does not begin another one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tidegate.engine.checkpointing import write
from tidegate.engine.context import Facts
from tidegate.engine.errors import FencedError
from tidegate.state.log import StoreLog
from tidegate.state.stores import open_store

from support.manifests import manifest


def facts_of_attempt_1(log: StoreLog) -> Facts:
    unused: Any = None
    context: Any = SimpleNamespace(job="job", log=log)
    facts = Facts(context, unused, unused)
    facts.number = 1
    return facts


def test_an_attempt_looks_for_newer_ones_before_each_decision(tmp_path: Path) -> None:
    log = StoreLog(open_store(str(tmp_path), "job"), "job")
    facts = facts_of_attempt_1(log)
    log.claim(1, {})

    assert write(facts, manifest(1))
    log.claim(2, {})

    with pytest.raises(FencedError, match="attempt 1 found attempt 2"):
        write(facts, manifest(2))
    assert log.epochs() == [1]
