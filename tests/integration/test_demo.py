"""The demo kills a worker, and its output is exact."""

from __future__ import annotations

from pathlib import Path

import pytest
from tidegate.demo import run_demo
from tidegate.engine.errors import TidegateError


def test_the_demo_kills_a_worker_and_ends_with_exact_output(tmp_path: Path) -> None:
    told: list[str] = []
    assert run_demo(tmp_path, told.append) == 0, "\n".join(told)
    text = "\n".join(told)
    assert "kill -9" in text
    assert "recovering from checkpoint" in text
    assert "missing: 0   doubled or wrong: 0" in text
    assert "finished" in text


def test_a_folder_with_an_earlier_demo_is_refused(tmp_path: Path) -> None:
    (tmp_path / "revenue").mkdir()
    with pytest.raises(TidegateError, match="holds an earlier demo"):
        run_demo(tmp_path, print)
