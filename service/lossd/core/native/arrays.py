"""Exact sums of arrays by the native code: many times as fast as `ExactArray`, with the same results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from lossd.core.cut import MOST_PLANES
from lossd.core.exact_sum import ExactArray
from lossd.core.native.library import library, why_missing
from lossd.types import Float64Array


class NativeArray:
    """Running sums of arrays of one shape [n], kept as planes, arrays that add up to them exactly.

    Args:
        planes: Arrays to begin with.
    """

    __slots__ = ("_count", "_planes")

    def __init__(self, planes: Sequence[Float64Array] = ()) -> None:
        self._planes = np.empty((0, 0))
        self._count = 0
        for plane in planes:
            self.add(plane)

    def add(self, terms: Float64Array) -> None:
        """Add one term to each sum. The array is not kept."""
        terms = np.ascontiguousarray(terms, dtype=np.float64)
        if self._count + 2 > len(self._planes):  # adding opens one, and a canonical form may need another
            self._grow(len(terms))
        planes = self._planes
        self._count = library().lossd_add_numbers(
            planes.ctypes.data, planes.shape[1], self._count, len(planes), terms.ctypes.data
        )

    @property
    def planes(self) -> list[Float64Array]:
        """Arrays that add up to the sums exactly."""
        return list(self._planes[: self._count])

    def canonical(self) -> list[Float64Array]:
        """Return the planes in canonical form: as many as the longest sum needs."""
        while True:
            planes = self._planes
            count = library().lossd_make_canonical(
                planes.ctypes.data, planes.shape[1], self._count, len(planes)
            )
            if count:
                self._count = count
                return list(planes[:count])
            self._grow(planes.shape[1])

    @property
    def value(self) -> Float64Array:
        """The sums, [n], each rounded once, to nearest even."""
        return self.canonical()[0]

    def _grow(self, length: int) -> None:
        """Make room for more planes."""
        larger = np.empty((min(MOST_PLANES, 2 * len(self._planes) + 4), length))
        if self._count:
            larger[: self._count] = self._planes[: self._count]
        self._planes = larger


RunningSums: TypeAlias = ExactArray | NativeArray
"""Exact sums of arrays."""


def exact_array(planes: Sequence[Float64Array] = ()) -> RunningSums:
    """Return running sums of arrays, native ones if the library was compiled."""
    return ExactArray(planes) if why_missing() else NativeArray(planes)
