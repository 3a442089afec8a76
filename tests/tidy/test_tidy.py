"""Taste that a machine can guard: length, docstrings, dead modules, forbidden words, exported names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from typing import Final

import pytest
import tidegate

from .sources import ROOT, Source, all_sources, listed_packages

SOURCES: Final = all_sources()
PACKAGE: Final = [source for source in SOURCES if source.in_package]

LINES_MAX: Final = 300
LONGER_WITH_REASON: Final[dict[str, str]] = {}

# Reached from outside: the facade, the program, the console script, the job that the demo runs, doors that users open.
ENTRIES: Final = {"", "__main__", "cli", "connect", "demo.job", "testing"}

# Put together here so that this file does not contain them.
UNFINISHED: Final = re.compile(
    r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + "Error"]) + r")\b"
)
UNEXPLAINED: Final = re.compile(
    r"# (?:noqa|type: ignore)(?!\S)(?!: ?[A-Z]|\[)|# (?:noqa: ?[A-Z0-9, ]+|type: ignore\[[^]]+\])\s*$"
)
SKIPPED: Final = re.compile(r"pytest\.(?:mark\.)?(?:skip|xfail|importorskip)")
SERIALIZERS: Final = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}


def by_path(source: Source) -> str:
    return str(source.path)


@pytest.mark.parametrize("source", [source for source in SOURCES if source.path.parts[0] != "tests"], ids=by_path)
def test_a_file_stays_short(source: Source) -> None:
    if str(source.path) in LONGER_WITH_REASON:
        assert source.lines > LINES_MAX, "it is short again; take it off the list"
    else:
        assert source.lines <= LINES_MAX


@pytest.mark.parametrize("source", SOURCES, ids=by_path)
def test_a_module_says_in_its_first_sentence_what_it_is(source: Source) -> None:
    docstring = ast.get_docstring(source.tree) or ""
    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":")), "the docstring's first sentence ends with a period"
    assert "." in docstring


@pytest.mark.parametrize("source", PACKAGE, ids=by_path)
def test_a_module_is_used_by_another_one(source: Source) -> None:
    users = [other for other in PACKAGE if other.path != source.path and source.module in other.mentioned_modules()]
    is_folder = source.path.name == "__init__.py"
    assert source.module in ENTRIES or is_folder or users, "nothing in the package imports it"


@pytest.mark.parametrize("source", SOURCES, ids=by_path)
def test_nothing_is_left_unfinished_or_unexplained(source: Source) -> None:
    lines = list(enumerate(source.text.splitlines(), 1))
    assert [(number, line) for number, line in lines if UNFINISHED.search(line)] == []
    assert [(number, line) for number, line in lines if UNEXPLAINED.search(line)] == [], "say why, after the code"
    assert [(number, line) for number, line in lines if SKIPPED.search(line)] == []


@pytest.mark.parametrize("source", SOURCES, ids=by_path)
def test_nothing_deserialises_code(source: Source) -> None:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & SERIALIZERS
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] not in SERIALIZERS
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("yaml", "load")


@pytest.mark.parametrize("source", PACKAGE, ids=by_path)
def test_imports_inside_the_package_are_relative(source: Source) -> None:
    # The program itself and job files that the package ships import what users import.
    if source.module in {"__main__", "demo.job"}:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] != "tidegate" for alias in node.names), ast.unparse(node)
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] != "tidegate", ast.unparse(node)


@pytest.mark.parametrize("source", SOURCES, ids=by_path)
def test_nobody_imports_a_folder_of_the_package_by_its_bare_name(source: Source) -> None:
    bare = {"engine", "state", "connectors", "cli"}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & bare
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] not in bare


def test_every_folder_of_the_package_is_installed() -> None:
    folders = {".".join(["tidegate", *source.path.parts[:-1]]) for source in PACKAGE}
    assert folders == listed_packages()


def test_every_folder_of_the_package_says_what_it_is() -> None:
    files = {source.path for source in PACKAGE}
    assert {source.path.parent / "__init__.py" for source in PACKAGE} <= files


def test_every_exported_name_exists() -> None:
    assert sorted(tidegate.__all__) == list(tidegate.__all__)
    assert [name for name in tidegate.__all__ if not hasattr(tidegate, name)] == []


def test_importing_everything_creates_no_module_with_a_bare_name() -> None:
    modules = [f"tidegate.{source.module}".rstrip(".") for source in PACKAGE if source.module != "__main__"]
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n    importlib.import_module(name)\n"
        "print(sorted({'engine', 'state', 'connectors', 'cli'} & sys.modules.keys()))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "tests", capture_output=True, text=True, timeout=60, check=False
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "[]\n", "")


def test_the_lock_file_names_no_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert re.findall(r"https?://\S+|--(?:extra-)?index-url.*|--find-links.*", lock) == []
