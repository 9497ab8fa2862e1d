"""Standard errors from exact sums, without cancellation."""

import math
from fractions import Fraction
from typing import Final

from lossd_client._exact_sum import ExactSum
from lossd_client.report._figures.integers import Integers

ONE: Final = ExactSum([1.0]).units
"""The number 1 in the units of an exact sum."""

UNSCALED: Final = Fraction(1)


def of_integer(number: int) -> ExactSum:
    """Return an integer as an exact sum."""
    exact = ExactSum()
    exact.units = number * ONE
    return exact


def difference(a: ExactSum, b: ExactSum) -> ExactSum:
    """Return a - b."""
    exact = ExactSum()
    exact.units = a.units - b.units
    exact.special = a.special - b.special
    return exact


def as_fraction(exact: ExactSum) -> Fraction:
    """Return a finite exact sum as a fraction."""
    return Fraction(exact.units, ONE)


def rounded(value: Fraction) -> float:
    """Return the nearest float, or an infinite one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def square_root(numerator: int, denominator: int) -> float:
    """Return the square root of a fraction that is not negative, rounded once."""
    # An even shift that leaves at least 2 * 64 bits; one more bit says whether there is a rest.
    shift = max(0, 130 - numerator.bit_length() + denominator.bit_length())
    shift += shift % 2
    square, rest = divmod(numerator << shift, denominator)
    root = math.isqrt(square)
    inexact = rest > 0 or root * root < square
    return rounded(Fraction(2 * root + inexact, 1 << (shift // 2 + 1)))


def ratio_stderr(
    squares: ExactSum,
    products: ExactSum,
    divisor_squares: ExactSum,
    total: ExactSum,
    divisor: ExactSum,
    n: int,
    scale: Fraction = UNSCALED,
) -> float:
    """Return the standard error of R = S / sum(D), the ratio of two sums over rows: s and D.

    Its square is n / (n - 1) * sum((s - R D)^2) / sum(D)^2 (Cochran, Sampling Techniques, 1977,
    section 2.11).

    Args:
        squares: The sum of s^2.
        products: The sum of s D.
        divisor_squares: The sum of D^2.
        total: S, the sum of s.
        divisor: The sum of D.
        n: The number of rows.
        scale: What the ratio is multiplied with.

    Returns:
        It, rounded once; NaN for fewer than two rows, a divisor of 0, or sums that are not finite.
    """
    if any(each.special != 0 for each in (squares, products, divisor_squares, total, divisor)):
        return math.nan
    ss, sd, dd = (each.units * ONE for each in (squares, products, divisor_squares))
    return _stderr(ss, sd, dd, total.units, divisor.units, n, scale)


def jackknife_stderr(
    totals: Integers, divisors: Integers, least: int = 0, scale: Fraction = UNSCALED
) -> float:
    """Return the standard error of a ratio whose rows are in clusters that vary independently.

    It is that of the delete-one-cluster jackknife: the ratio R is taken again without each of the G clusters,
    and its square is (G - 1) / G * sum((R_j - R)^2) (Wolter, Introduction to Variance Estimation, 2007,
    chapter 4). Unlike the linearised one it is not too small where clusters are few and of unlike sizes. Each
    difference is exact, and rounded once.

    Args:
        totals: The sum of s of each cluster.
        divisors: The sum of D of each, in the same unit.
        least: What the ratio is divided by at least, in that unit.
        scale: What the ratio is multiplied with.

    Returns:
        It; NaN for fewer than two clusters, for sums that are not finite, and where the divisor is 0 or
        becomes 0 without a cluster.
    """
    pairs = [(s, d) for s, d in zip(totals, divisors, strict=True) if s is not None and d is not None]
    if len(totals) < 2 or len(pairs) < len(totals):
        return math.nan
    total, shares = sum(s for s, _ in pairs), sum(d for _, d in pairs)
    whole = max(shares, least)
    if whole <= 0 or any(max(shares - d, least) <= 0 for _, d in pairs):
        return math.nan
    above, below = scale.as_integer_ratio()
    below *= whole
    offsets = []
    for s, d in pairs:
        rest = max(shares - d, least)
        offsets.append(quotient(((total - s) * whole - total * rest) * above, rest * below))
    greatest = max(map(abs, offsets))
    if greatest == 0 or math.isinf(greatest):
        return greatest
    unit = math.ldexp(1.0, math.frexp(greatest)[1] - 1)  # squares would overflow, or vanish
    squares = math.fsum((offset / unit) ** 2 for offset in offsets)
    return math.sqrt(squares * (len(pairs) - 1) / len(pairs)) * unit


def quotient(above: int, below: int) -> float:
    """Return a quotient of integers, rounded once, or an infinite one."""
    try:
        return above / below
    except OverflowError:
        return math.inf if (above > 0) == (below > 0) else -math.inf


def _stderr(ss: int, sd: int, dd: int, s: int, d: int, n: int, scale: Fraction) -> float:
    """Return the standard error of s / d; s and d are in one unit, and the sums of products in its square."""
    if n < 2 or d <= 0:
        return math.nan
    # Without the zeros at the end, which all have in common, the numbers are much shorter.
    zeros = min(_zeros(s | d), _zeros(ss | sd | dd) // 2)
    s, d, ss, sd, dd = s >> zeros, d >> zeros, ss >> 2 * zeros, sd >> 2 * zeros, dd >> 2 * zeros
    spread = ss * d * d - 2 * s * sd * d + s * s * dd
    above, below = scale.as_integer_ratio()
    return square_root(n * max(0, spread) * above**2, (n - 1) * d**4 * below**2)


def _zeros(number: int) -> int:
    """Return how many zeros end a number, in binary; many for 0."""
    return (number & -number).bit_length() - 1 if number else 1 << 20
