"""One tensor in JSON: nested arrays of numbers, or a single number.

`walk_array` finds where an array ends and what shape it has, from its brackets and commas alone (see
`nesting`). `read_array` then parses it in parts that fit the processor's cache. The text is cut at commas. At
a cut the open brackets are closed, and opened again for the next part, so each part is an array too. The
numbers that simdjson finds in a part are written straight to the tensor's memory. The array is JSON if and
only if all its parts are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import simdjson

from lossd.error_text import pointer
from lossd.types import TENSOR_DTYPES, ErrorCode, RequestError
from lossd.wire.json.nesting import element_pointer, ragged, regular_shape, without_elements
from lossd.wire.json.special_numbers import (
    NO_SPECIAL,
    SPECIAL_NUMBERS,
    TAKEN,
    cut_behind_element,
    find_other_quote,
    restore_special,
    zero_special,
)
from lossd.wire.json.syntax import check_whole, malformed, parse
from lossd.wire.json.values import NotJsonError

JsonArray: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.bool_] | npt.NDArray[np.int64]
Allocate: TypeAlias = Callable[[str, tuple[int, ...], str], npt.NDArray[Any]]
"""Function from a tensor's name, shape and dtype to an array to write its elements to."""

_PART_BYTES: Final = 1 << 16  # the parser's output for it fits the processor's second cache

_WHOLE: Final = frozenset({"groups", "ids"})
"""The tensors of whole numbers, which become int64."""
_EXACT: Final = 2.0**53
"""Whole numbers from here on may have been rounded to others."""

_SPACES: Final = b" \t\r\n"
_NUMBER_BYTES: Final = b"-0123456789"
_ELEMENT: Final = re.compile(rb"[0-9tfnNI]")
_NOT_INITIALS: Final = bytes(set(range(256)) - set(b"tf"))  # of true and false
_NOT_A_NUMBER: Final = re.compile(rb'["{ntf]')
_NOT_A_NUMBER_OR_BOOL: Final = re.compile(rb'["{n]')
_FOR_NULL: Final = dict.fromkeys(
    ("logits", "probabilities", "boxes"),
    "to leave the element out of the loss, send 0 there and a mask that is false there; to have the loss "
    'show that it is missing, send "NaN" with allow_nan=true',
) | {
    "weight": "send 0 where an element counts but weighs nothing; to leave it out of the count too, a mask",
    "pos_weight": "send a number for each class, 1 where positives weigh no more than negatives",
    "class_weight": "send a number for each class, 1 where it weighs no more than others",
    "mask": "send true where an element counts, false where it is left out",
    "groups": "send an id of their own for rows of no group",
    "ids": "send an id of its own for each row",
    "baseline": "send the other model's number for each element",
}
"""The remedy for a null, which could mean several things."""
_KINDS: Final = {'"': "a string", "{": "an object", "n": "null", "t": "a boolean", "f": "a boolean"}


@dataclass(frozen=True, slots=True)
class ArrayText:
    """A tensor's array in a document.

    Attributes:
        end: Its end.
        shape: Its shape, by its brackets and commas; None where it is ragged or has more than 8 dimensions.
        structural: The number of its brackets and commas.
        bools: The first letters of its booleans, where those are allowed; empty where it holds strings.
    """

    end: int
    shape: tuple[int, ...] | None
    structural: int
    bools: bytes


def array_bytes(text_bytes: int) -> int:
    """Return the memory for the arrays that are built from some bytes of JSON.

    A number takes at least two bytes of text ("0,") and eight as a float64. Each array begins at a multiple
    of eight.
    """
    return 8 * (text_bytes // 2 + 1 + len(TENSOR_DTYPES))


def read_numbers(name: str, text: bytes) -> JsonArray:
    """Return the numbers of one JSON value: nested arrays, or a single number.

    Args:
        name: The tensor's name. It decides whether booleans are allowed.
        text: The value's text.

    Returns:
        The tensor: C-contiguous float64; int64 for ids; bool where booleans are allowed and there is nothing
        else.

    Raises:
        RequestError: ``malformed_json``, ``bad_shape`` or ``dtype_not_allowed``, with the place.
    """
    text = text.strip(_SPACES)
    found: list[JsonArray] = []

    def allocate(_: str, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
        found.append(np.empty(shape, dtype=dtype))
        return found[0]

    try:
        if text.startswith(b"["):
            view = memoryview(text)
            read_array(name, view, walk_array(name, view, 0), allocate)
        else:
            parse(text)
            read_scalar(name, text, allocate)
    except NotJsonError as error:
        raise malformed(memoryview(text), error) from None
    except RequestError:
        check_whole(memoryview(text))
        raise
    return found[0]


def walk_array(name: str, text: memoryview, start: int) -> ArrayText:
    """Find the end and the shape of a tensor's array: it ends before the next name, or with the document.

    Args:
        name: The tensor's name.
        text: The document.
        start: The array's opening bracket.
    """
    bools_allowed = "bool" in TENSOR_DTYPES[name]
    structures: list[bytes] = []
    initials: list[bytes] = []
    at = end = start
    quote = -1
    special = False
    while at < len(text) and quote < 0:
        part = bytes(text[at : at + _PART_BYTES])
        quote = part.find(b'"')
        if quote >= 0 and name not in NO_SPECIAL:
            part = cut_behind_element(text, at, _PART_BYTES)
            quote = find_other_quote(part)
        if quote >= 0:
            part = part[:quote]
        special = special or b'"' in part
        structures.append(without_elements(part))
        if bools_allowed and (b"t" in part or b"f" in part):
            initials.append(part.translate(None, _NOT_INITIALS))
        if (close := part.rfind(b"]")) >= 0:
            end = at + close + 1
        at += len(part)
    structure = b"".join(structures)
    skeleton = structure[: structure.rfind(b"]") + 1]
    shape = regular_shape(skeleton, empty=not _ELEMENT.search(text, start, end))
    if shape is None and structure.count(b"[") != structure.count(b"]"):
        if quote < 0:
            raise not_closed(start)
        raise _wrong_element(name, bytes(text[start:at]) + b'"')
    return ArrayText(end, shape, len(skeleton), b"" if special else b"".join(initials))


def not_closed(start: int) -> NotJsonError:
    """Return the error of an array or object without an end."""
    return NotJsonError(f"what begins at byte {start} is not closed")


def read_array(name: str, text: memoryview, array: ArrayText, allocate: Allocate) -> None:
    """Read a tensor of one dimension or more.

    Args:
        name: The tensor's name.
        text: The array's text.
        array: The result of `walk_array` for it.
        allocate: Called once, for the tensor's memory.
    """
    shape = array.shape
    count = 0 if shape is None else math.prod(shape)
    only_bools = 0 < len(array.bools) == count
    # One byte for each element. None is missing, as could be in [[12],[]].
    only_digits = len(text) - array.structural == count and shape is not None and shape[-1] > 1
    elements: Iterator[npt.NDArray[Any]]
    if only_bools:
        elements = _bools(text, array.bools)
    elif only_digits:
        elements = _digits(text)
    else:
        elements = _floats(name, text)
    # A text this short cannot hold so many elements, nor is there memory for them: it is wrong.
    if shape is None or 2 * count >= len(text):
        for _ in elements:
            pass
        raise ragged(name, bytes(text))
    dtype = "bool" if only_bools else _dtype_of(name)
    into = allocate(name, shape, dtype).reshape(-1)
    filled = 0
    for some in elements:
        if name == "mask" and not only_bools:
            _check_mask(some, filled, shape)
        elif name in _WHOLE:
            _check_whole(name, some, filled, shape)
        into[filled : filled + some.size] = some
        filled += some.size
    if filled < count:
        raise ragged(name, bytes(text))


def read_scalar(name: str, text: bytes, allocate: Allocate) -> None:
    """Read a tensor of no dimensions. The validation of all formats decides whether one is allowed."""
    if text in (b"true", b"false") and "bool" in TENSOR_DTYPES[name]:
        allocate(name, (), "bool")[...] = text == b"true"
    elif text[0] in _NUMBER_BYTES:
        number = np.array([float(text)])
        if name == "mask":
            _check_mask(number, 0, ())
        elif name in _WHOLE:
            _check_whole(name, number, 0, ())
        allocate(name, (), _dtype_of(name))[...] = number[0]
    elif text in SPECIAL_NUMBERS and name not in NO_SPECIAL:
        allocate(name, (), "float64")[...] = SPECIAL_NUMBERS[text]
    else:
        raise _wrong_element(name, text)


def _check_mask(numbers: npt.NDArray[Any], first: int, shape: tuple[int, ...]) -> None:
    """Refuse a mask's numbers other than 0 and 1.

    Args:
        numbers: Some of the mask's elements, in order.
        first: The number of elements before them.
        shape: The mask's shape.

    Raises:
        RequestError: ``weight_out_of_range``.
    """
    wrong = np.flatnonzero((numbers != 0) & (numbers != 1))
    if len(wrong):
        place = _place("mask", first + int(wrong[0]), shape)
        seen = f"{numbers[wrong[0]]:.17g} is neither 0 nor 1"
        detail = (
            f"mask: {seen} at {place}; a mask holds true or 1 where an element counts and false or 0 where "
            "it is dropped; numbers that weigh go into weight"
        )
        raise RequestError(ErrorCode.WEIGHT_OUT_OF_RANGE, detail, [(place, seen)])


def _dtype_of(name: str) -> str:
    return "int64" if name in _WHOLE else "float64"


def _check_whole(name: str, numbers: npt.NDArray[Any], first: int, shape: tuple[int, ...]) -> None:
    """Refuse ids that are no whole numbers, or too large to be sure of.

    Args:
        name: The tensor's name.
        numbers: Some of its elements, in order.
        first: The number of elements before them.
        shape: Its shape.

    Raises:
        RequestError: ``dtype_not_allowed``.
    """
    wrong = np.flatnonzero((numbers != np.trunc(numbers)) | (np.abs(numbers) >= _EXACT))
    if len(wrong):
        place = _place(name, first + int(wrong[0]), shape)
        seen = f"{numbers[wrong[0]]:.17g} is no whole number below 2**53 in magnitude"
        detail = f"{name}: {seen} at {place}; send such numbers, or larger ones as binary integers"
        raise RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail, [(place, seen)])


def _place(name: str, position: int, shape: tuple[int, ...]) -> str:
    """Return the pointer to the element at a position in C order."""
    index = np.unravel_index(position, shape) if shape else ()
    return pointer(name, *map(int, index))


def _floats(name: str, text: memoryview) -> Iterator[npt.NDArray[np.float64]]:
    """Yield an array's numbers, part by part; booleans are 0 and 1 where they are allowed."""
    bools_allowed = "bool" in TENSOR_DTYPES[name]
    for part, inside in _parts(text):
        plain = zero_special(name, part)
        if bools_allowed and (b"t" in plain or b"f" in plain):
            # The spaces keep neighbours apart: 1true must not become 11.
            plain = plain.replace(b"true", b" 1  ").replace(b"false", b"  0  ")
        try:
            flat = cast("simdjson.Array", parse(plain)).as_buffer(of_type="d")
        except TypeError:
            raise _wrong_element(name, bytes(text)) from None
        numbers = np.frombuffer(flat, dtype=np.float64)
        if plain is not part and (b'"' in part or b"n" in part):
            numbers = restore_special(part, numbers)
        yield numbers[inside]


def _digits(text: memoryview) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield an array's numbers, part by part, where each is one digit and there are no spaces."""
    for part, inside in _parts(text):
        parse(part)
        yield np.frombuffer(part.translate(None, b"[],"), dtype=np.uint8)[inside] - ord("0")


def _bools(text: memoryview, initials: bytes) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield an array's elements, where all of them are booleans."""
    for part, _ in _parts(text):
        parse(part)
    yield np.frombuffer(initials, dtype=np.uint8) == ord("t")


def _parts(text: memoryview) -> Iterator[tuple[bytes, slice]]:
    """Cut an array into parts that are arrays too.

    A part ends behind a comma. It gets a 0 for the value that must follow, and the next part gets one for the
    values before it, each inside as many brackets as are open there.

    Yields:
        A part's text, and the slice of its numbers that are the array's own.
    """
    start, depth = 0, 0
    while start < len(text):
        size, comma = _PART_BYTES, -1
        while comma < 0 and start + size < len(text):
            comma = bytes(text[start : start + size]).rfind(b",")
            size *= 2
        end = len(text) if comma < 0 else start + comma + 1
        part = bytes(text[start:end])
        if end - start == len(text):
            yield part, slice(None)
            return
        before = b"[" * depth + b"0," if start else b""
        depth += part.count(b"[") - part.count(b"]")
        after = b"0" + b"]" * depth if end < len(text) else b""
        yield before + part + after, slice(1 if before else 0, -1 if after else None)
        start = end


def _wrong_element(name: str, text: bytes) -> RequestError:
    """Return the error of the first element that is not a number, nor a boolean where those are allowed."""
    bools = "bool" in TENSOR_DTYPES[name]
    plain = text if text[:1] == b"n" else zero_special(name, text)  # null alone is an element nowhere
    found = (_NOT_A_NUMBER_OR_BOOL if bools else _NOT_A_NUMBER).search(plain)
    assert found is not None  # or there would be no error
    before = plain[: found.start()]
    where = element_pointer(name, before) if before else pointer(name)
    initial = found[0].decode()
    seen = f"{_KINDS[initial]}, not a number{' or a boolean' if bools else ''}"
    detail = f"{where} is {seen}; {_remedy(name, initial, whole=not before)}"
    return RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail, [(where, seen)])


def _remedy(name: str, initial: str, *, whole: bool) -> str:
    """Return what to send instead of a wrong element.

    Args:
        name: The tensor's name.
        initial: The element's first byte.
        whole: Whether it is all of the tensor's value.
    """
    if initial == '"' and name in _WHOLE:
        return f"send {name} as whole numbers, or strings in an Arrow stream"
    numbers = "booleans, or of 0 and 1" if name == "mask" else "numbers"
    if initial == '"' and name not in NO_SPECIAL:
        return f"send {name} as nested arrays of {numbers}; {TAKEN}"
    if initial in "tf":
        swapped = f"; are {name} and targets swapped?" if name in ("logits", "probabilities", "boxes") else ""
        return f"send {name} as nested arrays of numbers{swapped}"
    if initial != "n" or whole:
        return f"send {name} as nested arrays of {numbers}"
    return _FOR_NULL.get(name, f"send {numbers}")
