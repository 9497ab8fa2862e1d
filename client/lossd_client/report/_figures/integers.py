"""Exact sums of many groups as integers of one unit, a power of two."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = Sequence[int | None]
"""One for each group; None where a sum is not finite."""

_DIGITS = 53
_LEAST = -1074  # every float64 is a multiple of two to this


def least_exponent(*arrays: NDArray[np.float64]) -> int:
    """Return an exponent, 0 at most, such that all finite numbers are multiples of two to it."""
    found = 0
    for numbers in arrays:
        its = np.frexp(numbers[np.isfinite(numbers) & (numbers != 0)])[1]
        found = min(found, int(its.min(initial=0)) - _DIGITS)
    return max(found, _LEAST)


def integers(terms: NDArray[np.float64], slots: NDArray[Any], size: int, exponent: int) -> list[int | None]:
    """Return exact sums as multiples of two to the power of `exponent`.

    Args:
        terms: The terms, [k, n].
        slots: Which of the sums each of the n is added to, [n].
        size: The number of sums.
        exponent: At most the `least_exponent` of the terms.
    """
    found: list[Any] = [0] * size
    for plane in terms:
        fractions, powers = np.frexp(np.where(np.isfinite(plane), plane, 0.0))
        numbers = (fractions * 2.0**_DIGITS).astype(np.int64)
        shifts = powers.astype(np.int64) - _DIGITS - exponent
        numbers >>= np.maximum(-shifts, 0)  # of subnormal numbers the last digits are 0
        shifts = np.maximum(shifts, 0)
        for slot, number, shift in zip(slots.tolist(), numbers.tolist(), shifts.tolist(), strict=True):
            if number:
                found[slot] += number << shift
    for slot in slots[~np.isfinite(terms).all(axis=0)].tolist():
        found[slot] = None
    return found
