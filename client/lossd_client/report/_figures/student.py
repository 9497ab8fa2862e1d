"""Quantiles of Student's t, for intervals of means of few rows.

The formulas are those of Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.
"""

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Final

_MANY: Final = 200  # degrees of freedom from which on the expansion is good to 1e-9


@lru_cache(maxsize=1024)  # of many groups most have the same
def t_quantile(q: float, freedom: int) -> float:
    """Return the quantile q of Student's t, 0.5 < q < 1, with so many degrees of freedom."""
    normal = NormalDist().inv_cdf(q)
    if freedom >= _MANY:
        return _expanded(normal, freedom)
    low, high = 0.0, 2.0
    while _cdf(high, freedom) < q:
        high *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _cdf(middle, freedom) < q else (low, middle)
    return middle


def _cdf(t: float, freedom: int) -> float:
    """Return the distribution function at t >= 0 (26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    terms = [] if freedom == 1 else [term]
    for i in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (i - 1) / i
        terms.append(term)
    inside = sine * math.fsum(terms)
    return 0.5 + (angle + inside) / math.pi if odd else 0.5 + inside / 2


def _expanded(x: float, n: int) -> float:
    """Return the quantile from that of the normal distribution (26.7.5)."""
    return (
        x
        + (x**3 + x) / (4 * n)
        + (5 * x**5 + 16 * x**3 + 3 * x) / (96 * n**2)
        + (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / (384 * n**3)
        + (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / (92160 * n**4)
    )
