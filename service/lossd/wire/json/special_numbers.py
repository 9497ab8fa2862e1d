r"""Elements of a JSON tensor that are not JSON numbers: ``"NaN"``, ``"Infinity"``, ``"-Infinity"`` and null.

The parser knows numbers only. So each special number is replaced by a 0 of the same length before a text is
parsed, and put back into the parsed numbers: its index is the number of commas before it. A string with an
escape, such as ``"N\u0061N"``, is another string.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

_Floats: TypeAlias = npt.NDArray[np.float64]

SPECIAL_NUMBERS: Final[Mapping[bytes, float]] = {
    b'"NaN"': math.nan,
    b'"Infinity"': math.inf,
    b'"-Infinity"': -math.inf,
}
"""The strings that stand for numbers."""
TAKEN: Final = 'of strings, only "NaN", "Infinity" and "-Infinity" are taken for numbers'
"""The remedy where another string is found."""

NO_SPECIAL: Final = frozenset({"mask", "groups", "ids"})
"""The tensors that may not have special numbers."""
NULLABLE: Final = frozenset({"targets"})
"""The tensors in which null is allowed and means NaN."""

_QUOTE, _COMMA = b'",'
_NULL_INITIAL: Final = ord("n")
# From a quote on: special numbers, and what is between them.
_RUN: Final = re.compile(rb'(?:"(?:NaN|-?Infinity)"(?=[ \t\r\n]*+[,\]])[^"]*+)*+')
_BY_INITIAL: Final = np.full(256, math.nan)
_BY_INITIAL[ord("I")] = math.inf
_BY_INITIAL[ord("-")] = -math.inf


def find_other_quote(text: bytes, start: int = 0) -> int:
    """Find the first quote that begins no special number; return -1 where there is none.

    Args:
        text: A text that begins within an array. If the array goes on behind it, it ends behind a comma or a
            bracket.
        start: Where to begin.
    """
    quote = text.find(b'"', start)
    if quote < 0:
        return -1
    run = _RUN.match(text, quote)
    assert run is not None  # it matches the empty text
    return run.end() if run.end() < len(text) else -1


def cut_behind_element(text: memoryview, start: int, size: int) -> bytes:
    """Return about ``size`` bytes of a text, ending behind an element or with the text."""
    while start + size < len(text):
        part = bytes(text[start : start + size])
        end = max(part.rfind(b","), part.rfind(b"]")) + 1
        if end:
            return part[:end]
        size *= 2
    return bytes(text[start:])


def zero_special(name: str, text: bytes) -> bytes:
    """Return a text of the same length with a 0 for each special number.

    Args:
        name: The tensor's name.
        text: An array, or a part of one.
    """
    if name not in NO_SPECIAL and b'"' in text:
        for special in SPECIAL_NUMBERS:
            text = text.replace(special, b" 0".ljust(len(special)))  # the spaces keep neighbours apart
    if name in NULLABLE and b"n" in text:
        text = text.replace(b"null", b" 0  ")
    return text


def restore_special(text: bytes, numbers: _Floats) -> _Floats:
    """Return an array's numbers with the special numbers put back.

    Args:
        text: The array before `zero_special`; it holds only special numbers, numbers and booleans.
        numbers: The numbers, flat. A ragged array has fewer than its commas say; others report that.
    """
    letters = np.frombuffer(text, dtype=np.uint8)
    quotes = np.flatnonzero(letters == _QUOTE)
    opening = quotes[::2]
    values = _BY_INITIAL[letters[opening + 1]]
    # Infinity has an n too, but always behind an odd number of quotes.
    initials = np.flatnonzero(letters == _NULL_INITIAL)
    nulls = initials[np.searchsorted(quotes, initials) % 2 == 0]
    places = np.concatenate((opening, nulls))
    values = np.concatenate((values, np.full(nulls.size, math.nan)))
    elements = np.cumsum(letters == _COMMA)[places]
    there = elements < numbers.size
    numbers = numbers.copy()
    numbers[elements[there]] = values[there]
    return numbers
