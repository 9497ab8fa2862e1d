"""Numbers in the JSON object of an inference request: the arrays named ``data``, flat or nested in C order.

The object is small but for these arrays. So they are cut out of the text before the rest is parsed as plain
JSON, and each is parsed by itself once its tensor's shape and datatype are known.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from lossd.error_text import pointer
from lossd.types import INTEGERS, ErrorCode, Float64Array, RequestError
from lossd.wire.inference.objects import DATATYPES, malformed
from lossd.wire.json.arrays import JsonArray, read_numbers
from lossd.wire.json.special_numbers import TAKEN, find_other_quote

MAX_DESCRIPTION_BYTES: Final = 1 << 20
"""The most bytes of the JSON object beside its ``data``."""

_EXACT: Final = 2.0**53
# A string is closed, or goes on to the end. The group after it is set if it is the name of an array.
_STRING: Final = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"?+(?:\s*+:\s*+(\[))?+', re.DOTALL)


class DataText(NamedTuple):
    """The place of an input's array in the body."""

    start: int
    end: int


class Input(NamedTuple):
    """An input: its number in the list, its name, its datatype and its shape."""

    number: int
    name: str
    datatype: str
    shape: tuple[int, ...]


def cut_data(text: bytes) -> tuple[bytes, list[DataText]]:
    """Cut the arrays named ``data`` out of the object, wherever they stand.

    The rest is JSON if the whole is, and the whole is JSON if the rest and every array are.

    Returns:
        The rest, with a list that holds an array's index in its place; and the places of the arrays.

    Raises:
        RequestError: ``bad_request``: the rest is too long. Or as `_array_end` does.
    """
    kept: list[bytes] = []
    arrays: list[DataText] = []
    at = cut = position = 0
    while found := _STRING.search(text, position):
        position = found.end()
        if found[2] and _is_data(found[1]):
            start = found.start(2)
            position = _array_end(text, start)
            kept += (text[at:start], b"[%d]" % len(arrays))
            arrays.append(DataText(start, position))
            at = position
            cut += position - start
        if position - cut > MAX_DESCRIPTION_BYTES:
            break
    if len(text) - cut > MAX_DESCRIPTION_BYTES:
        detail = f"the JSON object has more than {MAX_DESCRIPTION_BYTES} bytes beside the arrays named data"
        raise RequestError(ErrorCode.BAD_REQUEST, f"{detail}; send inputs, and parameters that are short")
    return b"".join((*kept, text[at:])), arrays


def _is_data(literal: bytes) -> bool:
    """Return whether a string, without its quotes, is ``data``."""
    if b"\\" not in literal:
        return literal == b"data"
    try:
        return bool(orjson.loads(b'"' + literal + b'"') == "data")
    except orjson.JSONDecodeError:  # parsing the rest will report it
        return False


def _array_end(text: bytes, start: int) -> int:
    """Find the end of an array: its last bracket before anything that is no element.

    Raises:
        RequestError: ``dtype_not_allowed``: it holds an object, or a string that stands for no number.
            ``malformed_json``: it is not closed.
    """
    stop = find_other_quote(text, start)
    stop = len(text) if stop < 0 else stop
    for brace in (b"{", b"}"):
        place = text.find(brace, start, stop)
        stop = stop if place < 0 else place
    if text.count(b"[", start, stop) <= text.count(b"]", start, stop):
        return text.rindex(b"]", start, stop) + 1
    kind = {b'"': "a string", b"{": "an object"}.get(text[stop : stop + 1])
    if kind is None or not text[start:stop].rstrip().endswith((b"[", b",")):
        raise malformed(text, f"the array that begins at byte {start} is not closed")
    remedy = f"send numbers, or booleans where the datatype is BOOL; {TAKEN}"
    detail = f"data holds {kind} at byte {stop}; {remedy}"
    raise RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail)


def read_data(
    described: Input, given: Mapping[str, object], text: bytes, arrays: Sequence[DataText]
) -> JsonArray:
    """Return the numbers of an input that stand in the object, rounded to its datatype.

    Args:
        described: The input.
        given: The input's members.
        text: The object.
        arrays: The places of its arrays.

    Raises:
        RequestError: ``missing_tensor``, ``malformed_json``, ``bad_shape``, ``shape_mismatch`` or
            ``dtype_not_allowed``.
    """
    name, datatype, shape = described.name, described.datatype, described.shape
    place = pointer("inputs", described.number, "data")
    index = given.get("data")
    if index is None:
        detail = f"the input {name} has neither data nor binary_data_size; send one of the two"
        raise RequestError(ErrorCode.MISSING_TENSOR, detail, [(place, "missing")])
    if not isinstance(index, list):
        detail = f"the data of {name} is not an array; send [...]"
        raise RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail, [(place, "not an array")])
    start, end = arrays[index[0]]
    try:
        array = read_numbers(name, text[start:end])
    except RequestError as error:
        if error.code != ErrorCode.MALFORMED_JSON:
            raise
        detail = f"the data of {name}, from byte {start} on, cannot be read: {error.detail}"
        raise RequestError(error.code, f"{detail} (or as binary data)", [(place, "malformed")]) from None
    nested = shape if array.size else shape[: array.ndim]  # an empty list does not show the inner lengths
    if array.size != math.prod(shape) or (array.ndim != 1 and array.shape != nested):
        detail = f"{name} has the shape {list(shape)}, but its data has {list(array.shape)}"
        remedy = f"send {math.prod(shape)} numbers, flat or nested in that shape"
        raise RequestError(
            ErrorCode.SHAPE_MISMATCH, f"{detail}; {remedy}", [(place, f"shape {list(array.shape)}")]
        )
    flat = array.reshape(-1)
    fitted, fits = _fit(flat, DATATYPES[datatype])
    if not fits.all():
        raise _misfit(described, flat, int(np.argmin(fits)))
    return fitted.reshape(shape)


def _fit(flat: JsonArray, dtype: str) -> tuple[JsonArray, npt.NDArray[np.bool_]]:
    """Round numbers to their dtype, so that they equal the same numbers sent as binary data.

    Returns:
        The numbers, and for each whether the dtype can hold it.
    """
    if dtype == "bool":
        return flat.astype(np.bool_), (flat == 0) | (flat == 1)
    if flat.dtype == np.bool_:
        return flat, np.zeros(flat.shape, dtype=np.bool_)
    if dtype in INTEGERS:
        bounds = np.iinfo(dtype)
        fits = (flat == np.trunc(flat)) & (flat >= bounds.min) & (flat <= bounds.max)
        return flat, fits & (np.abs(flat) < _EXACT)
    rounded = nearest(flat.astype(np.float64, copy=False), dtype)
    return rounded, np.isfinite(rounded) | ~np.isfinite(flat)


def _misfit(described: Input, flat: JsonArray, index: int) -> RequestError:
    """Return the error of a number that an input's datatype cannot hold."""
    datatype = described.datatype
    if not np.isfinite(flat[index]):
        remedy = "declare FP32 or FP64, which do"
    elif datatype == "BOOL":
        remedy = "declare one that does, or send true or false"
    elif flat.dtype == np.bool_:
        remedy = "send numbers, or declare BOOL"
    elif DATATYPES[datatype] in INTEGERS:
        remedy = "declare one that does, and send integers past 2^53 as binary data"
    else:
        remedy = "declare a wider one"
    place = pointer(described.name, *map(int, np.unravel_index(index, described.shape)))
    value = json.dumps(flat[index].item())  # which has words for numbers that are not finite
    detail = f"{place} is {value}, which the datatype {datatype} does not hold; {remedy}"
    return RequestError(ErrorCode.DTYPE_NOT_ALLOWED, detail, [(place, f"{value} is not {datatype}")])


def nearest(flat: Float64Array, dtype: str) -> Float64Array:
    """Round to the nearest numbers of a floating-point dtype; infinite beyond the largest."""
    if dtype == "float64":
        return flat
    with np.errstate(over="ignore"):
        if dtype != "bfloat16":
            return flat.astype(dtype).astype(np.float64)
        bits = flat.astype(np.float32).view(np.uint32)
    # The upper half of a float32, rounded half to even: add half a unit, less one bit unless the half is odd.
    halves = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return halves.view(np.float32).astype(np.float64)
