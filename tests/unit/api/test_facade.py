"""The facade: `import tidegate` is cheap, and clients are imported when they are first used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tidegate as tg

HEAVY = ("confluent_kafka", "duckdb", "s3fs", "botocore", "click", "rich", "pyarrow.parquet", "tidegate.engine.launch")


def test_importing_the_facade_imports_no_client(tmp_path: Path) -> None:
    script = f"import sys, tidegate\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert finished.stdout.strip() == "[]"


def test_a_name_that_does_not_exist_is_told() -> None:
    with pytest.raises(AttributeError, match="module 'tidegate' has no attribute 'KafkaSauce'"):
        tg.KafkaSauce  # noqa: B018 (the mistake)


def test_the_version_is_a_version() -> None:
    assert tg.__version__.count(".") == 2
