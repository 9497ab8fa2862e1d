"""Sums without rounding error.

Nothing is rounded until the value is read, so the order and grouping of the terms do not matter: slices of
any size, in any order, give the same 64 bits.

A sum is passed on as its terms, a few floats that add up to it exactly, in canonical form: the first is the
sum rounded once, to nearest even, the second is the rest rounded once, and so on until nothing is left. A
sum of zero is ``[0.0]``. A sum beyond float64, or with an infinite term, is that infinity alone; one with a
NaN or both infinities is NaN alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from lossd.types import Float64Array

_BITS: Final = 1074  # every float64 is a multiple of 2^-1074
_ONE: Final = 1 << _BITS


class ExactSum:
    """One running sum, as a whole number of the smallest float64. Terms may be infinite or NaN."""

    __slots__ = ("_beyond", "_units")

    def __init__(self, terms: Iterable[float] = ()) -> None:
        self._units = 0
        self._beyond = 0.0  # the sum of infinite and NaN terms, else 0
        self.add_all(terms)

    def add_units(self, units: int) -> None:
        """Add a whole number of the smallest float64, 2^-1074."""
        self._units += units

    def add(self, term: float) -> None:
        """Add one term."""
        if math.isfinite(term):
            numerator, denominator = term.as_integer_ratio()
            self._units += numerator << (_BITS + 1 - denominator.bit_length())
        else:
            self._beyond += term

    def add_all(self, terms: Iterable[float]) -> None:
        """Add several terms."""
        for term in terms:
            self.add(term)

    @property
    def value(self) -> float:
        """The sum, rounded once, to nearest even."""
        return self.terms[0]

    @property
    def terms(self) -> list[float]:
        """The sum exactly, in canonical form."""
        if self._beyond:  # NaN counts as true
            return [math.nan if math.isnan(self._beyond) else self._beyond]
        terms: list[float] = []
        rest = ExactSum()
        rest._units = self._units
        while rest._units or not terms:
            try:
                term = rest._units / _ONE  # Python rounds this once
            except OverflowError:
                return [math.inf if rest._units > 0 else -math.inf]
            terms.append(term)
            rest.add(-term)
        return terms


def _two_sum(a: Float64Array, b: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return the rounded sums and their exact errors (Knuth); an infinite or NaN sum has no error."""
    total = a + b
    shadow = total - a
    error = (a - (total - shadow)) + (b - shadow)
    error[~np.isfinite(total)] = 0.0
    return total, error


class ExactArray:
    """Running sums of arrays of one shape [n], each like an `ExactSum`.

    Kept as expansions: planes that do not overlap and add up to the sums (Shewchuk, "Adaptive Precision
    Floating-Point Arithmetic and Fast Robust Geometric Predicates", 1997).
    """

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
        """Move digits to the larger planes, and drop planes of zeros.

        Without this every term would add a plane; with it there are two or three in practice.
        """
        planes = self._planes
        for i in range(len(planes) - 1, 0, -1):
            planes[i], planes[i - 1] = _two_sum(planes[i], planes[i - 1])
        planes[:-1] = [plane for plane in planes[:-1] if plane.any()]

    @property
    def planes(self) -> list[Float64Array]:
        """Arrays that add up to the sums exactly."""
        return list(self._planes)

    def canonical(self) -> list[Float64Array]:
        """Return the planes in canonical form: as many as the longest sum needs."""
        terms: list[Float64Array] = []
        rest = ExactArray(self._planes)
        while True:
            term = rest.value
            if terms and not term.any():
                return terms
            terms.append(term)
            special = ~np.isfinite(term)
            for plane in rest._planes:
                plane[special] = 0.0
            rest.add(np.where(special, 0.0, -term))

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
        top = self._planes[-1] + 0.0  # a copy, and never -0
        top[np.isnan(top)] = np.nan  # whatever sign it had
        if len(self._planes) == 1:
            return top
        # This is rounded correctly, except where the rest is exactly half a unit of the last place: there the
        # planes below decide, as in math.fsum.
        rest = self._planes[-2]
        with np.errstate(invalid="ignore", over="ignore"):
            doubled = 2.0 * rest
            ties = np.flatnonzero((rest != 0.0) & ((top + doubled) - top == doubled))
        for i in ties:
            top[i] = math.fsum(plane[i] for plane in reversed(self._planes))
        return top
