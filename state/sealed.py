"""Sealed JSON: one object with its own SHA-256, in bytes that are the same whenever the object is the same.

`{"sha256":"<hex>","body":<canonical JSON>}` and a line feed. The hash covers the body's bytes, everything around it is
compared byte by byte, so any changed or missing bit is found. The envelope stays as it is in every later format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from ..engine.errors import CorruptError

SEALED_BYTES_MAX: Final = 256 * 1024 * 1024
"""Longer objects are refused before they are parsed."""

_HEAD: Final = b'{"sha256":"'
_MIDDLE: Final = b'","body":'
_TAIL: Final = b"}\n"
_BODY_AT: Final = len(_HEAD) + 64 + len(_MIDDLE)


def seal(body: Mapping[str, object]) -> bytes:
    """Write an object of JSON values; raises `ValueError` or `TypeError` for anything else (also NaN)."""
    data = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()
    return b"".join((_HEAD, hashlib.sha256(data).hexdigest().encode(), _MIDDLE, data, _TAIL))


def unseal(data: bytes, where: str) -> dict[str, object]:
    """Check and read what `seal` wrote; raises `CorruptError` that names `where`."""
    if len(data) > SEALED_BYTES_MAX:
        raise _damaged(where, f"it has {len(data)} bytes, more than the {SEALED_BYTES_MAX} that are read")
    if not data.startswith(_HEAD) or data[len(_HEAD) + 64 : _BODY_AT] != _MIDDLE:
        raise _damaged(where, "it does not begin like a sealed object")
    if not data.endswith(_TAIL):
        raise _damaged(where, f"it ends early, after {len(data)} bytes")
    body = data[_BODY_AT : -len(_TAIL)]
    expected = data[len(_HEAD) : len(_HEAD) + 64].decode("ascii", "replace")
    actual = hashlib.sha256(body).hexdigest()
    if expected != actual:
        raise _damaged(where, f"its SHA-256 is {actual}, expected {expected}")
    try:
        value = json.loads(body, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, f"it is not JSON: {type(error).__name__}: {error}") from error
    if not isinstance(value, dict):
        raise _damaged(where, f"it holds {type(value).__name__}, expected an object")
    return value


def _damaged(where: str, what: str) -> CorruptError:
    return CorruptError(
        f"{where} is damaged: {what}",
        hint="nothing of it was used; put the original object back, or restore another checkpoint",
    )


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name occurs twice")
    return made


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
