r"""The elements of a JSON tensor that are no numbers: ``"NaN"``, ``"Infinity"``, ``"-Infinity"`` and null.

The parser knows numbers only. So each of these gets a 0 of the same length in its place before it parses a
text, and the numbers that it finds are set right afterwards: the commas before an element count those before
it. What is written with an escape, such as ``"N\u0061N"``, is another string.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

_Floats: TypeAlias = npt.NDArray[np.float64]

WORDS: Final[Mapping[bytes, float]] = {
    b'"NaN"': math.nan,
    b'"Infinity"': math.inf,
    b'"-Infinity"': -math.inf,
}
"""The strings that stand for numbers."""
TAKEN: Final = 'of strings, only "NaN", "Infinity" and "-Infinity" are taken for numbers'
"""What to say where another string stands."""

WORDLESS: Final = frozenset({"mask"})
"""The tensors that have no such elements."""
NULLABLE: Final = frozenset({"targets"})
"""The tensors in which null is an element, which stands for NaN."""

_QUOTE, _COMMA = b'",'
_NULL_INITIAL: Final = ord("n")
# From one quote on, words that are elements, and what is between them.
_RUN: Final = re.compile(rb'(?:"(?:NaN|-?Infinity)"(?=[ \t\r\n]*+[,\]])[^"]*+)*+')
_BY_INITIAL: Final = np.full(256, math.nan)
_BY_INITIAL[ord("I")] = math.inf
_BY_INITIAL[ord("-")] = -math.inf


def find_other_quote(text: bytes, start: int = 0) -> int:
    """Where the first quote is that begins no element; -1 where there is none.

    Args:
        text: From within an array on, and at its end behind a comma or a bracket, if it goes on behind that.
        start: Where to begin.
    """
    quote = text.find(b'"', start)
    if quote < 0:
        return -1
    run = _RUN.match(text, quote)
    assert run is not None  # it matches the empty text
    return run.end() if run.end() < len(text) else -1


def cut_behind_element(text: memoryview, start: int, size: int) -> bytes:
    """A part of a text of about so many bytes, which does not end within a string that is an element."""
    while start + size < len(text):
        piece = bytes(text[start : start + size])
        end = max(piece.rfind(b","), piece.rfind(b"]")) + 1
        if end:
            return piece[:end]
        size *= 2
    return bytes(text[start:])


def blank_words(name: str, text: bytes) -> bytes:
    """A text with a 0 in the place of each of these elements.

    Args:
        name: Of the tensor whose text it is.
        text: Of an array, or a part of one.
    """
    if name not in WORDLESS and b'"' in text:
        for word in WORDS:
            text = text.replace(word, b" 0".ljust(len(word)))  # which does not join what is beside it
    if name in NULLABLE and b"n" in text:
        text = text.replace(b"null", b" 0  ")
    return text


def set_words(text: bytes, numbers: _Floats) -> _Floats:
    """An array's numbers, with those elements as they are that had a 0 in their place.

    Args:
        text: Of the array, before `blank_words`; it has nothing but these elements, numbers and booleans.
        numbers: Flat. Fewer than the commas say where the array is ragged, which is for others to find.
    """
    letters = np.frombuffer(text, dtype=np.uint8)
    quotes = np.flatnonzero(letters == _QUOTE)
    opening = quotes[::2]
    values = _BY_INITIAL[letters[opening + 1]]
    # Infinity has an n, too, but always behind an odd number of quotes.
    initials = np.flatnonzero(letters == _NULL_INITIAL)
    nulls = initials[np.searchsorted(quotes, initials) % 2 == 0]
    places = np.concatenate((opening, nulls))
    values = np.concatenate((values, np.full(nulls.size, math.nan)))
    elements = np.cumsum(letters == _COMMA)[places]
    there = elements < numbers.size
    numbers = numbers.copy()
    numbers[elements[there]] = values[there]
    return numbers
