"""Small JSON documents of the usual kind, parsed at once.

A long document is read in parts (`lossd.wire.json.document`). One that the parser's memory holds as a whole,
and whose tensors are arrays of numbers in one or two dimensions, is parsed in one go: simdjson finds that it
is JSON, where each array ends and how long it is, and hands out the numbers. This takes half the time.
Whatever is unusual about a document, or wrong with it, is for the other way, which also knows what to say of
it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import simdjson

from lossd.types import TENSOR_DTYPES

_Arrays: TypeAlias = dict[str, npt.NDArray[np.float64]]

LONGEST: Final = 1 << 17
"""Bytes of a document, at most: what a parser builds from it fits the processor's second cache."""
_LEAST_ROW: Final = 200
"""Bytes of a row, on average, from which on it is quicker to ask for the length of each."""
_MOST_NAMES: Final = 16
_BRACKET: Final = ord("[")
_ELEMENTWISE: Final = frozenset(TENSOR_DTYPES) - {"mask"}  # numbers are not a mask's usual elements


class _Kept(threading.local):
    """A parser that each thread keeps: to touch a new one's memory takes longer than a short text does."""

    def __init__(self) -> None:
        self.parser = simdjson.Parser()


kept: Final = _Kept()


def read_small(text: memoryview) -> tuple[_Arrays, dict[str, object]] | None:
    """The tensors and the parameters of a document, in order.

    Args:
        text: At most `LONGEST` bytes.

    Returns:
        Parameters that are strings, numbers, true, false or null; and float64 arrays. None for a document
        that is not of the usual kind, or is at fault.
    """
    try:
        return _read(text)
    except (ValueError, TypeError, RuntimeError, LookupError):  # simdjson's, on what is no JSON or no number
        return None


def _read(text: memoryview) -> tuple[_Arrays, dict[str, object]] | None:
    document = kept.parser.parse(text)
    if not isinstance(document, simdjson.Object) or len(document) > _MOST_NAMES:
        return None
    arrays: _Arrays = {}
    params: dict[str, object] = {}
    brackets = 0
    for name in document:  # items() would make lists of all arrays
        if name in arrays or name in params or "\0" in name:  # simdjson looks up no further than that
            return None
        value = document[name]
        if isinstance(value, simdjson.Array):
            array = _read_array(value, len(text)) if name in _ELEMENTWISE else None
            if array is None:
                return None
            arrays[name] = array
            brackets += 1 + (len(array) if array.ndim == 2 else 0)
        elif (
            name in TENSOR_DTYPES
            or isinstance(value, simdjson.Object)
            or (isinstance(value, str) and not value.isascii())
        ):
            return None
        else:
            params[name] = value
    # Numbers are handed out flat, however they were nested; more brackets than rows are rows in rows.
    if np.count_nonzero(np.frombuffer(text, dtype=np.uint8) == _BRACKET) != brackets:
        return None
    return arrays, params


def _read_array(value: simdjson.Array, nbytes: int) -> npt.NDArray[np.float64] | None:
    length = len(value)
    if not length:
        return None
    numbers = np.frombuffer(value.as_buffer(of_type="d"), dtype=np.float64)
    rows = cast("Sequence[simdjson.Array]", value)  # if the first is one; else numbers
    if not isinstance(value.at_pointer("/0"), simdjson.Array):
        return numbers if len(numbers) == length else None
    if length * _LEAST_ROW > nbytes:
        return None
    widths = set(map(len, rows))  # a TypeError, where one is no array
    if len(widths) > 1:
        return None
    return numbers.reshape(length, widths.pop())  # a ValueError, where some have rows themselves
