"""Taste that a machine can guard: length, docstrings, dead modules, forbidden words, exported names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from typing import Final

import tidegate

from .sources import ROOT, Source, all_sources, listed_packages

SOURCES: Final = all_sources()
PACKAGE: Final = [source for source in SOURCES if source.in_package]

LINES_MAX: Final = 300

# Reached from outside: the facade, the program, the console script, the job that the demo runs, doors that users open.
ENTRIES: Final = {"", "__main__", "cli", "connect", "demo.job", "testing"}
# The program itself and job files that the package ships import what users import.
IMPORT_AS_USERS: Final = {"__main__", "demo.job"}

# Put together here so that this file does not contain them.
UNFINISHED: Final = re.compile(
    r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "NotImplemented" + "Error"]) + r")\b"
)
UNEXPLAINED: Final = re.compile(
    r"# (?:noqa|type: ignore)(?!\S)(?!: ?[A-Z]|\[)|# (?:noqa: ?[A-Z0-9, ]+|type: ignore\[[^]]+\])\s*$"
)
SKIPPED: Final = re.compile(r"pytest\.(?:mark\.)?(?:skip|xfail|importorskip)")
SERIALIZERS: Final = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
BARE: Final = {"engine", "state", "connectors", "cli"}


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Every line of the repository's sources that has the pattern."""
    return [
        f"{source.path}:{number}: {line}"
        for source in SOURCES
        for number, line in enumerate(source.text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_files_stay_short() -> None:
    own = [source for source in SOURCES if source.path.parts[0] != "tests"]
    assert [f"{source.path}: {source.lines} lines" for source in own if source.lines > LINES_MAX] == []


def test_a_module_says_in_its_first_sentence_what_it_is() -> None:
    def says(source: Source) -> bool:
        docstring = ast.get_docstring(source.tree) or ""
        return "." in docstring and docstring.split("\n\n")[0].rstrip().endswith((".", ":"))

    assert [str(source.path) for source in SOURCES if not says(source)] == []


def test_a_module_is_used_by_another_one() -> None:
    mentions = Counter(name for source in PACKAGE for name in source.mentioned_modules - {source.module})
    modules = [source.module for source in PACKAGE if source.path.name != "__init__.py"]
    assert [module for module in modules if module not in ENTRIES and not mentions[module]] == []


def test_nothing_is_left_unfinished_or_skipped_and_exceptions_have_reasons() -> None:
    assert lines_with(UNFINISHED) == []
    assert lines_with(UNEXPLAINED) == []
    assert lines_with(SKIPPED) == []


def test_nothing_deserialises_code() -> None:
    loads = [str(s.path) for s in SOURCES if "yaml.load" in s.attributes]
    assert [f"{s.path}: {name}" for s in SOURCES for name in s.absolute_imports & SERIALIZERS] + loads == []


def test_imports_inside_the_package_are_relative() -> None:
    sources = [source for source in PACKAGE if source.module not in IMPORT_AS_USERS]
    assert [str(source.path) for source in sources if "tidegate" in source.absolute_imports] == []


def test_nobody_imports_a_folder_of_the_package_by_its_bare_name() -> None:
    assert [f"{source.path}: {name}" for source in SOURCES for name in source.absolute_imports & BARE] == []


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
