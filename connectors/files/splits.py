"""Finds the files of a source: one split per file, with positions that know which file they belong to.

A position is `{"byte": next byte, "head": hash of the file's first bytes}`: a byte number means nothing in another file
that has come to bear the same name, so readers compare the hash before they go on.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from ...engine.errors import SourceError
from ...engine.ports.source import Position, Split

ENDINGS: Final = (".jsonl", ".ndjson", ".json", ".txt")
"""Files of a folder that are read."""
COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".zip")
MAGIC: Final = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")
"""How files of the compressed kinds begin, whatever they are called."""
HEAD_BYTES: Final = 1024


def head_of(stream: BinaryIO, size: int) -> str:
    """Return the hash of the first bytes of a file that had `size` bytes when it was found."""
    stream.seek(0)
    return hashlib.blake2b(stream.read(min(HEAD_BYTES, size)), digest_size=8).hexdigest()


def place_of(uid: str, split: str, position: object) -> tuple[int, str]:
    """Return byte and head of a position. Raises `SourceError` for anything else."""
    match position:
        case {"byte": int(byte), "head": str(head)}:
            return byte, head
        case _:
            raise SourceError(f"source '{uid}': {split} is at {position!r}, which is no position in a file")


class FileEnumerator:
    """Finds the files of a source. A split's id is the file's absolute path."""

    def __init__(self, path: str, uid: str) -> None:
        self._path = path
        self._uid = uid

    def discover(self) -> Sequence[Split]:
        """Return all files by name, to be read from their beginning to their present end."""
        try:
            return [self._split(index, path.resolve()) for index, path in enumerate(self._files())]
        except OSError as error:
            raise SourceError(
                f"source '{self._uid}': {error.filename} cannot be read: {error.strerror}", hint="check path and rights"
            ) from error

    def _files(self) -> list[Path]:
        path = Path(self._path)
        if path.is_dir():
            found = [p for p in path.iterdir() if not p.name.startswith(".") and _is_wanted(p)]
        elif glob.has_magic(self._path):
            found = [Path(name) for name in glob.glob(self._path)]  # noqa: PTH207 (takes absolute patterns, too)
        else:
            found = [path] if path.exists() else []
        found = sorted(p for p in found if p.is_file())
        if not found:
            raise SourceError(
                f"source '{self._uid}': there is no file at {self._path}",
                hint=f"give a file, a pattern, or a folder with files ending in {', '.join(ENDINGS)}",
            )
        return found

    def _split(self, index: int, path: Path) -> Split:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = head_of(stream, size)
            stream.seek(0)
            if path.suffix in COMPRESSED or stream.read(max(map(len, MAGIC))).startswith(MAGIC):
                raise SourceError(
                    f"source '{self._uid}': {path} is compressed, so it cannot be read on from its middle",
                    hint="decompress it first",
                )
        start = {"byte": 0, "head": head}
        return Split(str(path), index, start=start, first=start, end={"byte": size, "head": head})

    def report(self, positions: Mapping[str, Position]) -> None:
        """Nobody asks how far files were read."""

    def close(self) -> None:
        """Nothing is open."""


def _is_wanted(path: Path) -> bool:
    """Whether a file of a folder is to be read; compressed ones are taken, too, so that they are refused by name."""
    return path.suffix in ENDINGS or (path.suffix in COMPRESSED and Path(path.stem).suffix in ENDINGS)
