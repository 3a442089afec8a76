"""The source files of the repository as the tidy tests see them."""

from __future__ import annotations

import ast
from configparser import ConfigParser
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDERS: Final = ("benchmarks", "cli", "connectors", "demo", "engine", "examples", "state", "tests")


@dataclass(frozen=True)
class Source:
    """One Python file; `path` is relative to the root of the repository."""

    path: Path

    @cached_property
    def text(self) -> str:
        """What is written in it."""
        return (ROOT / self.path).read_text()

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return ast.parse(self.text, str(self.path))

    @property
    def lines(self) -> int:
        """How long it is."""
        return self.text.count("\n")

    @property
    def in_package(self) -> bool:
        """Whether it is installed with the package."""
        return self.path.parts[0] not in {"benchmarks", "examples", "tests"}

    @property
    def module(self) -> str:
        """Its dotted name inside the package; the facade itself is the empty name."""
        parts = self.path.with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def absolute_imports(self) -> set[str]:
        """First parts of the names that it imports other than relatively."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").split(".")[0])
        return found

    @cached_property
    def attributes(self) -> set[str]:
        """Attributes of plain names, as `name.attribute`."""
        nodes = (node for node in ast.walk(self.tree) if isinstance(node, ast.Attribute))
        return {f"{node.value.id}.{node.attr}" for node in nodes if isinstance(node.value, ast.Name)}

    @cached_property
    def mentioned_modules(self) -> set[str]:
        """Dotted names inside the package that it imports, or names in a string (imports made late)."""
        package = self.module.split(".") if self.path.name == "__init__.py" else self.module.split(".")[:-1]
        package = [part for part in package if part]
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
                found.add(".".join(base))
                found |= {".".join([*base, alias.name]) for alias in node.names}
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value.removeprefix("tidegate").lstrip("."))
        return found


def all_sources() -> list[Source]:
    """Every Python file of the repository, by path."""
    paths = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
    return [Source(path.relative_to(ROOT)) for path in sorted(paths)]


def listed_packages() -> set[str]:
    """The packages that setup.cfg installs."""
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    return set(settings["options"]["packages"].split())
