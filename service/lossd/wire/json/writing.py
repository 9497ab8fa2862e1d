"""JSON values as text.

JSON has no infinities and no NaN (RFC 8259, 6). They are written as the strings ``"Infinity"``,
``"-Infinity"`` and ``"NaN"``. Every other float64 is written in the shortest form that reads back to the same
bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson

CHUNK_BYTES: Final = 1 << 16
_MOST_ITEMS: Final = 1 << 12
"""About the most numbers and strings of a long value that are written at once, in less than a millisecond."""


def write_value(value: object) -> bytes:
    """Write a value, which may hold numpy arrays.

    orjson writes null for a number that is not finite: if it wrote any, those are converted.
    """
    text = orjson.dumps(value, _as_list, orjson.OPT_SERIALIZE_NUMPY)
    return orjson.dumps(plain(value)) if b"null" in text else text


def plain(value: object) -> object:
    """Return a value with strings for numbers that are not finite, and lists for arrays."""
    if isinstance(value, float):
        odd = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return float(value) if math.isfinite(value) else odd
    if value is None or isinstance(value, (int, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):  # which takes longest to tell
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    return value


def write_long_value(value: object) -> Iterator[bytes]:
    """Write a value that may be long, in pieces of bounded length, each written when it is asked for."""
    if isinstance(value, Mapping) and _items(value) > _MOST_ITEMS:
        before = b"{"
        for name, item in value.items():
            yield before + orjson.dumps(name) + b":"
            yield from write_long_value(item)
            before = b","
        yield b"}"
    elif isinstance(value, list | tuple | np.ndarray) and len(value):
        yield from _write_long_list(value)
    else:
        yield write_value(value)


def join_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join pieces to chunks of at least `CHUNK_BYTES`; the last chunk may have fewer."""
    chunk = bytearray()
    for piece in pieces:
        chunk += piece
        if len(chunk) >= CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)


def _write_long_list(items: Sequence[object] | npt.NDArray[Any]) -> Iterator[bytes]:
    """Write a list whose items are about as long as the first: several at once, or each in pieces."""
    step = _MOST_ITEMS // _items(items[0])
    before = b"["
    for start in range(0, len(items), max(1, step)):
        yield before
        if step:
            yield write_value(items[start : start + step])[1:-1]
        else:
            yield from write_long_value(items[start])
        before = b","
    yield b"]"


def _items(value: object) -> int:
    """Return about how many numbers and strings a value has, judging lists by their first item."""
    if value is None or isinstance(value, (int, float, str)):
        return 1
    if isinstance(value, (list, tuple)):
        return len(value) * _items(value[0]) if value else 1
    if isinstance(value, np.ndarray):
        return max(1, value.size)
    if isinstance(value, Mapping):
        return 1 + sum(map(_items, value.values()))
    return 1


def _as_list(value: object) -> object:
    """Return what orjson cannot write as it can: arrays that are empty, or not contiguous."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError
