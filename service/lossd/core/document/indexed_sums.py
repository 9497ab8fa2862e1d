"""Exact sums that numbers are added to by index, a few of many at a time."""

from __future__ import annotations

import ctypes
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lossd.core.cut import MOST_PLANES
from lossd.core.exact_sum import ExactSum
from lossd.core.native.library import library, why_missing
from lossd.types import Float64Array

Index: TypeAlias = npt.NDArray[np.int64]


class NativeIndexedSums:
    """Exact sums, kept as planes: arrays that add up to them."""

    __slots__ = ("_count", "_planes")

    def __init__(self, length: int) -> None:
        self._planes = np.empty((0, length))
        self._count = 0  # planes in use

    def add(self, index: Index, numbers: Float64Array) -> None:
        """Add each number to the sum at its index. An index may occur several times."""
        index, numbers = np.ascontiguousarray(index), np.ascontiguousarray(numbers)
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < self._planes.shape[1]:
            msg = f"indices of sums beyond {self._planes.shape[1]}"
            raise IndexError(msg)
        done, count = 0, ctypes.c_int(self._count)
        while done < len(index):
            planes, capacity = self._planes, len(self._planes)
            if self._count + 2 > capacity and capacity < MOST_PLANES:
                self._resize(min(MOST_PLANES, 2 * capacity + 4), planes.shape[1])
                continue
            done += library().lossd_add_at(
                planes.ctypes.data,
                planes.shape[1],
                ctypes.byref(count),
                capacity,
                len(index) - done,
                index.ctypes.data + 8 * done,
                numbers.ctypes.data + 8 * done,
            )
            self._count = count.value

    def lengthen(self, length: int) -> None:
        """Make room for more sums."""
        self._resize(len(self._planes), length)

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        return 8 * self._count * self._planes.shape[1]

    def canonical(self) -> Float64Array:
        """Return the sums' terms, [k, length]: as many planes as the longest sum needs, at least one."""
        length = self._planes.shape[1]
        if not self._count:
            return np.zeros((1, length))
        while True:
            planes = self._planes
            count = library().lossd_make_canonical(planes.ctypes.data, length, self._count, len(planes))
            if count:
                return planes[:count]
            self._resize(min(MOST_PLANES, 2 * len(planes)), length)

    def _resize(self, capacity: int, length: int) -> None:
        old, count = self._planes, self._count
        self._planes = np.empty((capacity, length))
        self._planes[:count, : old.shape[1]] = old[:count]
        self._planes[:count, old.shape[1] :] = 0.0


class PlainIndexedSums:
    """The same without the native code, and slower."""

    __slots__ = ("_length", "_sums")

    def __init__(self, length: int) -> None:
        self._length = length
        self._sums: dict[int, ExactSum] = {}

    def add(self, index: Index, numbers: Float64Array) -> None:
        """Add each number to the sum at its index. An index may occur several times."""
        for place, number in zip(index.tolist(), numbers.tolist(), strict=True):
            its = self._sums.get(place)
            if its is None:
                its = self._sums[place] = ExactSum()
            its.add(number)

    def lengthen(self, length: int) -> None:
        """Make room for more sums."""
        self._length = length

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use, about."""
        return 500 * len(self._sums)

    def canonical(self) -> Float64Array:
        """Return the sums' terms, [k, length]: as many planes as the longest sum needs, at least one."""
        terms = {place: its.terms for place, its in self._sums.items()}
        planes = np.zeros((max(map(len, terms.values()), default=1), self._length))
        for place, its in terms.items():
            planes[: len(its), place] = its
        return planes


IndexedSums: TypeAlias = NativeIndexedSums | PlainIndexedSums
"""Exact sums by index."""


def indexed_sums(length: int) -> IndexedSums:
    """Return exact sums by index, native ones if the library was compiled."""
    return PlainIndexedSums(length) if why_missing() else NativeIndexedSums(length)


def trimmed(planes: Float64Array) -> Float64Array:
    """Return terms, [k, ...], without the last planes that hold nothing; at least one."""
    used = len(planes)
    while used > 1 and not planes[used - 1].any():
        used -= 1
    return planes[:used]
