"""A fast path for small JSON documents of the usual kind.

A document whose tensors are arrays of numbers in one or two dimensions is parsed in one go: simdjson checks
that it is JSON, finds each array's end and length, and returns the numbers. This takes half the time of
`lossd.wire.json.document`, which reads every other document and reports every error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import simdjson

from lossd.types import TENSOR_DTYPES
from lossd.wire.json.syntax import thread

_Arrays: TypeAlias = dict[str, npt.NDArray[np.float64]]

LONGEST: Final = 1 << 17
"""The most bytes of a document: the parser's output for it fits the processor's second cache."""
_LEAST_ROW: Final = 200
"""The average bytes of a row from which this is faster: it asks simdjson for each row's length."""
_MOST_NAMES: Final = 16
_BRACKET: Final = ord("[")
_ELEMENTWISE: Final = frozenset(TENSOR_DTYPES) - {"mask", "groups", "ids"}  # booleans, and whole numbers


def read_small(text: memoryview) -> tuple[_Arrays, dict[str, object]] | None:
    """Return the tensors and the parameters of a document of at most `LONGEST` bytes.

    Returns:
        float64 arrays; and parameters that are strings, numbers, booleans or null. None for a document that
        is wrong or not of the usual kind.
    """
    try:
        return _read(text)
    except (ValueError, TypeError, RuntimeError, LookupError):  # by simdjson, on what is no JSON or no number
        return None


def _read(text: memoryview) -> tuple[_Arrays, dict[str, object]] | None:
    document = thread.parser.parse(text)
    if not isinstance(document, simdjson.Object) or len(document) > _MOST_NAMES:
        return None
    arrays: _Arrays = {}
    params: dict[str, object] = {}
    brackets = 0
    for name in document:  # items() would convert all arrays to lists
        if name in arrays or name in params or "\0" in name:  # simdjson looks names up only to there
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
    # The numbers come flat, however they were nested. More brackets than rows: there are rows in rows.
    if np.count_nonzero(np.frombuffer(text, dtype=np.uint8) == _BRACKET) != brackets:
        return None
    return arrays, params


def _read_array(value: simdjson.Array, nbytes: int) -> npt.NDArray[np.float64] | None:
    length = len(value)
    if not length:
        return None
    numbers = np.frombuffer(value.as_buffer(of_type="d"), dtype=np.float64)
    rows = cast("Sequence[simdjson.Array]", value)  # if the first item is one; else numbers
    if not isinstance(value.at_pointer("/0"), simdjson.Array):
        return numbers if len(numbers) == length else None
    if length * _LEAST_ROW > nbytes:
        return None
    widths = set(map(len, rows))  # a TypeError where one is no array
    if len(widths) > 1:
        return None
    return numbers.reshape(length, widths.pop())  # a ValueError where some hold rows themselves
