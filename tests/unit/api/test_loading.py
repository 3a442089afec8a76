"""Job files and modules: the job is found, and a mistake in the file is told with the user's line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tidegate as tg
from tidegate.engine.errors import JobInvalidError
from tidegate.engine.loading import JobReference, load, load_for_run, reference_for

from support.flows import refused

ONE = "import tidegate as tg\njob = tg.Job('revenue')\n"


@pytest.fixture(autouse=True)
def _clean_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(folder: Path, text: str, name: str = "revenue.py") -> JobReference:
    """Write a job file and return its reference."""
    path = folder / name
    path.write_text(text)
    return JobReference.parse(str(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("revenue.py", JobReference("file", "revenue.py")),
        ("jobs/revenue.py:job", JobReference("file", "jobs/revenue.py", "job")),
        ("/a:b/revenue.py", JobReference("file", "/a:b/revenue.py")),
        ("pkg.jobs", JobReference("module", "pkg.jobs")),
        ("pkg.jobs:revenue", JobReference("module", "pkg.jobs", "revenue")),
    ],
)
def test_a_reference_is_parsed_and_written_back(text: str, expected: JobReference) -> None:
    assert JobReference.parse(text) == expected
    assert str(expected) == text


def test_the_job_of_a_file_is_found_whatever_it_is_called(tmp_path: Path) -> None:
    assert load(write(tmp_path, ONE)).name == "revenue"
    assert load(write(tmp_path, ONE + "same = job\n")).name == "revenue"


def test_the_main_part_of_a_job_file_does_not_run(tmp_path: Path) -> None:
    assert load(write(tmp_path, ONE + "if __name__ == '__main__':\n    raise SystemExit(9)\n")).name == "revenue"


def test_a_job_file_imports_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_job.py").write_text("NAME = 'from-neighbour'\n")
    text = "import tidegate as tg\nfrom neighbour_of_job import NAME\njob = tg.Job(NAME)\n"
    assert load(write(tmp_path, text)).name == "from-neighbour"


def test_a_function_of_a_job_file_still_finds_its_globals(tmp_path: Path) -> None:
    text = (
        "import polars as pl\nimport tidegate as tg\nfrom support.flows import BuiltSource, BuiltSink\n"
        "RATE = 3\n"
        "def times(frame):\n    return frame.select(pl.col('n') * RATE)\n"
        "job = tg.Job('j')\n"
        "stream = job.read(BuiltSource({'n': pl.Int64()}), uid='in').map_batches(times, {'n': pl.Int64})\n"
        "stream.write(BuiltSink(), uid='out')\n"
    )
    node = load(write(tmp_path, text)).graph().nodes[1]
    import polars as pl  # noqa: PLC0415 (beside the job file that it belongs to)

    assert node.eager(pl.DataFrame({"n": [2], "__time": [1]})).row(0) == (6, 1)  # type: ignore[union-attr,misc]  # a MapNode


def test_one_of_several_jobs_is_picked_by_variable_or_job_id(tmp_path: Path) -> None:
    reference = write(tmp_path, ONE + "other = tg.Job('costs')\n")
    assert load(JobReference("file", reference.target, "other")).name == "costs"
    assert load(reference, "costs").name == "costs"
    message = refused(lambda: load(reference))
    assert "revenue.py defines several jobs: job, other" in message
    assert "revenue.py:job" in message
    assert "has no job called 'third'" in refused(lambda: load(JobReference("file", reference.target, "third")))
    assert "it has job, other" in refused(lambda: load(JobReference("file", reference.target, "third")))


def test_a_file_without_job_is_told_apart_from_a_missing_one(tmp_path: Path) -> None:
    assert "defines no job" in refused(lambda: load(write(tmp_path, "x = 1\n")))
    assert "defines no job called 'costs'" in refused(lambda: load(write(tmp_path, ONE), "costs"))
    assert "missing.py does not exist" in refused(lambda: load(JobReference.parse(str(tmp_path / "missing.py"))))


@pytest.mark.parametrize(
    ("mistake", "told", "line"),
    [
        ("rate = 1 / 0\n", "revenue.py:3: ZeroDivisionError: division by zero", "rate = 1 / 0"),
        ("import no_such_module\n", "revenue.py:3: ModuleNotFoundError: No module named 'no_such_module'", "import no"),
        ("job.read(\n", "revenue.py:3: '(' was never closed", "job.read("),
        ("import sys; sys.exit(2)\n", "revenue.py:3: ended with SystemExit(2)", "sys.exit(2)"),
        ("int('x')  # in a library\n", "revenue.py:3: ValueError", "int('x')"),
    ],
)
def test_a_mistake_in_a_job_file_is_told_with_its_line(tmp_path: Path, mistake: str, told: str, line: str) -> None:
    message = refused(lambda: load(write(tmp_path, ONE + mistake)))
    assert told in message
    assert line in message


def test_a_syntax_error_in_a_neighbour_names_the_neighbour(tmp_path: Path) -> None:
    (tmp_path / "broken_neighbour.py").write_text("def f(:\n")
    message = refused(lambda: load(write(tmp_path, "import broken_neighbour\n")))
    assert "broken_neighbour.py:1:" in message


def test_what_tidegate_refuses_in_a_job_file_is_passed_on_with_its_line(tmp_path: Path) -> None:
    text = ONE + "from support.flows import BuiltSource\n\njob.read(BuiltSource(), uid='in').select('contry')\n"
    message = refused(lambda: load(write(tmp_path, text)))
    assert message.startswith("select at revenue.py:5: there is no column 'contry'")


def test_a_job_in_a_module_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs_of_test").mkdir()
    (tmp_path / "jobs_of_test" / "revenue.py").write_text(ONE)
    monkeypatch.syspath_prepend(str(tmp_path))
    job = load(JobReference.parse("jobs_of_test.revenue"))
    assert reference_for(job) == JobReference("module", "jobs_of_test.revenue", "job")
    assert "there is no module 'jobs_of_test.costs'" in refused(lambda: load(JobReference.parse("jobs_of_test.costs")))
    assert "there is no module 'nowhere'" in refused(lambda: load(JobReference.parse("nowhere")))


def test_a_loaded_job_is_found_again_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, ONE + "other = tg.Job('costs')\n")
    monkeypatch.chdir(tmp_path)
    job = load_for_run(JobReference.parse("revenue.py:other"))
    assert reference_for(job) == JobReference("file", str(tmp_path / "revenue.py"), "other")


def test_a_job_that_no_file_defines_is_refused() -> None:
    local = tg.Job("local")
    message = refused(lambda: reference_for(local))
    assert "job 'local' is no variable at the top level of a file" in message
    assert "in a .py file" in message


def outcome(folder: Path, *command: str, stdin: str = "") -> str:
    """What a Python program prints."""
    finished = subprocess.run(
        [sys.executable, *command], cwd=folder, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    return finished.stdout.strip() + finished.stderr.strip()


ASK = "from tidegate.engine.loading import reference_for\nprint(reference_for(job))\n"


def test_a_script_names_itself(tmp_path: Path) -> None:
    write(tmp_path, ONE + ASK)
    assert outcome(tmp_path, "revenue.py") == f"{tmp_path / 'revenue.py'}:job"


def test_a_module_that_was_started_names_itself(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    write(tmp_path, ONE + ASK, "pkg/revenue.py")
    assert outcome(tmp_path, "-m", "pkg.revenue") == "pkg.revenue:job"


def test_a_job_typed_into_a_prompt_is_refused(tmp_path: Path) -> None:
    assert "no variable at the top level of a file" in outcome(tmp_path, "-", stdin=ONE + ASK)


def test_the_error_keeps_its_cause_for_those_who_want_the_whole_story(tmp_path: Path) -> None:
    with pytest.raises(JobInvalidError) as caught:
        load(write(tmp_path, "1 / 0\n"))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
