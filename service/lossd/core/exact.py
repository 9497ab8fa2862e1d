"""Sums without rounding error, kept as expansions: floats that do not overlap and add up to the exact sum.

`ExactSum` is the running form of `math.fsum` (Shewchuk, "Adaptive Precision Floating-Point Arithmetic and
Fast Robust Geometric Predicates", 1997). `ExactArray` does the same for many sums side by side. Because
nothing is rounded until the value is asked for, it does not matter in which order or in which groups the
terms are added: slices of any size, in any order, end in the same 64 bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from lossd.request import Float64Array


class ExactSum:
    """One running sum. Terms may be infinite or NaN; a sum beyond float64's range is infinite."""

    __slots__ = ("_beyond", "_partials")

    def __init__(self, terms: Iterable[float] = ()) -> None:
        self._partials: list[float] = []
        self._beyond = 0.0  # what infinite, NaN or overflowing terms came to, else 0
        self.add_all(terms)

    def add(self, term: float) -> None:
        """Add one term."""
        if not math.isfinite(term):
            self._beyond += term
            return
        partials = self._partials
        kept = 0
        for partial in partials:
            if abs(term) < abs(partial):
                term, partial = partial, term
            high = term + partial
            low = partial - (high - term)
            if low:
                partials[kept] = low
                kept += 1
            term = high
        if math.isinf(term):
            self._beyond += term
            term = 0.0
        partials[kept:] = [term]

    def add_all(self, terms: Iterable[float]) -> None:
        """Add several terms."""
        for term in terms:
            self.add(term)

    @property
    def terms(self) -> list[float]:
        """Floats that add up to the sum exactly, to be added to another `ExactSum`."""
        return [self._beyond, *self._partials] if self._beyond else list(self._partials)

    @property
    def value(self) -> float:
        """The sum, rounded once, to nearest even."""
        if self._beyond:  # NaN counts as true
            return self._beyond
        return math.fsum(self._partials)


def _two_sum(a: Float64Array, b: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The rounded sums and their exact errors (Knuth); an infinite or NaN sum has no error."""
    total = a + b
    shadow = total - a
    error = (a - (total - shadow)) + (b - shadow)
    error[~np.isfinite(total)] = 0.0
    return total, error


class ExactArray:
    """Running sums side by side: what `ExactSum` is, for arrays of one shape [n]."""

    __slots__ = ("_planes",)

    def __init__(self, planes: Sequence[Float64Array] = ()) -> None:
        self._planes: list[Float64Array] = []  # from the smallest magnitude to the largest
        for plane in planes:
            self.add(plane)

    def add(self, terms: Float64Array) -> None:
        """Add one term to each sum. The array is not kept."""
        with np.errstate(invalid="ignore", over="ignore"):
            carry = np.array(terms, dtype=np.float64)
            for i, plane in enumerate(self._planes):
                carry, self._planes[i] = _two_sum(carry, plane)
            self._planes.append(carry)
            self._lift()

    def _lift(self) -> None:
        """Move what can be moved to the larger planes, and forget planes of nothing but zeros.

        Without this every term would add a plane; with it there are as many as the sums need bits, two or
        three in practice.
        """
        planes = self._planes
        for i in range(len(planes) - 1, 0, -1):
            planes[i], planes[i - 1] = _two_sum(planes[i], planes[i - 1])
        planes[:-1] = [plane for plane in planes[:-1] if plane.any()]

    @property
    def planes(self) -> list[Float64Array]:
        """Arrays that add up to the sums exactly, to be added to another `ExactArray`."""
        return list(self._planes)

    @property
    def value(self) -> Float64Array:
        """The sums, [n], each rounded once, to nearest even."""
        while True:
            before = [plane.copy() for plane in self._planes]
            with np.errstate(invalid="ignore", over="ignore"):
                self._lift()
            if len(before) == len(self._planes) and all(
                np.array_equal(old, new, equal_nan=True)
                for old, new in zip(before, self._planes, strict=True)
            ):
                break
        if len(self._planes) == 1:
            return self._planes[0].copy()
        top, rest = self._planes[-1].copy(), self._planes[-2]
        # Rounding is already right, but where the rest is just half a unit of the last place: there the
        # planes below decide, as in math.fsum.
        with np.errstate(invalid="ignore", over="ignore"):
            doubled = 2.0 * rest
            ties = np.flatnonzero((rest != 0.0) & ((top + doubled) - top == doubled))
        for i in ties:
            top[i] = math.fsum(plane[i] for plane in reversed(self._planes))
        return top
