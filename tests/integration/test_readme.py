"""What the README shows is true: its job runs as given, and everything that the documentation names exists."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest
from tidegate.cli.commands import tidegate
from tidegate.engine import errors

from services.kafka import KafkaBroker
from services.topics import Topics

ROOT: Final = Path(__file__).resolve().parents[2]
README: Final = ROOT / "README.md"
PAGES: Final = sorted([README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
RUN_TIMEOUT_S: Final = 120.0

FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CODE: Final = re.compile(r"`([^`\n]+)`")
LINK: Final = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)")
PATH: Final = re.compile(r"(?:engine|state|connectors|cli|tests|demo|examples|benchmarks|docs)/[\w./-]+\.(?:py|md)")
TEST: Final = re.compile(r"\btest_\w+")


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of one language, in order."""
    return [text for kind, text in FENCE.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page: Path) -> list[list[str]]:
    """Return the commands that a page shows, in blocks of the shell or in code within text, as words."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    lines += CODE.findall(FENCE.sub("", text))
    words = [re.sub(r'"[^"]*"|\'[^\']*\'', "TEXT", line.split("  #")[0]).split() for line in lines]
    return [line for line in words if len(line) > 1]


def page_name(page: Path) -> str:
    """Name a test's page."""
    return page.name


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker of its own, because the README's names of topics and of the job are not unique."""
    broker = KafkaBroker(tmp_path_factory.mktemp("readme-kafka"))
    broker.start()
    yield broker
    broker.kill()


def test_the_job_of_the_readme_has_ten_lines() -> None:
    job = blocks(README, "python")[0]
    assert len([line for line in job.splitlines() if line.strip()]) == 10


def test_the_job_of_the_readme_runs_as_given_and_writes_what_the_readme_shows(
    broker: KafkaBroker, tmp_path: Path
) -> None:
    job = blocks(README, "python")[0]
    given, shown = (block.splitlines() for block in blocks(README, "json"))
    (tmp_path / "revenue.py").write_text(job.replace("localhost:9092", broker.bootstrap))
    topics = Topics(broker.client)
    topics.create_named("orders", 2)
    topics.create_named("revenue", 2)
    topics.produce("orders", given)
    command = next(line for line in commands(README) if line[:2] == ["tidegate", "run"] and "--until-end" in line)
    finished = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    output = [value.decode() for value in topics.read("revenue")["value"]]
    assert sorted(output) == sorted(shown)
    for query in (
        [*line] for line in commands(README) if line[:2] in (["tidegate", "checkpoints"], ["tidegate", "sql"])
    ):
        words = ["select count(*) from checkpoints" if word == "TEXT" else word for word in query]
        answer = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert answer.returncode == 0, answer.stderr


def command_of(words: list[str]) -> click.Command:
    """Return the command that these words call; fails where there is none."""
    command: click.Command = tidegate
    for word in words[1:]:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        found = command.get_command(click.Context(command), word)
        assert found is not None, f"there is no `{' '.join(words)}`"
        command = found
    return command


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in commands(page):
        if words[0] == "tidegate":
            parameters = command_of(words).params
            known = {option for each in parameters for option in (*each.opts, *each.secondary_opts)}
            used = {word.split("=")[0] for word in words if word.startswith("--")}
            assert used <= known | {"--help"}, f"{words} has options that do not exist"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_make_targets_and_modules_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page):
        if words[0] == "make":
            assert words[1] in targets, words
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) or (ROOT / Path(*words[2].split("."))).with_suffix(".py").exists()


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_files_tests_and_pages_that_are_named_exist(page: Path) -> None:
    text = re.sub(r"https?://\S+", "", page.read_text(encoding="utf-8"))
    assert [path for path in PATH.findall(text) if not (ROOT / path).exists()] == []
    assert [to for to, _ in LINK.findall(text) if to and not (page.parent / to).exists()] == []
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    files = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    defined = set(re.findall(r"def (test_\w+)", tests)) | files
    assert [name for name in TEST.findall(FENCE.sub("", text)) if name not in defined] == []


def test_the_exit_codes_of_the_readme_are_those_of_the_errors() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README.read_text(encoding="utf-8"), re.MULTILINE)}
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TidegateError)
    ]
    assert {kind.exit_code for kind in kinds} <= listed


def test_the_orders_of_the_readme_are_json() -> None:
    assert all(json.loads(line) for block in blocks(README, "json") for line in block.splitlines())
