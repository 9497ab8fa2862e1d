"""Exact sums of many figures at once: each number goes to the figure that an index names.

Every float64 is a whole multiple of 2^-1074. Written in digits of 32 bits it is added digit by digit, with
whole numbers, so that no order matters and nothing is rounded.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lossd.core.exact_sum import ExactSum
from lossd.core.report.partial import Int64Array
from lossd.types import Float64Array

_FRACTION: Final = 52
"""Bits of a float64's fraction."""
_DIGIT: Final = 32
"""Bits of a digit."""
_DIGITS: Final = 67
"""Digits of the largest float64: 2098 bits, and the two that a number's own may reach."""


def exact_sums(index: Int64Array, values: Float64Array) -> tuple[Int64Array, Float64Array]:
    """Return the sums that are not zero, as numbers that add up to them exactly.

    The numbers of a sum are its terms in canonical form, one behind the other; see `ExactSum.terms`.

    Args:
        index: The figure that each value belongs to, [n], at least 0.
        values: What is added up, [n].

    Returns:
        The figure of each number, and the numbers.
    """
    figures: list[int] = []
    numbers: list[float] = []
    for figure, total in _totals(index, values).items():
        terms = total.terms
        if terms != [0.0]:
            figures += [figure] * len(terms)
            numbers += terms
    return np.array(figures, np.int64), np.array(numbers, np.float64)


def rounded_sums(values: Float64Array) -> Float64Array:
    """Return the exact sum of each row of [rows, n], rounded once, to nearest even."""
    rows = np.broadcast_to(np.arange(len(values))[:, np.newaxis], values.shape)
    sums = np.zeros(len(values))
    for row, total in _totals(rows.reshape(-1), values.reshape(-1)).items():
        sums[row] = total.value
    return sums


def _totals(index: Int64Array, values: Float64Array) -> dict[int, ExactSum]:
    """Return the sum of every figure that has a value other than 0."""
    totals: dict[int, ExactSum] = {}
    finite = np.isfinite(values)
    places, digits = _digits(values[finite])
    keys, which = np.unique(index[finite] * _DIGITS + places, return_inverse=True)
    sums = np.zeros(len(keys), np.int64)
    np.add.at(sums, which.reshape(digits.shape), digits)
    for key, digit in zip(keys.tolist(), sums.tolist(), strict=True):
        figure, place = divmod(key, _DIGITS)
        if digit:
            totals.setdefault(figure, ExactSum()).add_units(digit << (_DIGIT * place))
    for figure, value in zip(index[~finite].tolist(), values[~finite].tolist(), strict=True):
        totals.setdefault(figure, ExactSum()).add(value)
    return totals


def _digits(values: Float64Array) -> tuple[Int64Array, Int64Array]:
    """Return three digits of each finite number, [3, n], and the place of each: 2^(32 place - 1074)."""
    bits = values.view(np.int64)
    exponent = (bits >> _FRACTION) & 0x7FF
    fraction = bits & ((1 << _FRACTION) - 1) | ((exponent > 0).astype(np.int64) << _FRACTION)
    place, shift = np.divmod(np.maximum(exponent, 1) - 1, _DIGIT)
    mask = (1 << _DIGIT) - 1
    low, high = (fraction & mask) << shift, (fraction >> _DIGIT) << shift
    digits = np.stack([low & mask, (low >> _DIGIT) + (high & mask), high >> _DIGIT])
    return place + np.arange(3)[:, np.newaxis], np.where(bits < 0, -digits, digits)
