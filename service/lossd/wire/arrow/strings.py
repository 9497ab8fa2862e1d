"""Columns of strings: the layouts in which Arrow stores them, checked, and the order of the strings.

A utf8 column has two buffers: where each string begins and the last one ends, and the strings. A utf8_view
column has 16 bytes a row, which hold a string of at most 12 bytes, or say where in further buffers it stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from lossd.error_text import pointer
from lossd.types import ErrorCode, RequestError
from lossd.wire.arrow.record_batch import Collected
from lossd.wire.arrow.schema import STRINGS, malformed
from lossd.wire.reader import StringRows

MAX_STRING_BYTES: Final = 256
"""The longest string."""

PART_ROWS: Final = 1 << 14
"""The most rows whose strings are read at a time, which takes a few milliseconds."""

_INLINE: Final = 12
"""The longest string that stands in its view."""

_WORD_BYTES: Final = 7  # of a string that are compared at a time; an eighth byte is for the length

Integers: TypeAlias = npt.NDArray[np.int64]


def read_strings(column: Collected) -> Iterator[StringRows]:
    """Yield the strings of a column of one batch, some rows at a time.

    Raises:
        RequestError: ``malformed_arrow``, or ``bad_shape`` for a string that is too long.
    """
    parts = _views if column.field.kind == "utf8_view" else _slices
    for first in range(0, column.rows, PART_ROWS):
        rows = parts(column, first, min(first + PART_ROWS, column.rows))
        _check_utf8(rows, column, first)
        yield rows


def texts(strings: StringRows) -> list[bytes]:
    """Return strings (of rows without an index) one by one."""
    data = strings.data
    return [data[begin:end] for begin, end in pairwise(strings.offsets.tolist())]


def gather(pieces: Sequence[memoryview]) -> StringRows:
    """Return strings that are copied together from several places."""
    offsets = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum([len(piece) for piece in pieces], out=offsets[1:])
    return StringRows(b"".join(pieces), offsets)


def ranks(strings: StringRows) -> Integers:
    """Return for each string (of rows without an index) how many of the others sort before it.

    The order is that of the bytes, which for UTF-8 is that of the code points. Strings are compared seven
    bytes at a time; those that were told apart are left out of the next round.
    """
    words = np.ndarray(len(strings.data) + 1, ">u8", strings.data + bytes(8), strides=(1,))
    begin, left = strings.offsets[:-1], np.diff(strings.offsets)
    found = np.zeros(len(begin), np.int64)
    tied = np.arange(len(begin))
    done = 0  # bytes compared
    while len(tied) > 1:
        rest = left[tied] - done
        shift = (8 * (8 - np.clip(rest, 0, _WORD_BYTES))).astype(np.uint64)
        # A string that ends before another that begins like it is the lesser: hence the length.
        word = np.where(rest > 0, words[begin[tied] + np.minimum(done, left[tied])] >> shift << shift, 0)
        word |= np.minimum(rest, 8).astype(np.uint64)
        order = np.lexsort((word, found[tied]))
        tied, word, rest = tied[order], word[order], rest[order]
        group = found[tied]
        new_group = np.append(True, group[1:] != group[:-1])
        new = new_group | np.append(True, word[1:] != word[:-1])
        place = np.arange(len(tied))
        starts = np.maximum.accumulate(np.where(new, place, 0))
        found[tied] = group + starts - np.maximum.accumulate(np.where(new_group, place, 0))
        alone = new & np.append(new[1:], True)
        tied = tied[~alone & (rest > _WORD_BYTES)]
        done += _WORD_BYTES
    return found


def too_long(name: str, length: int, row: int) -> RequestError:
    """Return the error of a string that is too long."""
    seen = f"a string of {length} bytes in row {row}"
    remedy = "send shorter ones that still tell all apart"
    detail = f"{name} has {seen}, at most {MAX_STRING_BYTES} are taken; {remedy}"
    return RequestError(ErrorCode.BAD_SHAPE, detail, [(pointer(name, row), seen)])


def _slices(column: Collected, first: int, end: int) -> StringRows:
    """Return the strings of rows that are stored one after the other."""
    size = STRINGS[column.field.kind]
    dtype = np.dtype(f"{'>' if column.field.big_endian else '<'}i{size}")
    offsets = np.frombuffer(column.buffers[0], dtype, end - first + 1, first * size).astype(np.int64)
    data = column.buffers[1]
    begins, ends = offsets[:-1], offsets[1:]
    wrong = (begins > ends) | (begins < 0) | (ends > len(data))  # a difference could overflow
    if wrong.any():
        row = int(wrong.argmax())
        seen = f"from byte {offsets[row]} to byte {offsets[row + 1]} of {len(data)}"
        raise malformed(f"{_place(column, first + row)} goes {seen}")
    _check_lengths(np.diff(offsets), column, first)
    return StringRows(bytes(data[offsets[0] : offsets[-1]]), offsets - offsets[0])


def _views(column: Collected, first: int, end: int) -> StringRows:
    """Return the strings of rows that are stored as views."""
    order = ">" if column.field.big_endian else "<"
    layout = np.dtype(
        [("length", f"{order}i4"), ("begin", "V4"), ("buffer", f"{order}i4"), ("at", f"{order}i4")]
    )
    views: npt.NDArray[Any] = np.frombuffer(column.buffers[0], layout, end - first, first * layout.itemsize)
    lengths, buffers, offsets = (views[key].astype(np.int64) for key in ("length", "buffer", "at"))
    inline = lengths <= _INLINE
    # The views themselves are buffer 0.
    buffers = np.where(inline, 0, buffers + 1)
    offsets = np.where(inline, np.arange(first, end) * layout.itemsize + 4, offsets)
    known = (buffers >= 0) & (buffers < len(column.buffers)) & (inline | (buffers > 0))
    sizes = np.array([len(buffer) for buffer in column.buffers])
    wrong = ~known | (lengths < 0) | (offsets < 0) | (offsets + lengths > sizes[np.where(known, buffers, 0)])
    if wrong.any():
        row = int(wrong.argmax())
        seen = f"{lengths[row]} bytes at byte {offsets[row]} of buffer {buffers[row] - 1}"
        raise malformed(f"{_place(column, first + row)} is {seen}, which is not there")
    _check_lengths(lengths, column, first)
    data = [memoryview(buffer) for buffer in column.buffers]
    places = zip(buffers.tolist(), offsets.tolist(), (offsets + lengths).tolist(), strict=True)
    return gather([data[buffer][begin:end] for buffer, begin, end in places])


def _check_lengths(lengths: Integers, column: Collected, first: int) -> None:
    long = lengths > MAX_STRING_BYTES
    if long.any():
        row = int(long.argmax())
        raise too_long(column.field.column.name, int(lengths[row]), column.first + first + row)


def _check_utf8(rows: StringRows, column: Collected, first: int) -> None:
    """Refuse strings that are no UTF-8, each by itself."""
    try:
        rows.data.decode()
        begin = np.frombuffer(rows.data + b"\0", np.uint8)[rows.offsets[:-1]]
        split = begin & 0xC0 == 0x80  # within a character
        wrong = int(split.argmax()) - 1 if split.any() else None
    except UnicodeDecodeError as error:
        wrong = int(np.searchsorted(rows.offsets, error.start, side="right")) - 1
    if wrong is not None:
        raise malformed(f"{_place(column, first + wrong)} is not UTF-8", "send the strings in UTF-8")


def _place(column: Collected, row: int) -> str:
    """Return the place of a string, for errors."""
    return f"the string of {column.field.column.name} in row {column.first + row}"
