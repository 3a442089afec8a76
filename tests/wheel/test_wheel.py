"""What only the installed wheel can show: where it is imported from, its program, and a user's own `state`."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import tidegate

PROGRAM = Path(sys.executable).with_name("tidegate")
TIMEOUT_S = 120.0


def test_the_package_comes_from_the_wheel() -> None:
    assert tidegate.__file__ is not None
    assert Path(tidegate.__file__).is_relative_to(sysconfig.get_path("purelib"))


def test_the_wheel_carries_the_package_and_nothing_else() -> None:
    files = [Path(str(file)) for file in distribution("tidegate").files or ()]
    inside = {file.parts[1] for file in files if file.parts[0] == "tidegate" and len(file.parts) > 1}
    assert {"py.typed", "__init__.py", "engine", "state", "connectors"} <= inside
    assert not inside & {"tests", "benchmarks", "docs", "examples", ".typing", ".ci", "data"}
    assert {file.parts[0] for file in files if file.parts[0] not in {"..", "tidegate"}} == {
        f"tidegate-{tidegate.__version__}.dist-info"
    }
    assert distribution("tidegate").version == tidegate.__version__


def test_a_users_own_state_folder_and_the_package_do_not_meet(tmp_path: Path) -> None:
    for name in ("state", "engine", "connectors"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('OWNER = "user"\n')
    script = "import state, engine, connectors, tidegate, tidegate.state; print(state.OWNER, tidegate.__version__)"
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
    )
    assert finished.stdout.split() == ["user", tidegate.__version__]


def test_the_program_runs_where_the_users_own_folder_is_called_state(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "__init__.py").write_text("raise RuntimeError('imported by mistake')\n")
    finished = subprocess.run(
        [str(PROGRAM), "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert tidegate.__version__ in finished.stdout


def test_the_demo_runs_from_the_wheel(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "__init__.py").write_text("raise RuntimeError('imported by mistake')\n")
    finished = subprocess.run(
        [str(PROGRAM), "demo"],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
