"""The shape of nested arrays, computed from their JSON text.

simdjson returns the numbers of an array flat, without their nesting. The nesting is found here. Without
elements and spaces only brackets and commas are left, the skeleton, and a regular array's skeleton is
determined by its shape. So the shape is taken from the first arrays, and the whole skeleton is compared with
the one that the shape gives. Only an array that is wrong is read again, more slowly, to find the place.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from lossd.error_text import pointer
from lossd.types import MAX_DIMENSIONS, ErrorCode, RequestError

_Tokens: TypeAlias = npt.NDArray[np.uint8]
_Depths: TypeAlias = npt.NDArray[np.int16]

_SPACES: Final = b" \t\r\n"
_NUMBERS: Final = b"0123456789+-.eE"
_SPECIAL: Final = b'truefalsn"NaIity'  # of true, false, null, "NaN" and "Infinity"
_OPEN, _CLOSE, _COMMA, _NUMBER = b"[],0"
_SHOWN_STEPS: Final = MAX_DIMENSIONS + 1


def without_elements(text: bytes) -> bytes:
    """Return the skeleton of an array, or of a part of one: its brackets and commas."""
    return text.translate(None, _SPACES + _NUMBERS + _SPECIAL)


def regular_shape(skeleton: bytes, *, empty: bool) -> tuple[int, ...] | None:
    """Return the shape of an array of numbers, booleans and special numbers.

    Args:
        skeleton: The array's skeleton. The array need not be JSON.
        empty: Whether the array has no elements. ``[]`` and ``[0]`` have the same skeleton.

    Returns:
        The shape of a regular array with this skeleton; None where there is none, or it has more than 8
        dimensions. An array with fewer elements than this shape is ragged, such as ``[[0],[]]``.
    """
    depth = len(skeleton) - len(skeleton.lstrip(b"["))
    if not 0 < depth <= MAX_DIMENSIONS:
        return None
    commas = skeleton.find(b"]", depth) - depth
    if commas < 0:
        return None
    shape = [0 if empty and not commas else commas + 1]
    unit = b"[" + b"," * commas + b"]"
    for level in range(2, depth + 1):
        # The first array of this level ends where so many brackets close together.
        end = skeleton.find(b"]" * level)
        length, odd = divmod(end + level - (depth - level) - 1, len(unit) + 1)
        if end < 0 or odd:
            return None
        shape.insert(0, length)
        unit = _repeat(unit, length, len(skeleton))
    return tuple(shape) if skeleton == unit else None


def ragged(name: str, text: bytes) -> RequestError:
    """Return the error of an array that has no `regular_shape`, with the first place that differs.

    Args:
        name: The tensor's name.
        text: The array's text, with no brackets or commas in its elements.
    """
    tokens, depths = _tokenise(text)
    dimensions = int(np.argmax(tokens != _OPEN))
    if dimensions > MAX_DIMENSIONS:
        detail = f"{name} has more than {MAX_DIMENSIONS} dimensions; send 1 to {MAX_DIMENSIONS}"
        return RequestError(
            ErrorCode.BAD_SHAPE, detail, [(pointer(name), f"{dimensions} or more dimensions")]
        )
    shape = [_length(tokens, depths, opened) for opened in range(dimensions)]
    expected = np.frombuffer(_expect(shape, tokens.size), dtype=np.uint8)
    common = min(tokens.size, expected.size)
    at = int(np.argmax(tokens[:common] != expected[:common]))
    path = _path(tokens[:at], depths[:at])
    if {int(tokens[at]), int(expected[at])} == {_NUMBER, _OPEN}:
        found = "a number" if tokens[at] == _NUMBER else "an array"
        seen = f"{found}, but the first at this depth is {'an array' if found == 'a number' else 'a number'}"
    else:
        path.pop()
        seen = f"{_length_at(tokens, depths, at)} elements, but the arrays before have {shape[len(path)]}"
    where = pointer(name, *path)
    remedy = (
        "send arrays of one length at each depth; pad shorter ones, and send a mask that drops the padding"
    )
    detail = f"{name} is ragged: {where} has {seen}; {remedy}"
    return RequestError(ErrorCode.BAD_SHAPE, detail, [(where, seen)])


def element_pointer(name: str, before: bytes) -> str:
    """Return the JSON pointer to an element.

    Args:
        name: The tensor's name.
        before: The array's text up to the element, with no brackets or commas in its elements.
    """
    tokens, depths = _tokenise(before)
    return pointer(name, *_path(tokens, depths))


def _repeat(unit: bytes, length: int, most: int) -> bytes:
    """Return an array of ``length`` units, cut behind ``most`` bytes."""
    fitting = min(length, most // (len(unit) + 1) + 2)
    items = (unit + b",") * fitting
    return b"[" + (items[:-1] + b"]" if fitting == length else items)[: most + 1]


def _expect(shape: list[int], most: int) -> bytes:
    """Return the tokens of a regular array, at least the first ``most`` of them."""
    unit = b"0"
    for length in reversed(shape):
        unit = _repeat(unit, length, most) if length else b"[]"
    return unit


def _tokenise(text: bytes) -> tuple[_Tokens, _Depths]:
    """Return the tokens: brackets, commas, a 0 for each number; and behind each, the depth of nesting."""
    dense = np.frombuffer(text.translate(None, _SPACES), dtype=np.uint8)
    structural = (dense == _OPEN) | (dense == _CLOSE) | (dense == _COMMA)
    first = structural.copy()
    first[1:] |= structural[:-1]
    tokens = np.where(structural, dense, np.uint8(_NUMBER))[first]
    steps = (tokens == _OPEN).astype(np.int8) - (tokens == _CLOSE).astype(np.int8)
    return tokens, np.cumsum(steps, dtype=np.int16)


def _path(tokens: _Tokens, depths: _Depths) -> list[int]:
    """Return the index at each depth of the place where the tokens end: an element, or an array's end."""
    path: list[int] = []
    begin = 0
    for level in range(1, min(int(depths[-1]), _SHOWN_STEPS) + 1):
        opened = (tokens[begin:] == _OPEN) & (depths[begin:] == level)
        begin += opened.size - 1 - int(np.argmax(opened[::-1]))
        path.append(int(np.count_nonzero((tokens[begin:] == _COMMA) & (depths[begin:] == level))))
    return path


def _length_at(tokens: _Tokens, depths: _Depths, at: int) -> int:
    """Return the length of the innermost array that is open before a token."""
    level = int(depths[at - 1])
    opened = (tokens[:at] == _OPEN) & (depths[:at] == level)
    return _length(tokens, depths, at - 1 - int(np.argmax(opened[::-1])))


def _length(tokens: _Tokens, depths: _Depths, opened: int) -> int:
    """Return the length of the array that a token opens."""
    level = int(depths[opened])
    if tokens[opened + 1] == _CLOSE:
        return 0
    size = int(np.argmax(depths[opened:] < level))
    inside = slice(opened, opened + size)
    return int(np.count_nonzero((tokens[inside] == _COMMA) & (depths[inside] == level))) + 1
